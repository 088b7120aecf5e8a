"""The application: the rooms put together into a worker."""

from elemta.app.worker import run_worker

__all__ = ["run_worker"]
