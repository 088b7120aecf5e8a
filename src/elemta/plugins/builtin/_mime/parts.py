"""The parts of a message: what each is called, and its octets as they are meant."""

import binascii
import re
from dataclasses import dataclass

from elemta.mail.conversion.entity import Entity, MimeError, MimeLimitError
from elemta.mail.conversion.structure import StructureReader
from elemta.mail.headers import iter_fields
from elemta.plugins.builtin._mime.budget import Budget, TooMuch, Unclear
from elemta.plugins.builtin._mime.words import find_names, parameters

_PIECE = 256 * 1024  # octets that the reader is given at a time
_NOT_BASE64 = bytes(set(range(256)) - set(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
))  # fmt: skip
_UU = re.compile(rb"(?:^|\n)begin [0-7]{3,4} [^\r\n]{1,1000}\r?\n")
_MANY_ENDS = 1000  # in base64; who writes so many wants to keep us busy
_UU_LINE = 61  # characters without the length: 45 octets and a checksum
_OF_FILES = (
    *(b"base64", b"binhex", b"uuenc", b"x-uue", b"\nbegin ", b"\rbegin ", b"=ybegin "),
    b"filename",
)
_TYPE_FIELD = re.compile(rb"(?<![^\r\n \t])content-type[^\r\n]*(?:[\r\n]+[ \t][^\r\n]*)*")
_TEXT_FIELD = re.compile(
    rb"content-type:[ \t\r\n]*(?:text/(?:plain|html)|multipart/(?:alternative|mixed|related))\b"
    rb"(?![^\0]*\bname)"
)
BEHIND = "base64 that goes on behind its end"


@dataclass(slots=True)
class Part:
    """A part that holds no other parts of its message.

    Attributes:
        type: As it is declared, lower case: "text/plain" where it is not.
        charset: As it is declared; "".
        names: All that its file may be called; none for most texts.
        encoding: Content-Transfer-Encoding, lower case.
        at: Where its header section begins in the message.
        body_at, end: Where its body begins and ends.
        is_whole: It is the message itself.
        is_sealed: Something around it is signed or encrypted.
    """

    type: str
    charset: str
    names: tuple[str, ...]
    encoding: bytes
    at: int
    body_at: int
    end: int
    is_whole: bool
    is_sealed: bool

    def decode(self, data: bytes) -> bytes:
        """Give what it holds, without its transfer encoding.

        Args:
            data: The message.

        Raises:
            Unclear: Readers would make different things of it.
        """
        readings = self.readings(data)
        if len(readings) > 1:
            raise Unclear(BEHIND)
        return readings[0]

    def readings(self, data: bytes) -> list[bytes]:
        """Give all that readers may make of what it holds: one where they agree.

        Raises:
            Unclear: They may make more of it than can be told.
        """
        body = data[self.body_at : self.end]
        if self.encoding == b"base64":
            return _decode_base64(body)
        return [self._decode(body)]

    def _decode(self, body: bytes) -> bytes:
        if self.encoding == b"quoted-printable":
            return binascii.a2b_qp(body)
        if self.encoding in {b"x-uuencode", b"uuencode", b"x-uue"}:
            found = _UU.search(body)
            if found is None:
                raise Unclear("uuencode without a beginning")
            return _decode_uu(body[found.end() :])
        return body


def is_only_text(data: bytes) -> bool:
    """Whether nothing but text is in a message, in whatever way it is read.

    So it is where no field says otherwise, wherever fields may begin: then the message may be
    broken, but nobody finds a file in it.
    """
    lowered = data.lower()
    if (
        b"\0" in data
        or b"\0" in binascii.a2b_qp(data)
        or any(word in lowered for word in _OF_FILES)
    ):
        return False
    return all(_TEXT_FIELD.match(found[0]) for found in _TYPE_FIELD.finditer(lowered))


def read_parts(data: bytes, budget: Budget) -> list[Part]:
    """Find the parts of a message, also of messages in it.

    Raises:
        Unclear: Its structure could be read in several ways.
        TooMuch: There are too many parts, or too many within each other.
    """
    walk = _Walk(budget)
    reader = StructureReader(walk.begun, walk.ended, walk.between)
    try:
        for at in range(0, len(data), _PIECE):
            reader.add(data[at : at + _PIECE])
        reader.end()
    except MimeLimitError as error:
        raise TooMuch(str(error)) from error
    except MimeError as error:
        raise Unclear(str(error)) from error
    return walk.parts


class _Walk:
    """Takes what a reader tells of entities; one that has begun ends before the next begins."""

    def __init__(self, budget: Budget) -> None:
        self.parts: list[Part] = []
        self._budget = budget
        self._entities = 0
        self._last: Part | None = None

    def begun(self, entity: Entity, section: bytes) -> None:
        self._budget.take_part()
        self._entities += 1
        names: dict[str, None] = {}
        charset = ""
        for field, value in iter_fields(section):
            if field not in {b"content-type", b"content-disposition"}:
                continue
            self._budget.take_names(len(value))
            names.update(dict.fromkeys(find_names(value, b"filename")))
            names.update(dict.fromkeys(find_names(value, b"name")))
            if field == b"content-type":
                given = dict(parameters(value)).get(b"charset", b"")
                charset = charset or given.decode("latin-1")
        self._last = Part(
            entity.type.decode("ascii"),
            charset,
            tuple(names),
            entity.encoding,
            entity.body_at - 2 - len(section),
            entity.body_at,
            entity.body_at,
            is_whole=self._entities == 1,
            is_sealed=entity.is_sealed,
        )
        if names and (entity.is_multipart or entity.holds_message):
            self.parts.append(self._last)  # it has a name, even if what it holds comes later

    def ended(self, entity: Entity, end: int) -> None:
        part = self._last
        if part is not None and part.body_at == entity.body_at:
            part.end = max(end, part.body_at)
            self.parts.append(part)

    def between(self, entity: Entity) -> None:
        """What is between parts is shown by nobody."""


def _decode_base64(body: bytes) -> list[bytes]:
    """Decode as those do who stop at an end, who begin anew behind it, and who do not see it."""
    clean = body.translate(None, _NOT_BASE64)
    first, _, rest = clean.partition(b"=")
    if not rest.strip(b"="):
        return [_decode_bare(first)]
    if rest.count(b"=") > _MANY_ENDS:
        raise Unclear("base64 with very many ends")
    anew = b"".join(_decode_bare(piece) for piece in clean.split(b"="))
    through = _decode_bare(clean.replace(b"=", b""))
    return list(dict.fromkeys((_decode_bare(first), anew, through)))


def _decode_bare(clean: bytes) -> bytes:
    """Decode base64 that has nothing in it but its letters."""
    whole = len(clean) - (len(clean) % 4 == 1)
    return binascii.a2b_base64(clean[:whole] + b"=" * (-whole % 4))


def _decode_uu(body: bytes) -> bytes:
    pieces: list[bytes] = []
    for line in body.replace(b"\r\n", b"\n").split(b"\n"):
        if line == b"end":
            return b"".join(pieces)
        if len(line) > _UU_LINE + 1:
            break
        try:
            pieces.append(binascii.a2b_uu(line))
        except binascii.Error:
            break
    raise Unclear("uuencode that is broken")
