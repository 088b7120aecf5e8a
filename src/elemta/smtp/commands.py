"""The command lines of a client, judged one at a time without regard to what came before.

Each parser gives the event the line asks for, or the `Fault` that answers it. Texts of faults
never repeat what the client said.
"""

import binascii
import re
from collections.abc import Iterable

from elemta.mail.address import Address, DomainError, Utf8AddressError, parse_path
from elemta.mail.errors import AddressError
from elemta.mail.reply import Reply
from elemta.smtp.events import Auth, Fault, Hello, Mail, Rcpt, XClient, XForward
from elemta.smtp.limits import Limits
from elemta.smtp.offer import Offer
from elemta.smtp.parameters import (
    BAD_PARAMETER,
    Given,
    make_extras,
    parse_notify,
    parse_original_recipient,
    take_mail_parameter,
)

_HELLO_NAME = re.compile(rb"[A-Za-z0-9:._-]{1,255}|\[[A-Za-z0-9:.-]{1,253}\]").fullmatch
_PARAMETER = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~]+))?").fullmatch
_WIDE_PARAMETER = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~\x80-\xff]+))?").fullmatch
_SIZE = re.compile(rb"[0-9]{1,20}").fullmatch  # RFC 1870 §3: 1*20DIGIT
_CONTROLS = re.compile(rb"[\x00-\x1f\x7f]").search

_MECHANISM = re.compile(rb"[A-Z0-9_-]{1,20}").fullmatch  # RFC 4422 §3.1
_ATTRIBUTE = re.compile(rb"([A-Z]{2,16})=([!-~]{1,1024})").fullmatch
_HEX = re.compile(rb"\+([0-9A-Fa-f]{2})")
_UNKNOWN_ATTRIBUTE = frozenset((b"[UNAVAILABLE]", b"[TEMPUNAVAIL]"))
MAX_RESPONSE = 12288  # octets of a line with credentials, CRLF included (RFC 4954 §4)

# what extensions add to the length of a command: RFC 1870 §3, RFC 6152 §2, RFC 6531 §3.1,
# RFC 3461 §5, RFC 4954 §3, RFC 2852 §2, RFC 4865 §2, RFC 6710 §3, RFC 8689 §2
COMMAND_GROWTH = {
    b"MAIL": 26 + 17 + 10 + 8 + 107 + 500 + 17 + 34 + 15 + 11 + 5,
    b"RCPT": 28 + 506,
    b"VRFY": 10,
    b"EXPN": 10,
    b"AUTH": MAX_RESPONSE - 512,
}

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
UNKNOWN_PARAMETER = _fault(555, "5.5.4", "Parameter not recognised", "parameter")
TOO_BIG = _fault(552, "5.3.4", "Message is larger than the limit", "size")
UTF8_REFUSED = _fault(553, "5.6.7", "Address needs SMTPUTF8", "address")
BAD_DOMAIN = _fault(553, "5.1.2", "Domain of the address is not valid", "address")
NO_MECHANISM = _fault(504, "5.5.4", "Mechanism is not available", "auth")
AUTH_NEEDS_TLS = _fault(538, "5.7.11", "Encryption required: say STARTTLS first", "auth")
AUTH_DONE = _fault(503, "5.5.1", "You are logged in already", "sequence")
AUTH_IN_MAIL = _fault(503, "5.5.1", "Not within a transaction", "sequence")
BAD_AUTH = _fault(501, "5.5.4", "Syntax: AUTH mechanism [initial-response]", "syntax")
NOT_BASE64 = _fault(501, "5.5.2", "Response is not base64", "auth")
AUTH_CANCELLED = _fault(501, "5.7.0", "Authentication cancelled", "auth")
TLS_ALREADY = _fault(503, "5.5.1", "TLS is up already", "sequence")
NOT_A_PROXY = _fault(550, "5.7.0", "You may not speak for other clients", "unavailable")
BAD_ATTRIBUTES = _fault(501, "5.5.4", "Attributes are not valid", "syntax")
BINARY_BY_BDAT = _fault(503, "5.5.1", "BINARYMIME needs BDAT", "sequence")

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


def parse_mail(argument: bytes, limits: Limits, offer: Offer) -> Mail | Fault:
    """Judge "FROM:<path> parameters"."""
    if argument[:5].upper() != b"FROM:":
        return BAD_MAIL
    wide = not argument.isascii()
    try:
        sender, rest = parse_path(argument[5:].lstrip(b" "), allow_utf8=wide and offer.smtputf8)
    except AddressError as error:
        return _address_fault(error, BAD_SENDER)
    if sender is not None and not sender.domain:
        return BAD_SENDER
    event = _apply_parameters(sender, rest, limits, offer) if rest else Mail(sender)
    if wide and isinstance(event, Mail) and not event.smtputf8:
        return UTF8_REFUSED
    return event


