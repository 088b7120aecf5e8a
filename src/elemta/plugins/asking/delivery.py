"""Asks plugins about mail that leaves the queue: before each attempt, and about what it came to.

Each attempt has an `Escort`, with the plugins that were current when it began. Whatever goes
wrong with a plugin makes the attempt wait: nothing has been sent by then. Edits change what is
sent in that attempt only; the queue keeps the message as it was stored. They concern the header
section, which is at most 2 MiB; the body is passed through as it is read. Plugins may read it all,
piece by piece, before they answer; content that cannot be read is no defect of theirs.

Those that are told of what has happened (`on_delivered`, `on_stored`) are told once it is in the
store, in order, and at most `MOST_TOLD` times at once; beyond that the attempts wait. A stop of
the server may cut them off.

Emits MessageModified.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace

import msgspec

from elemta.mail import events as ev
from elemta.mail.content import Content
from elemta.mail.errors import ElemtaError, PluginError, SpoolError
from elemta.mail.headers import find_header_end
from elemta.mail.job import Job
from elemta.mail.message import Message, Recipient, State
from elemta.mail.outcome import Outcome, Result
from elemta.mail.reply import Reply, clean_text
from elemta.net.tasks import spawn
from elemta.plugins.asking.applying import MAX_EDITS, EditLimits, Revision
from elemta.plugins.asking.chain import Chain, Decision
from elemta.plugins.asking.edited import EditedContent
from elemta.plugins.asking.table import NO_HOOKS, HookTable
from elemta.plugins.contexts import (
    AttemptContext,
    Context,
    DeliveryContext,
    OutcomeContext,
    QueueContext,
)
from elemta.plugins.edits import (
    AddHeader,
    Edit,
    InsertHeader,
    RemoveHeader,
    RenameHeader,
    ReplaceHeader,
)
from elemta.plugins.headers import Headers
from elemta.plugins.reading import end_reading
from elemta.plugins.result import NOTE_LIMIT, Action

MOST_TOLD = 200  # calls under way that nobody waits for
MAX_SECTION = 2_097_152  # octets searched for the end of the header section; sessions allow half
MAX_ADDED = 65_536  # octets that edits may add to it
MAX_CHANGES = 30  # named in the log, of one plugin
_HEADER_EDITS = AddHeader | InsertHeader | ReplaceHeader | RemoveHeader | RenameHeader
_DISCARDED = Reply(250, "discarded", "2.0.0")

Answer = Awaitable[Decision | None] | None
Wish = tuple[str, Edit]
"""An edit, and which plugin wants it."""


def no_hooks() -> HookTable:
    """For whoever has no plugins."""
    return NO_HOOKS


class Escorts:
    """Gives attempts their escorts.

    Args:
        table: Gives the plugins that are current.
        emit: Told of what they change.
    """

    def __init__(self, table: Callable[[], HookTable], emit: ev.Emit) -> None:
        self._table = table
        self._emit = emit
        self._teller = _Teller()

    def begin(self, message: Message, destination: str) -> "Escort | None":
        """Give an escort, which must `leave` at last; None where no plugin wants one."""
        table = self._table()
        if table.is_empty or not _is_wanted(table):
            return None
        table.enter()
        return Escort(table, message, destination, self._teller, self._emit)

    async def stop(self, grace: float) -> None:
        """Wait `grace` seconds for plugins that are being told something, then cut them off."""
        await self._teller.stop(grace)


class Escort:
    """The plugins that go with one attempt.

    Attributes:
        judges_outcomes: Somebody may say more about an attempt that failed.
    """

    __slots__ = ("_destination", "_emit", "_message", "_table", "_teller", "judges_outcomes")

    def __init__(
        self,
        table: HookTable,
        message: Message,
        destination: str,
        teller: "_Teller",
        emit: ev.Emit,
    ) -> None:
        self._table = table
        self._message = message
        self._destination = destination
        self._teller = teller
        self._emit = emit
        self.judges_outcomes = table.on_deferred is not None or table.on_bounced is not None

    def leave(self) -> None:
        """The attempt has ended."""
        self._table.leave()

    # ---- before the attempt

    async def dequeue(self, recipients: Sequence[Recipient]) -> None:
        """Say that an attempt begins."""
        chain = self._table.on_dequeue
        if chain is None:
            return
        waiting = chain(self._attempt(chain, recipients))
        if waiting is not None:
            await waiting

    async def clear(self, job: Job) -> Job | Outcome:
        """Ask whether an attempt may be made, and with what; else the outcome for all of it.

        Raises:
            SpoolError: The content cannot be read.
        """
        chain = self._table.on_pre_delivery
        if chain is None:
            return job
        section, is_whole = await _read_section(job.content)
        content = _Watched(job.content)
        context = DeliveryContext(
            chain.hook.name,
            self._message,
            job.recipients,
            self._destination,
            Headers(section),
            content,
        )
        waiting = chain(context)
        decision = await waiting if waiting is not None else None
        if content.trouble is not None:
            raise content.trouble
        if decision is None:
            return job
        outcome = _outcome(decision)
        if outcome is not None:
            return outcome
        edited = _Edited(job, section if is_whole else None)
        return self._edit(edited, decision.edits, chain, context)

    def _attempt(self, chain: Chain, recipients: Sequence[Recipient]) -> AttemptContext:
        return AttemptContext(chain.hook.name, self._message, recipients, self._destination)

    def _edit(
        self, edited: "_Edited", wishes: Sequence[Wish], chain: Chain, context: Context
    ) -> Job | Outcome:
        """Carry out edits; without those of a plugin that wants what cannot be done."""
        while wishes:
            edited.begin()
            try:
                for wish in wishes:
                    edited.apply(wish)
            except ElemtaError as error:
                culprit = edited.plugin or wishes[0][0]
                blamed = chain.blame(culprit, error, context)
                outcome = None if blamed is None else _outcome(blamed)
                if outcome is not None:
                    return outcome
                wishes = [wish for wish in wishes if wish[0] != culprit]
                continue
            self._tell_changes(edited.changes)
            return edited.result()
        return edited.job

    def _tell_changes(self, changes: dict[str, list[str]]) -> None:
        message = self._message
        for plugin, texts in changes.items():
            if len(texts) > MAX_CHANGES:
                texts[MAX_CHANGES:] = [f"and {len(texts) - MAX_CHANGES} more"]
            session_id = message.facts.session_id
            self._emit(ev.MessageModified(session_id, message.queue_id, plugin, texts))

    # ---- once the outcome is known, and not yet recorded

    def deferred(self, recipient: Recipient, outcome: Outcome, next_at: float) -> Answer:
        """Ask when a recipient is tried again; the answer's `delay` counts."""
        chain = self._table.on_deferred
        if chain is None:
            return None
        return chain(self._outcome(chain, recipient, State.DEFERRED, outcome, next_at))

    def bounced(self, recipient: Recipient, outcome: Outcome) -> Answer:
        """Ask whether the sender is told of a failure; the answer's `silent` counts."""
        chain = self._table.on_bounced
        if chain is None:
            return None
        return chain(self._outcome(chain, recipient, State.FAILED, outcome))

    def _outcome(
        self,
        chain: Chain,
        recipient: Recipient,
        state: State,
        outcome: Outcome,
        next_at: float = 0.0,
    ) -> OutcomeContext:
        return OutcomeContext(
            chain.hook.name, self._message, recipient, self._destination, state, outcome, next_at
        )

    # ---- once it is recorded

    async def delivered(self, recipient: Recipient, outcome: Outcome) -> None:
        """Say that a recipient has the message."""
        chain = self._table.on_delivered
        if chain is not None:
            context = self._outcome(chain, recipient, State.ACTIVE, outcome)
            await self._teller.tell(self._table, chain, context)

    async def stored(self, message: Message, recipients: Sequence[Recipient]) -> None:
        """Say that a notification about the message is in the queue."""
        chain = self._table.on_stored
        if chain is not None:
            context = QueueContext(
                chain.hook.name,
                message.queue_id,
                message.sender,
                tuple(recipient.address for recipient in recipients),
                message.size,
                recipients[0].state,
                message.facts.session_id,
                message.facts.notes,
            )
            await self._teller.tell(self._table, chain, context)


