"""How far a client has come: what may be asked next, and what an answer changes.

RFC 5321 §4.1.4 is the order of commands, RFC 3030 §2 that of chunks, RFC 2033 §4.2 what
differs in LMTP.
"""

from elemta.mail.reply import Reply
from elemta.smtp import commands
from elemta.smtp.data import TOO_BIG, ContentReader
from elemta.smtp.events import (
    Auth,
    AuthResponse,
    BodyEnd,
    ChunkEnd,
    Data,
    Event,
    Fault,
    Hello,
    Mail,
    Rcpt,
    Reset,
    XClient,
)
from elemta.smtp.limits import Limits
from elemta.smtp.offer import Offer


class Progress:
    """The greeting and the open transaction of one connection.

    Attributes:
        limits, offer: What is allowed, and what is on offer.
        is_encrypted, is_authenticated: TLS is up; the client has proved who it is.
        hello, esmtp: The name given in the last accepted greeting, and whether it was EHLO or
            LHLO.
        accepted: Recipients accepted in this transaction.
        wide: The transaction has asked for SMTPUTF8.
        prdr: It has asked for an answer for each recipient (draft-hall-prdr).
        reader: Takes the content, once it comes.
        is_last: No more content comes after what is being read.
        chunk_size: Octets of the BDAT chunk being read.
    """

    __slots__ = (
        "_chunks_begun",
        "_declared",
        "_in_mail",
        "_is_binary",
        "_is_refused",
        "_lmtp",
        "_refused",
        "accepted",
        "chunk_size",
        "esmtp",
        "hello",
        "is_authenticated",
        "is_encrypted",
        "is_last",
        "limits",
        "offer",
        "prdr",
        "reader",
        "wide",
    )

    def __init__(self, limits: Limits, offer: Offer, *, lmtp: bool, is_encrypted: bool):
        self.limits = limits
        self.offer = offer
        self.is_encrypted = is_encrypted
        self.is_authenticated = False
        self._lmtp = lmtp
        self.hello = ""
        self.esmtp = False
        self.end_transaction()

    def end_transaction(self) -> None:
        """Forget the transaction; the greeting stands."""
        self._in_mail = False
        self._is_binary = False
        self._refused = False
        self._chunks_begun = False
        self._declared = 0  # octets of all chunks
        self._is_refused = False  # a chunk was
        self.accepted = 0
        self.wide = self.prdr = False
        self.reader: ContentReader | None = None
        self.is_last = False
        self.chunk_size = 0

    # ---- what may come next

    def judge_mail(self) -> Fault | None:
        """Say why MAIL may not come now."""
        if self._in_mail:
            return commands.NESTED_MAIL
        return None if self.hello else commands.HELLO_FIRST

    def judge_rcpt(self) -> Fault | None:
        """Say why RCPT may not come now."""
        if not self._in_mail:
            return commands.MAIL_FIRST if self.hello else commands.HELLO_FIRST
        return commands.CHUNKS_BEGUN if self._chunks_begun else None

    def judge_data(self) -> Fault | None:
        """Say why DATA may not come now."""
        if self._chunks_begun:
            return commands.CHUNKS_BEGUN
        fault = self._judge_content()
        return commands.BINARY_BY_BDAT if fault is None and self._is_binary else fault

    def judge_auth(self) -> Fault | None:
        """Say why AUTH may not come now (RFC 4954 §4)."""
        if not self.offer.mechanisms:
            return commands.AUTH_NEEDS_TLS if self.offer.auth_needs_tls else commands.UNAVAILABLE
        if self.is_authenticated:
            return commands.AUTH_DONE
        if not self.esmtp:
            return commands.HELLO_FIRST
        return commands.AUTH_IN_MAIL if self._in_mail else None

    def judge_proxy(self) -> Fault | None:
        """Say why a proxy may not tell of its client now: not within mail, not after AUTH."""
        if self._in_mail:
            return commands.AUTH_IN_MAIL
        return commands.AUTH_DONE if self.is_authenticated else None

    def begin_chunk(self, size: int, *, is_last: bool) -> Fault | None:
        """Prepare for a BDAT chunk; the fault is its answer, once its octets have been read."""
        self.chunk_size = size
        self.is_last = is_last
        self._declared += size
        endless = self._declared > self.limits.drain_limit
        fault = commands.CHUNKS_REFUSED if self._is_refused else self._judge_content()
        if fault is not None:
            return Fault(fault.reply, close=True, kind=fault.kind) if endless else fault
        self._chunks_begun = True
        if self.reader is None:
            self.reader = ContentReader(self.limits, is_binary=self._is_binary)
        if self._declared > self.limits.max_message_size and self.reader.fault is None:
            self.reader.refuse(TOO_BIG)
        self.reader.close = endless
        return None

    def _judge_content(self) -> Fault | None:
        if self.accepted:
            return None
        if not self._in_mail:
            return commands.MAIL_FIRST if self.hello else commands.HELLO_FIRST
        # RFC 5321 §3.3 lets either be said; RFC 2033 §4.2 wants 503
        return commands.NO_RECIPIENTS if self._refused and not self._lmtp else commands.RCPT_FIRST

    # ---- what answers change

    def settle(self, event: Event, reply: Reply) -> None:
        """Take note of the answer to an event."""
        if type(event) is Rcpt:
            self.note_recipient(accepted=reply.code < 400)
        elif type(event) is Mail:
            self._in_mail = reply.code < 400
            self._is_binary = event.body == "BINARYMIME"
            self.wide = event.smtputf8
            self.prdr = event.extras is not None and event.extras.prdr
        elif type(event) is BodyEnd:
            self._settle_content()
        elif type(event) is Reset:
            self.end_transaction()
        elif reply.is_positive:
            self._settle_positive(event, reply)
        elif type(event) is ChunkEnd:
            self._is_refused = True

    def _settle_positive(self, event: Event, reply: Reply) -> None:
        if type(event) is Hello:
            self.end_transaction()
            self.hello = event.name
            self.esmtp = event.verb != "HELO"
        elif type(event) is Data:
            self.reader = ContentReader(self.limits)
            self.is_last = True
        elif type(event) is Auth or type(event) is AuthResponse:
            self.is_authenticated = reply.code == 235
        elif type(event) is XClient:  # as at the banner
            self.hello, self.esmtp = "", False

    def note_recipient(self, *, accepted: bool) -> None:
        """Count a recipient, so that DATA without any can say why."""
        if accepted:
            self.accepted += 1
        else:
            self._refused = True

    def _settle_content(self) -> None:
        if self.is_last:
            self.end_transaction()
        else:  # a chunk has failed: so will all that follow
            self._is_refused = True
