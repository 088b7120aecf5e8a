"""Users of this machine, who submit mail without a password: the kernel says who they are."""

import pwd
from dataclasses import dataclass
from typing import Protocol

from elemta.accounts import Account
from elemta.mail.address import Address

PREFIX = "unix:"  # of their logins, which no account of the configuration can have by chance


class Users(Protocol):
    """Knows the account of whoever is at the other end of a unix socket."""

    def account_of(self, uid: int, /) -> Account: ...


@dataclass(frozen=True, slots=True)
class LocalUsers:
    """Who may submit by the socket, and as whom.

    Attributes:
        domain: Of their addresses: USER@DOMAIN is the user's own.
        trusted: Users that may send as anyone.
    """

    domain: str
    trusted: frozenset[str] = frozenset()

    def account_of(self, uid: int) -> Account:
        """Give the account of a user."""
        name = name_of(uid)
        own = str(Address(name, self.domain))
        return Account(PREFIX + name, ("*", own) if name in self.trusted else (own,))


def name_of(uid: int) -> str:
    """Give the name of a user; one without gets a name by its number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid{uid}"
