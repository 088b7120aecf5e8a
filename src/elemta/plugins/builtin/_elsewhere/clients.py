"""What other programs are told of a client, in the words of the servers they were written for."""

import re

from elemta.mailauth import IprevVerdict
from elemta.plugins import SessionInfo

_BITS = re.compile(r"(?:AES|CAMELLIA|ARIA)[_-]?(128|256)")


def names_of(session: SessionInfo) -> tuple[str, str]:
    """The name of a client's address, and the same if it leads back there; each "" where unknown.

    They are known where iprev is asked.
    """
    verdict = session.notes.get("iprev")
    if not isinstance(verdict, IprevVerdict) or not verdict.name:
        return "", ""
    return verdict.name, verdict.name if verdict.status == "pass" else ""


def key_bits(cipher: str) -> str:
    """How long the keys of a suite are, by OpenSSL's name of it; "" where that does not tell."""
    if "CHACHA20" in cipher:
        return "256"
    found = _BITS.search(cipher)
    return found[1] if found is not None else ""
