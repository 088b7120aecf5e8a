"""The web process: metrics and health over HTTP."""

from elemta.web.server import serve_web

__all__ = ["serve_web"]
