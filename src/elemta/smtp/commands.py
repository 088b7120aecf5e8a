"""The command lines of a client, judged one at a time without regard to what came before.

Each parser gives the event the line asks for, or the `Fault` that answers it. Texts of faults
never repeat what the client said.
"""

import re

from elemta.mail.address import Address, DomainError, Utf8AddressError, parse_path
from elemta.mail.errors import AddressError
from elemta.mail.reply import Reply
from elemta.smtp.events import Fault, Hello, Mail, Rcpt
from elemta.smtp.limits import Limits

_HELLO_NAME = re.compile(rb"[A-Za-z0-9:._-]{1,255}|\[[A-Za-z0-9:.-]{1,253}\]").fullmatch
_PARAMETER = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~]+))?").fullmatch
_SIZE = re.compile(rb"[0-9]{1,20}").fullmatch  # RFC 1870 §3: 1*20DIGIT
_CONTROLS = re.compile(rb"[\x00-\x1f\x7f]").search

# what an extension adds to the length of a command: RFC 1870 §3, RFC 6152 §2, RFC 6531 §3.1
COMMAND_GROWTH = {b"MAIL": 26 + 17 + 10, b"VRFY": 10, b"EXPN": 10}

# first words of protocols whose clients can be made to talk to us by a web page
FOREIGN_WORDS = frozenset(
    b"GET POST HEAD PUT CONNECT OPTIONS DELETE TRACE PATCH PRI HOST: USER-AGENT: CONTENT-TYPE: "
    b"CONTENT-LENGTH: ACCEPT: ORIGIN: REFERER: COOKIE:".split()
)
TLS_HELLO = b"\x16\x03"  # a TLS record of a handshake, any version


def _fault(code: int, enhanced: str, text: str, kind: str, *, close: bool = False) -> Fault:
    return Fault(Reply(code, text, enhanced), close=close, kind=kind)


UNKNOWN = _fault(500, "5.5.1", "Command not recognised", "unknown")
UNAVAILABLE = _fault(502, "5.5.1", "Command not available here", "unavailable")
TOO_LONG = _fault(500, "5.5.2", "Line too long", "too_long")
ENDLESS = _fault(500, "5.5.2", "Line too long, closing connection", "too_long", close=True)
BARE_NEWLINE = _fault(500, "5.5.2", "Lines end with CR and LF", "syntax")
NOT_UTF8 = _fault(501, "5.5.2", "Command is not UTF-8", "encoding")
NO_ARGUMENT = _fault(501, "5.5.4", "Command takes no argument", "syntax")
CONTROLS = _fault(501, "5.5.4", "Argument has control characters", "syntax")
SYNC = _fault(
    554, "5.5.0", "Input before the answer to the last command, closing", "sync", close=True
)
CROSS_PROTOCOL = _fault(
    554, "5.5.1", "This is a mail server, closing connection", "cross_protocol", close=True
)

NAME_EXPECTED = _fault(501, "5.5.4", "Name or address expected", "syntax")
BAD_HELLO = _fault(501, "5.5.4", "Domain or address literal expected", "syntax")
HELLO_FIRST = _fault(503, "5.5.1", "Say hello first", "sequence")
NESTED_MAIL = _fault(503, "5.5.1", "A transaction is open already", "sequence")
MAIL_FIRST = _fault(503, "5.5.1", "MAIL first", "sequence")
RCPT_FIRST = _fault(503, "5.5.1", "RCPT first", "sequence")
NO_RECIPIENTS = _fault(554, "5.5.1", "No valid recipients", "sequence")
CHUNKS_BEGUN = _fault(503, "5.5.1", "Message is being sent with BDAT", "sequence")
CHUNKS_REFUSED = _fault(503, "5.5.1", "An earlier chunk was refused", "sequence")

BAD_MAIL = _fault(501, "5.5.4", "Syntax: MAIL FROM:<address> [parameters]", "syntax")
BAD_RCPT = _fault(501, "5.5.4", "Syntax: RCPT TO:<address>", "syntax")
BAD_BDAT = _fault(501, "5.5.4", "Syntax: BDAT size [LAST], closing", "syntax", close=True)
BAD_PARAMETER = _fault(501, "5.5.4", "Parameter is not valid", "parameter")
UNKNOWN_PARAMETER = _fault(555, "5.5.4", "Parameter not recognised", "parameter")
TOO_BIG = _fault(552, "5.3.4", "Message is larger than the limit", "size")
UTF8_REFUSED = _fault(553, "5.6.7", "Address needs SMTPUTF8", "address")
BAD_DOMAIN = _fault(553, "5.1.2", "Domain of the address is not valid", "address")
BAD_SENDER = _fault(501, "5.1.7", "Sender address is not valid", "address")
BAD_RECIPIENT = _fault(501, "5.1.3", "Recipient address is not valid", "address")


