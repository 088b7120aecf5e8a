"""Asking plugins: chains of those that want a hook, and what becomes of their answers."""
