"""One entity of a message: what its header fields say of its type, its parts and its encoding.

Only what all readers understand alike is understood: a field that comes twice, a comment, a
continued or encoded parameter where it matters is a reason to leave the message as it is.
"""

import re
from dataclasses import dataclass, field

from elemta.mail.conversion.gauge import Gauge
from elemta.mail.errors import ElemtaError
from elemta.mail.headers import split_fields

BOUNDARY_LIMIT = 70  # RFC 2046 §5.1.1

_TOKEN = rb"[!#$%&'*+.0-9A-Z^_`a-z{|}~-]+"
_TYPE = re.compile(rb"[ \t\r\n]*(%b)/(%b)[ \t\r\n]*(?:;|$)" % (_TOKEN, _TOKEN))
_PARAMETER = re.compile(
    rb'[ \t\r\n;]*(%b)[ \t\r\n]*=[ \t\r\n]*(?:"((?:[^"\\\r\n]|\\[^\r\n])*)"|([^ \t\r\n;"()]+))'
    rb"[ \t\r\n]*(?:;|$)" % _TOKEN
)
_ENCODING = re.compile(_TOKEN)
_SPACE = b" \t\r\n"

_IDENTITY = frozenset({b"7bit", b"8bit", b"binary"})
_SEALS = frozenset({b"multipart/signed", b"multipart/encrypted"})
_SEALED = frozenset({b"application/pkcs7-mime", b"application/x-pkcs7-mime"})
_MESSAGES = frozenset({b"message/rfc822", b"message/news"})
_OPAQUE = b"application/octet-stream"


class MimeError(ElemtaError):
    """The message cannot be read in one way only, or not at all; the text says why."""


class MimeLimitError(MimeError):
    """There is more of it than is read."""


@dataclass(slots=True)
class Entity:
    """A message or a body part.

    Attributes:
        is_message: It is the message itself or one within a message/rfc822, not a body part.
        is_sealed: Something around it is signed or encrypted.
        type: Lower case, "text/plain" where it is not said.
        boundary: Of a multipart; b"" for all else.
        encoding: Content-Transfer-Encoding, lower case; b"" where it is not said.
        encoding_span: Where the value stands in the message; both the end of the header section
            where there is none.
        has_type, has_version: There is a Content-Type, a MIME-Version.
        body_at: Where the body begins; two octets before it the header section ends.
        gauge: Of the body of a leaf; of what is between the parts of a multipart.
    """

    is_message: bool
    is_sealed: bool
    type: bytes = b"text/plain"
    boundary: bytes = b""
    encoding: bytes = b""
    encoding_span: tuple[int, int] = (0, 0)
    has_type: bool = False
    has_version: bool = False
    body_at: int = 0
    gauge: Gauge = field(default_factory=Gauge)

    @property
    def is_multipart(self) -> bool:
        return bool(self.boundary)

    @property
    def holds_message(self) -> bool:
        return self.type in _MESSAGES

    @property
    def seals(self) -> bool:
        """Its parts must not be touched."""
        return self.is_sealed or self.type in _SEALS

    @property
    def is_fixed(self) -> bool:
        """Its body must not be touched."""
        if self.is_sealed or self.type in _SEALED or not self.is_plain:
            return True
        # 7bit only (RFC 2046 §5.2), but for those of RFC 6532, which few readers decode
        return self.type.startswith(b"message/")

    @property
    def is_plain(self) -> bool:
        """The body is not encoded."""
        return not self.encoding or self.encoding in _IDENTITY

    @property
    def is_text(self) -> bool:
        return self.type.startswith(b"text/")


def read_entity(section: bytes, at: int, entity: Entity, *, default: bytes) -> None:
    """Learn what a header section says.

    Args:
        section: All its fields, without the empty line.
        at: Where in the message it begins.
        entity: What is learned goes there.
        default: The type where none is given.

    Raises:
        MimeError: It cannot be relied on.
    """
    entity.type = default
    entity.body_at = at + len(section) + 2
    entity.encoding_span = (at + len(section),) * 2
    for name, octets in split_fields(section):
        if not name:
            raise MimeError("a header line is no field")
        value_at = octets.index(b":") + 1
        value = octets[value_at:].removesuffix(b"\r\n")
        if name == b"content-type":
            _read_type(value, entity)
        elif name == b"content-transfer-encoding":
            _read_encoding(value, at + value_at, entity)
        elif name == b"mime-version":
            entity.has_version = True
        at += len(octets)
    if (entity.is_multipart or entity.holds_message) and not entity.is_plain:
        raise MimeError("a composite part is encoded")


def _read_type(value: bytes, entity: Entity) -> None:
    if entity.has_type:
        raise MimeError("two Content-Type fields")
    entity.has_type = True
    found = _TYPE.match(value)
    lowered = value.lower()
    if found is None:
        if b"multipart" in lowered or b"message" in lowered:
            raise MimeError("a Content-Type that is none")
        entity.type = _OPAQUE
        return
    entity.type = found[1].lower() + b"/" + found[2].lower()
    if entity.type.startswith(b"multipart/"):
        entity.boundary = _read_boundary(value[found.end() :])


def _read_boundary(parameters: bytes) -> bytes:
    boundary = None
    parameters = parameters.rstrip(b" \t\r\n;")
    at = 0
    while at < len(parameters):
        found = _PARAMETER.match(parameters, at)
        if found is None:
            raise MimeError("a multipart with broken parameters")
        name = found[1].lower()
        if name.startswith(b"boundary*") or (name == b"boundary" and boundary is not None):
            raise MimeError("a multipart without one plain boundary")
        if name == b"boundary":
            quoted = found[2]
            boundary = found[3] if quoted is None else re.sub(rb"\\(.)", rb"\1", quoted)
        at = found.end()
    if not boundary or len(boundary) > BOUNDARY_LIMIT or boundary != boundary.strip(b" \t"):
        raise MimeError("a multipart without a usable boundary")
    return boundary


def _read_encoding(value: bytes, at: int, entity: Entity) -> None:
    token = value.strip(_SPACE).removesuffix(b";").rstrip(_SPACE)
    if entity.encoding or not _ENCODING.fullmatch(token):
        raise MimeError("no single Content-Transfer-Encoding")
    entity.encoding = token.lower()
    start = len(value) - len(value.lstrip(_SPACE))
    entity.encoding_span = at + start, at + len(value)  # some readers mind space
