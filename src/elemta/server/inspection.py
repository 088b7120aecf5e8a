"""What plugins say of a message as it comes in, and what becomes of it for that.

They are asked at the end of the header section (`on_headers`) and at the end of data (`on_data`,
`on_validated`, `on_filter`, `on_enqueue`). Who refuses or discards is the last to be asked;
quarantine and edits add up. What was decided before the message came counts at its end: to
discard wins over quarantine, to refuse over both. Edits are carried out in memory as far as they
concern the header section, so that those asked later see them, and once in the draft, at the end.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass

from elemta.mail import events as ev
from elemta.mail.address import Address
from elemta.mail.content import Content
from elemta.mail.errors import PluginError
from elemta.mail.ids import QueueId
from elemta.mail.message import Message, State
from elemta.mail.reply import Reply, clean_text
from elemta.net.tasks import spawn
from elemta.plugins.asking.applying import EditLimits, Revision, Settled
from elemta.plugins.asking.chain import Chain, Decision
from elemta.plugins.asking.edited import EditedContent
from elemta.plugins.asking.table import HookTable
from elemta.plugins.contexts import MessageContext, QueueContext, SessionInfo
from elemta.plugins.headers import Headers
from elemta.plugins.result import Action
from elemta.server.intake import Draft
from elemta.server.parting import refusal_of
from elemta.server.settings import SessionSettings

MAX_TOLD = 1000  # calls of `on_stored` under way; beyond them the sender waits for its own
MAX_REASON = 1000  # characters
# what plugins may add to a header section that is as large as may be: results, seals, signatures
OUR_SIZE, OUR_FIELDS = 65_536, 100
MAX_CHANGES = 30  # named in the log, of one plugin
_telling: set[asyncio.Task[None]] = set()


@dataclass(frozen=True, slots=True)
class Panel:
    """Who is asked about the messages of a session.

    Attributes:
        hooks: The plugins.
        info: What they see of the session.
        emit: Told of what they do.
    """

    hooks: HookTable
    info: SessionInfo
    emit: ev.Emit


class Inspection:
    """The inspection of one message.

    Attributes:
        decided: What refused the message, or discarded it.
        revision: The message as edits leave it; None without any.
    """

    __slots__ = (
        "_changes",
        "_draft",
        "_headers",
        "_marks",
        "_panel",
        "_section",
        "_settings",
        "_trace",
        "_utf8",
        "decided",
        "revision",
    )

    def __init__(
        self, panel: Panel, draft: Draft, trace: bytes, settings: SessionSettings, *, utf8: bool
    ) -> None:
        """Begin with a draft that has nothing but `trace`, our own field."""
        self._panel = panel
        self._draft = draft
        self._trace = trace
        self._settings = settings
        self._utf8 = utf8
        self._section = b""
        self._headers = Headers(b"")
        self._marks: list[Decision] = []
        self._changes: list[tuple[str, str]] = []
        self.decided: Decision | None = None
        self.revision: Revision | None = None

    def ask_headers(
        self, section: bytes, sender: Address | None, recipients: Sequence[Address]
    ) -> Awaitable[Decision | None] | None:
        """Take the header section, and ask about it."""
        self._section = section
        self._headers = Headers(section)
        chain = self._panel.hooks.on_headers
        return None if chain is None else chain(self._context(chain, sender, recipients, None))

    def settle(
        self, sender: Address | None, recipients: Sequence[Address], settled: Sequence[Settled]
    ) -> None:
        """Take note of what was decided about single recipients before the message came."""
        self.revision = self._revise(sender, recipients)
        for plugin, edit in settled:
            self.revision.apply_all((edit,), plugin)

    async def ask_all(
        self, sender: Address | None, recipients: Sequence[Address], marks: Sequence[Decision]
    ) -> Reply | None:
        """Ask about the whole message; a reply says that it is not to be stored.

        Args:
            sender: Who sends it.
            recipients: Who is to get it.
            marks: What was decided before it came.

        Raises:
            SpoolError: It cannot be read back.
        """
        hooks = self._panel.hooks
        received: Content | None = None
        context: MessageContext | None = None
        later, self._marks = self._marks, []
        for mark in (*marks, *later):
            add_mark(self._marks, mark)
        for chain in (
            hooks.on_data,
            hooks.on_validated,
            hooks.on_filter,
            hooks.on_enqueue,
            hooks.sealing,
        ):
            if chain is None:
                continue
            if received is None:
                received = await self._draft.content(len(self._trace))
            if self.revision is not None:
                context = self._revised_context(chain, self.revision, received)
            elif context is None:
                context = self._context(chain, sender, recipients, received)
            else:  # nothing has changed but the moment
                context.hook = chain.hook.name
            waiting = chain(context)
            decision = await waiting if waiting is not None else None
            reply = self.heed(decision)
            if reply is None and decision is not None and decision.edits:
                reply = self._edit(decision, chain, context)
            if reply is not None:
                return reply
        return self._heed_marks(recipients if self.revision is None else self.revision.recipients)

    def heed(self, decision: Decision | None) -> Reply | None:
        """Take note of a decision; a reply says that the message is not to be kept."""
        if decision is None:
            return None
        reply = decision.refusal
        if reply is not None:
            self.decided = decision
        elif decision.action is Action.DISCARD:
            reply = self._throw_away(decision)
        elif decision.action is Action.QUARANTINE:
            add_mark(self._marks, decision)
        return reply

    @property
    def state(self) -> State:
        """In which the message begins."""
        return State.QUARANTINE if self._marks else State.ACTIVE

    @property
    def put_aside(self) -> Decision | None:
        """What puts it into quarantine; None where nothing does."""
        return self._marks[0] if self._marks else None

    def left(self) -> tuple[dict[str, str] | None, tuple[str, ...]]:
        """Give what plugins leave with the message: notes, and which plugins it is spared."""
        return self._panel.info.gather_left()

    @property
    def reason(self) -> str:
        """Why it does not begin as other messages do, for the operator."""
        if not self._marks:
            return ""
        whys = [mark.plugin + (f" ({mark.note})" if mark.note else "") for mark in self._marks]
        return clean_text(f"kept in quarantine by {'; '.join(whys)}", MAX_REASON)

    async def carry_out(self) -> None:
        """Put into the draft what edits have made of the message.

        Raises:
            SpoolError: It cannot be written.
        """
        revision, panel = self.revision, self._panel
        if revision is None:
            return
        start = len(self._trace) + len(self._section)
        if revision.head != self._trace + self._section or revision.body is not None:
            await self._draft.rewrite(revision.head, start, revision.body)
        for plugin, group in itertools.groupby(self._changes, lambda change: change[0]):
            texts = [text for _, text in group]
            if len(texts) > MAX_CHANGES:
                texts[MAX_CHANGES:] = [f"and {len(texts) - MAX_CHANGES} more"]
            panel.emit(
                ev.MessageModified(panel.info.session_id, self._draft.queue_id, plugin, texts)
            )

    async def has_8bit(self, *, before: bool) -> bool:
        """Whether there is an octet over 127 after all edits; `before` says it of what came."""
        revision = self.revision
        if revision is None:
            return before
        if not revision.head.isascii():
            return True
        if revision.body is not None:
            return not revision.body.isascii()
        if not before or self._section.isascii():
            return before
        body = await self._draft.content(len(self._trace) + len(self._section))
        async for piece in body.chunks():
            if not piece.isascii():
                return True
        return False

    async def stored(self, message: Message, recipients: Sequence[Address]) -> None:
        """Say what has become of the message; plugins hear of it while the sender gets its 250."""
        panel, state = self._panel, self.state
        session_id, queue_id = panel.info.session_id, message.queue_id
        for mark in self._marks:
            event = ev.MessageQuarantined(session_id, queue_id, mark.plugin, mark.note)
            panel.emit(event)
        chain = panel.hooks.on_stored
        if chain is None:
            return
        context = QueueContext(
            chain.hook.name,
            queue_id,
            message.sender,
            recipients,
            message.size,
            state,
            session_id,
            message.facts.notes,
        )
        panel.hooks.enter()
        if len(_telling) < MAX_TOLD:
            asyncio.get_running_loop().call_soon(_tell, panel.hooks, chain, context)
        else:
            await _wait(panel.hooks, chain(context))

    def discarded(self) -> None:
        """Say that the message has been thrown away, if that is so."""
        decided, panel = self.decided, self._panel
        if decided is not None and decided.action is Action.DISCARD:
            event = ev.MessageDiscarded(
                panel.info.session_id, self._draft.queue_id, decided.plugin, decided.note
            )
            panel.emit(event)

    def _context(
        self,
        chain: Chain,
        sender: Address | None,
        recipients: Sequence[Address],
        content: Content | None,
    ) -> MessageContext:
        size = len(self._section) if content is None else content.size
        return MessageContext(
            chain.hook.name,
            self._panel.info,
            sender,
            recipients,
            self._draft.queue_id,
            self._headers,
            size,
            content,
        )

    def _revised_context(
        self, chain: Chain, revision: Revision, received: Content
    ) -> MessageContext:
        content = EditedContent(revision.section, received, len(self._section), revision.body)
        return self._context(chain, revision.sender, tuple(revision.recipients), content)

    def _heed_marks(self, recipients: Sequence[Address] | dict[Address, None]) -> Reply | None:
        for mark in self._marks:
            if mark.action is Action.DISCARD:
                return self._throw_away(mark)
        self._marks = [mark for mark in self._marks if mark.action is Action.QUARANTINE]
        if not recipients:
            return self._throw_away(Decision(Action.DISCARD, note="no recipient is left"))
        return None

    def _throw_away(self, decision: Decision) -> Reply:
        self.decided = decision
        return queued(self._draft.queue_id)

    def _edit(self, decision: Decision, chain: Chain, context: MessageContext) -> Reply | None:
        """Carry out edits as far as they concern those asked later; a reply ends it all."""
        revision = self.revision
        if revision is None:
            revision = self.revision = self._revise(context.sender, context.recipients)
        for plugin, wishes in itertools.groupby(decision.edits, lambda wish: wish[0]):
            try:
                done = revision.apply_all((edit for _, edit in wishes), plugin)
            except PluginError as error:
                reply = self.heed(chain.blame(plugin, error, context))
                if reply is not None:
                    return reply
            else:
                self._changes += ((plugin, text) for text in done)
        self._headers = Headers(revision.section)
        if not revision.recipients:
            self.decided = refusal_of(revision.settled)
            if self.decided is not None:
                return self.decided.refusal
            plugin = decision.edits[-1][0]
            return self._throw_away(
                Decision(Action.DISCARD, plugin, note="no recipient is left after edits")
            )
        return None

    def _revise(self, sender: Address | None, recipients: Sequence[Address]) -> Revision:
        settings = self._settings
        limits = EditLimits(
            settings.max_header_size + OUR_SIZE,
            settings.max_header_fields + OUR_FIELDS,
            settings.max_recipients,
            settings.limits.max_message_size,
        )
        return Revision(
            self._section,
            sender,
            recipients,
            limits,
            trace=self._trace,
            utf8=self._utf8,
        )


def add_mark(marks: list[Decision], mark: Decision) -> None:
    """Remember that a message is to be discarded or put into quarantine.

    What a plugin wants counts once: how often it says so may be up to the client.
    """
    if all((each.plugin, each.action) != (mark.plugin, mark.action) for each in marks):
        marks.append(mark)


def queued(queue_id: QueueId) -> Reply:
    """Acknowledge a message: whether it is stored or thrown away, the words are the same."""
    return Reply(250, f"Ok: queued as {queue_id}", "2.0.0")


def _tell(hooks: HookTable, chain: Chain, context: QueueContext) -> None:
    waiting = chain(context)
    if waiting is None:
        hooks.leave()
        return
    task = spawn(_wait(hooks, waiting), f"on_stored of {context.queue_id}")
    _telling.add(task)
    task.add_done_callback(_telling.discard)


async def _wait(hooks: HookTable, waiting: Awaitable[Decision | None] | None) -> None:
    try:
        if waiting is not None:
            await waiting
    finally:
        hooks.leave()
