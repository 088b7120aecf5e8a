"""What a client wants of the server, as the machine hands it to the session.

Every event but `Body` is answered with `ServerMachine.reply` before the next is asked for.
"""

from msgspec import Struct

from elemta.mail.address import Address
from elemta.mail.reply import Reply


class Event(Struct, frozen=True, gc=False):
    """The root of all events."""


class Hello(Event, frozen=True, gc=False):
    """HELO, EHLO or LHLO (RFC 5321 §4.1.1.1): `verb` says which, upper case.

    A positive answer begins afresh: the transaction, if any, is gone.
    """

    name: str
    verb: str


class Mail(Event, frozen=True, gc=False):
    """MAIL (RFC 5321 §4.1.1.2); a positive answer opens a transaction.

    `sender` is None for the null path, `size` what the client declared (RFC 1870), `body`
    "7BIT" or "8BITMIME" (RFC 6152).
    """

    sender: Address | None
    size: int | None = None
    body: str = "7BIT"
    smtputf8: bool = False


class Rcpt(Event, frozen=True, gc=False):
    """RCPT (RFC 5321 §4.1.1.3); its domain is "" for the bare postmaster."""

    recipient: Address


class Data(Event, frozen=True, gc=False):
    """DATA (RFC 5321 §4.1.1.4); 354 lets the content come."""


class Body(Event, frozen=True, gc=False):
    """Some content, in order, split anywhere: dots unstuffed, nothing to answer.

    Lines end with CRLF; only the last line of content that came by BDAT may lack it.
    """

    chunk: bytes


class BodyEnd(Event, frozen=True, gc=False):
    """The content is complete.

    If `fault` is set the content must be dropped, and `fault` is the answer. `close`: after the
    answer the connection must be closed. `kind` names the fault: "bare_newline", "nul",
    "line_too_long", "size".
    """

    fault: Reply | None = None
    close: bool = False
    kind: str = ""


class ChunkEnd(Event, frozen=True, gc=False):
    """A BDAT chunk of `size` octets that is not the last is complete (RFC 3030 §2)."""

    size: int


class Reset(Event, frozen=True, gc=False):
    """RSET: the transaction is over, the greeting stands."""


class Noop(Event, frozen=True, gc=False):
    """NOOP."""


class Quit(Event, frozen=True, gc=False):
    """QUIT: after the answer the connection must be closed."""


class Help(Event, frozen=True, gc=False):
    """HELP."""


class Verify(Event, frozen=True, gc=False):
    """VRFY, with what is asked for."""

    argument: str


class Expand(Event, frozen=True, gc=False):
    """EXPN, with what is asked for."""

    argument: str


class Fault(Event, frozen=True, gc=False):
    """A command that cannot be carried out; `reply` is the answer, already worked out.

    `close`: after the answer the connection must be closed. `kind` is "syntax", "sequence",
    "unknown", "unavailable", "parameter", "address", "size", "sync", "cross_protocol",
    "too_long" or "encoding".
    """

    reply: Reply
    close: bool
    kind: str
