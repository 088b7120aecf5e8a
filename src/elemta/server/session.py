"""One SMTP or LMTP session: a short coroutine between a connection and the protocol machine.

It reads bytes, asks the machine what they mean, answers, and keeps time: a deadline for each
command, a silence limit and a minimum rate within messages, a limit for the whole session.
Replies gather while more commands are at hand and go out in one write (RFC 2920 §3.2).
"""

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, ClassVar

from elemta.mail import events as ev
from elemta.mail.errors import LocalProtocolError
from elemta.mail.ids import SessionId
from elemta.mail.message import Requests
from elemta.mail.reply import Reply
from elemta.net.stream import Stream
from elemta.server.client import Client
from elemta.server.concluding import Concluding
from elemta.server.offers import make_requests
from elemta.server.replies import (
    BYE,
    CANNOT_VERIFY,
    CHUNK_OK,
    DEFECT,
    EARLY_TALK,
    GO_AHEAD,
    HELP,
    LOGIN_FIRST,
    NO_EXPAND,
    NULL_MX,
    OK,
    RECIPIENT_OK,
    SENDER_OK,
    SHUTDOWN,
    TIMEOUT,
    TOO_MANY_ERRORS,
    hello,
    old_hello,
)
from elemta.server.surroundings import Surroundings
from elemta.server.transaction import NO_ROOM, Transaction
from elemta.smtp import Limits, Offer, ServerMachine
from elemta.smtp import events as smtp

OVERSHOOT = 1000  # surplus recipients are no errors: they come again (RFC 5321 §4.5.3.1.10)

_PARTED = frozenset({"quit", "lost"})  # ways to end after which nothing comes
_SILENT = frozenset({"timeout", "shutdown"})  # we were waiting: as a rule nothing is on its way

Handler = Callable[[Any, Any], Awaitable[None] | None]

_ANSWERS: Mapping[type[smtp.Event], Reply] = {
    smtp.Noop: OK,
    smtp.Help: HELP,
    smtp.Verify: CANNOT_VERIFY,
    smtp.Expand: NO_EXPAND,
}


