"""Changes of a message: typed, and unable to break it.

Names and values of fields are checked when an edit is made, so that whoever makes a broken one
learns of it in place: CR, LF and NUL are refused, what is beyond ASCII is encoded (RFC 2047), and
long lines are folded (RFC 5322 §2.2.3).
"""

import enum
from functools import lru_cache

import msgspec

from elemta.mail.address import Address, parse_address
from elemta.mail.errors import AddressError
from elemta.mail.headers import build_field, build_verbatim_field
from elemta.mail.reply import Reply, clean_text

NOTE_LIMIT = 1000  # characters
_build_field = lru_cache(16)(build_field)  # asked for when an edit is made, and soon again


class _Field(msgspec.Struct, frozen=True):
    name: str
    value: str

    def __post_init__(self) -> None:
        _build_field(self.name, self.value)  # raises HeaderError

    def encode(self, *, utf8: bool = False) -> bytes:
        """The field as it goes into the message; `utf8` as for `build_field`."""
        if utf8:
            return build_field(self.name, self.value, utf8=True)
        return _build_field(self.name, self.value)


class _Written(_Field, frozen=True, kw_only=True):
    verbatim: bool = False

    def __post_init__(self) -> None:
        self.encode()  # raises HeaderError

    def encode(self, *, utf8: bool = False) -> bytes:
        """As `_Field.encode`, unless the value is to stay as it is."""
        if self.verbatim:
            return build_verbatim_field(self.name, self.value)
        return super().encode(utf8=utf8)


class AddHeader(_Written, frozen=True, tag=True):
    """Add a field at the end of the header section.

    With `verbatim` the value is written as it is: ASCII, with the spaces it begins with and line
    breaks (CRLF before a space or tab) of its own. It is for values that others have signed, in
    plugins that run in the worker.

    Raises:
        HeaderError: The name is none, or the value could break the message.
    """


class InsertHeader(_Written, frozen=True, tag=True):
    """Insert a field before the field number `index`; 0 is on top of all, also of our own field.

    `verbatim` is that of `AddHeader`.

    Raises:
        HeaderError: As `AddHeader`.
        ValueError: The index is negative.
    """

    index: int = 0

    def __post_init__(self) -> None:
        self.encode()  # raises HeaderError
        if self.index < 0:
            raise ValueError(f"not the number of a field: {self.index}")


class ReplaceHeader(_Written, frozen=True, tag=True):
    """Replace the first field of that name and remove its others; add it where there is none.

    With `only`, which counts from 1, just that field of the name is replaced, and the others stay.
    `verbatim` is that of `AddHeader`.

    Raises:
        HeaderError: As `AddHeader`.
        ValueError: The number is negative.
    """

    only: int = 0

    def __post_init__(self) -> None:
        self.encode()  # raises HeaderError
        if self.only < 0:
            raise ValueError(f"not the number of a field: {self.only}")


class RemoveHeader(msgspec.Struct, frozen=True, tag=True):
    """Remove all fields of a name, or only the number `only` of them, counted from 1.

    Raises:
        HeaderError: The name is none.
        ValueError: The number is negative.
    """

    name: str
    only: int = 0

    def __post_init__(self) -> None:
        build_field(self.name, "")  # raises HeaderError
        if self.only < 0:
            raise ValueError(f"not the number of a field: {self.only}")


class RenameHeader(msgspec.Struct, frozen=True, tag=True):
    """Give all fields of a name another one; their values stay as they are, octet by octet.

    Raises:
        HeaderError: One of the names is none.
    """

    name: str
    to: str

    def __post_init__(self) -> None:
        build_field(self.name, "")  # raises HeaderError
        build_field(self.to, "")


class ReplaceBody(msgspec.Struct, frozen=True, tag=True):
    """Put another body in place of the message's, its MIME fields are yours to fit.

    Raises:
        ValueError: A line does not end with CRLF, or there is a NUL.
    """

    body: bytes

    def __post_init__(self) -> None:
        if b"\0" in self.body:
            raise ValueError("a body has no NUL")
        rest = self.body.replace(b"\r\n", b"")
        if b"\r" in rest or b"\n" in rest:
            raise ValueError("lines of a body end with CRLF")


