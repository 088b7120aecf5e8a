"""The process that starts the others, keeps them running, and ends them."""

from elemta.supervisor.succession import refuse_succession
from elemta.supervisor.supervisor import serve

__all__ = ["refuse_succession", "serve"]
