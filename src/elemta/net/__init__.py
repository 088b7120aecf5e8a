"""Connections, names, clocks and background tasks: what touches the network."""
