"""Finds what must be encoded, so that a next hop can take a message."""

from dataclasses import dataclass

from elemta.mail.conversion.converter import Edit
from elemta.mail.conversion.encoders import Encoding
from elemta.mail.conversion.entity import Entity, MimeError
from elemta.mail.conversion.gauge import Gauge
from elemta.mail.conversion.structure import StructureReader


@dataclass(frozen=True, slots=True)
class Hop:
    """What a next hop takes besides lines of ASCII; NUL and stray CR or LF it never takes.

    Attributes:
        eight_bit: Octets over 127.
        long_lines: Lines of more than 998 octets.
    """

    eight_bit: bool
    long_lines: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done to a message.

    Attributes:
        edits: For a `Converter`.
        growth: By about how many octets it gets longer.
        problem: Why it cannot be made fit; "" where it can, or is.
    """

    edits: tuple[Edit, ...] = ()
    growth: int = 0
    problem: str = ""


class Survey:
    """Looks through a message, piece by piece."""

    def __init__(self, hop: Hop) -> None:
        self._hop = hop
        self._reader = StructureReader(self._begun, self._ended, self._between)
        self._edits: list[Edit] = []
        self._growth = 0
        self._problem = ""

    @property
    def is_hopeless(self) -> bool:
        """There is a problem: the rest need not be looked at."""
        return bool(self._problem)

    def add(self, chunk: bytes) -> None:
        """Take the next octets."""
        if not self._problem:
            try:
                self._reader.add(chunk)
            except MimeError as error:
                self._problem = str(error)

    def plan(self) -> Plan:
        """Say what is to be done, when there are no more octets."""
        if not self._problem:
            try:
                self._reader.end()
            except MimeError as error:
                self._problem = str(error)
        if self._problem:
            return Plan(problem=self._problem)
        return Plan(tuple(self._edits), self._growth)

    # ---- what the reader finds

    def _begun(self, entity: Entity, section: bytes) -> None:
        if not self._hop.eight_bit and not section.isascii():
            raise MimeError("8-bit octets in a header section")
        if (entity.is_multipart or entity.holds_message) and not entity.is_sealed:
            self._relabel(entity, has_8bit=self._hop.eight_bit)

    def _between(self, entity: Entity) -> None:
        if self._is_unfit(entity.gauge):
            raise MimeError("8-bit or binary content between body parts")

    def _ended(self, entity: Entity, end: int) -> None:
        gauge = entity.gauge
        must = self._is_unfit(gauge)
        may = gauge.lines.is_long and not self._hop.long_lines
        if entity.is_fixed:
            if must:
                raise MimeError("what is signed, encrypted or encoded already is not touched")
        elif must or may:
            self._encode(entity, end)
        else:
            self._relabel(entity, has_8bit=gauge.wide > 0)

    def _is_unfit(self, gauge: Gauge) -> bool:
        return gauge.is_binary or (gauge.wide > 0 and not self._hop.eight_bit)

    # ---- what is done about it

    def _encode(self, entity: Entity, end: int) -> None:
        gauge = entity.gauge
        is_text = entity.is_text and not gauge.is_binary
        # quoted-printable can be read as it is, unless it is mostly "=C3=A4"
        if is_text and gauge.wide * 3 <= gauge.size:
            encoding = Encoding.QUOTED_PRINTABLE
            self._growth += gauge.wide * 2 + gauge.size // 25
        else:
            encoding = Encoding.BASE64
            self._growth += gauge.size * 38 // 100
        head = b""
        if entity.is_message and not entity.has_version:  # RFC 1428 §3
            head = b"MIME-Version: 1.0\r\n"
            if not entity.has_type:
                charset = b"unknown-8bit" if gauge.wide else b"us-ascii"
                head += b"Content-Type: text/plain; charset=%b\r\n" % charset
        self._label(entity, encoding.value, head)
        self._edits.append(Edit(entity.body_at, end, encoding=encoding))

    def _relabel(self, entity: Entity, *, has_8bit: bool) -> None:
        """Correct a label that asks for more than the next hop takes."""
        fits = (b"", b"7bit", b"8bit") if self._hop.eight_bit else (b"", b"7bit")
        if entity.is_plain and entity.encoding not in fits:
            self._label(entity, b"8bit" if has_8bit else b"7bit")

    def _label(self, entity: Entity, value: bytes, head: bytes = b"") -> None:
        start, end = entity.encoding_span
        if start == end:
            head += b"Content-Transfer-Encoding: %b\r\n" % value
            self._growth += len(head)
            self._edits.append(Edit(start, end, head))
            return
        self._edits.append(Edit(start, end, value))
        if head:
            self._edits.append(Edit(entity.body_at - 2, entity.body_at - 2, head))
        self._growth += len(value) - (end - start) + len(head)
