"""Answers of a check that need not be worked out anew for the same question."""

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, cast

from elemta.plugins.result import Result

Method = Callable[[Any, Any], Result | Awaitable[Result | None] | None]


def cached(*, key: Callable[[Any], str | None], lifetime: float) -> Callable[[Method], Method]:
    """Keep what a hook answers, for each worker and plugin.

    Of an `async def` that many sessions ask at once with the same key one call is made. What it
    raises is not kept.

    Args:
        key: Gives, for a context, what the answer depends on; None asks without the cache.
        lifetime: Seconds.
    """
    if lifetime <= 0:
        raise ValueError(f"a lifetime is longer than {lifetime} s")

    def wrap(method: Method) -> Method:
        wrapper = _later if inspect.iscoroutinefunction(method) else _at_once
        return functools.wraps(method)(wrapper(method, key, lifetime))

    return wrap


def _at_once(method: Method, key: Callable[[Any], str | None], lifetime: float) -> Method:
    def hook(plugin: Any, context: Any) -> Any:  # noqa: ANN401 - any plugin, any context
        about = key(context)
        if about is None:
            return method(plugin, context)
        name, cache = _name(method, context, about), plugin.tools.cache
        found = cache.get(name)
        if found is None:
            found = (method(plugin, context),)  # in a tuple: to have no objection is an answer, too
            cache.set(name, found, lifetime)
        return found[0]

    return hook


def _later(method: Method, key: Callable[[Any], str | None], lifetime: float) -> Method:
    async def hook(plugin: Any, context: Any) -> Any:  # noqa: ANN401 - as above
        async def load() -> tuple[Result | None]:
            return (await cast("Awaitable[Result | None]", method(plugin, context)),)

        about = key(context)
        if about is None:
            return (await load())[0]
        name = _name(method, context, about)
        return (await plugin.tools.cache.fetch(name, lifetime, load))[0]

    return hook


def _name(method: Method, context: Any, about: str) -> str:  # noqa: ANN401 - as above
    """Name an answer: two methods that are asked in the same hook do not share any."""
    return f"{context.hook} {method.__qualname__} {about}"