class AddRecipient(msgspec.Struct, frozen=True, tag=True):
    """Deliver the message to one more address.

    Raises:
        AddressError: It is none.
    """

    address: str

    def __post_init__(self) -> None:
        _parse(self.address)

    @property
    def recipient(self) -> Address:
        return _parse(self.address)


class RemoveRecipient(msgspec.Struct, frozen=True, tag=True):
    """Do not deliver to an address; without any recipient left the message is discarded.

    Raises:
        AddressError: It is none.
    """

    address: str

    def __post_init__(self) -> None:
        _parse(self.address)

    @property
    def recipient(self) -> Address:
        return _parse(self.address)


class ChangeSender(msgspec.Struct, frozen=True, tag=True):
    """Change the envelope sender; "" is the null path.

    Raises:
        AddressError: It is none.
    """

    address: str

    def __post_init__(self) -> None:
        if self.address:
            _parse(self.address)

    @property
    def sender(self) -> Address | None:
        return _parse(self.address) if self.address else None


class Fate(enum.StrEnum):
    """What becomes of one recipient, whatever becomes of the others."""

    QUARANTINE = "quarantine"
    REDIRECT = "redirect"
    REJECT = "reject"
    DISCARD = "discard"


class SettleRecipient(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Treat one recipient otherwise than the rest; those that no plugin names get the message.

    Make one with a constructor: `SettleRecipient.quarantine("ann@example.test")`. Each leaves an
    event and a record. To discard and to reject end a recipient; another that is said of it later
    has no effect.

    Attributes:
        address: Whom; who is no recipient stays none.
        fate: What becomes of that one.
        to: Who gets the message instead, for `REDIRECT` only.
        text: What the sender is told, for `REJECT` only.
        note: Why, for the operator.

    Raises:
        AddressError: The address is none, or the one to redirect to.
        ValueError: There is something that does not fit the fate.
    """

    address: str
    fate: Fate
    to: str = ""
    text: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.fate, Fate):
            raise TypeError(f"not a fate: {self.fate!r}")
        _parse(self.address)
        if self.fate is Fate.REDIRECT:
            _parse(self.to)
        elif self.to:
            raise ValueError(f"to {self.fate} has no other address")
        if self.text and self.fate is not Fate.REJECT:
            raise ValueError(f"to {self.fate} has no words for the sender")
        msgspec.structs.force_setattr(self, "text", clean_text(self.text))
        msgspec.structs.force_setattr(self, "note", clean_text(self.note, NOTE_LIMIT))

    @classmethod
    def quarantine(cls, address: str, *, note: str = "") -> "SettleRecipient":
        """Keep the message where an operator sees it, instead of delivering it to this one."""
        return cls(address=address, fate=Fate.QUARANTINE, note=note)

    @classmethod
    def redirect(cls, address: str, to: str, *, note: str = "") -> "SettleRecipient":
        """Deliver it to another address instead."""
        return cls(address=address, fate=Fate.REDIRECT, to=to, note=note)

    @classmethod
    def reject(cls, address: str, text: str = "", *, note: str = "") -> "SettleRecipient":
        """Refuse it for this one, for good."""
        return cls(address=address, fate=Fate.REJECT, text=text, note=note)

    @classmethod
    def discard(cls, address: str, *, note: str = "") -> "SettleRecipient":
        """Deliver nothing to this one, and tell nobody but the operator."""
        return cls(address=address, fate=Fate.DISCARD, note=note)

    @property
    def recipient(self) -> Address:
        return _parse(self.address)

    @property
    def target(self) -> Address:
        """Who gets it instead; AddressError where it is not redirected."""
        return _parse(self.to)

    @property
    def reply(self) -> Reply:
        """What the sender is told of one that is refused."""
        return Reply(550, self.text or "Refused by local policy", "5.7.1")


Edit = (
    AddHeader
    | InsertHeader
    | ReplaceHeader
    | RemoveHeader
    | RenameHeader
    | ReplaceBody
    | AddRecipient
    | RemoveRecipient
    | ChangeSender
    | SettleRecipient
)


def _parse(text: str) -> Address:
    address = parse_address(text)
    if not address.domain:
        raise AddressError("an address needs a domain here")
    return address
