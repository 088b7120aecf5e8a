"""The pytest plugin: fixtures for tests of plugins, wherever Elemta is installed.

A test that is an `async def` and asks for one of them is run, also where no other pytest plugin
knows what to do with it.
"""

import asyncio
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from elemta.plugins import Plugin
    from elemta.testing import FakeClock, FakeResolver, PluginBench, SmtpServer
    from elemta.testing.server import Kinds

FIXTURES = frozenset({"plugin_bench", "smtp_server", "fake_clock", "fake_resolver"})


@pytest.fixture
def fake_clock() -> "FakeClock":
    """A clock that stands still until the test moves it; benches and servers go by it, too."""
    from elemta.testing import FakeClock  # noqa: PLC0415 - those who do not use it do not wait

    return FakeClock()


@pytest.fixture
def fake_resolver() -> "FakeResolver":
    """A DNS without names: the test adds them to its `zone`. Benches and servers ask it, too."""
    from elemta.testing import FakeResolver  # noqa: PLC0415 - as above

    return FakeResolver({})


@pytest.fixture
def plugin_bench(
    fake_clock: "FakeClock", fake_resolver: "FakeResolver"
) -> Callable[..., "PluginBench[Any]"]:
    """Makes benches, each of a plugin and perhaps its settings: see `PluginBench`."""
    from elemta.testing import PluginBench  # noqa: PLC0415 - as above

    def make(
        kind: "type[Plugin[Any]]",
        settings: Mapping[str, Any] | None = None,
        **options: Any,  # noqa: ANN401 - of PluginBench
    ) -> "PluginBench[Any]":
        return PluginBench(kind, settings, clock=fake_clock, dns=fake_resolver, **options)

    return make


@pytest.fixture
def smtp_server(
    fake_clock: "FakeClock", fake_resolver: "FakeResolver"
) -> Callable[..., "SmtpServer"]:
    """Makes servers in memory, each with the plugins it is given: see `SmtpServer`."""
    from elemta.testing import SmtpServer  # noqa: PLC0415 - as above

    def make(*plugins: "Kinds", **options: Any) -> "SmtpServer":  # noqa: ANN401 - of SmtpServer
        return SmtpServer(*plugins, clock=fake_clock, dns=fake_resolver, **options)

    return make


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine that nobody else would run."""
    names = pyfuncitem._fixtureinfo.argnames  # noqa: SLF001 - as pytest's own plugins do
    if not inspect.iscoroutinefunction(pyfuncitem.obj) or FIXTURES.isdisjoint(names):
        return None
    if any(pyfuncitem.get_closest_marker(name) for name in ("asyncio", "anyio", "trio")):
        return None
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True
