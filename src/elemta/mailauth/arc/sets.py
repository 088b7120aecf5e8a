"""The fields of ARC in a header section: put together to sets, and their tags read.

Each set has three fields of one number (RFC 8617 §4.2): the results that a server found
(ARC-Authentication-Results), its signature of the message (ARC-Message-Signature), and its seal
over all sets up to its own (ARC-Seal).
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from elemta.mail.errors import ElemtaError
from elemta.mailauth.authres.parsing import AuthResultsError, plain_text
from elemta.mailauth.canonical import RELAXED, canonical_signature
from elemta.mailauth.dkim.signature import SignatureError, decode_base64, parse_name
from elemta.mailauth.fields import Fields
from elemta.mailauth.tags import TagError, parse_tags

RESULTS = b"arc-authentication-results"
MESSAGE_SIGNATURE = b"arc-message-signature"
SEAL = b"arc-seal"
KINDS = (RESULTS, MESSAGE_SIGNATURE, SEAL)

MAX_FIELD = 32 * 1024  # octets of one field
_NUMBER = re.compile(r"[0-9]{1,2}").fullmatch
_INSTANT = re.compile(r"[0-9]{1,12}").fullmatch
_RESULTS_NUMBER = re.compile(rb"[ \t\r\n]*i[ \t\r\n]*=[ \t\r\n]*([0-9]{1,2})[ \t\r\n]*;").match
_STATES = ("none", "pass", "fail")
_LABELS = {RESULTS: "AAR", MESSAGE_SIGNATURE: "AMS", SEAL: "AS"}


class ChainError(ElemtaError, ValueError):
    """The chain has failed.

    Attributes:
        instances: The highest number of a set, as far as it is known.
    """

    def __init__(self, problem: str, instances: int = 0):
        super().__init__(problem)
        self.instances = instances


@dataclass(frozen=True, slots=True)
class Seal:
    """What an ARC-Seal says (RFC 8617 §4.1.3).

    Attributes:
        state: Of the chain as it came to this server (`cv=`): "none", "pass" or "fail".
        domain, selector: Of the key (`d=`, `s=`), in A-label form.
        algorithm: `a=`.
        octets: `b=`.
    """

    state: str
    domain: str
    selector: str
    algorithm: str
    octets: bytes

    @property
    def key_name(self) -> str:
        """Where in the DNS the key is."""
        return f"{self.selector}._domainkey.{self.domain}"


@dataclass(frozen=True, slots=True)
class ArcSet:
    """One set.

    Attributes:
        number: `i=`.
        results, signature, seal: The places of its fields in the section.
        signature_tags: Of ARC-Message-Signature.
        seal_tags: Of ARC-Seal.
    """

    number: int
    results: int
    signature: int
    seal: int
    signature_tags: Mapping[str, str]
    seal_tags: Mapping[str, str]


def read_sets(fields: Fields, max_sets: int) -> tuple[ArcSet, ...]:
    """Put the sets together, the first one first; () where no field of ARC is there.

    Raises:
        ChainError: The chain says itself that it has failed, or its structure is broken
            (RFC 8617 §5.2, steps 1 to 3 but for the seals before the last).
    """
    counts = [fields.count(kind) for kind in KINDS]
    highest = max(counts)
    if not highest:
        return ()
    if highest > max_sets:
        raise ChainError(f"more than {max_sets} sets", highest)
    seals = _number(fields, SEAL)
    if seals and seals[max(seals)][1].get("cv", "").lower() == "fail":
        raise ChainError("a server before has found that it failed (cv=fail)", max(seals))
    signatures, results = _number(fields, MESSAGE_SIGNATURE), _number(fields, RESULTS)
    wanted = set(range(1, highest + 1))
    for kind, found in ((SEAL, seals), (MESSAGE_SIGNATURE, signatures), (RESULTS, results)):
        if found.keys() != wanted:
            raise ChainError(f"there is not one {_LABELS[kind]} of each number", highest)
    return tuple(
        ArcSet(
            number,
            results[number][0],
            signatures[number][0],
            seals[number][0],
            signatures[number][1],
            seals[number][1],
        )
        for number in range(1, highest + 1)
    )


def read_seal(one: ArcSet) -> Seal:
    """Make sense of the tags of a seal.

    Raises:
        ChainError: A tag is missing, cannot be, or must not be there (`h=`).
    """
    tags, label = one.seal_tags, f"AS {one.number}"
    for name in ("a", "b", "cv", "d", "s"):
        if name not in tags:
            raise ChainError(f"{label}: {name}= is missing", one.number)
    if "h" in tags:
        raise ChainError(f"{label}: h= is not allowed", one.number)
    if "t" in tags and not _INSTANT(tags["t"]):
        raise ChainError(f"{label}: t= is not a time", one.number)
    state = tags["cv"].lower()
    if state not in _STATES:
        raise ChainError(f"{label}: cv= is not known", one.number)
    try:
        domain, selector = parse_name(tags["d"]), parse_name(tags["s"])
        return Seal(state, domain, selector, tags["a"], decode_base64("b", tags["b"]))
    except SignatureError as error:
        raise ChainError(f"{label}: {error}", one.number) from None


def seal_digests(fields: Fields, sets: Sequence[ArcSet]) -> list[bytes]:
    """Give for each set what its seal signs: all sets up to its own (RFC 8617 §5.1.1)."""
    hashed = hashlib.sha256()
    digests: list[bytes] = []
    for one in sets:
        hashed.update(fields.canonical(one.results, RELAXED))
        hashed.update(fields.canonical(one.signature, RELAXED))
        sealed = hashed.copy()
        sealed.update(canonical_signature(fields.octets[one.seal], RELAXED))
        digests.append(sealed.digest())
        hashed.update(fields.canonical(one.seal, RELAXED))
    return digests


def canonical_sets(fields: Fields, sets: Iterable[ArcSet]) -> bytes:
    """Give the fields of sets as a seal after them covers them."""
    return b"".join(
        fields.canonical(place, RELAXED)
        for one in sets
        for place in (one.results, one.signature, one.seal)
    )


def find_highest(fields: Fields) -> tuple[int, bool]:
    """Find the highest number of a set, whatever else is wrong with the chain.

    Returns:
        The number, 0 where no field has one, and whether a seal of that number says that the chain
        has failed (`cv=fail`).
    """
    highest, has_failed = 0, False
    for kind in KINDS:
        for place in fields.places(kind):
            try:
                number, tags = _read(fields, kind, place)
            except ChainError:
                continue
            says_fail = kind == SEAL and tags.get("cv", "").lower() == "fail"
            if number > highest:
                highest, has_failed = number, says_fail
            elif number == highest:
                has_failed = has_failed or says_fail
    return highest, has_failed


def _number(fields: Fields, kind: bytes) -> dict[int, tuple[int, Mapping[str, str]]]:
    """Read all fields of a kind: place and tags by number."""
    found: dict[int, tuple[int, Mapping[str, str]]] = {}
    for place in fields.places(kind):
        number, tags = _read(fields, kind, place)
        if number in found:
            raise ChainError(f"{_LABELS[kind]} {number} is there twice", number)
        found[number] = place, tags
    return found


def _read(fields: Fields, kind: bytes, place: int) -> tuple[int, Mapping[str, str]]:
    """Read the number of a field, and its tags if it has a list of them."""
    octets = fields.octets[place]
    if len(octets) > MAX_FIELD:
        raise ChainError(f"a field {_LABELS[kind]} is too long")
    value = octets.partition(b":")[2].removesuffix(b"\r\n")
    tags: Mapping[str, str] = {}
    try:
        if kind == RESULTS:
            # comments before the number are all that makes more of it than a look
            found = _RESULTS_NUMBER(value) or _RESULTS_NUMBER(plain_text(value).encode())
            text = found[1].decode() if found is not None else ""
        else:
            tags = parse_tags(value)
            text = tags.get("i", "")
    except (TagError, AuthResultsError) as error:
        raise ChainError(f"{_LABELS[kind]}: {error}") from None
    number = int(text) if _NUMBER(text) else 0
    if not number:
        raise ChainError(f"{_LABELS[kind]}: no number (i=)")
    return number, tags
