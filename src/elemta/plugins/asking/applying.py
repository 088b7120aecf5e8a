"""Carries out edits: on the header section of a message, its body and its envelope.

It promises: fields that no edit names keep their octets and their order, a line that is no field
stays where it is, and no sequence of edits makes a section that ends too early. An edit that goes
beyond a limit of the server is not carried out, and raises a `PluginError`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from elemta.mail.address import Address
from elemta.mail.errors import PluginError
from elemta.mail.headers import split_fields
from elemta.mail.reply import clean_text
from elemta.plugins.edits import (
    AddHeader,
    AddRecipient,
    ChangeSender,
    Edit,
    Fate,
    InsertHeader,
    RemoveHeader,
    RemoveRecipient,
    RenameHeader,
    ReplaceBody,
    ReplaceHeader,
    SettleRecipient,
)

MAX_LINE = 998  # octets, CRLF not counted (RFC 5322 §2.1.1)
MAX_EDITS = 1000  # of one message: each may walk through the whole section


@dataclass(frozen=True, slots=True)
class EditLimits:
    """How far edits may go.

    Attributes:
        max_header_size: Octets of the header section, ours not counted.
        max_header_fields: Its fields, ours not counted.
        max_recipients: Of the message.
        max_size: Octets of a message whose body is replaced.
    """

    max_header_size: int
    max_header_fields: int
    max_recipients: int
    max_size: int


@dataclass(frozen=True, slots=True, eq=False)
class _Line:
    """A field with its folds, or a line that is none: then the name is b""."""

    name: bytes
    octets: bytes


Settled = tuple[str, SettleRecipient]
"""A plugin, and what it wants for one recipient."""

_State = tuple[
    tuple[bytes, ...],
    list[_Line] | None,
    int,
    bytes,
    Address | None,
    dict[Address, None],
    bytes | None,
    tuple[Settled, ...],
]


class Revision:
    """A message as edits leave it.

    Most edits only put a field on top of all: until there is another one, the section is not taken
    apart.

    Args:
        section: Its header section, with the empty line at the end if there is one.
        sender, recipients: Its envelope.
        limits: How far edits may go.
        trace: Our own field above the section: it counts where an edit has an index, and no edit
            touches it.
        utf8: The message is internationalised: fields need no encoding (RFC 6532).

    Attributes:
        sender, recipients: As they are now.
        names: Fields that edits have been about, in lower case.
        body: What takes the place of the message's; None: it stays.
        settled: What became of single recipients, in order, and by whom.
    """

    def __init__(
        self,
        section: bytes,
        sender: Address | None,
        recipients: Iterable[Address],
        limits: EditLimits,
        *,
        trace: bytes = b"",
        utf8: bool = False,
    ) -> None:
        self.sender = sender
        self.recipients = dict.fromkeys(recipients)
        self.names: set[str] = set()
        self.body: bytes | None = None
        self.settled: tuple[Settled, ...] = ()
        self._plugin = ""
        self._limits = limits
        self._utf8 = utf8
        self._received = section
        self._trace = _Line(b"", trace) if trace else None
        self._on_top: tuple[bytes, ...] = ()  # the topmost first; none once it is taken apart
        self._parted: list[_Line] | None = None
        self._head: bytes | None = None  # as it is now, once it has been asked for
        self._end = b""  # the empty line, once it is taken apart
        self._size = len(section)
        self._count = 0

    @property
    def head(self) -> bytes:
        """The whole header section, its empty line included."""
        if self._head is None:
            if self._parted is None:
                trace = self._trace.octets if self._trace is not None else b""
                self._head = b"".join((*self._on_top, trace, self._received))
            else:
                self._head = b"".join([*(line.octets for line in self._parted), self._end])
        return self._head

    @property
    def section(self) -> bytes:
        """As `head`, without our own field."""
        if self._parted is None:
            return b"".join((*self._on_top, self._received))
        lines = (line.octets for line in self._parted if line is not self._trace)
        return b"".join([*lines, self._end])

    @property
    def _lines(self) -> list[_Line]:
        """All lines; from now on the section is taken apart."""
        if self._parted is None:
            lines = [_Line(*field) for field in split_fields(self._received)]
            self._end = self._received[sum(len(line.octets) for line in lines) :]
            above = [_Line(*field) for octets in self._on_top for field in split_fields(octets)]
            self._on_top = ()
            self._parted = [*above, *([self._trace] if self._trace is not None else ()), *lines]
        return self._parted

    def apply_all(self, edits: Iterable[Edit], plugin: str = "") -> list[str]:
        """Carry out what one plugin wants, all of it or nothing; as `apply`.

        Raises:
            PluginError: One of them is no edit, or goes beyond a limit.
        """
        self._plugin = plugin
        before, count = self._state(), self._count
        try:
            return [self._carry_out(edit) for edit in edits]
        except PluginError:
            self._restore(before)
            self._count = count
            raise

    def apply(self, edit: Edit) -> str:
        """Carry out an edit, and say in a few words what has been done.

        Raises:
            PluginError: It is no edit, or goes beyond a limit.
        """
        before = self._state()
        try:
            return self._carry_out(edit)
        except PluginError:
            self._restore(before)
            raise

    def _carry_out(self, edit: Edit) -> str:
        """As `apply`, but what fails may be half done."""
        self._count += 1
        self._head = None
        if self._count > MAX_EDITS:
            raise PluginError(f"more than {MAX_EDITS} edits of one message")
        way = self._WAYS.get(type(edit))
        if way is None:
            raise PluginError(f"not an edit: {type(edit).__name__}")
        done = way(self, edit)
        self._check()
        return clean_text(done)

    def _state(self) -> _State:
        return (
            self._on_top,
            None if self._parted is None else list(self._parted),
            self._size,
            self._end,
            self.sender,
            dict(self.recipients),
            self.body,
            self.settled,
        )

    def _restore(self, before: _State) -> None:
        self._head = None
        self._on_top, self._parted, self._size, self._end = before[:4]
        self.sender, self.recipients, self.body, self.settled = before[4:]

    def _check(self) -> None:
        limits = self._limits
        if self._size > limits.max_header_size:
            raise PluginError("edits make the header section too large")
        if self._may_be_over(limits.max_header_fields) and (
            sum(bool(line.name) for line in self._lines) > limits.max_header_fields
        ):
            raise PluginError("edits make too many header fields")
        if len(self.recipients) > limits.max_recipients:
            raise PluginError("edits make too many recipients")
        if self.body is not None and self._size + len(self.body) > limits.max_size:
            raise PluginError("an edit makes the message too large")

    def _may_be_over(self, count: int) -> bool:
        """Whether there could be more fields than that."""
        if self._parted is not None:
            return len(self._parted) > count
        return len(self._on_top) + self._received.count(b"\n") > count

    # ---- the header section

    def _add(self, edit: AddHeader) -> str:
        self._put(len(self._lines), edit)
        return f"add header {edit.name}"

    def _insert(self, edit: InsertHeader) -> str:
        if edit.index == 0 and self._parted is None and not self._begins_folded():
            octets = edit.encode(utf8=self._utf8)
            self.names.add(edit.name.lower())
            self._on_top = (octets, *self._on_top)
            self._size += len(octets)
        else:
            self._put(self._place(edit.index), edit)
        return f"insert header {edit.name} at {edit.index}"

    def _replace(self, edit: ReplaceHeader) -> str:
        found = self._find(edit.name)
        if edit.only:
            found = found[edit.only - 1 : edit.only]
        if not found:
            self._put(len(self._lines), edit)
            return f"add header {edit.name}"
        place = self._lines.index(found[0])
        self._drop(found)
        self._put(place, edit)
        return f"replace header {edit.name}"

    def _remove(self, edit: RemoveHeader) -> str:
        found = self._find(edit.name)
        if edit.only:
            self._drop(found[edit.only - 1 : edit.only])
            return f"remove header {edit.name} number {edit.only}"
        self._drop(found)
        return f"remove header {edit.name}"

    def _rename(self, edit: RenameHeader) -> str:
        name, length = edit.to.encode(), len(edit.name)
        renamed = {
            line: _Line(name.lower(), name + line.octets[length:]) for line in self._find(edit.name)
        }
        if any(line.octets.find(b"\r\n") > MAX_LINE for line in renamed.values()):
            raise PluginError(f"with the name {edit.to} a line would be too long")
        self.names.add(edit.to.lower())
        self._parted = [renamed.get(line, line) for line in self._lines]
        self._size += len(renamed) * (len(name) - length)
        return f"rename header {edit.name} to {edit.to}"

    def _find(self, name: str) -> list[_Line]:
        self.names.add(name.lower())
        wanted = name.lower().encode()
        return [line for line in self._lines if line.name == wanted]

    def _place(self, index: int) -> int:
        """Give the place of a field's number; what continues a line stays behind that line."""
        if index == 0 and not self._begins_folded():
            return 0
        number = 0
        for place, line in enumerate(self._lines):
            if line.name or line is self._trace:
                if number == index:
                    return place
                number += 1
        return len(self._lines)

    def _begins_folded(self) -> bool:
        if self._parted is not None:
            first = self._parted[0].octets if self._parted else b""
        elif self._on_top or self._trace is not None:
            return False
        else:
            first = self._received
        return first.startswith((b" ", b"\t"))

    def _put(self, place: int, edit: AddHeader | InsertHeader | ReplaceHeader) -> None:
        self._finish_line(place - 1)
        octets = edit.encode(utf8=self._utf8)
        self.names.add(edit.name.lower())
        self._lines.insert(place, _Line(edit.name.lower().encode(), octets))
        self._size += len(octets)

    def _drop(self, lines: Iterable[_Line]) -> None:
        gone = set(lines)
        self._parted = [line for line in self._lines if line not in gone]
        self._size -= sum(len(line.octets) for line in gone)

    def _finish_line(self, place: int) -> None:
        """End the line at a place, if there is one: the last one of all may lack its end."""
        if place >= 0 and not (line := self._lines[place]).octets.endswith(b"\r\n"):
            self._lines[place] = _Line(line.name, line.octets + b"\r\n")
            self._size += 2

    # ---- body and envelope

    def _replace_body(self, edit: ReplaceBody) -> str:
        last = len(self._lines) - 1
        if not self._end:  # so far the message is all header
            self._finish_line(last)
            self._end = b"\r\n"
            self._size += 2
        self.body = bytes(edit.body)
        return f"replace body by {len(self.body)} octets"

    def _add_recipient(self, edit: AddRecipient) -> str:
        self.recipients[edit.recipient] = None
        return f"add recipient <{edit.recipient}>"

    def _remove_recipient(self, edit: RemoveRecipient) -> str:
        self.recipients.pop(edit.recipient, None)
        return f"remove recipient <{edit.recipient}>"

    def _settle(self, edit: SettleRecipient) -> str:
        address, fate = edit.recipient, edit.fate
        if address not in self.recipients:
            return f"{fate} <{address}>, who is no recipient"
        self.settled = (*self.settled, (self._plugin, edit))
        if fate is Fate.REDIRECT:
            target = edit.target
            self.recipients = dict.fromkeys(
                target if each == address else each for each in self.recipients
            )
            return f"redirect <{address}> to <{target}>"
        if fate is not Fate.QUARANTINE:
            del self.recipients[address]
        return f"{fate} <{address}>"

    def _change_sender(self, edit: ChangeSender) -> str:
        self.sender = edit.sender
        return f"change sender to <{edit.sender or ''}>"

    _WAYS: ClassVar[Mapping[type[Any], Callable[["Revision", Any], str]]] = {
        AddHeader: _add,
        InsertHeader: _insert,
        ReplaceHeader: _replace,
        RemoveHeader: _remove,
        RenameHeader: _rename,
        ReplaceBody: _replace_body,
        AddRecipient: _add_recipient,
        RemoveRecipient: _remove_recipient,
        ChangeSender: _change_sender,
        SettleRecipient: _settle,
    }
