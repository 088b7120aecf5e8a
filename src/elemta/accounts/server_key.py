"""A key that all workers of a node share, and keep over restarts: what unknown logins are shown.

If it changed, whoever asks before and after would see which logins are made up.

Raises:
    AccountError: It cannot be read or made.
Leaves behind `accounts.key`, for the owner's eyes only.
"""

import contextlib
import os
import secrets
import tempfile
from pathlib import Path

from elemta.accounts.account import AccountError
from elemta.net.durable import fsync_folder, make_folders_durably

SIZE = 32  # octets
NAME = "accounts.key"


def load_key(folder: Path) -> bytes:
    """Read the key in a folder, or make one. Workers that start at once get the same."""
    path = folder / NAME
    try:
        if not path.exists():
            _make(folder, path)
        key = path.read_bytes()
    except OSError as error:
        raise AccountError(f"{path}: {error.strerror}") from error
    if len(key) != SIZE:
        raise AccountError(f"{path}: is damaged; remove it, and another one is made")
    return key


def _make(folder: Path, path: Path) -> None:
    make_folders_durably(str(folder))
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{NAME}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(SIZE))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # another worker was faster
            os.link(temporary, path)
    finally:
        Path(temporary).unlink()
    fsync_folder(folder)
