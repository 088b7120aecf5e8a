"""The checks of new clients, for one worker; who has passed them is written down."""

import asyncio
from pathlib import Path

from elemta.config import Config
from elemta.config.listeners import ListenerConfig
from elemta.mail import events as ev
from elemta.mail.clock import Clock
from elemta.mail.errors import SpoolError
from elemta.net.tasks import spawn
from elemta.server.limits import Counters
from elemta.server.pregreet import (
    Action,
    Check,
    PassStore,
    PregreetSettings,
    Register,
    Screen,
)

PRUNE_EVERY = 3600.0  # seconds


def pregreet_settings(config: Config, listener: ListenerConfig) -> PregreetSettings | None:
    """How clients of a listener are checked; None where they are not."""
    pregreet = config.pregreet
    is_wanted = listener.pregreet
    if is_wanted is None:
        is_wanted = pregreet.enabled and listener.kind == "mta"
    actions = {check: Action(getattr(pregreet, check.value)) for check in Check}
    if not is_wanted or set(actions.values()) == {Action.OFF}:
        return None
    return PregreetSettings(
        actions=actions,
        keep={check: getattr(pregreet, f"{check.value}_ttl") for check in Check},
        wait=pregreet.wait,
        stressed_wait=min(pregreet.wait, pregreet.stressed_wait),
        teases=pregreet.teaser,
        exempt=(*config.relay.trusted_networks, *pregreet.exempt),
        proxies=listener.xclient,
        ipv4_prefix=pregreet.ipv4_prefix,
        ipv6_prefix=pregreet.ipv6_prefix,
    )


class WorkerPregreet:
    """Gives each listener its checks, and writes down once a second who has passed them.

    Sessions never wait for the database; without it a restart forgets.
    """

    def __init__(self, state_dir: Path, counters: Counters, clock: Clock, emit: ev.Emit) -> None:
        """Open nothing yet; `counters` know already which worker this is."""
        self._state_dir = state_dir
        self._is_first = counters.worker == 0
        self._register = Register(counters.passes, clock)
        self._clock = clock
        self._emit = emit
        self._is_used = False
        self._store: PassStore | None = None
        self._writing: asyncio.Task[None] | None = None
        self._prune_at = 0.0
        self._trouble = ""

    def screen(self, config: Config, listener: ListenerConfig) -> Screen | None:
        """Give what checks the clients of a listener; None where nothing does."""
        settings = pregreet_settings(config, listener)
        if settings is None:
            return None
        self._is_used = True
        return Screen(settings, self._register, listener.kind, self._emit)

    async def start(self) -> None:
        """Learn who is known from before, where anybody is checked."""
        if self._is_used:
            await self._write()

    def beat(self) -> None:
        """Begin to write, unless that is still under way."""
        if self._is_used and (self._writing is None or self._writing.done()):
            self._writing = spawn(self._write(), "pregreet")

    async def close(self) -> None:
        """Write what is left."""
        if self._writing is not None:
            await self._writing
        if self._is_used:
            await self._write()
        if self._store is not None:
            self._store.close()

    async def _write(self) -> None:
        news = self._register.take_news()
        is_pruning = self._is_first and self._clock.monotonic() >= self._prune_at
        if self._store is not None and not news and not is_pruning:
            return
        try:
            store = self._store or await self._open()
            if news:
                await asyncio.to_thread(store.write, news)
                news = []
            if is_pruning:
                self._prune_at = self._clock.monotonic() + PRUNE_EVERY
                await asyncio.to_thread(store.prune, self._clock.now())
            self._trouble = ""
        except SpoolError as error:
            self._register.give_back(news)
            if str(error) != self._trouble:
                self._trouble = str(error)
                self._emit(ev.Notice("pregreet", self._trouble))

    async def _open(self) -> PassStore:
        """Open the database; one worker learns for all what is in it."""
        store = self._store = await asyncio.to_thread(PassStore, self._state_dir)
        if self._is_first:
            known = await asyncio.to_thread(store.read, self._clock.now())
            await asyncio.to_thread(self._register.learn, known)
        return store
