"""The parameters of MAIL and RCPT that extensions bring (RFC 5321 §4.1.2), judged by form.

Numbers are ASCII digits and nothing else; each parameter comes at most once.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from elemta.mail.reply import Reply
from elemta.smtp.events import Extras, Fault
from elemta.smtp.offer import Offer

_XTEXT = re.compile(rb"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*").fullmatch  # RFC 3461 §4
_ADDRESS_TYPE = re.compile(rb"[A-Za-z0-9-]{1,63}").fullmatch
_BY = re.compile(rb"(-?[0-9]{1,9});([RN])(T?)", re.IGNORECASE).fullmatch  # RFC 2852 §4
_SECONDS = re.compile(rb"[0-9]{1,9}").fullmatch
_PRIORITY = re.compile(rb"-?[0-9]|\+[0-9]").fullmatch  # RFC 6710 §5
_INSTANT = re.compile(  # RFC 3339 §5.6
    rb"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII
).fullmatch
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]")
_ENVID_LIMIT = 100  # RFC 3461 §4.4
_ORCPT_LIMIT = 500  # RFC 3461 §4.2
_AUTH_LIMIT = 500  # RFC 4954 §5
_NOTIFY = frozenset((b"SUCCESS", b"FAILURE", b"DELAY"))


def _fault(code: int, enhanced: str, text: str) -> Fault:
    return Fault(Reply(code, text, enhanced), close=False, kind="parameter")


BAD_PARAMETER = _fault(501, "5.5.4", "Parameter is not valid")
TLS_FIRST = _fault(530, "5.7.10", "REQUIRETLS needs TLS")
TOO_SOON = _fault(555, "5.5.4", "Deadline is too near")
TOO_FAR = _fault(501, "5.5.4", "Message cannot be held so long")

Given = dict[str, Any]
_Parser = Callable[[bytes, Given, Offer], Fault | None]


def take_mail_parameter(keyword: bytes, value: bytes, given: Given, offer: Offer) -> Fault | None:
    """Put what a parameter of MAIL says into `given`, under the names of `Extras`.

    Raises:
        KeyError: It is not known, or not on offer.
    """
    if not _OFFERED[keyword](offer):
        if keyword == b"REQUIRETLS":
            return TLS_FIRST
        raise KeyError(keyword)
    return _PARSERS[keyword](value, given, offer)


def make_extras(given: Given) -> Extras | Fault:
    """Make of the parameters what the event carries; they must go together."""
    if "hold_for" in given and "hold_until" in given:
        return BAD_PARAMETER
    return Extras(**given)


def parse_notify(value: bytes) -> str | None:
    """Read NOTIFY (RFC 3461 §4.1) to upper case; None if it is not valid."""
    words = value.upper().split(b",")
    if words != [b"NEVER"] and (not _NOTIFY.issuperset(words) or len(set(words)) < len(words)):
        return None
    return b",".join(words).decode("ascii")


def parse_original_recipient(value: bytes) -> str | None:
    """Read ORCPT (RFC 3461 §4.2), a type and xtext; None if it is not valid.

    "utf-8" addresses (RFC 6533 §3) have a form of their own, which is also xtext: what comes as
    UTF-8 is written so, and is "" where that is too long.
    """
    kind, semicolon, address = value.partition(b";")
    fits = len(value) <= _ORCPT_LIMIT and semicolon and address
    if not fits or not _ADDRESS_TYPE(kind):
        return None
    if not address.isascii() and kind.lower() == b"utf-8":
        address = _BEYOND_ASCII.sub(
            lambda found: f"\\x{{{ord(found[0]):X}}}", address.decode(errors="replace")
        ).encode()
    if not _XTEXT(address):
        return None
    written = f"{kind.decode()};{address.decode()}"
    return written if len(written) <= _ORCPT_LIMIT else ""


def _put(given: Given, name: str, value: object) -> Fault | None:
    if name in given:
        return BAD_PARAMETER
    given[name] = value
    return None


def _ret(value: bytes, given: Given, _offer: Offer) -> Fault | None:
    word = value.upper()
    return _put(given, "ret", word.decode()) if word in {b"FULL", b"HDRS"} else BAD_PARAMETER


def _envid(value: bytes, given: Given, _offer: Offer) -> Fault | None:
    if not value or len(value) > _ENVID_LIMIT or not _XTEXT(value):
        return BAD_PARAMETER
    return _put(given, "envid", value.decode("ascii"))


def _auth(value: bytes, given: Given, _offer: Offer) -> Fault | None:
    if not value or len(value) > _AUTH_LIMIT or not _XTEXT(value):
        return BAD_PARAMETER
    return _put(given, "auth", value.decode("ascii"))


def _by(value: bytes, given: Given, offer: Offer) -> Fault | None:
    match = _BY(value)
    if match is None:
        return BAD_PARAMETER
    seconds, mode = int(match[1]), match[2].upper().decode()
    if mode == "R" and seconds <= 0:
        return BAD_PARAMETER
    if mode == "R" and seconds < (offer.deliver_by or 0):
        return TOO_SOON
    given["by_trace"] = bool(match[3])
    given["by_mode"] = mode
    return _put(given, "by_seconds", seconds)


def _hold_for(value: bytes, given: Given, offer: Offer) -> Fault | None:
    if not _SECONDS(value) or not int(value):
        return BAD_PARAMETER
    if int(value) > offer.future_release:
        return TOO_FAR
    return _put(given, "hold_for", int(value))


def _hold_until(value: bytes, given: Given, _offer: Offer) -> Fault | None:
    if not _INSTANT(value):
        return BAD_PARAMETER
    try:
        instant = datetime.fromisoformat(value.decode("ascii").upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        return BAD_PARAMETER
    return _put(given, "hold_until", instant.timestamp() or -1.0)  # 0 is "not asked for"


def _mt_priority(value: bytes, given: Given, _offer: Offer) -> Fault | None:
    return _put(given, "mt_priority", int(value)) if _PRIORITY(value) else BAD_PARAMETER


def _flag(name: str) -> _Parser:
    def parse(value: bytes, given: Given, _offer: Offer) -> Fault | None:
        return BAD_PARAMETER if value else _put(given, name, value=True)

    return parse


_PARSERS: Mapping[bytes, _Parser] = {
    b"RET": _ret,
    b"ENVID": _envid,
    b"AUTH": _auth,
    b"BY": _by,
    b"HOLDFOR": _hold_for,
    b"HOLDUNTIL": _hold_until,
    b"MT-PRIORITY": _mt_priority,
    b"REQUIRETLS": _flag("require_tls"),
    b"PRDR": _flag("prdr"),
}

_OFFERED: Mapping[bytes, Callable[[Offer], object]] = {
    b"RET": lambda offer: offer.dsn,
    b"ENVID": lambda offer: offer.dsn,
    b"AUTH": lambda offer: offer.mechanisms,
    b"BY": lambda offer: offer.deliver_by is not None,
    b"HOLDFOR": lambda offer: offer.future_release,
    b"HOLDUNTIL": lambda offer: offer.future_release,
    b"MT-PRIORITY": lambda offer: offer.mt_priority,
    b"REQUIRETLS": lambda offer: offer.require_tls,
    b"PRDR": lambda offer: offer.prdr,
}
