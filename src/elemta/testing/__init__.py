"""What tests of plugins need: a bench, a server in memory, and stand-ins for the world outside.

A name is imported when it is asked for: pytest loads the fixtures for everybody, also for those
who do not use them.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elemta.testing.bench import Answer, PluginBench
    from elemta.testing.clock import FakeClock
    from elemta.testing.compose import message
    from elemta.testing.resolver import FakeResolver
    from elemta.testing.server import SmtpServer
    from elemta.testing.store import MemoryStore

__all__ = [
    "Answer",
    "FakeClock",
    "FakeResolver",
    "MemoryStore",
    "PluginBench",
    "SmtpServer",
    "message",
]

_PLACES = {
    "Answer": "bench",
    "FakeClock": "clock",
    "FakeResolver": "resolver",
    "MemoryStore": "store",
    "PluginBench": "bench",
    "SmtpServer": "server",
    "message": "compose",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever it is
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{place}"), name)
