"""The `elemta` command: run the server, check a configuration, send a message, tend the queue."""

from elemta.cli.main import main

__all__ = ["main"]