class _Watched:
    """The content of an attempt while plugins read it: an `elemta.mail.content.Content`.

    Attributes:
        trouble: Why it could not be read; None while all is well.
    """

    __slots__ = ("_content", "data", "size", "trouble")

    def __init__(self, content: Content) -> None:
        self._content = content
        self.data = content.data
        self.size = content.size
        self.trouble: SpoolError | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        """As `Content.chunks`."""
        chunks = self._content.chunks()
        try:
            async for chunk in chunks:
                yield chunk
        except SpoolError as error:
            self.trouble = error
            raise
        finally:
            await end_reading(chunks)


class _Edited:
    """An attempt on the way to another header section.

    Args:
        job: The attempt.
        section: Its header section; None where that has no end.

    Attributes:
        job: The attempt as it was.
        changes: What has been done, by plugin.
        plugin: Whose edit was the last.
    """

    def __init__(self, job: Job, section: bytes | None) -> None:
        self.job = job
        self._section = section
        self.begin()

    def begin(self) -> None:
        """Forget all edits."""
        self.changes: dict[str, list[str]] = {}
        self.plugin = ""
        self._revision: Revision | None = None

    def apply(self, wish: Wish) -> None:
        """Carry out an edit.

        Raises:
            ElemtaError: It is none of the header section, or cannot be done.
        """
        self.plugin, edit = wish
        if not isinstance(edit, _HEADER_EDITS):
            name = type(edit).__name__
            raise PluginError(f"on_pre_delivery changes only header fields: {name}")
        if self._revision is None:
            self._revision = self._revise()
        self.changes.setdefault(self.plugin, []).append(self._revision.apply(edit))

    def _revise(self) -> Revision:
        section, message = self._section, self.job.message
        if section is None:
            raise PluginError(f"the header section has no end within {MAX_SECTION} octets")
        limits = EditLimits(
            max_header_size=len(section) + MAX_ADDED,
            max_header_fields=section.count(b"\n") + MAX_EDITS,
            max_recipients=len(self.job.recipients),
            max_size=message.size + MAX_ADDED,
        )
        addresses = [recipient.address for recipient in self.job.recipients]
        utf8 = message.facts.smtputf8
        return Revision(section, message.sender, addresses, limits, utf8=utf8)

    def result(self) -> Job:
        """The attempt with the new section."""
        job, section, revision = self.job, self._section, self._revision
        if section is None or revision is None or revision.section == section:
            return job
        head, facts = revision.section, job.message.facts
        facts = msgspec.structs.replace(
            facts, header_size=len(head), has_8bit=facts.has_8bit or not head.isascii()
        )
        return replace(
            job,
            message=replace(job.message, facts=facts),
            content=EditedContent(head, job.content, len(section)),
        )