def parse_rcpt(argument: bytes, offer: Offer, *, smtputf8: bool) -> Rcpt | Fault:
    """Judge "TO:<path> parameters"; `smtputf8`: the transaction has asked for RFC 6531."""
    if argument[:3].upper() != b"TO:":
        return BAD_RCPT
    try:
        recipient, rest = parse_path(argument[3:].lstrip(b" "), allow_utf8=smtputf8)
    except AddressError as error:
        return _address_fault(error, BAD_RECIPIENT)
    if recipient is None:
        return BAD_RECIPIENT
    parameter = _WIDE_PARAMETER if smtputf8 else _PARAMETER
    return _apply_dsn(recipient, map(parameter, rest.split()), offer) if rest else Rcpt(recipient)


def _apply_dsn(
    recipient: Address, matches: Iterable[re.Match[bytes] | None], offer: Offer
) -> Rcpt | Fault:
    """Read the parameters of RCPT: NOTIFY and ORCPT (RFC 3461), each at most once."""
    given: dict[bytes, str] = {}
    for match in matches:
        if match is None:
            return BAD_PARAMETER
        keyword, value = match[1].upper(), match[2] or b""
        if not offer.dsn or keyword not in {b"NOTIFY", b"ORCPT"}:
            return UNKNOWN_PARAMETER
        parse = parse_notify if keyword == b"NOTIFY" else parse_original_recipient
        parsed = parse(value)
        if parsed is None or keyword in given:
            return BAD_PARAMETER
        given[keyword] = parsed
    return Rcpt(recipient, given.get(b"NOTIFY", ""), given.get(b"ORCPT", ""))


def parse_auth(argument: bytes, offer: Offer) -> Auth | Fault:
    """Judge "mechanism [initial-response]" (RFC 4954 §4); "=" is an empty response."""
    word, _, rest = argument.strip(b" ").partition(b" ")
    mechanism = word.upper()
    if not _MECHANISM(mechanism):
        return BAD_AUTH
    if mechanism.decode() not in offer.mechanisms:
        return NO_MECHANISM
    initial = None
    if rest:
        initial = b"" if rest == b"=" else decode_response(rest)
        if initial is None:
            return NOT_BASE64
    return Auth(mechanism.decode(), initial)


def decode_response(line: bytes) -> bytes | None:
    """Decode what a client says in an exchange; None where it is not base64."""
    try:
        return binascii.a2b_base64(line, strict_mode=True)
    except binascii.Error:
        return None


def parse_attributes(argument: bytes, kind: type[XClient | XForward]) -> XClient | XForward | Fault:
    """Judge the attributes of XCLIENT or XFORWARD: NAME=xtext, upper case, each at most once."""
    found: dict[str, str | None] = {}
    for word in argument.split():
        match = _ATTRIBUTE(word)
        if match is None or (name := match[1].decode()) in found:
            return BAD_ATTRIBUTES
        value = _HEX.sub(lambda octet: bytes((int(octet[1], 16),)), match[2])
        if match[2].upper() in _UNKNOWN_ATTRIBUTE:
            found[name] = None
        elif _CONTROLS(value) or not value.isascii():
            return BAD_ATTRIBUTES
        else:
            found[name] = value.decode("ascii")
    return kind(found) if found else BAD_ATTRIBUTES


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
    return CROSS_PROTOCOL if is_foreign(verb, line) else UNKNOWN


def is_foreign(verb: bytes, line: bytes) -> bool:
    """Whether a line is of another protocol; `verb` is its first word in upper case."""
    return verb in FOREIGN_WORDS or line.startswith(TLS_HELLO)


def _address_fault(error: AddressError, syntax: Fault) -> Fault:
    if isinstance(error, Utf8AddressError):
        return UTF8_REFUSED
    return BAD_DOMAIN if isinstance(error, DomainError) else syntax


def _apply_parameters(
    sender: Address | None, rest: bytes, limits: Limits, offer: Offer
) -> Mail | Fault:
    """Read the parameters of MAIL, each at most once."""
    size: int | None = None
    body = ""
    wide = False
    given: Given = {}
    for word in rest.split(b" "):
        match = _PARAMETER(word)
        if match is None:
            if word.strip(b"\t"):
                return BAD_PARAMETER
            continue
        keyword, value = match[1].upper(), match[2] or b""
        if keyword == b"SIZE" and size is None and _SIZE(value):
            size = int(value)
        elif keyword == b"BODY" and not body and value.upper() in _bodies(offer):
            body = value.upper().decode()
        elif keyword == b"SMTPUTF8" and offer.smtputf8 and not (wide or value):
            wide = True
        else:
            fault = _apply_other(keyword, value, given, offer)
            if fault is not None:
                return fault
    if size is not None and size > limits.max_message_size:
        return TOO_BIG
    extras = make_extras(given) if given else None
    return extras if isinstance(extras, Fault) else Mail(sender, size, body or "7BIT", wide, extras)


def _bodies(offer: Offer) -> tuple[bytes, ...]:
    return (b"7BIT", b"8BITMIME", b"BINARYMIME") if offer.binarymime else (b"7BIT", b"8BITMIME")


def _apply_other(keyword: bytes, value: bytes, given: Given, offer: Offer) -> Fault | None:
    if keyword in {b"SIZE", b"BODY"} or (keyword == b"SMTPUTF8" and offer.smtputf8):
        return BAD_PARAMETER
    try:
        return take_mail_parameter(keyword, value, given, offer)
    except KeyError:
        return UNKNOWN_PARAMETER
