"""Stand-ins for the world outside, for tests: each behaves as the real thing it replaces."""

from elemta.testing.clock import FakeClock
from elemta.testing.resolver import FakeResolver

__all__ = ["FakeClock", "FakeResolver"]
