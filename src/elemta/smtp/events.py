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


class StartTls(Event, frozen=True, gc=False):
    """STARTTLS (RFC 3207): after a positive answer this machine takes no more input."""


class Auth(Event, frozen=True, gc=False):
    """AUTH (RFC 4954 §4): a mechanism that is on offer, and what came with the command.

    `initial` is decoded; None where there was none. 334 asks for an `AuthResponse`, another
    positive answer ends the exchange well.
    """

    mechanism: str
    initial: bytes | None


class AuthResponse(Event, frozen=True, gc=False):
    """What the client says to a 334, decoded; the answer is one as for `Auth`."""

    data: bytes


class XClient(Event, frozen=True, gc=False):
    """XCLIENT: a proxy says who the client is, by attributes ("ADDR", "HELO"...) in upper case.

    The value of one that the proxy does not know is None. After a positive answer the session
    stands where it stood at the banner.
    """

    attributes: dict[str, str | None]


class XForward(Event, frozen=True, gc=False):
    """XFORWARD: who the client was, for the log; as `XClient`."""

    attributes: dict[str, str | None]


class Extras(Event, frozen=True, gc=False):
    """What parameters of extensions ask for, beside SIZE, BODY and SMTPUTF8.

    `ret`, `envid` and `auth` as in `elemta.mail.message.Requests`. `by_seconds` and `by_mode` are
    RFC 2852's; `hold_for` is seconds, `hold_until` an instant (RFC 4865); 0 is neither.
    """

    ret: str = ""
    envid: str = ""
    auth: str = ""
    by_seconds: int = 0
    by_mode: str = ""
    by_trace: bool = False
    hold_for: int = 0
    hold_until: float = 0.0
    mt_priority: int | None = None
    require_tls: bool = False
    prdr: bool = False


class Mail(Event, frozen=True, gc=False):
    """MAIL (RFC 5321 §4.1.1.2); a positive answer opens a transaction.

    `sender` is None for the null path, `size` what the client declared (RFC 1870), `body`
    "7BIT", "8BITMIME" (RFC 6152) or "BINARYMIME" (RFC 3030), `extras` None where nothing else
    was asked for.
    """

    sender: Address | None
    size: int | None = None
    body: str = "7BIT"
    smtputf8: bool = False
    extras: Extras | None = None


class Rcpt(Event, frozen=True, gc=False):
    """RCPT (RFC 5321 §4.1.1.3); its domain is "" for the bare postmaster.

    `notify` and `original` are NOTIFY and ORCPT (RFC 3461), "" where they were not given.
    """

    recipient: Address
    notify: str = ""
    original: str = ""


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
    "line_too_long", "size". `is_mended`: there were CR and LF apart, and each has become CRLF.
    """

    fault: Reply | None = None
    close: bool = False
    kind: str = ""
    is_mended: bool = False


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
    "too_long", "encoding" or "auth".
    """

    reply: Reply
    close: bool
    kind: str
