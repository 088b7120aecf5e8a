"""The records of a worker's decisions, on their way from memory to disk."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from elemta.config import Config
from elemta.mail import events as ev
from elemta.mail.clock import Clock
from elemta.mail.errors import SpoolError
from elemta.mail.message import State
from elemta.mail.why import Mail, Ruling, Who
from elemta.mail.wording import Wording
from elemta.net.tasks import spawn
from elemta.observe.why import WhyStore, store_path
from elemta.server.journal import Case, Journal
from elemta.server.rules import find_rule

if TYPE_CHECKING:
    from collections.abc import Mapping

PRUNE_EVERY = 60.0  # seconds


class WorkerWhy:
    """Writes down once a second what the worker has decided; mail never waits for it.

    Attributes:
        journal: Where it gathers; None where nobody wants records.
        heard: What is written down of delivery, by event.
    """

    def __init__(self, config: Config, clock: Clock, emit: ev.Emit) -> None:
        """Open nothing yet; `emit` is told of trouble."""
        self._path = store_path(Path(config.server.state_dir))
        self._keep, self._max_size = config.why.keep, config.why.max_size
        self._clock = clock
        self._emit = emit
        self._store: WhyStore | None = None
        self._writing: asyncio.Task[None] | None = None
        self._prune_at = 0.0
        self._trouble = ""
        self._lost = self._replaced = 0
        self.journal = Journal(clock, find_rule) if config.why.enabled else None
        self.heard: Mapping[type[ev.Event], ev.Emit] = {
            ev.MessageDeferred: self._attempted,
            ev.MessageBounced: self._attempted,
            ev.MessageDiscarded: self._set_aside,
            ev.MessageQuarantined: self._set_aside,
            ev.StateChanged: self._moved,
            ev.MessageHeld: self._held,
        }

    def apply(self, config: Config) -> None:
        """Take the words in which clients are refused."""
        if self.journal is not None:
            sayings = [each.saying for each in config.replies]
            hostname = config.server.hostname
            self.journal.wording = Wording(sayings, hostname) if sayings else None

    @property
    def lost(self) -> int:
        """Records for which there was no room, ever."""
        return 0 if self.journal is None else self.journal.lost

    def beat(self) -> None:
        """Begin to write, unless that is still under way."""
        if self.journal is None or (self._writing is not None and not self._writing.done()):
            return
        self._writing = spawn(self._write(), "why")

    async def close(self) -> None:
        """Write what is left."""
        if self._writing is not None:
            await self._writing
        journal = self.journal
        if journal is None:
            return
        await self._write()
        journal.lost += sum(pack.count for pack in journal.take())
        self._tell_lost()
        if self._store is not None:
            self._store.close()

    async def _write(self) -> None:
        journal = self.journal
        packs = journal.take() if journal is not None else []
        is_pruning = self._clock.monotonic() >= self._prune_at
        if journal is None or not (packs or is_pruning):
            return
        try:
            store = self._store
            if store is None:
                store = self._store = await asyncio.to_thread(WhyStore, self._path)
            if packs:
                await asyncio.to_thread(store.add, packs)
            packs = []
            if is_pruning:
                self._prune_at = self._clock.monotonic() + PRUNE_EVERY
                before = self._clock.now() - self._keep
                await asyncio.to_thread(store.prune, before, self._max_size)
            self._trouble = ""
            if store.replaced > self._replaced:
                self._replaced = store.replaced
                self._emit(ev.Notice("why", f"{self._path} was malformed, and is put aside"))
            self._tell_lost()
        except SpoolError as error:
            journal.give_back(packs)
            self._complain(str(error))

    def _tell_lost(self) -> None:
        lost, self._lost = self.lost - self._lost, self.lost
        if lost:
            self._emit(ev.Notice("why", f"{lost} records were lost"))

    def _complain(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            self._emit(ev.Notice("why", trouble))

    # ---- delivery

    def _attempted(self, event: ev.Event) -> None:
        """Write down that a plugin has decided on an attempt to deliver."""
        if isinstance(event, ev.AttemptEvent) and event.plugin:
            outcome = "defer" if isinstance(event, ev.MessageDeferred) else "reject"
            mail = Mail(recipients=(event.recipient,), queue_id=event.queue_id)
            note, reply = event.reason, event.reply
            self._decide(mail, Ruling(outcome, "delivery", reply, event.plugin, "", note))

    def _set_aside(self, event: ev.Event) -> None:
        """Likewise, where it takes one recipient out."""
        if not isinstance(event, ev.MessageDiscarded | ev.MessageQuarantined):
            return
        if event.recipient:
            is_lost = isinstance(event, ev.MessageDiscarded)
            mail = Mail(recipients=(event.recipient,), queue_id=event.queue_id)
            outcome = "discard" if is_lost else "quarantine"
            self._decide(mail, Ruling(outcome, "delivery", "", event.plugin, "", event.reason))

    def _moved(self, event: ev.Event) -> None:
        """Write down that a recipient is held from now on."""
        if isinstance(event, ev.StateChanged) and event.after in {State.HOLD, State.QUARANTINE}:
            mail = Mail(recipients=(event.recipient,), queue_id=event.queue_id)
            note = event.reason or "an order said so"
            self._decide(mail, Ruling(State(event.after).value, "queue", note=note))

    def _held(self, event: ev.Event) -> None:
        """Write down that a message begins on hold."""
        if self.journal is not None and isinstance(event, ev.MessageHeld):
            mail = Mail(event.mail_from, (), event.queue_id, event.message_id_header)
            self.journal.hold(Case(Who(event.session_id), mail, ""))

    def _decide(self, mail: Mail, ruling: Ruling) -> None:
        if self.journal is not None:
            self.journal.decide(Case(Who(), mail, ""), ruling)
