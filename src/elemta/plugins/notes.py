"""What plugins leave with a message: strings that are stored with it, for all who come later."""

from collections import deque
from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING

from elemta.mailauth import Authentication

if TYPE_CHECKING:
    from elemta.mail.why import Heard

MAX_HEARD = 30  # answers of plugins that a session remembers, the last ones
MAX_NOTES = 64  # of one message
MAX_NOTES_SIZE = 8192  # octets of all of them in UTF-8, names included: the queue keeps them


class Notes(MutableMapping[str, str]):
    """The notes of a message; nothing goes in that could not be stored.

    Raises:
        TypeError: A name or value is no text, or the message is already in the queue.
        ValueError: There would be too many, or too much of them, or it is not UTF-8.
    """

    __slots__ = ("_is_stored", "_kept", "_size")

    def __init__(self, stored: Mapping[str, str] | None = None) -> None:
        """Begin without notes; or show those of a message in the queue."""
        self._is_stored = stored is not None
        self._kept: dict[str, str] = dict(stored or {})
        self._size = 0

    def __getitem__(self, name: str) -> str:
        return self._kept[name]

    def __setitem__(self, name: object, value: object) -> None:
        self._refuse_if_stored()
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError("a note is a text with a name")
        name, value = str.__str__(name), str.__str__(value)  # members of enumerations are not kept
        size = self._size + _size(name, value)
        before = self._kept.get(name)
        if before is not None:
            size -= _size(name, before)
        elif len(self._kept) >= MAX_NOTES:
            raise ValueError(f"a message has at most {MAX_NOTES} notes")
        if size > MAX_NOTES_SIZE:
            raise ValueError(f"the notes of a message have at most {MAX_NOTES_SIZE} octets")
        self._kept[name] = value
        self._size = size

    def __delitem__(self, name: str) -> None:
        self._refuse_if_stored()
        self._size -= _size(name, self._kept.pop(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    def __repr__(self) -> str:
        return repr(self._kept)

    def _refuse_if_stored(self) -> None:
        if self._is_stored:
            raise TypeError("a message in the queue keeps the notes it came with")


class MessageInfo:
    """A message as plugins know it from MAIL until it has left the queue.

    Attributes:
        notes: Strings by name that plugins have left with it: at most 64, and 8 KiB of them. They
            are written until it is in the queue, and only read from then on.
        authentication: What checks of its origin have found out so far, typed.
        spared: Plugins whose wish to have it in quarantine does not count, before the queue and
            in it; before it is in the queue, plugins in the worker may name some.
    """

    __slots__ = ("authentication", "notes", "spared")

    def __init__(self, stored: Mapping[str, str] | None = None) -> None:
        """Begin a message; or show one of the queue, with the notes that are stored."""
        self.notes = Notes(stored)
        self.authentication = Authentication()
        self.spared: tuple[str, ...] = ()


class Remembered:
    """What is kept of a session beside its facts: part of `SessionInfo`.

    Attributes:
        heard: The last answers of plugins, for the message under way or before the first.
        verdicts: Of conditions, each with the facts it is about.
    """

    __slots__ = ("_message", "heard", "verdicts")

    def __init__(self) -> None:
        self._message: MessageInfo | None = None
        self.heard: deque[Heard] = deque(maxlen=MAX_HEARD)
        self.verdicts: dict[object, tuple[object, bool]] = {}

    @property
    def message(self) -> MessageInfo:
        if self._message is None:
            self._message = MessageInfo()
        return self._message

    def begin_message(self) -> None:
        """Know nothing of a message: the next one begins."""
        self._message = None
        self.heard.clear()

    def find_authentication(self) -> Authentication | None:
        """Give what is known of where the message under way comes from; None for nothing."""
        return None if self._message is None else self._message.authentication

    def gather_notes(self) -> dict[str, str] | None:
        """Give the notes of the message under way as they are stored; None where it has none."""
        return dict(self._message.notes) or None if self._message is not None else None

    def find_spared(self) -> tuple[str, ...]:
        """Name the plugins whose wish to have the message in quarantine does not count."""
        return () if self._message is None else self._message.spared

    def gather_left(self) -> tuple[dict[str, str] | None, tuple[str, ...]]:
        """Give what is stored with the message under way: its notes, and whom it is spared."""
        message = self._message
        return (None, ()) if message is None else (dict(message.notes) or None, message.spared)


def _size(name: str, value: str) -> int:
    return len(name.encode()) + len(value.encode())
