"""Chains of seals for tests: keys, zones, and servers that judge and seal a message in turn."""

import hashlib
from dataclasses import dataclass, field

from elemta.mail.headers import find_header_end
from elemta.mailauth import ArcVerdict, AuthStatus
from elemta.mailauth.arc import ArcSettings, ChainVerifier, Sealer, SealSettings
from elemta.mailauth.body import BodyHasher
from elemta.mailauth.canonical import canonical_field
from elemta.mailauth.dkim import SigningKey
from elemta.mailauth.dkim.signer import sign_field
from elemta.mailauth.fields import Fields
from elemta.mailauth.keys import PrivateKey
from elemta.testing import FakeResolver

NOW = 1_700_000_000.0
RESULTS = "mx.example.org; dmarc=pass header.from=Author.example"
MESSAGE = (
    b"DKIM-Signature: v=1; a=rsa-sha256; d=author.example; s=x; h=from; bh=aaaa; b=aaaa\r\n"
    b"Received: from a by b\r\n"
    b"From: Ann <ann@author.example>\r\n"
    b"To: list@example.org\r\n"
    b"Subject: A   folded\r\n\t subject\r\n"
    b"Date: Thu, 14 Jan 2015 15:00:01 -0800\r\n"
    b"Message-ID: <1@author.example>\r\n"
    b"\r\n"
    b"Hello  there.\r\n"
    b"\r\n"
)
RSA = PrivateKey.generate("rsa", 1024)
ED25519 = PrivateKey.generate("ed25519")


@dataclass
class Server:
    """A server that seals: its domain, its key, and what it says."""

    domain: str
    key: PrivateKey = field(default_factory=lambda: RSA)
    says: str = RESULTS
    settings: SealSettings = field(default_factory=SealSettings)

    @property
    def zone(self) -> dict[str, dict[str, list[str]]]:
        return {f"s._domainkey.{self.domain}": {"TXT": [self.key.record()]}}

    @property
    def sealer(self) -> Sealer:
        return Sealer(SigningKey(self.domain, "s", self.key), self.settings)


A, B, C = Server("a.example"), Server("b.example", ED25519), Server("c.example")
ZONE = {**A.zone, **B.zone, **C.zone}


def split(raw: bytes) -> tuple[bytes, bytes]:
    end = find_header_end(raw)
    return (raw[:end], raw[end:]) if end >= 0 else (raw, b"")


async def judge(raw: bytes, zone=ZONE, *, now=NOW, steps=None, **settings) -> ArcVerdict:
    """Judge a message as a server does."""
    section, body = split(raw)
    verifier = ChainVerifier(section, ArcSettings(**settings), now)
    hasher = BodyHasher(verifier.specs)
    hasher.update(body)
    digests = hasher.finish()
    resolver = zone if isinstance(zone, FakeResolver) else FakeResolver(zone)
    return await verifier.judge(digests, hasher.sizes, resolver, steps)


def seal(raw: bytes, server: Server, chain: ArcVerdict, now: float = NOW) -> bytes:
    """Give the message with a set of the server on top of it."""
    section, body = split(raw)
    sealer = server.sealer
    hasher = BodyHasher([sealer.spec])
    hasher.update(body)
    (digest,) = hasher.finish().values()
    return sealer.seal(section, digest, server.says, chain, now) + raw


async def pass_on(raw: bytes, *servers: Server, zone=ZONE) -> bytes:
    """Send a message through servers that judge and seal it."""
    for server in servers:
        raw = seal(raw, server, await judge(raw, zone))
    return raw


def seal_for(other: Server, raw: bytes, form: bytes = b"c=relaxed") -> bytes:
    """A first set of A, with the signature of the message by the key of another domain."""
    lines = Fields(seal(raw, other, ArcVerdict(AuthStatus.NONE))).octets[1:3]
    lines[0] = lines[0].replace(b"c=relaxed", form)
    covered = b"".join(canonical_field(each, "relaxed") for each in reversed(lines))
    start = ("i=1;", "a=rsa-sha256;", "d=a.example;", "s=s;", "cv=none;", "b=")
    parts = [(" ", part) for part in start]
    sealed = sign_field(A.key, parts, hashlib.sha256(covered), "relaxed", "ARC-Seal:")
    return sealed + b"".join(lines) + raw
