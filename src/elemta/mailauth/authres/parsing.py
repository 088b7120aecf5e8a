"""Reads what somebody says about the origin of a message (RFC 8601 §2.2).

Comments and folds may stand wherever the grammar has them, values may be beyond ASCII (RFC 8616),
and what many servers write although the grammar has no place for it is taken too: an empty value,
a semicolon at the end, a property without a type, an underscore in a name. Anything else is an
error: it is never guessed who says something, or what.
"""

import re
from dataclasses import dataclass

from elemta.mail.errors import ElemtaError

VALUE_LIMIT = 32_768  # octets; a field with twenty signatures has less than a tenth of it
MAX_RESULTS = 200
MAX_PROPERTIES = 100

_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]").search
_OUTSIDE = re.compile(r'[^"(]+|"(?:[^"\\]|\\.)*"|\(').match
_INSIDE = re.compile(r"[^()\\]+|\\.|[()]").match

_QUOTED = r'"(?:[^"\\]|\\.)*+"'
_ATOM = r'[^\x00-\x20\x7f()<>@,;:\\"/\[\]?=]++'  # a token of RFC 2045 §5.1, or beyond ASCII
_KEY = r"[A-Za-z0-9][A-Za-z0-9_-]*+"
_GAP = r"[ \t]*+"
_END = r"(?:[ \t]++|(?=;)|\Z)"
_ID = re.compile(rf"{_GAP}({_QUOTED}|{_ATOM})(?:[ \t]+([0-9]{{1,9}}+))?{_GAP}(?:;|\Z)").match
_NONE = re.compile(r"[ \t]*none[ \t;]*", re.IGNORECASE).fullmatch
_METHOD = re.compile(
    rf"{_GAP}({_KEY}){_GAP}(?:/{_GAP}([0-9]{{1,9}}+){_GAP})?={_GAP}({_KEY}){_END}"
).match
_REASON = re.compile(rf'reason{_GAP}={_GAP}({_QUOTED}|[^ \t;"]++){_END}', re.IGNORECASE).match
_PROPERTY = re.compile(
    rf"({_KEY}){_GAP}(?:\.{_GAP}([A-Za-z0-9][A-Za-z0-9_.-]*+){_GAP})?"
    rf'={_GAP}((?:{_QUOTED})?+[^ \t;"()]*+){_END}'
).match
_ESCAPED = re.compile(r"\\(.)")


class AuthResultsError(ElemtaError, ValueError):
    """A field does not say in the form of RFC 8601 who found out what."""


@dataclass(frozen=True, slots=True)
class Property:
    """What a result is about, such as "header.d=example.org".

    Attributes:
        ptype: Where it comes from, in lower case: "smtp", "header", "body", "policy"; "" where the
            field does not say.
        name: In lower case.
        value: Without quotes, unless only the local part of an address has them.
    """

    ptype: str
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class MethodResult:
    """What one check came to.

    Attributes:
        method: In lower case, "dkim".
        result: In lower case, "pass".
        version: Of the method.
        reason: In free text, "" for none.
        properties: In order.
    """

    method: str
    result: str
    version: int = 1
    reason: str = ""
    properties: tuple[Property, ...] = ()

    def find(self, ptype: str, name: str) -> str | None:
        """The value of the first property of a type and name, None if there is none."""
        for one in self.properties:
            if one.name == name and one.ptype == ptype:
                return one.value
        return None


@dataclass(frozen=True, slots=True)
class AuthResults:
    """One field.

    Attributes:
        authserv_id: Who says it, without quotes and as it was written otherwise.
        version: Of the form of the field; only 1 is defined.
        results: In order; none where nothing was checked.
    """

    authserv_id: str
    version: int
    results: tuple[MethodResult, ...]


def parse(value: bytes) -> AuthResults:
    """Read the value of a field, folds included.

    Raises:
        AuthResultsError: It is not of the form, larger than `VALUE_LIMIT`, or has more than
            `MAX_RESULTS` results or `MAX_PROPERTIES` properties of one.
    """
    text = plain_text(value)
    authserv_id, version, at = read_id(text)
    if version != 1:
        raise AuthResultsError(f"version {version} is not known")
    if _NONE(text, at):
        return AuthResults(authserv_id, version, ())
    results: list[MethodResult] = []
    while at < len(text):
        result, at = _read_result(text, at)
        results.append(result)
        if len(results) > MAX_RESULTS:
            raise AuthResultsError(f"more than {MAX_RESULTS} results")
        if not text[at:].strip(" \t;"):
            break
    if not results:
        raise AuthResultsError("no results")
    return AuthResults(authserv_id, version, tuple(results))


def plain_text(value: bytes) -> str:
    """Decode a value, in one line and without its comments.

    Raises:
        AuthResultsError: It is too large, not UTF-8, has control characters or line ends beside
            folds, or quotes or comments that do not end.
    """
    if len(value) > VALUE_LIMIT:
        raise AuthResultsError(f"larger than {VALUE_LIMIT} octets")
    try:
        text = value.decode().replace("\r\n ", " ").replace("\r\n\t", "\t")
    except UnicodeDecodeError:
        raise AuthResultsError("not UTF-8") from None
    if _CONTROL(text):
        raise AuthResultsError("control characters")
    return _strip_comments(text) if "(" in text else text


def read_id(text: str) -> tuple[str, int, int]:
    """Read who says it: the id, the version of the field, and the index of the first result.

    Raises:
        AuthResultsError: The text of `plain_text` does not begin so.
    """
    found = _ID(text)
    if found is None:
        raise AuthResultsError("no authserv-id")
    return _unquote(found[1]), int(found[2] or 1), found.end()


def _strip_comments(text: str) -> str:
    """Put a space in place of each comment; they nest (RFC 5322 §3.2.2)."""
    parts: list[str] = []
    at = depth = 0
    while at < len(text):
        found = _INSIDE(text, at) if depth else _OUTSIDE(text, at)
        if found is None:
            break
        piece = found[0]
        at = found.end()
        if piece == "(":
            depth += 1
        elif not depth:
            parts.append(piece)
        elif piece == ")":
            depth -= 1
            if not depth:
                parts.append(" ")
    if depth or at < len(text):
        raise AuthResultsError("a quote or a comment does not end")
    return "".join(parts)


def _read_result(text: str, at: int) -> tuple[MethodResult, int]:
    """Read a result; the index after its semicolon."""
    method = _METHOD(text, at)
    if method is None:
        raise AuthResultsError(f"no result at {text[at : at + 40]!r}")
    at = method.end()
    reason = _REASON(text, at)
    if reason is not None:
        at = reason.end()
    properties: list[Property] = []
    while at < len(text) and text[at] != ";":
        found = _PROPERTY(text, at)
        if found is None or len(properties) == MAX_PROPERTIES:
            raise AuthResultsError(f"no property at {text[at : at + 40]!r}")
        properties.append(_property(found))
        at = found.end()
    return MethodResult(
        method[1].lower(),
        method[3].lower(),
        int(method[2] or 1),
        _unquote(reason[1]) if reason is not None else "",
        tuple(properties),
    ), at + 1


def _property(found: re.Match[str]) -> Property:
    ptype, name, value = found.groups()
    if name is None:
        ptype, name = "", ptype
    return Property(ptype.lower(), name.lower(), _unquote(value))


def _unquote(value: str) -> str:
    """Take off quotes that are around all of a value."""
    if value[:1] == '"' == value[-1:]:
        return _ESCAPED.sub(r"\1", value[1:-1])
    return value
