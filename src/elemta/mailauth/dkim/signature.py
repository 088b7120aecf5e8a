"""A DKIM-Signature field as values (RFC 6376 §3.5), and the names that stand in it."""

import binascii
import re
from collections.abc import Mapping
from functools import lru_cache

from msgspec import Struct

from elemta.mail.address import DOMAIN_LIMIT, parse_domain
from elemta.mail.errors import AddressError, ElemtaError
from elemta.mailauth.canonical import RELAXED, SIMPLE
from elemta.mailauth.tags import drop_space
from elemta.mailauth.verdicts import BodySpec

MAX_NAMES = 512  # that `h=` may list; nobody signs more than some fifty
TAG_OCTETS = 8  # of `b=`, that tell signatures apart: RFC 6008 §3

_FORMS = (SIMPLE, RELAXED)
_KNOWN_NAMES = 4096
_SHA256_OCTETS = 32
_LABELS = re.compile(
    r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
).fullmatch
_FIELD_NAMES = re.compile(rb"[!-9<-~]+(?::[!-9<-~]+)*").fullmatch
_LENGTH = re.compile(r"[0-9]{1,76}").fullmatch
_INSTANT = re.compile(r"[0-9]{1,12}").fullmatch


class SignatureError(ElemtaError, ValueError):
    """A signature cannot be read, or breaks RFC 6376 by itself."""


class Signature(Struct, frozen=True, gc=False):
    """What a signature says.

    Attributes:
        domain: Who signed (`d=`), in A-label form.
        selector: Of the key (`s=`), in A-label form.
        identity: `i=` as it is written, "" where it is not.
        identity_domain: The domain of `i=`, that of `d=` where there is none.
        algorithm: `a=`.
        header_form: "simple" or "relaxed".
        body: The hash of the body that is wanted.
        names: Of the fields that are signed (`h=`), in lower case, in order.
        body_hash: `bh=`.
        octets: `b=`.
        signed_at, expires_at: `t=` and `x=`, None where they are not there.
        tag: The first octets of `b=`.
    """

    domain: str
    selector: str
    identity: str
    identity_domain: str
    algorithm: str
    header_form: str
    body: BodySpec
    names: tuple[bytes, ...]
    body_hash: bytes
    octets: bytes
    signed_at: int | None
    expires_at: int | None
    tag: str

    @property
    def key_name(self) -> str:
        """Where in the DNS the key is (RFC 6376 §3.6.2.1)."""
        return f"{self.selector}._domainkey.{self.domain}"


def read_signature(tags: Mapping[str, str]) -> Signature:
    """Make sense of the tags of a DKIM-Signature field.

    Whether the algorithm is one that counts, and whether the time is right, is not judged.

    Raises:
        SignatureError: A tag is missing, or its value cannot be.
    """
    for name in ("v", "a", "b", "bh", "d", "h", "s"):
        if name not in tags:
            raise SignatureError(f"{name}= is missing")
    if tags["v"] != "1":
        raise SignatureError("the version (v=) is not known")
    methods = drop_space(tags.get("q", "dns/txt")).split(":")
    if "dns/txt" not in methods:
        raise SignatureError("the key cannot be asked for as the signature says (q=)")
    signature = tags["b"]
    header_form, body_form = parse_forms(tags.get("c", SIMPLE))
    signed_at, expires_at = _read_times(tags)
    domain, selector = _read_place(tags)
    identity, identity_domain = _read_identity(tags, domain)
    body_hash = decode_base64("bh", tags["bh"])
    if len(body_hash) != _SHA256_OCTETS and tags["a"] != "rsa-sha1":
        raise SignatureError("bh= is not a SHA-256")
    return Signature(
        domain,
        selector,
        identity,
        identity_domain,
        tags["a"],
        header_form,
        BodySpec(body_form, _read_length(tags)),
        parse_names(tags["h"]),
        body_hash,
        decode_base64("b", signature),
        signed_at,
        expires_at,
        drop_space(signature[: 4 * TAG_OCTETS])[:TAG_OCTETS],
    )


@lru_cache(_KNOWN_NAMES)
def parse_name(text: str) -> str:
    """Give a domain name or selector in lower-case A-labels; underscores are taken, too.

    Raises:
        SignatureError: It is none.
    """
    labels = text.lower().split(".") if len(text) <= DOMAIN_LIMIT else [""]
    if not text.isascii():
        try:
            labels = [label if label.isascii() else parse_domain(label) for label in labels]
        except AddressError:
            labels = [""]
    name = ".".join(labels)
    if len(name) > DOMAIN_LIMIT or not _LABELS(name):
        raise SignatureError(f"not a name: {text[:80]!r}")
    return name


def parse_forms(value: str) -> tuple[str, str]:
    """Read `c=`: the canonical forms of header and body ("simple" where none is named for it).

    Raises:
        SignatureError: A form is not known.
    """
    header, slash, body = value.partition("/")
    body = body if slash else SIMPLE
    if header not in _FORMS or body not in _FORMS:
        raise SignatureError("the canonical form (c=) is not known")
    return header, body


def parse_names(value: str) -> tuple[bytes, ...]:
    """Read `h=`: names of fields in lower case.

    Raises:
        SignatureError: It is no list of names, or too long.
    """
    text = drop_space(value).lower().encode()
    names = tuple(text.split(b":"))
    if not _FIELD_NAMES(text) or len(names) > MAX_NAMES:
        raise SignatureError("h= is not a list of field names")
    return names


def decode_base64(name: str, value: str) -> bytes:
    """Read a value of base64, folded or not.

    Raises:
        SignatureError: It is none; `name` is that of the tag.
    """
    try:
        octets = binascii.a2b_base64(drop_space(value).encode(), strict_mode=True)
    except ValueError:
        octets = b""
    if not octets:
        raise SignatureError(f"{name}= is not base64")
    return octets


def _read_place(tags: Mapping[str, str]) -> tuple[str, str]:
    try:
        domain, selector = parse_name(tags["d"]), parse_name(tags["s"])
    except SignatureError:
        raise SignatureError("d= or s= is not a name") from None
    if "." not in domain or len(domain) + len(selector) + len("._domainkey.") > DOMAIN_LIMIT:
        raise SignatureError("d= is not a domain name that a key can be under")
    return domain, selector


def _read_identity(tags: Mapping[str, str], domain: str) -> tuple[str, str]:
    """Read `i=`, whose domain must be `d=` or below it."""
    if "i" not in tags:
        return "", domain
    identity = drop_space(tags["i"])
    _, at, right = identity.rpartition("@")
    try:
        name = parse_name(right) if at else ""
    except SignatureError:
        name = ""
    if name != domain and not name.endswith(f".{domain}"):
        raise SignatureError("i= is not of the domain that signs (d=)")
    return identity, name


def _read_length(tags: Mapping[str, str]) -> int | None:
    if "l" not in tags:
        return None
    if not _LENGTH(tags["l"]):
        raise SignatureError("l= is not a number")
    return int(tags["l"])


def _read_times(tags: Mapping[str, str]) -> tuple[int | None, int | None]:
    times: list[int | None] = []
    for name in ("t", "x"):
        if name in tags and not _INSTANT(tags[name]):
            raise SignatureError(f"{name}= is not a time")
        times.append(int(tags[name]) if name in tags else None)
    signed_at, expires_at = times
    if signed_at is not None and expires_at is not None and expires_at <= signed_at:
        raise SignatureError("the signature expires before it was made (x=)")
    return signed_at, expires_at
