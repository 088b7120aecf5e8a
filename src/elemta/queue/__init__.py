"""Keeps accepted mail and decides what is tried next."""
