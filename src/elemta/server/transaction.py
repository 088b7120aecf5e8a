"""One mail transaction: from MAIL to the acknowledgement, with the policy in between.

It promises: a positive reply to the end of data only after the queue has said that the message
is durable; a refused message leaves nothing behind.
"""

from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from elemta.mail.address import Address
from elemta.mail.errors import SpoolError
from elemta.mail.headers import count_field, find_field, find_header_end, iter_fields
from elemta.mail.message import Facts, Message, Requests, State
from elemta.mail.reply import Reply, clean_text
from elemta.mail.why import Mail as Described
from elemta.plugins.asking.chain import Decision
from elemta.plugins.edits import SettleRecipient
from elemta.server.automatic import is_automatic
from elemta.server.client import Client
from elemta.server.inspection import Inspection, add_mark
from elemta.server.intake import Draft, Intake
from elemta.server.parting import Parting, Refusing
from elemta.server.relay import RelayPolicy
from elemta.server.settings import SessionSettings
from elemta.server.submission import Submitter
from elemta.server.trace import format_date, received_field, session_part
from elemta.smtp.events import Mail

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from elemta.plugins.asking.applying import Settled


NO_ROOM = Reply(452, "Insufficient system storage, try again later", "4.3.1")
TOO_MANY = Reply(452, "Too many recipients", "4.5.3")
APART = Reply(452, "Send to this recipient in a message of its own", "4.5.3")
LOOP = Reply(554, "Too many hops: this message is looping", "5.4.6")
HEADER_SIZE = Reply(552, "Header section too large", "5.3.4")
HEADER_FIELDS = Reply(552, "Too many header fields", "5.3.4")
LEARNT = frozenset({"message-id", "list-id", "auto-submitted", "precedence", "tls-required"})
MESSAGE_ID_LIMIT = 250  # characters kept for logs and notifications