class _Teller:
    """Tells plugins in order, without waiting for what they do."""

    def __init__(self) -> None:
        self._room = asyncio.Semaphore(MOST_TOLD)
        self._tasks: set[asyncio.Task[None]] = set()

    async def tell(self, table: HookTable, chain: Chain, context: Context) -> None:
        """Tell as soon as there is room: whoever came before comes first."""
        await self._room.acquire()
        answer = chain(context)
        if answer is None:
            self._room.release()
            return
        table.enter()
        task = spawn(_wait(answer), chain.hook.name)
        self._tasks.add(task)

        def end(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            self._room.release()
            table.leave()

        task.add_done_callback(end)

    async def stop(self, grace: float) -> None:
        """Wait `grace` seconds for those who are being told, then cut them off."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        left = list(self._tasks)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)


async def _wait(answer: Awaitable[Decision | None]) -> None:
    await answer


def _is_wanted(table: HookTable) -> bool:
    chains = (
        table.on_dequeue,
        table.on_pre_delivery,
        table.on_delivered,
        table.on_deferred,
        table.on_bounced,
        table.on_stored,
    )
    return any(chain is not None for chain in chains)


def kept_by(plugin: str) -> Reply:
    """The reply that stands for one: a plugin keeps the message in quarantine."""
    return Reply(450, f"kept in quarantine by {plugin}", "4.7.1")


def _outcome(decision: Decision) -> Outcome | None:
    """What a decision makes of an attempt that is not made; None where it is."""
    refusal, plugin = decision.refusal, decision.plugin
    note = clean_text(decision.note, NOTE_LIMIT)
    if refusal is not None:
        result = Result.FAILED if refusal.is_permanent else Result.DEFERRED
        return Outcome(result, refusal, plugin=plugin, note=note)
    if decision.action is Action.DISCARD:
        return Outcome(Result.DISCARDED, _DISCARDED, plugin=plugin, note=note)
    if decision.action is Action.QUARANTINE:
        return Outcome(Result.QUARANTINED, kept_by(plugin), plugin=plugin, note=note)
    return None


async def _read_section(content: Content) -> tuple[bytes, bool]:
    """Read the header section as far as `MAX_SECTION`, and say whether that was all of it."""
    data = content.data
    if data is None:
        data = b""
        chunks = content.chunks()
        async for chunk in chunks:
            data += chunk
            if find_header_end(data) >= 0 or len(data) >= MAX_SECTION:
                break
        await end_reading(chunks)
    end = find_header_end(data)
    if end < 0:
        return data, len(data) == content.size
    return data[:end], True
