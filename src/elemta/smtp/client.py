"""The sending side of SMTP and LMTP as a machine without I/O (RFC 5321, RFC 2033, RFC 2920).

Each command method gives the bytes to write and remembers that a reply is owed; what arrives
goes into `receive`, and `next_reply` gives the replies in the order of the commands. The
machine promises that nothing it gives can be read as anything but what was asked for:
commands are built from values only, content has CRLF line ends only and its dots are
doubled, and after the first doubt (stray CR, LF or NUL in content, a reply that is none, a
reply to nothing) it refuses to go on. The driver then aborts the connection, so that what was
half sent is never ended by a dot.

Which replies mean what for a recipient is not decided here.
"""

import re
from collections import deque
from collections.abc import Mapping

from elemta.mail.address import Address
from elemta.mail.errors import LocalProtocolError, RemoteProtocolError
from elemta.mail.reply import Reply
from elemta.smtp.reply_reader import ReplyReader, classified_reply, plain_reply

_GREETING, _HELLO, _TLS, _MAIL, _RCPT, _DATA, _END, _RESET, _OTHER = range(9)
_DOT = 46
_MAX_SIZE_DIGITS = 20  # RFC 1870 §3

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # never in a command

_NO_EXTENSIONS: Mapping[str, str] = {}
_NO_LIMITS: Mapping[str, int] = {}
_MAX_LIMIT_DIGITS = 6  # RFC 9422 §4


