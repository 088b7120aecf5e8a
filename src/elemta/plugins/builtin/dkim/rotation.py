"""The life of keys: pending, active, retiring, retired. What is next is worked out, not done.

A key signs only once the DNS has shown it for as long as a cache may still say that there is
none. The key before it is kept in the DNS for as long as mail with its signature may be under way.
"""

from collections.abc import Mapping, Sequence

import msgspec

from elemta.plugins.builtin.dkim.keystore import Entries, KeyEntry, KeyState
from elemta.plugins.builtin.dkim.publishing import Publication, Sighting

DAY = 86400.0
RETIRE_AFTER = 7 * DAY  # mail is tried for 5 days, and may be looked at some time later
MAX_WAIT = DAY  # seconds; no resolver that matters keeps anything for longer


def observe(entries: Entries, sightings: Mapping[str, Sighting], now: float) -> Entries:
    """Note what the DNS shows of pending keys.

    Args:
        entries: The keys of a domain.
        sightings: What was seen, by selector; a key that was not looked for is left as it is.
        now: Seconds since 1970.
    """
    return tuple(_observed(entry, sightings.get(entry.selector), now) for entry in entries)


def _observed(entry: KeyEntry, sighting: Sighting | None, now: float) -> KeyEntry:
    if entry.state is not KeyState.PENDING or sighting is None:
        return entry
    if sighting.publication is Publication.UNKNOWN:
        return entry
    if sighting.publication is not Publication.PUBLISHED:
        return msgspec.structs.replace(entry, seen_at=0.0, wait=0.0)
    if entry.seen_at:
        return entry
    wait = min(sighting.ttl, MAX_WAIT)
    return msgspec.structs.replace(entry, seen_at=now, wait=wait)


def ready(entries: Entries, now: float) -> frozenset[str]:
    """Give the selectors of pending keys that may sign by now."""
    return frozenset(
        entry.selector
        for entry in entries
        if entry.state is KeyState.PENDING and entry.seen_at and now >= entry.seen_at + entry.wait
    )


def activate(entries: Entries, selectors: frozenset[str], now: float) -> Entries:
    """Let pending keys sign, each in place of those of its algorithm that do so far."""
    fresh = [each for each in entries if _begins(each, selectors)]
    kinds = {each.algorithm: each.selector for each in fresh}  # the latest of each algorithm
    return tuple(_activated(entry, kinds, selectors, now) for entry in entries)


def _begins(entry: KeyEntry, selectors: frozenset[str]) -> bool:
    return entry.state is KeyState.PENDING and entry.selector in selectors


def _activated(
    entry: KeyEntry, kinds: Mapping[str, str], selectors: frozenset[str], now: float
) -> KeyEntry:
    if kinds.get(entry.algorithm) == entry.selector and _begins(entry, selectors):
        return msgspec.structs.replace(entry, state=KeyState.ACTIVE, activated_at=now)
    is_replaced = entry.state is KeyState.ACTIVE or _begins(entry, selectors)
    if is_replaced and entry.algorithm in kinds:
        return msgspec.structs.replace(entry, state=KeyState.RETIRING, retiring_at=now)
    return entry


def retire(entries: Entries, now: float, retire_after: float) -> Entries:
    """Let go of keys whose mail has arrived by now, as far as it ever will."""
    return tuple(
        msgspec.structs.replace(entry, state=KeyState.RETIRED, retired_at=now)
        if entry.state is KeyState.RETIRING and now >= retires_at(entry, retire_after)
        else entry
        for entry in entries
    )


def retires_at(entry: KeyEntry, retire_after: float) -> float:
    """Give when a retiring key is not needed any more, in seconds since 1970."""
    return entry.retiring_at + retire_after


def pending(entries: Sequence[KeyEntry]) -> list[KeyEntry]:
    """Give the keys that wait for the DNS."""
    return [entry for entry in entries if entry.state is KeyState.PENDING]


def active(entries: Sequence[KeyEntry]) -> list[KeyEntry]:
    """Give the keys that sign."""
    return [entry for entry in entries if entry.state is KeyState.ACTIVE]
