"""What the DNS has to show of a key, how to write that into a zone, and whether it is there."""

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from elemta.mail.errors import LookupFailed
from elemta.mailauth import Resolver
from elemta.mailauth.tags import TagError, drop_space, parse_tags
from elemta.plugins.builtin.dkim.keystore import KeyEntry

STRING = 255  # octets of one string of a TXT record (RFC 1035 §3.3)
_LINE = 64  # characters of a string in a zone file: so that people can read it


class Publication(enum.StrEnum):
    """What the DNS shows of a key.

    UNKNOWN means that it cannot be asked for now; WAITING that it shows the key, and that caches
    may not know it yet.
    """

    PUBLISHED = "published"
    WAITING = "not yet"
    ABSENT = "absent"
    DIFFERENT = "different"
    REVOKED = "revoked"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Sighting:
    """What was seen when the DNS was asked for a key.

    Attributes:
        publication: What it shows.
        ttl: Seconds that caches keep the answer.
        detail: What is wrong, for the operator.
        is_testing: The record says that the domain only tries (`t=y`).
    """

    publication: Publication
    ttl: float = 0.0
    detail: str = ""
    is_testing: bool = False


def record_name(domain: str, selector: str) -> str:
    """Give the name of a key's record, without a final dot."""
    return f"{selector}._domainkey.{domain}"


def record_text(entry: KeyEntry, *, is_revoked: bool = False) -> str:
    """Give what the record says (RFC 6376 §3.6.1, RFC 8463 §4)."""
    kind = f"v=DKIM1; k={entry.algorithm}; "
    return f"{kind}p=" if is_revoked else f"{kind}p={entry.public}"


def zone_lines(
    domain: str, entry: KeyEntry, ttl: int = 3600, *, is_revoked: bool = False
) -> Iterator[str]:
    """Give a record as lines of a zone file: strings of at most 255 octets."""
    text = record_text(entry, is_revoked=is_revoked)
    name = f"{record_name(domain, entry.selector)}. {ttl} IN TXT"
    if len(text) <= _LINE:
        yield f'{name} "{text}"'
        return
    yield f"{name} ("
    for at in range(0, len(text), STRING):
        yield f'    "{text[at : at + STRING]}"'
    yield ")"


async def look_up(resolver: Resolver, domain: str, entry: KeyEntry) -> Sighting:
    """Ask the DNS whether it shows a key."""
    try:
        answer = await resolver.query(record_name(domain, entry.selector), "TXT")
    except LookupFailed as error:
        return Sighting(Publication.UNKNOWN, detail=str(error))
    if not answer.records:
        return Sighting(Publication.ABSENT, answer.ttl, "there is no such record")
    if len(answer.records) > 1:
        text = f"there are {len(answer.records)} records, and verifiers take any of them"
        return Sighting(Publication.DIFFERENT, answer.ttl, text)
    return _compare(bytes(answer.records[0]), entry, answer.ttl)


def _compare(record: bytes, entry: KeyEntry, ttl: float) -> Sighting:
    try:
        tags = parse_tags(record)
    except TagError as error:
        return Sighting(Publication.DIFFERENT, ttl, str(error))
    public = drop_space(tags.get("p", ""))
    if "p" in tags and not public:
        return Sighting(Publication.REVOKED, ttl, "the record revokes the key (p= is empty)")
    trouble = _trouble(tags, public, entry)
    if trouble:
        return Sighting(Publication.DIFFERENT, ttl, trouble)
    is_testing = "y" in _items(tags.get("t", ""))
    detail = "the record says that the domain only tries (t=y)" if is_testing else ""
    return Sighting(Publication.PUBLISHED, ttl, detail, is_testing)


def _trouble(tags: dict[str, str], public: str, entry: KeyEntry) -> str:
    """Say why verifiers would not take a signature of ours by this record; "" where they do."""
    if tags.get("v", "DKIM1") != "DKIM1":
        return "v= is not DKIM1"
    if tags.get("k", "rsa") != entry.algorithm:
        return f"k= is not {entry.algorithm}"
    if public != entry.public:
        return "p= is another key"
    if "h" in tags and "sha256" not in _items(tags["h"]):
        return "h= does not allow sha256"
    if "s" in tags and not {"*", "email"} & _items(tags["s"]):
        return "s= does not allow email"
    return ""


def _items(value: str) -> set[str]:
    return {item.strip() for item in value.split(":")}
