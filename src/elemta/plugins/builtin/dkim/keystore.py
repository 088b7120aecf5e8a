"""The keys that mail is signed with: a folder for each domain, with what is known of its keys.

    KEYS/example.test/keys.json          each key: selector, algorithm, state, times
    KEYS/example.test/rsa-20260102.pem   a private key, for nobody's eyes but the owner's

Commands write here and running servers read: whatever is changed is whole on disk before it has
its name, and one process at a time changes anything. A key that others could read is refused.
All of it blocks: run it in a thread where that matters.

Raises:
    KeyStoreError: Something cannot be read, written or used; the text says the way out.
"""

import contextlib
import enum
import fcntl
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec

from elemta.mail.address import parse_domain
from elemta.mail.errors import AddressError, ElemtaError
from elemta.net.durable import fsync_folder, make_folders_durably

FOLDER = "dkim"  # in the state folder
INDEX = "keys.json"
MAX_FILE = 1 << 20  # octets of an index
MAX_KEY_FILE = 1 << 16  # octets of a private key
_LABEL = "[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?"
_SELECTOR = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)


class KeyStoreError(ElemtaError):
    """A key cannot be read, written or used; the text says why, and what to do about it."""


class KeyState(enum.StrEnum):
    """Where a key is in its life.

    PENDING waits until the DNS shows it, ACTIVE signs, RETIRING signs no more but mail with its
    signature is under way, RETIRED may go from the DNS.
    """

    PENDING = "pending"
    ACTIVE = "active"
    RETIRING = "retiring"
    RETIRED = "retired"


