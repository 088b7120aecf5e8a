"""The server's side of SMTP and LMTP as a machine: bytes in, events out, replies in, bytes out.

Feed it with `receive`, ask `next_event` until it gives None, answer each event (`Body` apart)
with `reply`. The machine knows what may come when (RFC 5321 §4.1.4), pipelining (RFC 2920),
chunking (RFC 3030) and the framing of content; whether a sender, recipient or message is
welcome is for its owner to say. It does no I/O and takes no time of its own: deadlines,
counting of faults and the banner are the session's.

Input that is not consumed stays small: a partial line of content or command is held, no more.
After an answer to `Quit`, a positive one to `StartTls`, or one to an event whose `close` is set,
input is ignored: under TLS a new machine begins (RFC 3207 §4.2).

Raises:
    LocalProtocolError: The owner answers what was not asked, or asks before answering.
"""

from collections.abc import Sequence

from elemta.mail.errors import LocalProtocolError
from elemta.mail.reply import Reply
from elemta.smtp import commands
from elemta.smtp.commands import parse_chunk
from elemta.smtp.events import (
    Auth,
    AuthResponse,
    Body,
    BodyEnd,
    ChunkEnd,
    Data,
    Event,
    Fault,
    Hello,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Reset,
    StartTls,
)
from elemta.smtp.limits import Limits
from elemta.smtp.offer import Offer, extension_lines
from elemta.smtp.progress import Progress
from elemta.smtp.verbs import LMTP_VERBS, SMTP_VERBS, SYNC_POINTS

# how input is read: `_UNSYNCED` is input that could be commands or content, so it is neither
_COMMANDS, _DOTTED, _CHUNK, _CONTENT_END, _UNSYNCED, _CLOSED, _RESPONSE = range(7)
_CR = ord("\r")
_LONGEST_GROWTH = max(commands.COMMAND_GROWTH.values())
_EACH = Reply(353, "An answer for each recipient, and one for all, follow").encode()
_NO_MORE_IN_CLEAR = (b"STARTTLS",)  # what comes behind them is an attack, strict or not
_STEADY = frozenset((Hello, Mail, Rcpt, ChunkEnd, Reset, Noop))  # nothing but commands follows
_DEFAULT_OFFER = Offer()


