"""Runs what seldom has to wait.

A hook that answers at once costs a call; one that is an `async def` costs a timeout and several
coroutines, even where all it looks up is in the cache. So checks are coroutines that are begun
here: most end in their first step, and only those that do not are waited for.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Begun(Generic[T]):
    """A coroutine whose first step has been taken; await it in the task that has begun it."""

    __slots__ = ("_coroutine", "_waiting_for")

    def __init__(self, coroutine: Coroutine[Any, Any, T], waiting_for: object) -> None:
        self._coroutine = coroutine
        self._waiting_for = waiting_for

    def __await__(self) -> Generator[Any, Any, T]:
        coroutine, waiting_for = self._coroutine, self._waiting_for
        try:
            while True:
                try:
                    given = yield waiting_for
                except BaseException as error:  # noqa: BLE001 - it goes where it belongs
                    waiting_for = coroutine.throw(error)
                else:
                    waiting_for = coroutine.send(given)
        except StopIteration as end:
            value: T = end.value
            return value


def begin(coroutine: Coroutine[Any, Any, T]) -> tuple[T] | Begun[T]:
    """Take the first step: what came of it in a tuple, or what is to be waited for.

    Raises:
        Exception: What the coroutine raises in that step.
    """
    try:
        waiting_for = coroutine.send(None)
    except StopIteration as end:
        return (end.value,)
    return Begun(coroutine, waiting_for)


async def within(seconds: float, begun: Awaitable[T], late: Callable[[], T]) -> T:
    """Wait for what has been begun, but not for ever; `late` gives what stands for it then."""
    try:
        async with asyncio.timeout(seconds):
            return await begun
    except TimeoutError:
        return late()