class KeyEntry(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What is known of a key, all but its secret.

    Attributes:
        selector: Its name below `_domainkey`.
        algorithm: "rsa" or "ed25519".
        public: What stands in `p=` of its record.
        bits: Of its modulus; 256 for Ed25519.
        state: See `KeyState`.
        created_at, activated_at, retiring_at, retired_at: Seconds since 1970; 0 for never.
        seen_at: Since when the DNS has shown it without a break, as far as anybody looked.
        wait: Seconds from then on until all caches know it.
    """

    selector: str
    algorithm: str
    public: str
    bits: int
    state: KeyState = KeyState.PENDING
    created_at: float = 0.0
    activated_at: float = 0.0
    retiring_at: float = 0.0
    retired_at: float = 0.0
    seen_at: float = 0.0
    wait: float = 0.0


Entries = tuple[KeyEntry, ...]


class _Index(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    domain: str
    keys: Entries = ()


class KeyStore:
    """The folder of all keys; it need not exist.

    Args:
        folder: Where it is.
        is_expected: Somebody has said that it is there.

    Attributes:
        folder: Where it is.
    """

    def __init__(self, folder: Path, *, is_expected: bool = False) -> None:
        self.folder = folder
        self._is_expected = is_expected

    def find_absence(self) -> str:
        """Say that the folder is not where it is said to be; "" where nothing is wrong."""
        if not self._is_expected or self.folder.exists():
            return ""
        return f"{self.folder}: there is no such folder of keys (keys_dir)"

    def domains(self) -> list[str]:
        """Give the domains that have keys, by name."""
        with _told(self.folder):
            try:
                return sorted(path.parent.name for path in self.folder.glob(f"*/{INDEX}"))
            except FileNotFoundError:
                return []

    def key_path(self, domain: str, selector: str) -> Path:
        """Say where a private key is."""
        return self._home(domain) / f"{check_selector(selector)}.pem"

    def stamp(self, domain: str) -> object:
        """Give what changes whenever the keys of a domain do; None where it has none."""
        try:
            status = (self._home(domain) / INDEX).stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            return str(error)
        return status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size

    def entries(self, domain: str) -> Entries:
        """Give what is known of the keys of a domain, the oldest first; () where it has none."""
        path = self._home(domain) / INDEX
        with _told(path):
            try:
                with path.open("rb") as file:
                    raw = file.read(MAX_FILE + 1)
            except FileNotFoundError:
                return ()
        try:
            index = msgspec.json.decode(raw, type=_Index)
        except msgspec.MsgspecError as error:
            raise KeyStoreError(f"{path}: is not as it was written: {error}") from error
        for entry in index.keys:
            check_selector(entry.selector)
        return index.keys

    def private_key(self, domain: str, selector: str) -> bytes:
        """Give a private key in PEM form."""
        return read_private(self.key_path(domain, selector))

    def edit(
        self,
        domain: str,
        change: Callable[[Entries], Entries],
        secrets: Mapping[str, bytes] | None = None,
    ) -> Entries:
        """Change what is known of the keys of a domain; it is on disk on return.

        Args:
            domain: Whose keys.
            change: Given the entries as they are now, gives them as they shall be.
            secrets: Private keys (PEM) by their selectors, for entries that are added.
        """
        home = self._home(domain)
        with _told(home), self._alone():
            owner = self.folder.stat()
            make_folders_durably(str(home))
            _give(home, owner)
            before = self.entries(domain)
            after = change(before)
            if after == before:
                return after
            for selector, pem in (secrets or {}).items():
                path = self.key_path(domain, selector)
                if path.exists():
                    raise KeyStoreError(f"{path}: is there already; choose another selector")
                _write(path, pem, owner)
            raw = msgspec.json.format(msgspec.json.encode(_Index(domain, after)))
            _write(home / INDEX, raw + b"\n", owner)
        return after

    def destroy(self, domain: str, selector: str) -> None:
        """Remove a private key: nothing is signed with it any more."""
        path = self.key_path(domain, selector)
        with _told(path):
            path.unlink(missing_ok=True)

    def _home(self, domain: str) -> Path:
        return self.folder / check_domain(domain)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes from changing anything."""
        if not self.folder.exists():
            make_folders_durably(str(self.folder))
            _give(self.folder, self.folder.parent.stat())
        path = self.folder / ".lock"
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _give(path, self.folder.stat())
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def find_store(keys_dir: str, state_dir: Path) -> KeyStore:
    """Give the folder of keys that the settings name, else the one in the state folder."""
    folder = Path(keys_dir) if keys_dir else state_dir / FOLDER
    return KeyStore(folder, is_expected=bool(keys_dir))


def check_domain(domain: str) -> str:
    """Give a domain back if it is one: lower-case A-labels.

    Raises:
        KeyStoreError: It is none.
    """
    try:
        parsed = parse_domain(domain)
    except AddressError as error:
        raise KeyStoreError(f"not a domain: {domain!r}: {error}") from error
    if parsed != domain or "/" in domain or domain.startswith((".", "[")):
        raise KeyStoreError(f"not a domain: {domain!r}")
    return domain


def check_selector(selector: str) -> str:
    """Give a selector back if it is one (RFC 6376 §3.1), in lower case.

    Raises:
        KeyStoreError: It is none.
    """
    if len(selector) > 63 or not _SELECTOR.fullmatch(selector):
        raise KeyStoreError(
            f"not a selector: {selector[:80]!r}: lower-case letters, digits and hyphens can be one"
        )
    return selector


def read_private(path: Path) -> bytes:
    """Read a private key, which nobody else may be able to read.

    Raises:
        KeyStoreError: It cannot be read, or others can.
    """
    with _told(path), path.open("rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise KeyStoreError(f"{path}: is not a file")
        if os.geteuid() not in {0, status.st_uid}:
            raise KeyStoreError(f"{path}: belongs to another user: chown it to the server's")
        if status.st_mode & 0o077:
            mode = stat.S_IMODE(status.st_mode)
            raise KeyStoreError(f"{path}: others can read it (mode {mode:04o}): chmod 600 {path}")
        raw = file.read(MAX_KEY_FILE + 1)
    if len(raw) > MAX_KEY_FILE:
        raise KeyStoreError(f"{path}: is larger than 64KiB, and no key")
    return raw


def _write(path: Path, content: bytes, owner: os.stat_result) -> None:
    """Put a file in place, whole and for its owner's eyes only; its name is safe on return."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _give(Path(temporary), owner)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


def _give(path: Path, owner: os.stat_result) -> None:
    """Let what root has made belong to whom the folder of keys belongs: the server reads it."""
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.chown(path, owner.st_uid, owner.st_gid)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Say where the system has found something wrong."""
    try:
        yield
    except OSError as error:
        raise KeyStoreError(f"{error.filename or path}: {error.strerror}") from error
