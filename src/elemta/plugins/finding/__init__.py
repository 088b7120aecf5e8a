"""Where plugins are, what their code says of itself, and what is wrong with it."""
