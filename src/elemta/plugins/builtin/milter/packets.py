"""The words of the milter protocol, version 6, as octets; no I/O.

A packet is its length in four octets, a letter, and data. The protocol is Sendmail's; what it means
is written in libmilter's `mfdef.h` and in the documentation of its callbacks.
"""

import enum
import ipaddress
import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from elemta.plugins.builtin._elsewhere import Trouble

VERSION = 6
OLDEST = 2  # that still has the same commands
CHUNK = 65535  # octets of a body in one packet: what libmilter takes unless told otherwise
MAX_PACKET = 1 << 20  # octets that we take: a field or a piece of a body has 64 KiB
_NUMBER = struct.Struct("!I")
_OPTIONS = struct.Struct("!III")


class Command(bytes, enum.Enum):
    """What we say."""

    NEGOTIATE = b"O"
    MACROS = b"D"
    CONNECT = b"C"
    HELO = b"H"
    MAIL = b"M"
    RCPT = b"R"
    DATA = b"T"
    UNKNOWN = b"U"
    HEADER = b"L"
    END_OF_HEADERS = b"N"
    BODY = b"B"
    END = b"E"
    ABORT = b"A"
    QUIT = b"Q"
    QUIT_NEW_CONNECTION = b"K"


class Wish(enum.IntFlag):
    """What a milter may do to a message (SMFIF_...)."""

    ADD_HEADERS = 0x1
    CHANGE_BODY = 0x2
    ADD_RECIPIENTS = 0x4
    REMOVE_RECIPIENTS = 0x8
    CHANGE_HEADERS = 0x10
    QUARANTINE = 0x20
    CHANGE_SENDER = 0x40
    ADD_RECIPIENTS_PARAMETERS = 0x80
    CHOOSE_MACROS = 0x100


class Option(enum.IntFlag):
    """What a milter need not be told, or does not answer (SMFIP_...)."""

    NO_CONNECT = 0x1
    NO_HELO = 0x2
    NO_MAIL = 0x4
    NO_RCPT = 0x8
    NO_BODY = 0x10
    NO_HEADERS = 0x20
    NO_END_OF_HEADERS = 0x40
    SILENT_HEADER = 0x80
    NO_UNKNOWN = 0x100
    NO_DATA = 0x200
    SKIP = 0x400
    SILENT_CONNECT = 0x1000
    SILENT_HELO = 0x2000
    SILENT_MAIL = 0x4000
    SILENT_RCPT = 0x8000
    SILENT_DATA = 0x10000
    SILENT_UNKNOWN = 0x20000
    SILENT_END_OF_HEADERS = 0x40000
    SILENT_BODY = 0x80000
    LEADING_SPACE = 0x100000


WISHES = Wish(0x1FF)
OPTIONS = Option(sum(Option))
_STAGES = (
    Command.CONNECT,
    Command.HELO,
    Command.MAIL,
    Command.RCPT,
    Command.DATA,
    Command.END,
    Command.END_OF_HEADERS,
)  # as SMFIM_CONNECT... number them


class Packet(NamedTuple):
    """What a milter says."""

    letter: bytes
    data: bytes


class Terms(NamedTuple):
    """What has been negotiated.

    Attributes:
        version: Of the protocol, that of the milter.
        wishes: What it may do.
        options: What it need not be told.
        macros: The names it wants to know at some stages; of others it gets all.
    """

    version: int
    wishes: Wish
    options: Option
    macros: Mapping[Command, frozenset[bytes]]


def encode(command: Command, data: bytes = b"") -> bytes:
    """Write a packet."""
    return b"".join((_NUMBER.pack(len(data) + 1), command.value, data))


def read_length(octets: bytes) -> int:
    """Read how long a packet is, its letter included.

    Raises:
        Trouble: It has no letter, or is too long.
    """
    (length,) = _NUMBER.unpack(octets)
    if not 1 <= length <= MAX_PACKET:
        raise Trouble(f"a packet of {length} octets")
    return int(length)


def offer() -> bytes:
    """What we can do."""
    return encode(Command.NEGOTIATE, _OPTIONS.pack(VERSION, WISHES, OPTIONS))


def read_terms(packet: Packet) -> Terms:
    """Read the milter's answer to our offer.

    Raises:
        Trouble: It wants what we have not offered, or cannot be understood.
    """
    if packet.letter != Command.NEGOTIATE.value or len(packet.data) < _OPTIONS.size:
        raise Trouble("it does not negotiate")
    version, wishes, options = _OPTIONS.unpack_from(packet.data)
    if not OLDEST <= version <= VERSION:
        raise Trouble(f"it speaks version {version} of the protocol")
    if wishes & ~int(WISHES) or options & ~int(OPTIONS):
        raise Trouble(f"it wants what has not been offered: {wishes:#x}, {options:#x}")
    chosen = _read_macros(packet.data[_OPTIONS.size :])
    return Terms(version, Wish(wishes), Option(options), chosen)


def _read_macros(data: bytes) -> dict[Command, frozenset[bytes]]:
    """Read lists of macros: a number for the stage, and names with spaces between them."""
    found: dict[Command, frozenset[bytes]] = {}
    while data:
        names, end, rest = data[_NUMBER.size :].partition(b"\0")
        if len(data) < _NUMBER.size or not end:
            raise Trouble("a list of macros that is cut off")
        (stage,) = _NUMBER.unpack_from(data)
        if stage >= len(_STAGES):
            raise Trouble(f"macros for stage {stage}, which does not exist")
        found[_STAGES[stage]] = frozenset(plain_name(name) for name in names.split())
        data = rest
    return found


def plain_name(name: bytes) -> bytes:
    """The name of a macro without braces."""
    return name.removeprefix(b"{").removesuffix(b"}")


def macros(command: Command, values: Iterable[tuple[str, str]], terms: Terms) -> bytes:
    """Write the packet with macros that goes before a command; b"" where there are none."""
    wanted = terms.macros.get(command)
    parts: list[bytes] = []
    for name, value in values:
        octets = name.encode()
        if value and (wanted is None or octets in wanted):
            parts += (octets if len(octets) == 1 else b"{%b}" % octets, text(value))
    if not parts:
        return b""
    return encode(Command.MACROS, command.value + b"\0".join(parts) + b"\0")


def text(value: str) -> bytes:
    """A text without what would end it too early."""
    return value.encode("utf-8", "replace").replace(b"\0", b"")


def address_of(ip: str, port: int) -> bytes:
    """The family, port and address of a client, as CONNECT has them."""
    if not ip:
        return b"U"
    try:
        family = b"6" if ipaddress.ip_address(ip).version == 6 else b"4"
    except ValueError:
        return b"U"
    return b"%b%b%b\0" % (family, port.to_bytes(2), ip.encode())


def strings(data: bytes, least: int, most: int) -> list[bytes]:
    """Read texts that each end with NUL.

    Raises:
        Trouble: There are too few or too many, or the last one is cut off.
    """
    *found, rest = data.split(b"\0")
    if rest or not least <= len(found) <= most:
        raise Trouble("an answer that is cut off, or has too much in it")
    return found


def numbered(data: bytes) -> tuple[int, bytes]:
    """Read a number, and give what follows it.

    Raises:
        Trouble: It is cut off.
    """
    if len(data) < _NUMBER.size:
        raise Trouble("an answer that is cut off")
    return _NUMBER.unpack_from(data)[0], data[_NUMBER.size :]
