"""Regular expressions of RE2: one takes no longer than the text is long.

To ask RE2 costs as much as many other questions together, since it lets other threads run
meanwhile. Most texts do not even have the letters that a pattern begins with: these are looked for
first.
"""

import re
from typing import Protocol

import re2

MAX_MEMORY = 1 << 20  # octets of one
_FOLDING = "(?i)"
_FIRST_LETTERS = re.compile(r"([A-Za-z0-9 ]{3,})([?*{]?)")


class Pattern(Protocol):
    """A regular expression of RE2."""

    def search(self, text: str) -> object | None:
        """Find it anywhere in a text."""
        ...


class _Begun:
    """A pattern that cannot be found where certain letters are not."""

    __slots__ = ("_folds", "_letters", "_pattern")

    def __init__(self, pattern: Pattern, letters: str, *, folds: bool) -> None:
        self._pattern = pattern
        self._letters = letters
        self._folds = folds

    def search(self, text: str) -> object | None:
        if self._letters not in (text.casefold() if self._folds else text):
            return None
        return self._pattern.search(text)


def compile_pattern(text: str) -> Pattern:
    """Compile a regular expression.

    Raises:
        ValueError: It is none, or takes too much memory.
    """
    try:
        pattern: Pattern = re2.compile(text, options_within(MAX_MEMORY))
    except re2.error as error:
        why = error.args[0] if error.args else error
        why = why.decode("utf-8", "replace") if isinstance(why, bytes) else str(why)
        raise ValueError(f"no regular expression of RE2: {why}") from error
    folds = text.startswith(_FOLDING)
    letters = first_letters(text.removeprefix(_FOLDING))
    return (
        _Begun(pattern, letters.lower() if folds else letters, folds=folds) if letters else pattern
    )


def first_letters(text: str) -> str:
    """Give letters that every match has, those the pattern begins with; "" where it has none."""
    found = _FIRST_LETTERS.match(text)
    if found is None or "|" in text:  # behind it a pattern may begin otherwise
        return ""
    letters = found[1][:-1] if found[2] else found[1]  # the last may be missing
    return letters if len(letters) > 2 else ""


def options_within(memory: int) -> object:
    """Make options for patterns that may take so many octets."""
    options = re2.Options()
    options.max_mem = memory
    options.log_errors = False
    return options
