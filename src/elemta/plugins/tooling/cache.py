"""Values kept in memory for a while: so many, and the least used go first."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar, cast

from elemta.mail.clock import Clock
from elemta.mail.errors import PluginError
from elemta.net.tasks import spawn

T = TypeVar("T")

MAX_ENTRIES = 10_000
MAX_LOADS = 10_000  # under way at the same time
LOAD_TIMEOUT = 60.0  # seconds after which nobody waits for a load any more, and another may begin


class BoundedCache:
    """`elemta.plugins.tools.Cache` of one plugin in one worker."""

    def __init__(self, clock: Clock, max_entries: int = MAX_ENTRIES) -> None:
        self._clock = clock
        self._max_entries = max_entries
        self._entries: OrderedDict[str, tuple[float, object]] = OrderedDict()
        self._loads: dict[str, _Load] = {}

    def get(self, key: str) -> Any:  # noqa: ANN401 - whatever was put in
        """Give what was put in, None where it is gone."""
        return self._find(key)[1]

    def set(self, key: str, value: object, ttl: float) -> None:
        """Keep a value for `ttl` seconds at most."""
        self._entries[key] = (self._clock.monotonic() + ttl, value)
        self._entries.move_to_end(key)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)

    async def fetch(self, key: str, ttl: float, load: Callable[[], Awaitable[T]]) -> T:
        """Give a value, or load it: once, however many want it at the same time.

        What `load` raises is raised for all who wait, and not kept. It is cancelled when nobody
        waits any more.

        Raises:
            PluginError: Too many loads are under way.
            TimeoutError: A load has taken `LOAD_TIMEOUT` seconds.
        """
        is_known, value = self._find(key)
        if is_known:
            return cast("T", value)
        under_way = self._loads.get(key)
        if under_way is None:
            if len(self._loads) >= MAX_LOADS:
                raise PluginError("the cache loads too many values at the same time")
            under_way = self._loads[key] = _Load()
            under_way.begin(partial(self._load, key, ttl, load), partial(self._forget, key))
        return cast("T", await under_way.wait())

    async def _load(self, key: str, ttl: float, load: Callable[[], Awaitable[T]]) -> T:
        async with asyncio.timeout(LOAD_TIMEOUT):
            value = await load()
        self.set(key, value, ttl)
        return value

    def _forget(self, key: str, ended: "_Load") -> None:
        if self._loads.get(key) is ended:
            del self._loads[key]

    def _find(self, key: str) -> tuple[bool, object]:
        """Say whether there is a value, and give it."""
        entry = self._entries.get(key)
        if entry is None:
            return False, None
        if entry[0] <= self._clock.monotonic():
            del self._entries[key]
            return False, None
        self._entries.move_to_end(key)
        return True, entry[1]


class _Load:
    """One load that is under way, and those who wait for it."""

    def __init__(self) -> None:
        self._result: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._waiting = 0

    def begin(
        self, load: Callable[[], Awaitable[object]], forget: Callable[["_Load"], None]
    ) -> None:
        """Load; `forget` is called when others need not wait for this one any more."""
        self._forget = forget
        self._task = spawn(self._run(load), "cache load")

    async def wait(self) -> object:
        """Wait for the value; the last who gives up ends the load."""
        self._waiting += 1
        try:
            return await asyncio.shield(self._result)
        finally:
            self._waiting -= 1
            if not self._waiting and not self._result.done():
                self._result.cancel()
                self._forget(self)
                self._task.cancel()

    async def _run(self, load: Callable[[], Awaitable[object]]) -> None:
        value: object = None
        failure: Exception | None = None
        try:
            value = await load()
        except asyncio.CancelledError:
            if self._result.cancelled():
                raise  # nobody waits any more
            failure = PluginError("the load was cancelled")
        except Exception as error:  # noqa: BLE001 - it is for those who wait
            failure = error
        self._forget(self)
        if self._result.cancelled():
            return
        if failure is None:
            self._result.set_result(value)
        else:
            self._result.set_exception(failure)
            self._result.exception()  # seen, also where those who waited have just given up
