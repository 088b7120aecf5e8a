"""Texts that stand for others: "env:NAME" for a variable, "file:/path" for the content of a file.

What a reference stands for may be a secret. It is a `Referred`, which remembers the reference, so
that whoever shows settings to people can show that instead.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

SCHEMES = ("env:", "file:")
LIMIT = 1 << 16  # octets of a file

Keys = tuple[str | int, ...]
Read = Callable[[str, Keys], str]


class Referred(str):
    """What a reference stands for.

    Attributes:
        reference: The reference.
    """

    __slots__ = ("reference",)

    reference: str

    def __new__(cls, text: str, reference: str) -> "Referred":
        made = super().__new__(cls, text)
        made.reference = reference
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy it with its reference."""
        return Referred, (str(self), self.reference)


def follow(reference: str, folder: Path, environ: Mapping[str, str]) -> Referred:
    """Give what a reference stands for.

    Args:
        reference: A text that begins with one of `SCHEMES`.
        folder: Where relative paths begin.
        environ: The variables.

    Raises:
        ValueError: It stands for nothing; the text says why.
    """
    scheme, _, rest = reference.partition(":")
    if scheme == "env":
        found = environ.get(rest)
        if found is None:
            raise ValueError("the variable is not set")
        return Referred(found, reference)
    try:
        with Path(folder, rest).open("rb") as file:
            raw = file.read(LIMIT + 1)
    except OSError as error:
        raise ValueError(f"the file cannot be read: {error.strerror}") from error
    if len(raw) > LIMIT:
        raise ValueError("the file is larger than 64KiB")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise ValueError("the file is not UTF-8") from error
    return Referred(text.removesuffix("\n").removesuffix("\r"), reference)


def follow_all(table: dict[str, Any], read: Read) -> dict[str, Any]:
    """Give a table with what the references in it stand for.

    Args:
        table: Of whatever JSON and TOML have; what has been followed stays as it is.
        read: Given a reference, and the keys that lead to it.

    Raises:
        RecursionError: It is nested too deeply.
    """
    return {key: _replaced(value, (key,), read) for key, value in table.items()}


def _replaced(value: object, path: Keys, read: Read) -> object:
    if isinstance(value, dict):
        return {key: _replaced(each, (*path, key), read) for key, each in value.items()}
    if isinstance(value, list):
        return [_replaced(each, (*path, at), read) for at, each in enumerate(value)]
    if isinstance(value, str) and value.startswith(SCHEMES) and not isinstance(value, Referred):
        return read(value, path)
    return value


def unfollow(value: object) -> object:
    """Give tables and lists with references again, in place of what they stand for."""
    return _changed(value, lambda referred: referred.reference)


def forget(value: object) -> object:
    """Give tables and lists with plain texts, that know of no reference."""
    return _changed(value, str.__str__)


def _changed(value: object, change: Callable[[Referred], str]) -> object:
    if isinstance(value, Mapping):
        return {key: _changed(each, change) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_changed(each, change) for each in value]
    return change(value) if isinstance(value, Referred) else value


def is_referred(value: object) -> bool:
    """Whether there is something in a value that a reference stands for."""
    if isinstance(value, Mapping):
        return any(is_referred(each) for each in value.values())
    if isinstance(value, list | tuple):
        return any(is_referred(each) for each in value)
    return isinstance(value, Referred)