def parse_hello(argument: bytes, verb: str) -> Hello | Fault:
    """Judge the argument of HELO, EHLO or LHLO by form alone (RFC 5321 §4.1.1.1).

    Names with an underscore and bare addresses are let pass: clients in use say them.
    """
    name = argument.strip(b" \t")
    if not _HELLO_NAME(name):
        return BAD_HELLO
    return Hello(name.decode("ascii"), verb)


def parse_mail(argument: bytes, limits: Limits, *, smtputf8: bool) -> Mail | Fault:
    """Judge "FROM:<path> parameters"; `smtputf8` says whether the extension is on offer."""
    if argument[:5].upper() != b"FROM:":
        return BAD_MAIL
    wide = not argument.isascii()
    try:
        sender, rest = parse_path(argument[5:].lstrip(b" "), allow_utf8=wide and smtputf8)
    except AddressError as error:
        return _address_fault(error, BAD_SENDER)
    if sender is not None and not sender.domain:
        return BAD_SENDER
    event = _apply_parameters(sender, rest, limits, smtputf8=smtputf8) if rest else Mail(sender)
    if wide and isinstance(event, Mail) and not event.smtputf8:
        return UTF8_REFUSED
    return event


def parse_rcpt(argument: bytes, *, smtputf8: bool) -> Rcpt | Fault:
    """Judge "TO:<path>"; `smtputf8` says whether the transaction has asked for RFC 6531."""
    if argument[:3].upper() != b"TO:":
        return BAD_RCPT
    try:
        recipient, rest = parse_path(argument[3:].lstrip(b" "), allow_utf8=smtputf8)
    except AddressError as error:
        return _address_fault(error, BAD_RECIPIENT)
    if recipient is None:
        return BAD_RECIPIENT
    for word in rest.split():
        return UNKNOWN_PARAMETER if _PARAMETER(word) else BAD_PARAMETER
    return Rcpt(recipient)


def parse_chunk(argument: bytes) -> tuple[int, bool] | None:
    """Judge "size [LAST]" of BDAT (RFC 3030 §2): the size and whether it is the last."""
    words = argument.split(b" ")
    while words and not words[-1]:
        words.pop()
    if not words or not _SIZE(words[0]):
        return None
    if len(words) == 1:
        return int(words[0]), False
    if len(words) == 2 and words[1].upper() == b"LAST":
        return int(words[0]), True
    return None


def parse_text(argument: bytes) -> str | None:
    """Decode the free argument of VRFY, EXPN, NOOP or HELP; None if it has controls."""
    text = argument.strip(b" \t")
    return None if _CONTROLS(text) else text.decode()


def is_utf8(line: bytes) -> bool:
    """Whether a command line is text (RFC 6531 §3.3)."""
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def judge_unknown(verb: bytes, line: bytes) -> Fault:
    """Tell an unknown command from the words of another protocol."""
    if verb in FOREIGN_WORDS or line.startswith(TLS_HELLO):
        return CROSS_PROTOCOL
    return UNKNOWN


def _address_fault(error: AddressError, syntax: Fault) -> Fault:
    if isinstance(error, Utf8AddressError):
        return UTF8_REFUSED
    return BAD_DOMAIN if isinstance(error, DomainError) else syntax


def _apply_parameters(
    sender: Address | None, rest: bytes, limits: Limits, *, smtputf8: bool
) -> Mail | Fault:
    """Read the parameters of MAIL: SIZE, BODY and SMTPUTF8, each at most once."""
    size: int | None = None
    body = ""
    wide = False
    for word in rest.split(b" "):
        match = _PARAMETER(word)
        if match is None:
            if word.strip(b"\t"):
                return BAD_PARAMETER
            continue
        keyword, value = match[1].upper(), match[2] or b""
        if keyword == b"SIZE" and size is None and _SIZE(value):
            size = int(value)
        elif keyword == b"BODY" and not body and value.upper() in (b"7BIT", b"8BITMIME"):
            body = value.upper().decode()
        elif keyword == b"SMTPUTF8" and smtputf8 and not (wide or value):
            wide = True
        elif keyword in (b"SIZE", b"BODY") or (keyword == b"SMTPUTF8" and smtputf8):
            return BAD_PARAMETER
        else:
            return UNKNOWN_PARAMETER
    if size is not None and size > limits.max_message_size:
        return TOO_BIG
    return Mail(sender, size, body or "7BIT", wide)