class Transaction:
    """The state between MAIL and the reply to end of data."""

    __slots__ = (
        "_asking",
        "_began_at",
        "_begun",
        "_body",
        "_client",
        "_draft",
        "_dsn",
        "_fault",
        "_has_8bit",
        "_head",
        "_header_done",
        "_header_size",
        "_inspection",
        "_intake",
        "_is_automatic",
        "_is_flush_due",
        "_is_tls_optional",
        "_kept",
        "_marks",
        "_mended",
        "_message_id",
        "_requests",
        "_settings",
        "_settled",
        "_smtputf8",
        "_treatment",
        "accepted",
        "named",
        "overshoot",
        "parting",
        "recipients",
        "sender",
    )

    def __init__(
        self,
        mail: Mail,
        client: Client,
        intake: Intake[Any],
        settings: SessionSettings,
        requests: Requests | None = None,
    ) -> None:
        """Begin; `requests` is what MAIL asked for beside BODY and SMTPUTF8."""
        self.sender = mail.sender
        self.recipients: dict[Address, None] = {}
        self.accepted = self.overshoot = 0
        is_each_told = client.is_lmtp or (mail.extras is not None and mail.extras.prdr)
        self.named: list[Address] | None = [] if is_each_told else None
        self.parting: Parting | None = None
        self._settled: tuple[Settled, ...] = ()
        self._treatment: tuple[str, str] | None = None
        self._body, self._smtputf8 = mail.body, mail.smtputf8
        self._requests = requests
        self._dsn: dict[Address, tuple[str, str]] | None = None
        self._is_tls_optional = False
        self._client = client
        self._intake = intake
        self._settings = settings
        self._marks: list[Decision] = []
        self._inspection: Inspection | None = None
        self._asking: Awaitable[Decision | None] | None = None
        self._is_flush_due = False
        self._draft: Draft | None = None
        self._begun = False
        self._fault: Reply | None = None
        self._has_8bit = False
        self._head = bytearray()
        self._header_done = False
        self._header_size = 0
        self._kept = bytearray() if client.submitter is not None else None
        self._mended = 0, b""
        self._began_at = 0.0
        self._message_id = ""
        self._is_automatic = False

    def add_recipient(self, recipient: Address, policy: RelayPolicy) -> Reply | None:
        """Accept a recipient, or say why not. The same address twice gets one copy."""
        if self.accepted >= self._settings.max_recipients:
            self.overshoot += 1
            return TOO_MANY
        if not recipient.domain:
            recipient = policy.postmaster
        else:
            refusal = policy.refusal(recipient, trusted=self._client.is_trusted)
            if refusal is not None:
                return refusal
        self.take_recipient(recipient)
        return None

    def take_recipient(self, recipient: Address, *, is_kept: bool = True) -> None:
        """Accept a recipient that somebody vouches for; without `is_kept` it gets no copy."""
        self.accepted += 1
        if self.named is not None:
            self.named.append(recipient)
        if is_kept:
            self.recipients[recipient] = None

    def note_dsn(self, recipient: Address, notify: str, original: str) -> None:
        """Remember what was asked for one recipient (RFC 3461 §4.1, §4.2)."""
        if notify or original:
            if self._dsn is None:
                self._dsn = {}
            self._dsn[recipient] = notify, original

    def mark(self, decision: Decision) -> None:
        """Remember that plugins want this message discarded, or put into quarantine."""
        add_mark(self._marks, decision)

    def put_one_aside(self, recipient: Address, decision: Decision) -> None:
        """Remember that a plugin wants the message in quarantine for one recipient."""
        edit = SettleRecipient.quarantine(str(recipient), note=decision.note)
        self._settled = (*self._settled, (decision.plugin, edit))

    def is_treated(self, treatment: tuple[str, str]) -> bool:
        """Whether the first recipient is treated like this; the one that asks first is it."""
        if self._treatment is None:
            self._treatment = treatment
        return self._treatment == treatment

    def begin_data(self, now: float) -> Reply | None:
        """Open the draft and put the trace header on top; a reply says why that cannot be."""
        if not self._intake.has_room():
            return NO_ROOM
        self._begun = True
        self._began_at = now
        draft = self._draft = self._intake.draft()
        only = next(iter(self.recipients)) if len(self.recipients) == 1 else None
        client = self._client
        protocol = client.protocol
        if self._smtputf8:  # RFC 6531 §4.3
            protocol = f"UTF8{protocol.removeprefix('E')}"
        hostname = self._settings.hostname
        hidden_as = "" if client.submitter is None else client.submitter.hidden_as
        part = session_part(
            client.helo, client.ip, hostname, protocol, client.encryption, hidden_as
        )
        trace = received_field(part, draft.queue_id, only, now)
        draft.add(trace)
        self._header_size = len(trace)
        if client.panel is not None:
            self._inspection = Inspection(
                client.panel, draft, trace, self._settings, utf8=self._smtputf8
            )
        return None

    def refuse(self, reply: Reply) -> None:
        """Take the content that follows for nothing; `reply` is the answer at its end."""
        self._begun = True
        self._fault = reply

    @property
    def has_begun_data(self) -> bool:
        return self._begun

    def add(self, chunk: bytes) -> bool:
        """Take content; True: await `flush` before more. Of a refused message nothing is kept."""
        if self._draft is None or self._fault is not None:
            return False
        if not self._has_8bit and not chunk.isascii():
            self._has_8bit = True
        if not self._header_done:
            if not self._take_header(chunk):
                self._draft.discard()
                return False
            if self._kept is not None:
                chunk = self._keep_back(self._kept, chunk)
        is_flush_due = self._draft.add(chunk)
        if self._asking is None:
            return is_flush_due
        self._is_flush_due = is_flush_due
        return True

    async def flush(self) -> None:
        """Hear what plugins say of the header section, and let the draft catch up.

        A full disk refuses the message, not the session.
        """
        if self._draft is None or (self._asking is not None and not await self._hear()):
            return
        try:
            await self._draft.flush()
        except SpoolError:
            self._fault = NO_ROOM
            self._draft.discard()

    async def finish(self) -> Reply | Message:
        """Make the message durable; or say why it is refused, or that it was thrown away (250)."""
        draft, inspection = self._draft, self._inspection
        if not self._header_done and self._fault is None:
            await self._end_header(draft)
        if self._client.submitter is not None and self._fault is None and draft is not None:
            self._fault = await self._client.submitter.take(tuple(self.recipients), draft.size)
        try:
            if inspection is not None and self._fault is None:
                await self._inspect(inspection)
            if self._fault is not None or draft is None:
                return self._refused()
            state, reason = State.ACTIVE, ""
            if inspection is not None:
                state, reason = inspection.state, inspection.reason
            if self.parting is not None:
                return await self._part(self.parting, draft, state, reason)
            recipients = tuple(self.recipients)
            message = await self._intake.submit(
                draft, self.sender, recipients, self._facts(), state, reason
            )
        except SpoolError:
            self.discard()
            return NO_ROOM
        if inspection is not None:
            await inspection.stored(message, recipients)
        return message

    def describe(self, most: int) -> Described:
        """Say what it is about, for the record; no more recipients than `most`."""
        recipients = tuple(str(each) for each in islice(self.recipients, most))
        draft = self._draft
        queue_id, size = ("", 0) if draft is None else (draft.queue_id, draft.size)
        return Described(str(self.sender or ""), recipients, queue_id, self._message_id, size)

    @property
    def put_aside(self) -> Decision | None:
        """The decision of the first plugin that has put the message into quarantine."""
        inspection = self._inspection
        return inspection.put_aside if inspection is not None else None

    @property
    def decided(self) -> Decision | None:
        """The decision of a plugin that kept the message from being stored."""
        return None if self._inspection is None else self._inspection.decided

    def discard(self) -> None:
        """Drop what has arrived."""
        self._asking = None
        if self._draft is not None:
            self._draft.discard()

    def _refused(self) -> Reply:
        self.discard()
        if self._inspection is not None:
            self._inspection.discarded()
        return self._fault or NO_ROOM

    def _facts(self) -> Facts:
        client, inspection = self._client, self._inspection
        notes, spared = (None, ()) if inspection is None else inspection.left()
        return Facts(
            body=self._body,
            smtputf8=self._smtputf8,
            has_8bit=self._has_8bit,
            verified=client.is_trusted,
            session_id=client.session_id,
            client_address=client.ip,
            helo=client.helo,
            protocol=client.protocol,
            message_id=self._message_id,
            header_size=self._header_size,
            auto_submitted=self._is_automatic,
            notes=notes,
            login=client.login,
            requests=self._asked(),
            released=spared,
        )

    def _asked(self) -> Requests | None:
        """Put together what MAIL, RCPT and the header section ask for."""
        requests = self._requests
        if self._dsn is None and not self._is_tls_optional:
            return requests
        dsn = self._dsn or {}
        return msgspec.structs.replace(
            requests or Requests(),
            dsn={at: dsn[each] for at, each in enumerate(self.recipients) if each in dsn},
            tls_optional=self._is_tls_optional,
        )

    # ---- plugins

    async def _hear(self) -> bool:
        """Take note of what plugins say of the header section; True: the draft is to catch up."""
        asking, self._asking = self._asking, None
        inspection = self._inspection
        if asking is None or inspection is None:
            return True
        reply = inspection.heed(await asking)
        if reply is None:
            return self._is_flush_due
        if self._fault is None:
            self._fault = reply
        self.discard()
        return False

    async def _inspect(self, inspection: Inspection) -> None:
        """Ask about the whole message, and take over what edits have made of it."""
        if self._settled:
            inspection.settle(self.sender, tuple(self.recipients), self._settled)
        self._fault = await inspection.ask_all(self.sender, tuple(self.recipients), self._marks)
        revision = inspection.revision
        if revision is None:
            return
        if revision.settled and (self._fault is None or not revision.recipients):
            self.parting = Parting(revision.settled, self._refusing())
        if self._fault is not None:
            return
        self.sender, self.recipients = revision.sender, revision.recipients
        self._has_8bit = await inspection.has_8bit(before=self._has_8bit)
        self._header_size = len(revision.head)
        if not LEARNT.isdisjoint(revision.names):
            self._learn(revision.section, revision.section.lower())
        await inspection.carry_out()

    def _refusing(self) -> Refusing:
        """Say how the sender is to learn of recipients that are refused now."""
        if self.named is not None and (self._client.is_lmtp or self.accepted > 1):
            return "reply"
        is_known = self._client.is_trusted and self.sender is not None
        return "bounce" if is_known and self._settings.bounces_rejected else "quarantine"

    async def _part(self, parting: Parting, draft: Draft, state: State, reason: str) -> Message:
        """Make a message durable whose recipients are treated differently.

        Raises:
            SpoolError: It cannot be kept.
        """
        placed = parting.place(self.recipients, state, reason)
        self._dsn = parting.hand_on(self._dsn)
        self.recipients = dict.fromkeys(each.address for each in placed)
        message = await self._intake.submit_parted(draft, self.sender, placed, self._facts())
        if self._inspection is not None:
            if state is State.ACTIVE:
                self._inspection.heed(parting.find_mark(placed))
            await self._inspection.stored(message, tuple(self.recipients))
        return message

    # ---- the header section

    async def _end_header(self, draft: Draft | None) -> None:
        """Take all that has come for the header section: nothing has ended it."""
        self._judge_header(bytes(self._head))
        if self._kept is not None and draft is not None and self._fault is None:
            draft.add(self._keep_back(self._kept, b""))
        if self._asking is not None:
            await self._hear()

    def _keep_back(self, kept: bytearray, chunk: bytes) -> bytes:
        """Give what may go into the draft: nothing before the header section is whole and mended.

        Args:
            kept: What has not gone there so far.
            chunk: What comes now, already looked at.
        """
        kept += chunk
        if not self._header_done:
            return b""
        size, mended = self._mended
        rest = bytes(kept[size:])
        kept.clear()
        return mended + rest

    def _mend(self, submitter: Submitter, section: bytes) -> bytes:
        """Let the header section of a submitted message be looked at; as it is then."""
        if self._draft is None:
            return section
        date = format_date(self._began_at)
        found = submitter.review(
            section, self.sender, self._draft.queue_id, date, utf8=self._smtputf8
        )
        self._fault = found.fault
        self._mended = len(section), found.section + found.body
        self._header_size += len(found.section) - len(section)
        self._has_8bit = self._has_8bit or not found.section.isascii()
        return found.section

    def _take_header(self, chunk: bytes) -> bool:
        """Look for the end of the header section; False when the message is refused for it."""
        head = self._head
        if not head:  # mostly the section comes in one piece
            end = find_header_end(chunk)
            if end >= 0:
                self._judge_header(chunk[:end])
                return self._fault is None
        seen = len(head)
        head += chunk
        empty_line = head.find(b"\r\n\r\n", max(0, seen - 3))
        if head.startswith(b"\r\n"):
            self._judge_header(b"\r\n")
        elif empty_line >= 0:
            self._judge_header(bytes(head[: empty_line + 4]))
        elif len(head) > self._settings.max_header_size:
            self._fault = HEADER_SIZE
            self._head = bytearray()
        return self._fault is None

    def _judge_header(self, section: bytes) -> None:
        """Learn what is needed from the whole header section, once."""
        self._header_done = True
        self._head = bytearray()
        settings = self._settings
        lowered = section.lower()
        self._header_size += len(section)
        if len(section) > settings.max_header_size:
            self._fault = HEADER_SIZE
        elif lowered.count(b"\n") > settings.max_header_fields and (
            sum(1 for _ in iter_fields(section)) > settings.max_header_fields
        ):
            self._fault = HEADER_FIELDS
        elif lowered.count(b"received") > settings.max_received and (
            count_field(section, b"received") > settings.max_received
        ):
            self._fault = LOOP
        else:
            self._settle_header(section, lowered)

    def _settle_header(self, section: bytes, lowered: bytes) -> None:
        """Go on with a header section that keeps within the limits."""
        if self._client.submitter is not None:
            section = self._mend(self._client.submitter, section)
            lowered = section.lower()
        if self._fault is None:
            self._learn(section, lowered)
            if self._inspection is not None:
                recipients = tuple(self.recipients)
                self._asking = self._inspection.ask_headers(section, self.sender, recipients)

    def _learn(self, section: bytes, lowered: bytes) -> None:
        """Learn what the queue keeps of a header section."""
        message_id = find_field(section, b"message-id") if b"message-id" in lowered else None
        text = "" if message_id is None else message_id.decode("ascii", "replace").strip()
        self._message_id = clean_text(text, MESSAGE_ID_LIMIT)
        self._is_automatic = is_automatic(section, lowered)
        if b"tls-required" in lowered:  # RFC 8689 §5
            wish = find_field(section, b"tls-required")
            self._is_tls_optional = wish is not None and wish.strip().lower() == b"no"