class ServerMachine:
    """One connection, seen by the server.

    Attributes:
        line: The last command line, without its end; whoever has seen to it makes it None.
        is_unsynced: There was input behind a command that ends a group, and it was let pass: see
            `Limits.strict_sync`.
    """

    __slots__ = (
        "_asked",
        "_at",
        "_buffer",
        "_due",
        "_first",
        "_left",
        "_limits",
        "_lmtp",
        "_mode",
        "_overrun",
        "_progress",
        "_refusal",
        "_starved",
        "_verbs",
        "is_unsynced",
        "line",
    )

    def __init__(
        self,
        limits: Limits,
        offer: Offer = _DEFAULT_OFFER,
        *,
        lmtp: bool = False,
        is_encrypted: bool = False,
    ):
        self._limits = limits
        self._lmtp = lmtp
        self._verbs = LMTP_VERBS if lmtp else SMTP_VERBS
        self._progress = Progress(limits, offer, lmtp=lmtp, is_encrypted=is_encrypted)
        self._buffer = b""
        self._at = 0  # where unconsumed input begins in the buffer
        self._starved = True
        self._overrun = 0  # octets dropped of a command line that is too long
        self._left = 0  # octets of a chunk still to come
        self._refusal: Fault | None = None  # of the chunk being read
        self._mode = _COMMANDS
        self._asked: Event | None = None
        self._due = 1  # replies to it
        self._first = b""  # what goes before them
        self.line: bytes | None = None
        self.is_unsynced = False

    @property
    def hello(self) -> str:
        """The name the client gave in its last accepted greeting, "" before."""
        return self._progress.hello

    @property
    def asked(self) -> Event | None:
        """The event that waits for its answer."""
        return self._asked

    @property
    def esmtp(self) -> bool:
        """Whether that greeting was EHLO or LHLO."""
        return self._progress.esmtp

    @property
    def extensions(self) -> tuple[str, ...]:
        """The lines of the answer to EHLO or LHLO, after the first."""
        return extension_lines(self._limits, self._progress.offer)

    def change_offer(self, offer: Offer) -> None:
        """Offer something else from now on: the client has proved who it is."""
        self._progress.offer = offer

    def change_limits(self, limits: Limits) -> None:
        """Hold the client to others from now on: it is somebody else."""
        self._limits = self._progress.limits = limits

    @property
    def has_input(self) -> bool:
        """Whether there may be more events without more input: replies can wait to go together."""
        return not self._starved and self._at < len(self._buffer)

    def receive(self, data: bytes) -> None:
        """Take what came from the client. Best called when `next_event` has given None."""
        if self._buffer:
            self._buffer = self._buffer[self._at :] + data
            self._at = 0
        else:
            self._buffer = data
        self._starved = False

    def next_event(self) -> Event | None:
        """Give what the client wants next; None when that takes more input."""
        if self._asked is not None:
            raise LocalProtocolError("the last event has not been answered")
        mode = self._mode
        if mode == _CONTENT_END:
            event = self._end_content()
        elif self._at == len(self._buffer):
            event = None
        elif mode == _COMMANDS:
            event = self._next_command()
        elif mode == _DOTTED:
            event = self._next_dotted()
        elif mode == _CHUNK:
            event = self._next_chunk()
        elif mode == _RESPONSE:
            event = self._next_response()
        else:
            event = self._refuse_input()
        if event is None:
            self._starved = True
        elif type(event) is not Body:
            self._asked = event
        return event

    def _refuse_input(self) -> Event | None:
        """Deal with input that cannot be told apart, or that nobody waits for."""
        if self._mode == _UNSYNCED:
            return commands.SYNC
        self._buffer, self._at = b"", 0
        return None

    def reply(self, reply: Reply) -> bytes:
        """Answer the last event; gives what to send.

        In LMTP the answer to the end of content is repeated for each accepted recipient; with PRDR
        it is so, too, and then comes the answer for all.
        """
        due, first = self._due, self._first
        self._settle(reply)
        return reply.encode() if due == 1 else first + reply.encode() * due

    def replies(self, replies: Sequence[Reply]) -> bytes:
        """Answer the end of content for each accepted recipient in order.

        It is for LMTP and PRDR; with PRDR one more follows, for all.
        """
        is_each = self._lmtp or self._first
        if not is_each or not isinstance(self._asked, BodyEnd) or len(replies) != self._due:
            raise LocalProtocolError("one reply is due for each accepted recipient")
        first = self._first
        self._settle(replies[-1])
        return first + b"".join(reply.encode() for reply in replies)

    def _settle(self, reply: Reply) -> None:
        event = self._asked
        if event is None:
            raise LocalProtocolError("there is nothing to answer")
        self._asked = None
        self._due, self._first = 1, b""
        self._progress.settle(event, reply)
        if type(event) not in _STEADY:
            self._mode = self._mode_after(event, reply)

    def _mode_after(self, event: Event, reply: Reply) -> int:
        """Say how input is to be read once an event has been answered."""
        if type(event) is Data:
            if reply.code < 400:
                return _DOTTED
            return _UNSYNCED if self._buffer else self._mode
        if type(event) is BodyEnd or type(event) is Fault:
            return _CLOSED if event.close else self._mode
        if type(event) is Auth or type(event) is AuthResponse:
            return _RESPONSE if reply.code == 334 else _COMMANDS
        is_over = type(event) is Quit or (type(event) is StartTls and reply.is_positive)
        return _CLOSED if is_over else self._mode

    # ---- command lines

    def _next_command(self) -> Event | None:
        """Read one command line; it ends at LF, and is carried out only if CR came before."""
        buffer, at = self._buffer, self._at
        end = buffer.find(b"\n", at)
        if end < 0:
            return self._hold_line()
        regular = end > at and buffer[end - 1] == _CR
        line = self.line = buffer[at : end - 1] if regular else buffer[at:end]
        if end + 1 == len(buffer):
            self._buffer, self._at = b"", 0
        else:
            self._at = end + 1
        verb, _, argument = line.partition(b" ")
        verb = verb.upper()
        size = end + 1 - at
        if size > self._limits.max_command or self._overrun or not regular or not line.isascii():
            fault = self._judge_line(line, verb, size, regular=regular)
            if fault is not None:
                return fault
        handler = self._verbs.get(verb)
        if handler is None:
            if verb == b"BDAT":
                return self._begin_chunk(argument)
            return commands.judge_unknown(verb, line)
        if self._buffer and verb in SYNC_POINTS:
            return self._carry_out_unsynced(verb, argument)
        return handler(self._progress, argument)

    def _carry_out_unsynced(self, verb: bytes, argument: bytes) -> Event:
        """Deal with a command that should have been the last of its group, and is not."""
        if self._limits.strict_sync or verb in _NO_MORE_IN_CLEAR:
            return commands.SYNC
        self.is_unsynced = True
        event = self._verbs[verb](self._progress, argument)
        if verb == b"DATA" and isinstance(event, Fault):
            self._mode = _UNSYNCED
        return event

    def _next_response(self) -> Event | None:
        """Read a line of an AUTH exchange (RFC 4954 §4); whatever is wrong with it ends that."""
        buffer, at = self._buffer, self._at
        end = buffer.find(b"\n", at)
        if end < 0:
            held = self._buffer = buffer[at:]
            self._at = 0
            if len(held) < commands.MAX_RESPONSE:
                return None
            self._mode = _COMMANDS
            return commands.ENDLESS
        line, self.line = buffer[at:end], None
        self._buffer, self._at = buffer[end + 1 :], 0
        self._mode = _COMMANDS
        return self._judge_response(line)

    def _judge_response(self, line: bytes) -> Event:
        if len(line) >= commands.MAX_RESPONSE:
            return commands.TOO_LONG
        if not line.endswith(b"\r"):
            return commands.BARE_NEWLINE
        if self._buffer and self._limits.strict_sync:
            return commands.SYNC
        if line == b"*\r":
            return commands.AUTH_CANCELLED
        data = commands.decode_response(line[:-1])
        return commands.NOT_BASE64 if data is None else AuthResponse(data)

    def _hold_line(self) -> Fault | None:
        """Keep a line that is not complete, or what is known of one that is too long."""
        held = self._buffer[self._at :]
        self._buffer, self._at = held, 0
        if held.startswith(commands.TLS_HELLO) and not self._overrun:
            return commands.CROSS_PROTOCOL
        size = self._overrun + len(held)
        if size >= self._limits.max_command + _LONGEST_GROWTH:
            if not self._overrun and commands.is_foreign(held.partition(b" ")[0].upper(), held):
                return commands.CROSS_PROTOCOL
            self._buffer = b""
            self._overrun = size
        return commands.ENDLESS if size > self._limits.max_buffer else None

    def _judge_line(self, line: bytes, verb: bytes, size: int, *, regular: bool) -> Fault | None:
        """Judge a line that is long, has octets beyond ASCII, or does not end with CRLF."""
        if not self._overrun and commands.is_foreign(verb, line):
            return commands.CROSS_PROTOCOL
        size += self._overrun
        self._overrun = 0
        if size > self._limits.max_buffer + 1:
            return commands.ENDLESS
        if size > self._limits.max_command + commands.COMMAND_GROWTH.get(verb, 0):
            return commands.TOO_LONG
        fault = commands.BARE_NEWLINE
        if regular:
            if commands.is_utf8(line):
                return None
            fault = commands.NOT_UTF8
        if verb == b"BDAT":  # what follows could be content: it must not be read as commands
            return Fault(fault.reply, close=True, kind=fault.kind)
        return fault

    # ---- content

    def _begin_chunk(self, argument: bytes) -> Event | None:
        chunk = parse_chunk(argument)
        if chunk is None:
            return commands.BAD_BDAT
        self._left, is_last = chunk
        self._refusal = refusal = self._progress.begin_chunk(self._left, is_last=is_last)
        reader = self._progress.reader
        if refusal.close if refusal is not None else reader is not None and reader.close:
            self._left = 0  # so much will not be read
        self._mode = _CHUNK
        return self._next_chunk()

    def _next_dotted(self) -> Event | None:
        reader, buffer = self._progress.reader, self._buffer
        if reader is None:
            raise LocalProtocolError("no content is due")
        content, at, done = reader.read_dotted(buffer, self._at)
        if at == len(buffer):
            self._buffer, self._at = b"", 0
        elif done:
            self._at = at
        else:  # a partial line: not worth keeping the whole buffer for
            self._buffer, self._at = buffer[at:], 0
        return self._give(content, done=done)

    def _next_chunk(self) -> Event | None:
        buffer, at = self._buffer, self._at
        end = min(len(buffer), at + self._left)
        self._left -= end - at
        if end == len(buffer):
            self._buffer, self._at = b"", 0
        else:
            self._at = end
        done = not self._left
        progress = self._progress
        if self._refusal is not None or progress.reader is None:
            return self._give(b"", done=done)
        content = progress.reader.read_chunk(buffer[at:end], final=done and progress.is_last)
        return self._give(content, done=done)

    def _give(self, content: bytes, *, done: bool) -> Event | None:
        if done:
            if not content:
                return self._end_content()
            self._mode = _CONTENT_END
        return Body(content) if content else None

    def _end_content(self) -> Event:
        self._mode = _COMMANDS
        progress = self._progress
        if self._lmtp and progress.is_last:
            self._due = max(progress.accepted, 1)
        refusal = self._refusal
        if refusal is not None:
            self._refusal = None
            if progress.is_last:
                progress.end_transaction()
            return refusal
        reader = progress.reader
        if reader is not None and reader.fault is not None:
            return BodyEnd(reader.fault, reader.close, reader.kind)
        if progress.prdr and progress.is_last and progress.accepted > 1:
            self._due, self._first = progress.accepted + 1, _EACH
        if not progress.is_last:
            return ChunkEnd(progress.chunk_size)
        return BodyEnd(is_mended=reader is not None and reader.is_mended)
