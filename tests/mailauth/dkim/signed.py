"""Messages that are signed and judged in tests, and who else can judge them."""

import base64
import contextlib
import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import cache

import dkim

from elemta.mail.headers import find_header_end
from elemta.mailauth import AuthStatus, BodySpec, DkimVerdict
from elemta.mailauth.body import BodyHasher
from elemta.mailauth.canonical import canonical_signature
from elemta.mailauth.dkim import DkimSettings, Signer, SigningKey, SignSettings, Verifier
from elemta.mailauth.fields import Fields
from elemta.mailauth.keys import PrivateKey
from elemta.testing import FakeResolver

NOW = 1_800_000_000.0
DOMAIN = "example.org"
HEAD = (
    b"Received: from a.example by b.example; Mon, 1 Jan 2024 00:00:00 +0000\r\n"
    b"From: Ann <ann@example.org>\r\n"
    b"To: bob@example.test\r\n"
    b"Subject: a  test\r\n\tof folds \r\n"
    b"Date: Mon, 1 Jan 2024 00:00:00 +0000\r\n"
    b"Message-ID: <1@example.org>\r\n"
    b"\r\n"
)
BODY = b"Hello  Bob,\r\n\r\n\tit is  late. \r\n\r\n\r\n"
FORMS = ("simple/simple", "simple/relaxed", "relaxed/simple", "relaxed/relaxed")
DEFAULT = SignSettings()


@cache
def key(kind: str = "rsa", bits: int = 1024, selector: str = "") -> SigningKey:
    """A key, made once; its selector is "rsa" or "ed25519" unless said otherwise."""
    return SigningKey(DOMAIN, selector or kind, PrivateKey.generate(kind, bits))


def name_of(signing: SigningKey) -> str:
    return f"{signing.selector}._domainkey.{signing.domain}"


def zone(*keys: SigningKey) -> FakeResolver:
    return FakeResolver({name_of(each): {"TXT": [each.key.record()]} for each in keys})


def split(message: bytes) -> tuple[bytes, bytes]:
    """Header section and body."""
    end = find_header_end(message)
    return (message[:end], message[end:]) if end >= 0 else (message, b"")


def hash_body(
    body: bytes, specs: Iterable[BodySpec]
) -> tuple[dict[BodySpec, bytes], dict[BodySpec, int]]:
    hasher = BodyHasher(specs)
    hasher.update(body)
    return hasher.finish(), hasher.sizes


def sign(
    message: bytes, *keys: SigningKey, settings: SignSettings = DEFAULT, now: float = NOW
) -> bytes:
    """The message with a signature of each key before it."""
    head, body = split(message)
    signer = Signer(keys, settings)
    digests, _ = hash_body(body, [signer.spec])
    return signer.sign(head, digests[signer.spec], now) + message


def sign_with(tags: str, message: bytes, signing: SigningKey) -> bytes:
    """Sign as no decent signer would: any tags, except that `bh=` and `b=` are right.

    `tags` is a format with {bh}; "b=" is added.
    """
    head, body = split(message)
    fields = Fields(head)
    length = re.search(r"\bl=(\d+)", tags)
    canonical = body[: int(length[1])] if length else body
    digest = hashlib.sha256(canonical).digest()
    text = "DKIM-Signature: " + tags.format(bh=base64.b64encode(digest).decode()) + "; b="
    names = re.search(r"\bh=([^;]*)", tags)
    listed = "".join(names[1].split()).lower().encode().split(b":") if names else []
    hashed = b"".join(fields.select(listed, "simple"))
    hashed += canonical_signature(text.encode(), "simple")
    octets = signing.key.sign(hashlib.sha256(hashed).digest())
    return f"{text}{base64.b64encode(octets).decode()}\r\n".encode() + message


async def judge(
    message: bytes,
    resolver: FakeResolver,
    *,
    settings: DkimSettings | None = None,
    now: float = NOW,
    steps: list[str] | None = None,
) -> tuple[DkimVerdict, ...]:
    head, body = split(message)
    verifier = Verifier(head, settings or DkimSettings(), now)
    digests, sizes = hash_body(body, verifier.specs)
    return await verifier.judge(digests, sizes, resolver, steps)


async def judge_one(message: bytes, resolver: FakeResolver, **how) -> DkimVerdict:
    (verdict,) = await judge(message, resolver, **how)
    return verdict


async def statuses(message: bytes, resolver: FakeResolver, **how) -> list[AuthStatus]:
    return [verdict.status for verdict in await judge(message, resolver, **how)]


def passes_dkimpy(message: bytes, records: Mapping[str, bytes], number: int = 0) -> bool:
    """What dkimpy says; what it cannot bear does not pass."""

    def find(name: bytes, timeout: float = 5) -> bytes | None:
        return records.get(name.decode().lower().removesuffix("."))

    with contextlib.suppress(dkim.DKIMException, ValueError, KeyError, TypeError, AssertionError):
        return bool(dkim.DKIM(message).verify(idx=number, dnsfunc=find))
    return False


def records_of(resolver: FakeResolver) -> dict[str, bytes]:
    """The keys of a zone as other judges want them."""
    return {
        name: records["TXT"][0].encode()
        for name, records in resolver.zone.items()
        if records is not None
    }
