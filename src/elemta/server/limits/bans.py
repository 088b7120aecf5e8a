"""Bans: who is kept out, for how long, and because of what."""

import contextlib
import math
import re
from collections.abc import Iterator
from enum import StrEnum
from ipaddress import ip_network

import msgspec

from elemta.accounts.prepare import normal_login
from elemta.mail.reply import clean_text
from elemta.net.addresses import network_of, parse_ip

MAX_EVIDENCE = 20  # events kept with a ban
LOGIN_LIMIT = 200  # characters

_SPACE = re.compile(r"\s+")


class Kind(StrEnum):
    """What a ban is about."""

    ADDRESS = "address"
    NETWORK = "network"
    LOGIN = "login"
    PAIR = "pair"


class Failure(msgspec.Struct, frozen=True):
    """One event that a ban rests on; `at` in seconds since 1970."""

    at: float
    kind: str
    address: str
    login: str
    session_id: str
    network: str = ""


class Ban(msgspec.Struct, frozen=True):
    """One ban.

    Attributes:
        id: Told to the client, and what operators name it by.
        subject: An address, a network, a login, or an address, a space and a login.
        reason: In words.
        times: How often it has come to this; each time it is for longer.
        banned_at: Seconds since 1970.
        expires_at: Likewise; None: it lasts until it is lifted.
        lifted_at: When it was lifted before its time, by `lifted_by`.
        evidence: The last events that caused it, the oldest first.
    """

    id: str
    kind: Kind
    subject: str
    reason: str
    times: int
    banned_at: float
    expires_at: float | None
    lifted_at: float | None = None
    lifted_by: str = ""
    evidence: tuple[Failure, ...] = ()

    def is_active(self, now: float) -> bool:
        """Whether it holds."""
        is_over = self.expires_at is not None and self.expires_at <= now
        return not is_over and self.lifted_at is None


def clean_login(login: str) -> str:
    """Give the form of a login that failures are counted and bans are kept by."""
    normal = clean_text(normal_login(login), LOGIN_LIMIT)  # it can be spelled in many ways
    return _SPACE.sub(" ", normal).strip().casefold()


def parse_subject(text: str) -> tuple[Kind, str]:
    """Read an address or a network.

    Raises:
        ValueError: It is neither, or so wide that it is no network of a client.
    """
    text = text.strip()
    if "/" not in text:
        return Kind.ADDRESS, str(parse_ip(text))
    network = ip_network(text, strict=False)
    if network.prefixlen == network.max_prefixlen:
        return Kind.ADDRESS, str(parse_ip(str(network.network_address)))
    if network.prefixlen < (8 if network.version == 4 else 16):
        raise ValueError("that network is too wide to be banned")
    return Kind.NETWORK, str(network)


def _last_instant(ban: Ban) -> float:
    ends_at = ban.expires_at if ban.lifted_at is None else ban.lifted_at
    return math.inf if ends_at is None else ends_at


class BanList:
    """All bans in memory, those that are over among them as long as they are remembered."""

    def __init__(self) -> None:
        self._bans: dict[tuple[Kind, str], Ban] = {}
        self._widths: set[tuple[int, int]] = set()

    def __len__(self) -> int:
        return len(self._bans)

    def __iter__(self) -> Iterator[Ban]:
        return iter(self._bans.values())

    def put(self, ban: Ban) -> None:
        """Take a ban, or what has become of one."""
        self._bans[ban.kind, ban.subject] = ban
        if ban.kind is Kind.NETWORK:
            with contextlib.suppress(ValueError):  # whatever else can write to the database
                network = ip_network(ban.subject)
                self._widths.add((network.version, network.prefixlen))

    def prune(self, before: float, most: int) -> None:
        """Forget the bans that ended before an instant, and beyond `most` those that end first."""
        for key, ban in list(self._bans.items()):
            if _last_instant(ban) < before:
                del self._bans[key]
        surplus = len(self._bans) - most
        if surplus > 0:
            for ban in sorted(self._bans.values(), key=_last_instant)[:surplus]:
                del self._bans[ban.kind, ban.subject]

    def get(self, kind: Kind, subject: str) -> Ban | None:
        """Give what is remembered of a subject, whether it holds or not."""
        return self._bans.get((kind, subject))

    def find(self, kind: Kind, subject: str, now: float) -> Ban | None:
        """Give the ban of a subject that holds."""
        ban = self._bans.get((kind, subject))
        return ban if ban is not None and ban.is_active(now) else None

    def find_address(self, address: str, now: float) -> Ban | None:
        """Give the ban that keeps an address out: its own, or that of a network."""
        if not self._bans:
            return None
        ban = self.find(Kind.ADDRESS, address, now)
        if ban is not None:
            return ban
        version = 6 if ":" in address else 4
        for width in self._widths:
            if width[0] == version:
                ban = self.find(Kind.NETWORK, network_of(address, width[1], width[1]), now)
                if ban is not None:
                    return ban
        return None
