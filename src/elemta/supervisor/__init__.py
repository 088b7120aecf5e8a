"""The process that starts the others, keeps them running, and ends them."""

from elemta.supervisor.supervisor import serve

__all__ = ["serve"]
