"""What the DNS has to show of a key, how to write that into a zone, and whether it is there."""

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from elemta.mail.errors import LookupFailed
from elemta.mailauth import Resolver
from elemta.mailauth.keys import KeyRecordError, parse_key_record
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
        if tags.get("p") == "":
            text = "the record revokes the key (p= is empty)"
            return Sighting(Publication.REVOKED, ttl, text)
        key = parse_key_record(record)
    except (TagError, KeyRecordError) as error:
        return Sighting(Publication.DIFFERENT, ttl, str(error))
    if key.kind != entry.algorithm or drop_space(tags["p"]) != entry.public:
        return Sighting(Publication.DIFFERENT, ttl, "the record has another key")
    detail = "the record says that the domain only tries (t=y)" if key.is_testing else ""
    return Sighting(Publication.PUBLISHED, ttl, detail, key.is_testing)
