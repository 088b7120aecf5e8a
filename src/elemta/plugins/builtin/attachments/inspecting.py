"""Looks at all that is attached to a message, and says what is not as it should be."""

import re
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from elemta.plugins.builtin._mime import (
    BEHIND,
    Budget,
    Kind,
    Part,
    TooMuch,
    Unclear,
    find_archive,
    find_kind,
    is_only_text,
    read_members,
    read_parts,
)
from elemta.plugins.builtin._mime.magic import EXTENSIONS
from elemta.plugins.builtin._mime.words import extensions, is_turned, spellings

MAX_FINDINGS = 50  # of a message; further ones tell nothing new

_PACKED = {"gz", "bz2", "xz", "lzma"}  # extensions of files whose names go on before them
_MESSAGES = {"message/global", "message/rfc822", "message/news"}
_OF_DOMAINS = {"com", "ws"}  # what subjects end with, and no text can be run as
_FIELD = re.compile(rb"\s{0,4}[!-9;-~]{1,100}[ \t]{0,100}:")  # how a message begins


class Finding(NamedTuple):
    """Something in a message.

    Attributes:
        what: "executable", "disguised", "mismatch", "encrypted", "opaque", "too_complex",
            "unclear" or "malformed".
        why: For the operator.
        part: In which part of the message it is; None where that is not known.
    """

    what: str
    why: str
    part: Part | None = None


class Inspection:
    """Of one message; what it finds is in `findings`.

    Args:
        blocked: Extensions that are not wanted.
        types: Types that are not wanted.
        budget: How much is looked at.
    """

    def __init__(self, blocked: frozenset[str], types: frozenset[str], budget: Budget) -> None:
        self.findings: list[Finding] = []
        self._blocked = blocked
        self._types = types
        self._budget = budget
        self._part: Part | None = None

    def inspect(self, message: bytes) -> list[Finding]:
        """Look at a message; what is too much, and what is not clear, is found as well."""
        try:
            self._look_at_message(message, 0)
        except TooMuch as error:
            self.findings.append(Finding("too_complex", str(error), self._part))
        return self.findings

    def _find(self, what: str, why: str) -> None:
        finding = Finding(what, why, self._part)
        if finding not in self.findings:
            self.findings.append(finding)
        if len(self.findings) >= MAX_FINDINGS:
            raise TooMuch(f"more than {MAX_FINDINGS} findings")

    def _look_at_message(self, message: bytes, layer: int) -> None:
        try:
            parts = read_parts(message, self._budget)
        except Unclear as error:
            self._find("malformed" if is_only_text(message) else "unclear", str(error))
            return
        for part in parts:
            if not layer:
                self._part = part
            self._look_at_part(part, message, layer)

    def _look_at_part(self, part: Part, message: bytes, layer: int) -> None:
        if part.type in self._types:
            self._find("executable", f"type {part.type}")
        if _is_message(part, message):
            self._look_at_subjects(part.names)
        else:
            self._look_at_names(part.names)
        try:
            readings = part.readings(message)
        except Unclear as error:
            self._find("unclear", str(error))
            return
        if len(readings) > 1:
            self._find("malformed", BEHIND)
        for octets in readings:
            self._look_at_octets(octets, part.names, layer, part.type)

    def _look_at_names(self, names: Sequence[str]) -> None:
        for name in _spelled(names):
            last, *others = [*extensions(name), ""]
            if last in self._blocked:
                self._find("executable", f"extension {last}")
            elif not self._blocked.isdisjoint(others):
                self._find("disguised", f"another extension before {last}")
            if is_turned(name):
                self._find("disguised", "a name that turns its direction")

    def _look_at_subjects(self, names: Sequence[str]) -> None:
        """Look at names of messages: those are subjects, such as "Re: example.com"."""
        for name in _spelled(names):
            last = next(extensions(name), "")
            if last in self._blocked and last not in _OF_DOMAINS:
                self._find("disguised", f"a message with extension {last}")

    def _look_at_octets(
        self, octets: bytes, names: Sequence[str], layer: int, type_: str = ""
    ) -> None:
        kind = find_kind(octets)
        lasts = {next(extensions(name), "") for name in names}
        if kind is not None:
            self._look_at_kind(kind, lasts)
        archive = find_archive(octets, kind)
        if archive is not None:
            self._budget.enter(layer + 1)
            self._look_into(octets, archive, names, layer + 1)
        elif octets and (type_ in _MESSAGES or "eml" in lasts):
            self._budget.enter(layer + 1)
            self._look_at_message(octets, layer + 1)

    def _look_at_kind(self, kind: Kind, lasts: set[str]) -> None:
        if kind.family == "executable":
            self._find("executable", f"begins as {kind.name}")
            return
        if kind.family == "opaque":
            self._find("opaque", f"not looked into: {kind.name}")
        wrong = (lasts & EXTENSIONS) - kind.extensions
        if wrong:
            self._find("mismatch", f"{min(wrong)} that begins as {kind.name}")

    def _look_into(self, octets: bytes, kind: Kind, names: Sequence[str], layer: int) -> None:
        try:
            for member in read_members(octets, kind, self._budget):
                inner = member.names or _unpacked_names(names)
                self._look_at_names(inner)
                if member.data is None:
                    self._find("encrypted", f"an encrypted file in a {kind.name} archive")
                else:
                    self._look_at_octets(member.data, inner, layer)
        except Unclear as error:
            self._find("unclear", str(error))


def _is_message(part: Part, message: bytes) -> bool:
    """Whether a part is a message, and so shown as one, whatever it is called."""
    return part.type == "message/rfc822" and _FIELD.match(message, part.body_at) is not None


def _spelled(names: Sequence[str]) -> Iterator[str]:
    return chain.from_iterable(map(spellings, names))


def _unpacked_names(names: Sequence[str]) -> list[str]:
    """Name what is in a packed file: "a.exe" for "a.exe.gz"."""
    return [name.rpartition(".")[0] for name in names if next(extensions(name), "") in _PACKED]
