"""Expressions of rules: what they may know and call, how they are read, judged and run."""
