"""Who may log in, and what is kept of them.

An `Account` is what the rest of the server sees of a login. A `Record` is all that a source
knows of it, with the hashes and keys that prove it; these never show in a `repr`.
"""

import hashlib
from dataclasses import dataclass, field

from elemta.accounts.rules import Network, Rule
from elemta.mail.address import Address, parse_address
from elemta.mail.errors import AddressError, ElemtaError

MAX_APP_PASSWORDS = 100  # of one account: each costs a comparison at every login


class AccountError(ElemtaError):
    """An account cannot be made or changed so; the text says why, and may be shown."""


@dataclass(frozen=True, slots=True)
class Account:
    """One who may log in.

    Attributes:
        name: The login in its normal form (`elemta.accounts.prepare`).
        senders: Addresses it may send as: "me@example.test", "me+*@example.test" (an asterisk that
            ends the local part is any ending), "example.test", "*.example.test", "*". Empty: its
            own name, where that is an address.
        groups: What rules may name instead of the login.
        act_as: Logins that it may act as (the authorisation identity of RFC 4422 §3.4.1).
        is_locked: It may not log in for now.
        rules: When and from where it may; all of them have to allow it.
    """

    name: str
    senders: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    act_as: tuple[str, ...] = ()
    is_locked: bool = False
    rules: tuple[Rule, ...] = ()

    @property
    def may_send_as_anyone(self) -> bool:
        return "*" in self.senders

    def may_send_as(self, sender: Address) -> bool:
        """Whether it may use an address as a sender, in the envelope or in a header.

        Case does not matter in either part: whoever has a mailbox has it in all spellings.
        """
        written = str(sender).lower()
        if not self.senders:
            return _as_address(self.name) == written
        return any(_covers(pattern, sender, written) for pattern in self.senders)


def _covers(pattern: str, sender: Address, written: str) -> bool:
    if pattern == "*":
        return True
    if "*@" in pattern and _covers_endings(pattern, sender):
        return True
    if "@" in pattern:
        return _as_address(pattern) == written
    if pattern.startswith("*."):
        return sender.domain.endswith(pattern[1:])
    return sender.domain == pattern


def _covers_endings(pattern: str, sender: Address) -> bool:
    before, _, _ = pattern.rpartition("@")
    found = _parse(pattern) if before.endswith("*") else None
    if found is None or found.domain != sender.domain:
        return False
    return sender.local.lower().startswith(found.local[:-1].lower())


def _as_address(text: str) -> str | None:
    found = _parse(text) if "@" in text else None
    return None if found is None else str(found).lower()


def _parse(text: str) -> Address | None:
    try:
        return parse_address(text)
    except AddressError:
        return None


@dataclass(frozen=True, slots=True)
class ScramKeys:
    """What a server needs for SCRAM-SHA-256, which is less than the password (RFC 5802 §3).

    Attributes:
        iterations: Of PBKDF2.
        salt: Of PBKDF2.
        stored_key: The hash of the client's key.
        server_key: What the server proves itself with.
    """

    iterations: int
    salt: bytes
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class AppPassword:
    """A secret of one program or device, that can be revoked alone.

    Attributes:
        name: What its owner calls it.
        digest: SHA-256 of the secret, in hex. The secret has 160 random bits, so that a fast
            hash is enough: there is no list to guess from.
        scope: What it may be used for.
        networks: From where; empty: from anywhere.
        created_at: Seconds since 1970, as the others.
        expires_at: It is of no use from then on; None: never.
        last_used_at: To within a minute; None: not yet, or the source does not write it down.
    """

    name: str
    digest: str = field(repr=False)
    scope: str = "submit"
    networks: tuple[Network, ...] = ()
    created_at: float = 0.0
    expires_at: float | None = None
    last_used_at: float | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """All that a source knows of an account.

    Attributes:
        account: What others may see of it.
        password_hash: In one of the forms of `elemta.accounts.hashes`; "": no password fits.
        scram: Keys for SCRAM; None: it cannot be used.
        secret: The password itself, for CRAM-MD5; "" unless that was asked for.
        app_passwords: Further secrets.
    """

    account: Account
    password_hash: str = field(default="", repr=False)
    scram: ScramKeys | None = field(default=None, repr=False)
    secret: str = field(default="", repr=False)
    app_passwords: tuple[AppPassword, ...] = ()

    @property
    def stamp(self) -> bytes:
        """Changes when the password does: what was found out about the old one is void then."""
        return hashlib.sha256(f"{self.account.name}\0{self.password_hash}".encode()).digest()