class ClientMachine:
    """One connection's dialogue, from the greeting on.

    Attributes:
        lmtp: The dialect: LHLO, and after the content one reply for each accepted recipient.
        extensions: What the peer offered: keyword in upper case -> parameters.
        size_limit: The largest message the peer takes (RFC 1870), 0 if it does not say.
        has_pipelining: Commands may be sent without waiting (RFC 2920).
        has_8bit: Content may have octets over 127 (RFC 6152).
        has_binary: Content may have any octets (RFC 3030).
        has_smtputf8: Addresses and header fields may be UTF-8 (RFC 6531).
        is_closing: The peer has said that it closes the connection (421, or after QUIT).
        in_transaction: A MAIL command was accepted and nothing has ended it: RSET is needed
            before the next one.
        accepted: Recipients accepted in this transaction.
        limits: What the peer takes at most (RFC 9422): "RCPTMAX", "MAILMAX", "RCPTDOMAINMAX".
    """

    __slots__ = (
        "_at_line_start",
        "_content_open",
        "_held_cr",
        "_owed",
        "_reader",
        "_receive",
        "accepted",
        "extensions",
        "has_8bit",
        "has_binary",
        "has_pipelining",
        "has_smtputf8",
        "in_transaction",
        "is_closing",
        "limits",
        "lmtp",
        "size_limit",
    )

    def __init__(self, *, lmtp: bool = False):
        self.lmtp = lmtp
        self._reader = ReplyReader()
        self._owed: deque[int] = deque((_GREETING,))
        self._content_open = False
        self._at_line_start = True
        self._held_cr = False
        self.is_closing = False
        self.in_transaction = False
        self.accepted = 0
        self._offer(_NO_EXTENSIONS)

    # ---- replies

    def receive(self, data: bytes) -> None:
        """Add what has arrived."""
        self._reader.receive(data)

    @property
    def has_input(self) -> bool:
        """Whether bytes have arrived that no reply given so far accounts for."""
        return self._reader.has_input

    @property
    def owed(self) -> int:
        """How many replies the peer owes us."""
        return len(self._owed)

    def next_reply(self) -> Reply | None:
        """Give the reply to the oldest unanswered command; None while it is not complete.

        While nothing is owed, a refusal may still come: 421 at any time (RFC 5321 §3.8), and
        any refusal instead of the rest of a content that the peer does not want to read.

        Raises:
            RemoteProtocolError: The peer sent what is no reply, or a reply to no command.
        """
        read = self._reader.next()
        if read is None:
            return None
        code, lines = read
        if code == 421:
            self.is_closing = True
        if not self._owed:
            return self._unasked(code, lines)
        kind = self._owed.popleft()
        if kind == _RCPT:
            if code < 300:
                self.accepted += 1
        elif kind in (_GREETING, _HELLO, _DATA) and code < 400:
            return self._plain(kind, code, lines)
        elif kind == _MAIL:
            self.in_transaction = code < 300
            self.accepted = 0
        elif kind == _END or (kind == _RESET and code < 300):
            self.in_transaction = False  # content refused or not, the transaction is over
        return classified_reply(code, lines)

    def _plain(self, kind: int, code: int, lines: list[str]) -> Reply:
        if kind == _DATA and code == 354:
            self._content_open, self._at_line_start, self._held_cr = True, True, False
        elif kind == _HELLO and code < 300:
            self._learn(lines)
        return plain_reply(code, lines)

    def _unasked(self, code: int, lines: list[str]) -> Reply:
        if code != 421 and (code < 400 or not self._content_open):
            raise RemoteProtocolError(f"a reply to no command: {code} {lines[0][:80]!r}")
        self._content_open = False
        self.is_closing = True
        return classified_reply(code, lines)

    # ---- who we are, and what the peer can do

    def hello(self, name: str) -> bytes:
        """EHLO or LHLO."""
        return self._command(f"{'LHLO' if self.lmtp else 'EHLO'} {name}", _HELLO)

    def helo(self, name: str) -> bytes:
        """HELO, for a peer that refused EHLO (RFC 5321 §3.2): no extensions then."""
        self._offer(_NO_EXTENSIONS)
        return self._command(f"HELO {name}", _OTHER)

    def starttls(self) -> bytes:
        """STARTTLS (RFC 3207); after a 220 comes the handshake, then `tls_started`."""
        if "STARTTLS" not in self.extensions:
            raise LocalProtocolError("STARTTLS is not offered")
        return self._command("STARTTLS", _TLS)

    def tls_started(self) -> None:
        """Forget all that was said in clear (RFC 3207 §4.2); `hello` comes next.

        Call it before the handshake: after it, plaintext that came with the 220 would pass for
        protected.

        Raises:
            RemoteProtocolError: There is such plaintext: someone tries to slip in a reply.
        """
        if self._reader.has_input or self._owed:
            raise RemoteProtocolError("plaintext after the reply to STARTTLS")
        self._offer(_NO_EXTENSIONS)

    def _learn(self, lines: list[str]) -> None:
        offered: dict[str, str] = {}
        for line in lines[1:]:
            keyword, _, parameters = line.strip().partition(" ")
            offered[keyword.upper()] = parameters.strip()
        self._offer(offered)

    def _offer(self, extensions: Mapping[str, str]) -> None:
        self.extensions = extensions
        self.has_pipelining = "PIPELINING" in extensions
        self.has_8bit = "8BITMIME" in extensions
        self.has_binary = "BINARYMIME" in extensions and "CHUNKING" in extensions
        self.has_smtputf8 = "SMTPUTF8" in extensions
        size = extensions.get("SIZE", "")
        usable = size.isascii() and size.isdigit() and len(size) <= _MAX_SIZE_DIGITS
        self.size_limit = int(size) if usable else 0
        self.limits = _read_limits(extensions["LIMITS"]) if "LIMITS" in extensions else _NO_LIMITS

    # ---- a transaction

    def mail(
        self,
        sender: Address | None,
        *,
        size: int,
        eight_bit: bool = False,
        smtputf8: bool = False,
        binary: bool = False,
        parameters: str = "",
    ) -> bytes:
        """MAIL with the parameters that the peer understands; RSET before it where needed.

        Args:
            sender: None is the null sender.
            size: Octets of the content.
            eight_bit: It has octets over 127.
            smtputf8: An address or the header section needs RFC 6531.
            binary: It is sent by `chunk`, whatever its octets are.
            parameters: Others that the peer understands, each with a space before it.

        Raises:
            LocalProtocolError: The peer does not offer what this message needs.
        """
        lacks_width = (eight_bit and not self.has_8bit) or (binary and not self.has_binary)
        if lacks_width or (smtputf8 and not self.has_smtputf8):
            raise LocalProtocolError("the peer does not offer what the message needs")
        line = f"MAIL FROM:<{sender}>" if sender is not None else "MAIL FROM:<>"
        if "SIZE" in self.extensions:
            line = f"{line} SIZE={size}"
        if binary:
            line += " BODY=BINARYMIME"
        elif eight_bit:
            line += " BODY=8BITMIME"
        if smtputf8:
            line += " SMTPUTF8"
        line += parameters
        if not self.in_transaction:
            return self._command(line, _MAIL)
        return self._command("RSET", _RESET) + self._command(line, _MAIL)

    def rcpt(self, recipient: Address, parameters: str = "") -> bytes:
        """RCPT; `parameters` that the peer understands, each with a space before it."""
        return self._command(f"RCPT TO:<{recipient}>{parameters}", _RCPT)

    def data(self) -> bytes:
        """DATA; content may follow after a 354 only."""
        return self._command("DATA", _DATA)

    def content(self, chunk: bytes) -> bytes:
        """Give a piece of content as it goes on the wire, its leading dots doubled.

        Raises:
            LocalProtocolError: It has a CR, LF or NUL that is not of a CRLF: sent on, it could
                end the message early and smuggle in another. Abort the connection.
        """
        if not self._content_open:
            raise LocalProtocolError("content without a 354 reply")
        if self._held_cr:
            chunk = b"\r" + chunk
            self._held_cr = False
        if chunk.endswith(b"\r"):
            chunk = chunk[:-1]
            self._held_cr = True
        if not chunk:
            return b""
        lines = chunk.count(b"\r\n")
        if chunk.count(b"\r") != lines or chunk.count(b"\n") != lines or b"\0" in chunk:
            self._content_open = False
            raise LocalProtocolError("a stray CR, LF or NUL in the content")
        stuffed = chunk.replace(b"\r\n.", b"\r\n..")
        if self._at_line_start and chunk[0] == _DOT:
            stuffed = b"." + stuffed
        self._at_line_start = chunk.endswith(b"\r\n")
        return stuffed

    def end(self) -> bytes:
        """Give what ends the content: the dot, after a CRLF where the last line has none.

        Raises:
            LocalProtocolError: The content ends in a stray CR, or was refused before.
        """
        if not self._content_open or self._held_cr:
            self._content_open = False
            raise LocalProtocolError("the content is not complete")
        self._content_open = False
        self._owed.extend((_END,) * (self.accepted if self.lmtp else 1))
        return b".\r\n" if self._at_line_start else b"\r\n.\r\n"

    def chunk(self, data: bytes, *, last: bool) -> bytes:
        """BDAT: a piece of content as it is (RFC 3030 §2); each is answered, the last as an end."""
        if not last:
            return self._command(f"BDAT {len(data)}", _OTHER) + data
        command = self._command(f"BDAT {len(data)} LAST", _END)
        if self.lmtp:
            self._owed.extend((_END,) * (self.accepted - 1))
        return command + data

    # ---- between transactions

    def reset(self) -> bytes:
        """RSET: the transaction is void."""
        return self._command("RSET", _RESET)

    def quit(self) -> bytes:
        """QUIT."""
        return self._command("QUIT", _OTHER)

    def _command(self, line: str, kind: int) -> bytes:
        if self._content_open:
            raise LocalProtocolError("a command within the content")
        if not (line.isascii() and line.isprintable()) and _UNSAFE.search(line):
            raise LocalProtocolError(f"a command with control characters: {line[:80]!r}")
        self._owed.append(kind)
        return f"{line}\r\n".encode()


def _read_limits(parameters: str) -> Mapping[str, int]:
    """Read what the peer says of its limits (RFC 9422 §2), 1 or more each."""
    limits: dict[str, int] = {}
    for word in parameters.split():
        name, _, value = word.upper().partition("=")
        usable = value.isascii() and value.isdigit() and len(value) <= _MAX_LIMIT_DIGITS
        if usable and int(value):
            limits[name] = int(value)
    return limits
