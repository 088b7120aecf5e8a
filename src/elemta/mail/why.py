"""Why mail was taken or refused: one record for each decision, to be found by its id later.

Records are written as arrays: a new field goes to the end and has a default, so that what is
stored already can still be read. What writes many of them may give the same as tuples, which cost
less to make; fields at the end that are at their default may be missing from them.
"""

from collections.abc import Iterable

import msgspec

PACK = 64 * 1024  # octets, about: whoever looks for a record decodes all of its pack
_HEAD = b"\xdd\0\0\0\0"  # an array; how many there are comes last


class Who(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The client of a decision.

    Attributes:
        session_id: "" where it was refused before a session began.
        address: Its IP address, "unix" for a unix socket.
        listener: The kind of listener.
        helo: What it called itself.
        protocol: "ESMTPS" and the like, "" before the greeting.
        tls: The version of TLS, "" in clear.
        login: Whose credentials were right.
    """

    session_id: str = ""
    address: str = ""
    listener: str = ""
    helo: str = ""
    protocol: str = ""
    tls: str = ""
    login: str = ""


class Mail(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a decision was about, as far as it was known.

    Attributes:
        sender: Of the envelope.
        recipients: The one that was decided on, or all those of the message.
        queue_id: Where it got as far as that.
        message_id: Of the header section.
        size: Octets.
    """

    sender: str = ""
    recipients: tuple[str, ...] = ()
    queue_id: str = ""
    message_id: str = ""
    size: int = 0


class Heard(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One answer of a plugin that had an effect.

    Attributes:
        plugin, hook: Who was asked, and when.
        action: What it wanted; "edit" for changes, "shadow_reject" and the like for no effect.
        note: Its own words for the operator.
        ms: How long it took, milliseconds.
    """

    plugin: str
    hook: str
    action: str
    note: str = ""
    ms: float = 0.0


class Ruling(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What was decided, and by whom.

    Attributes:
        outcome: "accept", "reject", "defer", "discard", "quarantine" or "hold".
        stage: When: "connect", "mail", "rcpt", "message" and so on.
        reply: What the client was told; "" for nothing.
        plugin: Which has decided; "" where the server did by itself.
        rule: Which rule of the server.
        note: More for the operator: the words of the plugin, or the detail of an error.
    """

    outcome: str
    stage: str = ""
    reply: str = ""
    plugin: str = ""
    rule: str = ""
    note: str = ""


class Why(msgspec.Struct, array_like=True, gc=False):
    """A decision.

    Attributes:
        id: What the client was told, or the queue id.
        at: When, seconds since 1970.
        heard: Answers of plugins before it, the last ones.
        authentication: What is known of where the message comes from, in short.
        notes: What plugins have left with the message: scores, tags.
        ms: How long the message took from DATA on.
        count: How often this was decided within a second, in the same words.
        sessions: Others it was decided in.
    """

    id: str
    at: float
    who: Who
    mail: Mail
    ruling: Ruling
    heard: tuple[Heard, ...] = ()
    authentication: str = ""
    notes: dict[str, str] = {}
    ms: float = 0.0
    count: int = 1
    sessions: list[str] = []


class Packed(msgspec.Struct, frozen=True, gc=False):
    """Some records as they are stored.

    Attributes:
        first_at, last_at: None is older, or newer, seconds since 1970.
        count: How many there are.
        octets: An array of `Why` in MessagePack.
    """

    first_at: float
    last_at: float
    count: int
    octets: bytes


class Packer:
    """Writes records behind one another, each at once: nothing of them is kept otherwise.

    Attributes:
        octets: What has been written; with room for how many there are before it.
        count: How many records that is.
        first_at: When the oldest was decided.
    """

    __slots__ = ("count", "first_at", "octets")

    def __init__(self) -> None:
        self.octets = bytearray(_HEAD)
        self.count = 0
        self.first_at = 0.0

    def add(self, record: Why) -> None:
        """Write a record down."""
        size = len(self.octets)
        try:
            encode_into(record, self.octets, size)
        except UnicodeEncodeError:
            self.mend(record, size)
        if not self.count or record.at < self.first_at:
            self.first_at = record.at
        self.count += 1

    def mend(self, record: object, size: int) -> None:
        """Write down a record with what UTF-8 has no octets for: half a character of a plugin's.

        Args:
            record: All of it.
            size: How many octets stay before it.
        """
        encode_into(_mended(record), self.octets, size)

    def seal(self, last_at: float) -> Packed:
        """Give what has been written, and begin anew."""
        octets, count = self.octets, self.count
        octets[1:5] = count.to_bytes(4)
        self.octets, self.count = bytearray(_HEAD), 0
        return Packed(self.first_at, last_at, count, bytes(octets))


def pack(records: Iterable[Why]) -> list[Packed]:
    """Write records down."""
    packer, packed, last_at = Packer(), list[Packed](), 0.0
    for record in records:
        last_at = max(record.at, last_at) if packer.count else record.at
        packer.add(record)
        if len(packer.octets) >= PACK:
            packed.append(packer.seal(last_at))
    if packer.count:
        packed.append(packer.seal(last_at))
    return packed


def unpack(octets: bytes) -> list[Why]:
    """Read records that were written down.

    Raises:
        msgspec.MsgspecError: They are none.
    """
    return _decode(octets)


def _mended(value: object) -> object:
    """Write out what UTF-8 has no octets for."""
    if isinstance(value, msgspec.Raw):
        return msgspec.msgpack.decode(value)
    if isinstance(value, msgspec.Struct):
        value = msgspec.structs.astuple(value)
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_mended(name): _mended(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_mended(each) for each in value]
    return value


encode_into = msgspec.msgpack.Encoder().encode_into
_decode = msgspec.msgpack.Decoder(list[Why]).decode