class Session(Concluding):
    """A session; `run` holds it from banner to close."""

    __slots__ = (
        "_client",
        "_command_ends_at",
        "_data_from",
        "_ends_at",
        "_handlers",
        "_is_closing",
        "_is_leaving",
        "_login",
        "_machine",
        "_penalty",
        "_received",
        "_transaction",
        "_trusted",
        "_waiting",
    )

    def __init__(self, stream: Stream, session_id: SessionId, around: Surroundings) -> None:
        super().__init__(stream, session_id, around)
        self._trusted = around.policy.is_trusted(stream.peer_ip)
        self._transaction: Transaction | None = None
        self._client: Client | None = None
        self._login = ""  # the account, once the client has proved that it may use it
        self._machine = self._make_machine()
        self._handlers: Mapping[type[Any], Handler] = self.HANDLERS
        self._waiting: Awaitable[None] | None = None
        self._ends_at = 0.0
        self._command_ends_at = 0.0  # 0: none has begun
        self._penalty = 0.0  # seconds that the next answer is late
        self._is_closing = False
        self._is_leaving = False
        self._messages = 0
        self._received = 0  # octets, ever
        self._data_began = 0.0
        self._data_from = 0  # octets that had come before this message

    def _make_machine(self) -> ServerMachine:
        tls, door = self._stream.tls, self._around.door
        return ServerMachine(
            self._limits(), self._offer(), lmtp=door.is_lmtp, is_encrypted=tls is not None
        )

    def _limits(self) -> Limits:
        """Say how much of what the machine takes."""
        settings = self._settings
        return settings.trusted_limits if self._trusted else settings.limits

    def _offer(self) -> Offer:
        """Say which extensions this client may use as things stand."""
        return Offer(smtputf8=self._settings.smtputf8)

    def _extensions(self) -> tuple[str, ...]:
        """Write the lines of the answer to EHLO, after the first."""
        return self._machine.extensions

    def close_soon(self) -> None:
        """End with 421: at once when no message is under way, else after it."""
        self._is_closing = True
        if self._transaction is None:
            self._stream.deadline = 0.0

    def leave(self) -> None:
        """End with 421 where the client begins another message: the first may still come."""
        self._is_leaving = True

    def expire(self) -> None:
        """End with 421 as soon as the client is waited for, whatever is under way."""
        self._is_closing = True
        self._stream.deadline = 0.0

    def cut_off(self) -> None:
        """End now, whatever is under way: what has no 250 yet is the client's to send again."""
        self._stream.abort()

    async def run(self) -> None:
        """Hold the session; returns when the connection is closed."""
        around, stream = self._around, self._stream
        around.emit(
            ev.ConnectionAccepted(self._id, stream.peer_ip or "unix", stream.local, around.listener)
        )
        try:
            if await self._open():
                await self._hold()
        except TimeoutError:
            self._over = "shutdown" if self._is_closing else "timeout"
            if stream.is_congested:  # the peer does not read: no word would reach it
                stream.abort()
            self._say_last(SHUTDOWN if self._is_closing else TIMEOUT)
        except ConnectionError:
            self._over = self._over or "lost"
        except Exception as error:  # noqa: BLE001 - one session's defect must not end the worker
            self._over = "defect"
            around.emit(ev.InternalError("session", repr(error), session_id=self._id))
            self._say_last(DEFECT)
        finally:
            if isinstance(self._waiting, Coroutine):
                self._waiting.close()  # nobody has come to wait for it, if it has not run
            if self._transaction is not None:
                self._transaction.discard()
            stream.deadline = around.clock.monotonic() + 10.0  # for what is still unsent
            self._close()
            self._leave()
            around.emit(
                ev.ConnectionClosed(
                    self._id,
                    stream.peer_ip or "unix",
                    around.listener,
                    self._messages,
                    "" if self._over == "quit" else self._over,
                )
            )

    def _close(self) -> None:
        """Close the connection; who is refused while it sends has to hear of that first."""
        over, stream = self._over, self._stream
        if over in _PARTED or (over in _SILENT and not stream.has_early_input()):
            stream.close()
        else:
            stream.linger()

    async def _open(self) -> bool:
        return True  # what comes before the banner has been done

    def _leave(self) -> None:
        """Let go of what is held while the connection is open."""

    async def _hold(self) -> None:
        stream = self._stream
        if not self._greet():
            return
        self._ends_at = self._around.clock.monotonic() + self._settings.session_timeout
        waiting = self._advance()
        while not self._over:
            if waiting is not None:
                await waiting
                waiting = self._proceed()
            elif await stream.pump(self._receive):
                waiting = self._waiting
            else:
                self._over = "lost"
                return
        stream.deadline = self._around.clock.monotonic() + self._settings.command_timeout
        self._flush()
        await stream.drain()

    def _proceed(self) -> Awaitable[None] | None:
        """Carry out what is at hand once something has been waited for, if that was not the end."""
        return None if self._over else self._advance()

    def _receive(self, data: bytes) -> bool:
        """Carry out what arrives; True when something must be awaited first, or all is over."""
        self._received += len(data)
        self._machine.receive(data)
        self._waiting = self._advance()
        return self._waiting is not None or self._over != ""

    def _advance(self) -> Awaitable[None] | None:
        """Carry out and answer what is at hand; what this gives must be awaited before more."""
        machine, handlers = self._machine, self._handlers
        while True:
            if self._penalty and (waiting := self._pay()) is not None:
                return waiting
            event = machine.next_event()
            if event is None:
                break
            self._command_ends_at = 0.0
            waiting = handlers[type(event)](self, event)
            if waiting is not None or self._over:
                return waiting
        return self._reply(self._around.clock.monotonic())

    def _reply(self, now: float) -> Awaitable[None] | None:
        """Send the answers, and say how long the client has for more."""
        stream, settings, out = self._stream, self._settings, self._out
        if out:
            stream.write(out[0] if len(out) == 1 else b"".join(out))
            out.clear()
            if stream.is_congested:
                stream.deadline = now + settings.command_timeout
                return stream.drain()
        transaction = self._transaction
        if (self._is_closing or now >= self._ends_at) and transaction is None:
            raise TimeoutError
        if transaction is not None and transaction.has_begun_data:
            received = (
                self._received - self._data_from
            )  # refused content, too: it is on its way out
            due = settings.data_deadline(now, self._data_began, received)
            stream.deadline = min(self._ends_at, due)
        else:
            if not self._command_ends_at:
                self._command_ends_at = min(self._ends_at, now + settings.command_timeout)
            stream.deadline = self._command_ends_at
        return None

    def _pay(self) -> Awaitable[None] | None:
        """Wait, where an answer is to be late: here nobody is."""
        self._penalty = 0.0
        return None

    def _greet(self) -> bool:
        """Say who we are; a client that did not wait for it gets a refusal (RFC 5321 §3.1)."""
        around, stream, settings = self._around, self._stream, self._settings
        is_strict = settings.limits.strict_sync and not around.door.is_submission
        if is_strict and stream.has_early_input():
            self._over = "early_talk"
            self._say_last(EARLY_TALK)
            self._suspect("early_talk", EARLY_TALK)
            return False
        self._out.append(self._banner().encode())
        return True

    def _on_hello(self, event: smtp.Hello) -> Awaitable[None] | None:
        self._drop_transaction()
        self._client = None
        if event.verb == "HELO":
            self._answer_junk(old_hello(self._settings.hostname))
        else:
            self._answer_junk(hello(self._settings.hostname, self._extensions()))
        return None

    def _on_mail(self, event: smtp.Mail) -> Awaitable[None] | None:
        if self._is_leaving and self._messages:
            self._end("shutdown", SHUTDOWN)
            return None
        if self._around.door.requires_login and not self._login:
            self._refuse("mail", LOGIN_FIRST, mail_from=str(event.sender or ""))
            return None
        if not self._around.intake.has_room():
            self._refuse("mail", NO_ROOM, mail_from=str(event.sender or ""))
            return None
        is_stranger = not self._around.door.is_submission
        if self._settings.refuse_null_mx_senders and is_stranger and event.sender is not None:
            return self._check_sender(event)
        return self._begin(event)

    async def _check_sender(self, event: smtp.Mail) -> None:
        domain = event.sender.domain if event.sender is not None else ""
        if domain and await self._around.is_null_mx(domain):
            self._refuse("mail", NULL_MX, mail_from=str(event.sender))
        elif (waiting := self._begin(event)) is not None:
            await waiting

    def _make_client(self) -> Client:
        machine, tls, login = self._machine, self._stream.tls, self._login
        encryption = "" if tls is None else f"using {tls.version} with cipher {tls.cipher}"
        return Client(
            self._id,
            self._stream.peer_ip,
            self._is_privileged,
            machine.hello,
            self._protocol(),
            encryption,
            login,
            is_lmtp=self._around.door.is_lmtp,
        )

    @property
    def _is_privileged(self) -> bool:
        """Whether the client may send to anyone."""
        return self._trusted or self._login != ""

    def _begin(self, event: smtp.Mail) -> Awaitable[None] | None:
        around, requests = self._around, None
        if event.extras is not None:
            made = self._make_requests(event.extras)
            if isinstance(made, Reply):
                self._refuse("mail", made, mail_from=str(event.sender or ""))
                return None
            requests = made
        client = self._client
        if client is None:
            client = self._client = self._make_client()
        self._transaction = Transaction(event, client, around.intake, self._settings, requests)
        if around.tells_commands:
            sender, is_encrypted = str(event.sender or ""), self._stream.tls is not None
            around.emit(ev.MailFromAccepted(self._id, sender, self._login, is_encrypted))
        self._answer(SENDER_OK)
        return None

    def _make_requests(self, extras: smtp.Extras) -> Requests | Reply:
        now, most = self._around.clock.now(), self._settings.max_hold
        if extras.mt_priority is not None and extras.mt_priority > 0 and not self._is_privileged:
            detail = f"priority {extras.mt_priority} was asked for, and is taken for 0"
            self._around.emit(
                ev.SecurityEvent("mt_priority", detail, self._id, self._stream.peer_ip)
            )
        return make_requests(extras, now, most, is_privileged=self._is_privileged)

    def _on_rcpt(self, event: smtp.Rcpt) -> Awaitable[None] | None:
        transaction = self._transaction
        if transaction is None:
            raise LocalProtocolError("RCPT without a transaction")
        refusal = transaction.add_recipient(event.recipient, self._around.policy)
        if refusal is not None:
            sender = str(transaction.sender or "")
            rcpt_to = str(event.recipient)
            cost = 0 if 0 < transaction.overshoot <= OVERSHOOT else 1
            self._refuse("rcpt", refusal, mail_from=sender, rcpt_to=rcpt_to, cost=cost)
        else:
            self._welcome(event, transaction)
        return None

    def _welcome(self, event: smtp.Rcpt, transaction: Transaction) -> None:
        if event.notify or event.original:
            is_bare = not event.recipient.domain  # <Postmaster>
            address = self._around.policy.postmaster if is_bare else event.recipient
            transaction.note_dsn(address, event.notify, event.original)
        if self._around.tells_commands:
            sender, is_encrypted = str(transaction.sender or ""), self._stream.tls is not None
            recipient, login = str(event.recipient), self._login
            self._around.emit(ev.RcptToAccepted(self._id, sender, recipient, login, is_encrypted))
        self._answer(RECIPIENT_OK)

    def _on_data(self, _event: smtp.Data) -> None:
        refusal = self._begin_data()
        if refusal is None:
            self._answer(GO_AHEAD)
        else:
            self._refuse("data", refusal)

    def _begin_data(self) -> Reply | None:
        transaction, clock = self._transaction, self._around.clock
        if transaction is None:
            raise LocalProtocolError("content without a transaction")
        self._data_began = clock.monotonic()
        self._data_from = self._received
        return transaction.begin_data(clock.now())

    def _begin_chunking(self, transaction: Transaction) -> None:
        """BDAT has no 354: a refusal is remembered for the end of the content."""
        refusal = self._begin_data()
        if refusal is not None:
            transaction.refuse(refusal)

    def _on_body(self, event: smtp.Body) -> Awaitable[None] | None:
        transaction = self._transaction
        if transaction is None:
            return None
        if not transaction.has_begun_data:
            self._begin_chunking(transaction)
        return transaction.flush() if transaction.add(event.chunk) else None

    def _on_chunk_end(self, event: smtp.ChunkEnd) -> None:
        if event.size:
            self._answer(CHUNK_OK)
        else:
            self._answer_junk(CHUNK_OK)

    async def _on_body_end(self, event: smtp.BodyEnd) -> None:
        transaction = self._transaction
        if transaction is None:
            raise LocalProtocolError("end of content without a transaction")
        if event.fault is not None:
            self._answer(self._report("message", event.fault, str(transaction.sender or "")))
            self._suspect(event.kind, event.fault)
            self._drop_transaction()
            if event.close:
                self._over = "refused content"
            return
        if not transaction.has_begun_data:
            self._begin_chunking(transaction)
        result = await transaction.finish()
        self._conclude(transaction, result, is_mended=event.is_mended)
        self._transaction = None

    def _on_reset(self, _event: smtp.Reset) -> None:
        self._drop_transaction()
        self._answer_junk(OK)

    def _on_quit(self, _event: smtp.Quit) -> None:
        self._answer(BYE)
        self._over = "quit"

    def _on_fault(self, event: smtp.Fault) -> None:
        """Answer a broken command, and end the session when there have been too many."""
        self._errors += 1
        if event.close:
            self._answer(event.reply)
            self._over = event.kind
        elif self._errors >= self._settings.max_errors:
            self._end("too many errors", TOO_MANY_ERRORS)
        else:
            self._refuse(event.kind, event.reply)
        self._suspect(event.kind, event.reply)

    def _drop_transaction(self) -> None:
        if self._transaction is not None:
            self._transaction.discard()
            self._transaction = None

    def _on_question(self, event: smtp.Event) -> None:
        self._answer_junk(_ANSWERS[type(event)])

    # one table for all sessions: to make one for each costs as much as a command
    HANDLERS: ClassVar[Mapping[type[Any], Handler]] = {
        smtp.Hello: _on_hello,
        smtp.Mail: _on_mail,
        smtp.Rcpt: _on_rcpt,
        smtp.Data: _on_data,
        smtp.Body: _on_body,
        smtp.BodyEnd: _on_body_end,
        smtp.ChunkEnd: _on_chunk_end,
        smtp.Reset: _on_reset,
        smtp.Noop: _on_question,
        smtp.Help: _on_question,
        smtp.Verify: _on_question,
        smtp.Expand: _on_question,
        smtp.Quit: _on_quit,
        smtp.Fault: _on_fault,
    }
