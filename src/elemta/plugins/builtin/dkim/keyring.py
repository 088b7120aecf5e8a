"""The keys of this node as they sign: found by domain, kept in memory, read again when they change.

A domain signs for itself, or one above it does, unless the settings name others. Whoever is to
sign and has a key that cannot be used is told of as trouble: what becomes of the mail then is for
the caller.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from elemta.mail.clock import Clock
from elemta.mailauth.dkim import SigningKey
from elemta.mailauth.keys import PrivateKey
from elemta.plugins.builtin.dkim.keystore import (
    KeyEntry,
    KeyState,
    KeyStore,
    KeyStoreError,
    read_private,
)
from elemta.plugins.builtin.dkim.making import describe, load_key
from elemta.plugins.builtin.dkim.signing_settings import ANY, SigningSettings

LOOK_EVERY = 1.0  # seconds between looks at the disk, for each domain
MAX_DOMAINS = 10_000  # whose keys, or lack of any, are remembered


@dataclass(frozen=True, slots=True)
class Ring:
    """Those who sign a message.

    Attributes:
        keys: That sign.
        trouble: Why a key that should sign cannot be used; "" where nothing is wrong.
        is_known: There are keys, be it that they only wait for the DNS.
    """

    keys: tuple[SigningKey, ...] = ()
    trouble: str = ""
    is_known: bool = False


@dataclass(slots=True)
class _Kept:
    ring: Ring
    stamp: object
    paths: tuple[Path, ...]
    looked_at: float


NOBODY = Ring()


class Keyring:
    """Finds who signs for a domain.

    Args:
        settings: What the operator has said.
        store: The folder of keys.
        clock: Says when to look at the disk again.
    """

    def __init__(self, settings: SigningSettings, store: KeyStore, clock: Clock) -> None:
        self.settings = settings
        self.store = store
        self._clock = clock
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._lock = asyncio.Lock()

    async def find(self, domain: str, tenant: str = "") -> Ring:
        """Give those who sign a message.

        Args:
            domain: Who it is from; "" is that of a message which has none.
            tenant: For whom it is sent, in lower case; "" for nobody.
        """
        names = self.settings.tenants.get(tenant) or self._named(domain)
        if names is not None:
            return _joined([await self._ring(name) for name in names], names)
        for name in self._candidates(domain):
            ring = await self._ring(name)
            if ring.is_known:
                return ring
        return NOBODY

    async def ring(self, domain: str) -> Ring:
        """Give the keys of one domain, whatever it is to sign for."""
        return await self._ring(domain)

    def find_troubles(self) -> list[str]:
        """Try all keys that are to sign, and say what is wrong with them. It blocks."""
        try:
            domains = dict.fromkeys((*self.store.domains(), *self._own_domains()))
        except KeyStoreError as error:
            return [str(error)]
        settings = self.settings
        for names in (*settings.signers.values(), *settings.tenants.values()):
            domains |= dict.fromkeys(names)
        rings = {domain: self._read(domain, None).ring for domain in domains}
        found = [ring.trouble for ring in rings.values() if ring.trouble]
        found += [_no_keys(domain) for domain, ring in rings.items() if not ring.is_known]
        return list(dict.fromkeys(found))

    def _own_domains(self) -> tuple[str, ...]:
        return self.settings.domains if self.settings.private_key else ()

    def _named(self, domain: str) -> tuple[str, ...] | None:
        """Give the domains that the settings name for a domain; None where they say nothing."""
        signers = self.settings.signers
        if not signers:
            return None
        if domain in signers:
            return signers[domain]
        above = (f"{ANY}.{each}" for each in _above(domain))
        return next((signers[each] for each in (*above, ANY) if each in signers), None)

    def _candidates(self, domain: str) -> Iterator[str]:
        if domain and not domain.startswith("["):
            yield domain
            if self.settings.parents:
                yield from _above(domain)

    async def _ring(self, domain: str) -> Ring:
        kept = self._kept.get(domain)
        now = self._clock.monotonic()
        if kept is not None and now - kept.looked_at < LOOK_EVERY:
            return kept.ring
        async with self._lock:  # many messages wait for one reading
            kept = self._kept.get(domain)
            if kept is not None and now - kept.looked_at < LOOK_EVERY:
                return kept.ring
            kept = await asyncio.to_thread(self._read, domain, kept)
            kept.looked_at = self._clock.monotonic()
            self._kept[domain] = kept
            self._kept.move_to_end(domain)
            if len(self._kept) > MAX_DOMAINS:
                self._kept.popitem(last=False)
        return kept.ring

    # ---- in a thread

    def _read(self, domain: str, before: _Kept | None) -> _Kept:
        """Read the keys of a domain, unless they are as they were before."""
        if before is not None and not before.ring.trouble:
            stamp = (self.store.stamp(domain), *map(_look, before.paths))
            if stamp == before.stamp:
                return before
        index = self.store.stamp(domain)  # before they are read: a change meanwhile is seen later
        try:
            entries = self.store.entries(domain)
        except KeyStoreError as error:
            return _Kept(Ring((), str(error), is_known=True), None, (), 0.0)
        signing = [entry for entry in entries if entry.state is KeyState.ACTIVE]
        paths = [self.store.key_path(domain, entry.selector) for entry in signing]
        is_own = domain in self._own_domains()
        path = own_path(self.settings) if is_own else None
        if path is not None:
            paths.append(path)
        stamp = (index, *map(_look, paths))
        loads = [(entry.selector, partial(self._load, domain, entry)) for entry in signing]
        if is_own:
            loads.append((self.settings.selector, partial(read_own, self.settings)))
        keys: list[SigningKey] = []
        troubles: list[str] = []
        for selector, load in loads:
            try:
                keys.append(SigningKey(domain, selector, load()))
            except KeyStoreError as error:
                troubles.append(str(error))
        ring = Ring(tuple(keys), "; ".join(troubles), is_own or bool(entries))
        return _Kept(ring, stamp, tuple(paths), 0.0)

    def _load(self, domain: str, entry: KeyEntry) -> PrivateKey:
        key = load_key(self.store.private_key(domain, entry.selector), entry.selector)
        if describe(key, entry.selector).public != entry.public:
            path = self.store.key_path(domain, entry.selector)
            raise KeyStoreError(f"{path}: is not the key that was made for this selector")
        return key


def own_path(settings: SigningSettings) -> Path | None:
    """Give the path of the key that the settings name; None where they have the key itself."""
    text = settings.private_key
    return None if not text or "\n" in text or "-----BEGIN" in text else Path(text)


def read_own(settings: SigningSettings) -> PrivateKey:
    """Read the key that the settings name.

    Raises:
        KeyStoreError: It cannot be used.
    """
    path = own_path(settings)
    pem = settings.private_key.encode() if path is None else read_private(path)
    return load_key(pem, settings.selector)


def own_key(settings: SigningSettings) -> KeyEntry | None:
    """Say what is known of the key that the settings name; None where they name none.

    Raises:
        KeyStoreError: It cannot be used.
    """
    if not settings.private_key:
        return None
    key = read_own(settings)
    fresh = describe(key, settings.selector)
    return KeyEntry(fresh.selector, fresh.algorithm, fresh.public, fresh.bits, KeyState.ACTIVE)


def _joined(rings: list[Ring], names: tuple[str, ...]) -> Ring:
    """Put together what several domains have; one that the settings name has to have keys."""
    troubles = [ring.trouble for ring in rings if ring.trouble]
    troubles += [
        _no_keys(name) for name, ring in zip(names, rings, strict=True) if not ring.is_known
    ]
    keys = tuple(key for ring in rings for key in ring.keys)
    return Ring(keys, "; ".join(troubles), is_known=True)


def _no_keys(domain: str) -> str:
    return f"{domain} is to sign, and has no keys"


def _above(domain: str) -> Iterator[str]:
    """Give the domains above one, the nearest first, top-level ones left out."""
    rest = domain.partition(".")[2]
    while "." in rest:
        yield rest
        rest = rest.partition(".")[2]


def _look(path: Path) -> object:
    try:
        status = path.stat()
    except OSError as error:
        return error.errno
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_mode
