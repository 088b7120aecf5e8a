"""Lists by name: their entries, and how each kind finds what it is asked for."""
