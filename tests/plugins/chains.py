"""Chains and tables of plugins, built by hand."""

from typing import TYPE_CHECKING, Any, cast

from elemta.mail import events as ev
from elemta.plugins import Context, Metadata, Plugin, SessionInfo, Settings
from elemta.plugins.asking.chain import Chain, Link
from elemta.plugins.asking.table import HookTable
from elemta.plugins.asking.tally import Tally
from elemta.plugins.hooks import HOOKS
from elemta.plugins.settings import PluginSettings
from elemta.testing.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from elemta.plugins.tools import Tools


def plugin(name: str = "one", *, independent: bool = False, **hooks: object) -> Plugin[Any]:
    """A plugin with these functions (of its context) as hooks."""
    methods = {hook: _method(call) for hook, call in hooks.items()}
    kind = type(
        name,
        (Plugin,),
        {"metadata": Metadata(name=name), "independent": independent, **methods},
    )
    return cast("Plugin[Any]", kind(Settings(), cast("Tools", name)))


def _method(call: object) -> object:
    return lambda _self, context: cast("Callable[[Context], object]", call)(context)


def chain(
    hook: str,
    *plugins: Plugin[Any],
    emit: ev.Emit = lambda _event: None,
    clock: FakeClock | None = None,
    **settings: Any,
) -> Chain:
    """The chain of some plugins, all with the same settings."""
    links = [
        Link(
            getattr(each, hook),
            each,
            PluginSettings(each.metadata.name, **settings),
            Tally(each.metadata.name, hook),
        )
        for each in plugins
    ]
    return Chain(HOOKS[hook], links, emit, (clock or FakeClock()).monotonic)


def table(*plugins: Plugin[Any], **options: Any) -> HookTable:
    """All hooks of some plugins."""
    return HookTable(
        {
            hook: chain(hook, *wanting, **options)
            for hook in HOOKS
            if (wanting := [each for each in plugins if hasattr(each, hook)])
        }
    )


def session() -> SessionInfo:
    """A session of a stranger."""
    return SessionInfo("0-1-1", "192.0.2.1", "192.0.2.25:25", "mta", is_trusted=False)
