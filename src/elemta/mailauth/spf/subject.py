"""Of whom SPF is asked in a transaction (RFC 7208 §2.3, §2.4)."""

from typing import NamedTuple

from elemta.mail.address import Address


class SpfSubject(NamedTuple):
    """What to hand to `SpfChecker.check`.

    Attributes:
        identity: "mailfrom" or "helo".
        domain: Whose record is read.
        sender: "local@domain", without quotes and escapes.
    """

    identity: str
    domain: str
    sender: str


def subject_of(identity: str, sender: Address | None, helo: str) -> SpfSubject:
    """Give what to check; a null sender, or one without a domain, is postmaster of the HELO name.

    Args:
        identity: "mailfrom" or "helo".
        sender: Of the envelope, None for the null sender.
        helo: What the client calls itself.
    """
    if identity == "helo" or sender is None or not sender.domain:
        return SpfSubject(identity, helo, f"postmaster@{helo}")
    return SpfSubject(identity, sender.domain, f"{sender.local}@{sender.domain}")
