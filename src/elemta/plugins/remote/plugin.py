"""A plugin outside as the worker has it: a class like any other, whose hooks are asked elsewhere.

A session that is lost is opened again, after 0.1 s, then after twice as long, up to 30 s. What is
asked meanwhile waits a little and then fails; what fails is for the chain to judge.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

from elemta.mail.clock import Clock
from elemta.mail.errors import PluginError
from elemta.mail.events import Emit, PluginChanged
from elemta.mail.reply import clean_text
from elemta.net.tasks import spawn
from elemta.plugins.contexts import Context
from elemta.plugins.plugin import Metadata, Plugin
from elemta.plugins.remote.answers import AnswerError
from elemta.plugins.remote.breaker import Breaker
from elemta.plugins.remote.link import Link, LinkLost
from elemta.plugins.remote.packing import MAX_STATE, pack, unpack
from elemta.plugins.remote.process import START_TIMEOUT, Place
from elemta.plugins.remote.proto import elemta_plugin_v1_pb2 as pb
from elemta.plugins.remote.slots import Overloaded
from elemta.plugins.result import Result
from elemta.plugins.settings import Limits, PluginSettings, PluginsSettings
from elemta.plugins.tools import Tools

PROTOCOL = 1
FIRST_PAUSE, LAST_PAUSE = 0.1, 30.0  # seconds before a session is opened again
STEADY = 60.0  # seconds a session must have lasted for the pauses to begin anew
PATIENCE = 5.0  # seconds that a call waits for a session
ORDER_TIMEOUT = 10.0  # seconds for enabling, disabling and the like
CLOSE_TIMEOUT = 3.0  # seconds for closing
MAX_REPORT = 50  # lines


class Route:
    """How to get to a plugin, and what is known of it before it is made.

    Args:
        new_place: Gives a way to it that nobody else uses, for what it may take there.
        settings: What the operator has set for it.
        server: What is known of the server.
        emit, clock: The server's.

    Attributes:
        name, version: Of the plugin, as far as they are known.
        settings: What the operator has set by now.
        hands_over: It knows what to do when another version takes its place.
    """

    def __init__(
        self,
        new_place: Callable[[Limits], Place],
        settings: PluginSettings,
        server: PluginsSettings,
        emit: Emit,
        clock: Clock,
    ) -> None:
        self.new_place = new_place
        self.settings = settings
        self.server = server
        self.clock = clock
        self.name = settings.name
        self.version = ""
        self.hands_over = False
        self._emit = emit
        self._ready: Place | None = None
        self._ready_for = settings.limits

    def adjust(self, settings: PluginSettings) -> None:
        """Take over what the operator has set: calls that begin from now on go by it."""
        self.settings = settings

    def keep(self, place: Place) -> None:
        """Have the first plugin that is made use this way."""
        self._ready, self._ready_for = place, self.settings.limits

    def take_place(self) -> Place:
        """Give a plugin its way; each of them has its own."""
        limits = self.settings.limits
        if self._ready_for != limits:
            self.release()
        place, self._ready = self._ready, None
        return self.new_place(limits) if place is None else place

    def release(self) -> None:
        """Leave what nobody has taken."""
        place, self._ready = self._ready, None
        if place is not None:
            place.abandon()

    def tell(self, change: str, error: str = "") -> None:
        """Tell the operator what has become of the plugin."""
        self._emit(PluginChanged(self.name, change, self.version, error))


class RemotePlugin(Plugin[Any]):
    """Made by `make_class`, with the hooks that the plugin wants."""

    route: Route
    prefetch: int

    def __init__(self, settings: Any, tools: Tools) -> None:  # noqa: ANN401 - any model
        super().__init__(settings, tools)
        self._breaker = Breaker(self.route.clock.monotonic, self.route.tell)
        self._link: Link | None = None
        self._is_up = asyncio.Event()
        self._is_enabled = False
        self._keeper: asyncio.Task[None] | None = None
        self._place = self.route.take_place()
        self._place.hear(tools.log.warning)

    async def setup(self) -> None:
        try:
            link = await self._open()
        except BaseException:
            await self._place.leave()
            raise
        self._keeper = spawn(self._keep(link), f"plugin {self.route.name}")

    async def self_check(self) -> None:
        await self._order(pb.Order.SELF_CHECK)

    async def enable(self) -> None:
        await self._order(pb.Order.ENABLE)
        self._is_enabled = True

    async def disable(self) -> None:
        self._is_enabled = False
        await self._order(pb.Order.DISABLE)

    async def close(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
        link, self._link = self._link, None
        try:
            if keeper is not None:
                await asyncio.wait({keeper})  # it may be about to start another process
            if link is not None:
                # it is going to end anyway
                with contextlib.suppress(PluginError, TimeoutError):
                    async with asyncio.timeout(CLOSE_TIMEOUT):
                        await link.order(pb.Order.CLOSE)
        finally:  # whoever has no time for all that leaves no process behind
            if link is not None:
                link.end("the plugin is closed")
            await self._place.leave()

    async def hand_over(self) -> object:
        """Ask the process what the next version should know; None where it has nothing to say.

        Raises:
            PluginError: It fails, is not there, or says nonsense.
        """
        if not self.route.hands_over:
            return None
        done = await self._order(pb.Order.HAND_OVER)
        if len(done.state) > MAX_STATE:
            raise PluginError(f"it hands over {len(done.state)} octets: {MAX_STATE} are the most")
        try:
            return unpack(done.state) if done.state else None
        except ValueError as error:
            raise PluginError(f"what it hands over is {error}") from error

    async def take_over(self, state: object) -> None:
        """Tell the process what the last version has handed over.

        Raises:
            PluginError: That cannot be told to another process, or the plugin does not want it.
        """
        if not self.route.hands_over:
            return
        try:
            packed = pack(state, MAX_STATE)
        except ValueError as error:
            raise PluginError(f"what the last version hands over: {error}") from error
        await self._order(pb.Order.TAKE_OVER, packed)

    async def measure_memory(self) -> list[str]:
        """Ask the process what memory has grown; the first time it only begins to watch.

        Raises:
            PluginError: It is not a process of ours, or is not there.
        """
        if self.route.settings.address:
            raise PluginError("it runs elsewhere: measure it there")
        report = (await self._order(pb.Order.MEMORY)).report
        return [
            clean_text(f"memory: {line}") for line in report.split("\n", MAX_REPORT)[:MAX_REPORT]
        ]

    async def ask(self, context: Context) -> Result | None:
        """Ask the plugin.

        Raises:
            PluginError: It has failed, is lost, or is left alone for a while.
        """
        self._breaker.check()
        loop = asyncio.get_running_loop()
        seconds = self.route.settings.timeout
        end = loop.time() + seconds
        link: Link | None = None
        try:
            link = await self._await_link()
            self._place.calls += 1
            result = await link.call(context, seconds)
        except asyncio.CancelledError:
            if loop.time() >= end - 0.01:  # it was too slow; else nobody wants to know any more
                self._breaker.failed()
            raise
        except LinkLost:
            if link is None or not link.is_blamed:  # one end is one failure, whoever was waiting
                self._breaker.failed()
            if link is not None:
                link.is_blamed = True
            raise
        except AnswerError:
            self._breaker.failed()
            raise
        except Overloaded:
            raise  # that says nothing of how it works
        except PluginError:
            self._breaker.succeeded()  # the plugin works; this mail it cannot judge
            raise
        self._breaker.succeeded()
        return result

    async def _await_link(self) -> Link:
        if self._link is not None:
            if not self._link.lost.done():
                return self._link
            self._link = None
            self._is_up.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await self._is_up.wait()
        link: Link | None = self._link  # there may be one by now
        if link is None:
            raise LinkLost(f"there has been no connection to it for {PATIENCE:g} s")
        return link

    async def _order(self, kind: "pb.Order.Kind", state: bytes = b"") -> pb.Done:
        link = await self._await_link()
        async with asyncio.timeout(ORDER_TIMEOUT):
            return await link.order(kind, state)

    async def _open(self) -> Link:
        """Open a session.

        Raises:
            PluginError: Nobody is there, or it does not want its settings.
        """
        channel = self._place.channel or await self._place.connect()
        settings, server = self.route.settings, self.route.server
        size = server.max_message_size
        link = Link(channel, self.tools, self.prefetch, settings.limits, size)
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await link.open(self._hello())
                if self._is_enabled:
                    await link.order(pb.Order.ENABLE)
        except TimeoutError:
            link.end("it is not ready")
            raise PluginError(f"it is not ready within {START_TIMEOUT:g} s") from None
        except BaseException:
            link.end("it is not ready")
            raise
        self._link = link
        self._is_up.set()
        return link

    def _hello(self) -> pb.Hello:
        server = self.route.server
        return pb.Hello(
            protocol=PROTOCOL,
            server_version=server.version,
            hostname=server.hostname,
            worker=server.worker,
            plugin=self.route.name,
            config=json.dumps(self.settings.reveal()),
            debug=self.route.settings.log_level == "debug",
        )

    async def _keep(self, link: Link) -> None:
        """Open the session again whenever it is lost."""
        pause = FIRST_PAUSE
        while True:
            began = self.route.clock.monotonic()
            why = await asyncio.shield(link.lost)
            self._link = None
            self._is_up.clear()
            ending = await self._place.leave()
            self.route.tell("lost", ending or why)
            if self.route.clock.monotonic() - began >= STEADY:
                pause = FIRST_PAUSE
            link, pause = await self._reopen(pause)
            self.route.tell("restored")

    async def _reopen(self, pause: float) -> tuple[Link, float]:
        last = ""
        while True:
            await asyncio.sleep(pause)
            pause = min(2 * pause, LAST_PAUSE)
            try:
                return await self._open(), pause
            except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again
                await self._place.leave()
                if str(error) != last:
                    last = str(error)
                    self.route.tell("unreachable", last)


def _asking(hook: str) -> Callable[[RemotePlugin, Context], Awaitable[Result | None]]:
    async def ask(self: RemotePlugin, ctx: Context) -> Result | None:
        return await self.ask(ctx)

    ask.__name__ = ask.__qualname__ = hook
    return ask


def make_class(
    route: Route, metadata: Metadata, hooks: tuple[str, ...], prefetch: int, *, independent: bool
) -> type[RemotePlugin]:
    """Make a class of what a plugin says of itself."""
    members: dict[str, Any] = {hook: _asking(hook) for hook in hooks}
    members |= {
        "metadata": metadata,
        "route": route,
        "prefetch": prefetch,
        "independent": independent,
        "__doc__": metadata.description,
    }
    return type("Remote", (RemotePlugin,), members)
