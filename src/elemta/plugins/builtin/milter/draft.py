"""The content of a message as milters see it, and what each of them has changed.

A milter says what it wants by the number of a field among those of its name, and in pieces of a
body. Here that becomes edits of the server's kind, and the next milter sees what they have made.
"""

import re
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import ClassVar

from elemta.mail.errors import HeaderError
from elemta.mail.headers import split_fields
from elemta.plugins import (
    AddHeader,
    AddRecipient,
    ChangeSender,
    InsertHeader,
    MessageContext,
    RemoveHeader,
    RemoveRecipient,
    ReplaceBody,
    ReplaceHeader,
)
from elemta.plugins.builtin._elsewhere import Trouble
from elemta.plugins.builtin.milter.packets import CHUNK, Packet, Wish, numbered, strings
from elemta.plugins.edits import Edit
from elemta.plugins.reading import end_reading

MAX_EDITS = 1000  # of one message: what the server carries out
_LINE_END = re.compile(rb"\r\n|\r|\n")
_FOLD = re.compile(r"(?:\r\n|\r|\n)+[ \t]*")
_Saved = tuple[list[tuple[bytes, bytes]], bytes | None, list[Edit], str]
_TRACE = (b"", b"")  # stands for our own field, which milters do not see but count


class Draft:
    """A message on its way through milters.

    Attributes:
        edits: What they have changed so far, in order.
        quarantine: Why one of them wants it kept, in words; "" for none.
    """

    def __init__(self, ctx: MessageContext) -> None:
        """Take it as it is in that moment."""
        self._ctx = ctx
        raw = ctx.headers.raw
        self._head = len(raw)
        self._fields: list[tuple[bytes, bytes]] = [_TRACE]
        for name, octets in split_fields(raw):
            if name:
                first, _, value = octets.partition(b":")
                self._fields.append((first.rstrip(b" \t"), value.removesuffix(b"\r\n")))
        self._body: bytes | None = None
        self._pieces: list[bytes] = []
        self._is_replaced = False
        self.edits: list[Edit] = []
        self.quarantine = ""

    def fields(self, *, leading_space: bool) -> list[bytes]:
        """The data of a HEADER packet for each field, lines ended as milters expect."""
        found: list[bytes] = []
        for name, value in self._fields:
            if not name:
                continue
            plain = value.replace(b"\r\n", b"\n").replace(b"\0", b"")
            if not leading_space:
                plain = plain.removeprefix(b" ")
            found.append(b"%b\0%b\0" % (name, plain))
        return found

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body in pieces of at most 65,535 octets."""
        if self._body is not None:
            for at in range(0, len(self._body), CHUNK):
                yield self._body[at : at + CHUNK]
            return
        skip, rest = self._head, b""
        pieces = self._ctx.chunks()
        try:
            async for piece in pieces:
                rest += piece[skip:]
                skip = max(0, skip - len(piece))
                for at in range(0, len(rest) - CHUNK + 1, CHUNK):
                    yield rest[at : at + CHUNK]
                rest = rest[len(rest) - len(rest) % CHUNK :]
        finally:
            await end_reading(pieces)
        if rest:
            yield rest

    def change(self, packet: Packet, wishes: Wish) -> bool:
        """Carry out what a milter wants at the end of a message.

        Args:
            packet: What it says.
            wishes: What it has said that it may do.

        Returns:
            Whether it was a change at all.

        Raises:
            Trouble: It is broken, would break the message, or was not negotiated.
        """
        found = self._CHANGES.get(packet.letter)
        if found is None:
            return False
        needed, change = found
        if not wishes & needed:
            raise Trouble(f"it changes what it did not say it would: {needed.name}")
        try:
            change(self, packet.data)
        except ValueError as error:
            raise Trouble(f"it wants what is not possible: {error}") from None
        if len(self.edits) > MAX_EDITS:
            raise Trouble(f"it wants more than {MAX_EDITS} changes")
        return True

    def save(self) -> _Saved:
        """Remember it as it is, before a milter is asked."""
        return list(self._fields), self._body, list(self.edits), self.quarantine

    def restore(self, saved: _Saved) -> None:
        """Make it what it was: the milter has failed."""
        self._fields, self._body, self.edits, self.quarantine = saved
        self._pieces, self._is_replaced = [], False

    def finish(self) -> None:
        """Take the new body, when a milter is done.

        Raises:
            Trouble: It cannot be that of a message.
        """
        if not self._is_replaced:
            return
        body = _LINE_END.sub(b"\r\n", b"".join(self._pieces))
        self._pieces, self._is_replaced = [], False
        self._body = body
        self.edits = [edit for edit in self.edits if not isinstance(edit, ReplaceBody)]
        try:
            self.edits.append(ReplaceBody(body))
        except ValueError as error:
            raise Trouble(f"it wants what is not possible: {error}") from None

    # ---- what a milter can want

    def _add(self, data: bytes) -> None:
        name, value = strings(data, 2, 2)
        self._append(name, value)

    def _append(self, name: bytes, value: bytes) -> None:
        text, verbatim = _read_value(value)
        self.edits.append(AddHeader(_read_name(name), text, verbatim=verbatim))
        self._fields.append((name, value))

    def _insert(self, data: bytes) -> None:
        index, rest = numbered(data)
        name, value = strings(rest, 2, 2)
        text, verbatim = _read_value(value)
        self.edits.append(InsertHeader(_read_name(name), text, index, verbatim=verbatim))
        self._fields.insert(index, (name, value))

    def _change(self, data: bytes) -> None:
        index, rest = numbered(data)
        name, value = strings(rest, 2, 2)
        number = max(index, 1)
        lowered = name.lower()
        places = [at for at, field in enumerate(self._fields) if field[0].lower() == lowered]
        if number > len(places):  # there is no such field
            if value:
                self._append(name, value)
            return
        place = places[number - 1]
        if not value:
            self.edits.append(RemoveHeader(_read_name(name), number))
            del self._fields[place]
            return
        text, verbatim = _read_value(value)
        self.edits.append(ReplaceHeader(_read_name(name), text, number, verbatim=verbatim))
        self._fields[place] = (name, value)

    def _replace_body(self, data: bytes) -> None:
        self._pieces.append(data)
        self._is_replaced = True

    def _add_recipient(self, data: bytes) -> None:
        self.edits.append(AddRecipient(_read_address(strings(data, 1, 2)[0])))

    def _remove_recipient(self, data: bytes) -> None:
        self.edits.append(RemoveRecipient(_read_address(strings(data, 1, 1)[0])))

    def _change_sender(self, data: bytes) -> None:
        self.edits.append(ChangeSender(_read_address(strings(data, 1, 2)[0])))

    def _quarantine(self, data: bytes) -> None:
        reason = strings(data, 1, 1)[0].decode("utf-8", "replace")[:500]
        self.quarantine = reason or "no reason given"

    _CHANGES: ClassVar[Mapping[bytes, tuple[Wish, Callable[["Draft", bytes], None]]]] = {
        b"h": (Wish.ADD_HEADERS, _add),
        b"i": (Wish.ADD_HEADERS, _insert),
        b"m": (Wish.CHANGE_HEADERS, _change),
        b"b": (Wish.CHANGE_BODY, _replace_body),
        b"+": (Wish.ADD_RECIPIENTS, _add_recipient),
        b"2": (Wish.ADD_RECIPIENTS_PARAMETERS, _add_recipient),
        b"-": (Wish.REMOVE_RECIPIENTS, _remove_recipient),
        b"e": (Wish.CHANGE_SENDER, _change_sender),
        b"q": (Wish.QUARANTINE, _quarantine),
    }


def _read_name(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def _read_value(value: bytes) -> tuple[str, bool]:
    """Read a value; True where its own folds can be kept, as a signature would have them."""
    text = value.decode("utf-8", "replace").rstrip("\r\n\t ")
    folded = _FOLD.sub(_fold, text)
    try:
        AddHeader("X", folded, verbatim=True)
    except HeaderError:
        return folded.replace("\r\n", ""), False
    return folded, True


def _fold(found: re.Match[str]) -> str:
    """A break before the space that follows; a tab where none does: it must not begin a field."""
    space = found.group().lstrip("\r\n")
    return f"\r\n{space or chr(9)}"


def _read_address(octets: bytes) -> str:
    return octets.decode("utf-8", "replace").strip().removeprefix("<").removesuffix(">")
