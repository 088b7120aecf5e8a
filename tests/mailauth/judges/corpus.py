"""Whole messages, each with what is right or wrong about it, the same for the same number."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from mailauth.dkim.generated import NAMES, body, field
from mailauth.dkim.signed import FORMS, hash_body, sign, sign_with, split
from mailauth.judges.inbound import Envelope
from mailauth.judges.names import (
    AUTHORS,
    FAIL,
    KEYS,
    NEUTRAL,
    PASS,
    POLICIES,
    RELAYS,
    SIGNERS,
    SIX,
    SOFT,
    SPF,
    resolver,
)

from elemta.mailauth import ArcVerdict
from elemta.mailauth.arc import ArcSettings, ChainVerifier, Sealer, SealSettings
from elemta.mailauth.dkim import SigningKey, SignSettings

OTHERS = [name for name in NAMES if name not in {"From", "Subject", "DKIM-Signature-X"}]
# what is done with a message; several names of a kind make it as many times as likely
SIGNED = (
    *("unsigned", "rsa", "rsa", "long", "ed25519", "dual", "dual", "partial", "expired"),
    *("body", "field", "added", "authors", "weak", "other", "revoked", "absent", "down"),
)
SEALED = (
    *("no chain",) * 4,
    *("one", "one", "three", "three", "edited", "body", "seal", "results", "hole", "given up"),
    "ed25519",
)


@dataclass(frozen=True)
class Case:
    """A message, who brings it, and what is special about it."""

    number: int
    raw: bytes
    envelope: Envelope
    policy: str
    author: str
    signed: str
    sealed: str


def author_of(rng: random.Random, policy: str) -> str:
    kinds = AUTHORS if policy == "middle" else AUTHORS[:-1]
    return f"{rng.choice(kinds)}{policy}.example"


def make_envelope(rng: random.Random, policy: str) -> Envelope:
    """Who brings it: of the organization of the policy, or of another one."""
    ip = rng.choice((PASS, PASS, PASS, SOFT, NEUTRAL, FAIL, SIX))
    host = rng.choice((*SPF, "", "", "ip", "ip", "a"))
    organization = policy if rng.random() < 0.8 else rng.choice(list(POLICIES))
    domain = f"{host}.{organization}.example".removeprefix(".")
    if rng.random() < 0.05:
        domain = rng.choice(("down.invalid", "alias.hosts.example"))
    if rng.random() < 0.1:
        return Envelope(ip, domain, "")
    return Envelope(ip, "mx.client.example", f"{rng.choice(('ann', 'bob'))}@{domain}")


def plain_message(rng: random.Random, author: str) -> bytes:
    fields = [field(rng, name, is_neat=True) for name in rng.choices(OTHERS, k=rng.randrange(6))]
    fields += [f"From: Ann <ann@{author}>\r\n".encode(), b"Subject: A  subject\r\n"]
    rng.shuffle(fields)
    return b"".join(fields) + b"\r\n" + body(rng) + b"The end\r\n"


def sign_message(rng: random.Random, plain: bytes, how: str, policy: str) -> bytes:
    """Sign it by a domain of the organization, or by another one, and break it."""
    if how == "unsigned":
        return plain
    domains = [f"{below}{policy}.example" for below in SIGNERS]
    domain = rng.choice((*domains, domains[0], "other.example"))
    now = time.time()
    names = {"dual": ["rsa", "ed25519"]}.get(how, [how if how in KEYS else "rsa"])
    if how == "down":
        domain = "down.invalid"
    keys = [SigningKey(domain, name, KEYS[name]) for name in names]
    if how == "partial":
        tags = f"v=1; a=rsa-sha256; d={domain}; s=rsa; h=from:subject; l=4; bh={{bh}}"
        return sign_with(tags, plain, keys[0])
    settings = SignSettings(
        canonicalization=rng.choice(FORMS),
        expires_after=3600 if how == "expired" else rng.choice((None, 86_400)),
        identity=rng.choice(("", f"@{domain}", f"ann@x.{domain}")),
    )
    signed = sign(
        plain, *keys, settings=settings, now=now - 86_400 * (2 if how == "expired" else 0) - 60
    )
    return SPOIL.get(how, nothing)(signed)


def nothing(raw: bytes) -> bytes:
    return raw


SPOIL: dict[str, Callable[[bytes], bytes]] = {
    "body": lambda raw: raw.replace(b"The end", b"An end"),
    "field": lambda raw: raw.replace(b"A  subject", b"B  subject"),
    "added": lambda raw: raw.replace(b"Subject:", b"Subject: evil\r\nSubject:"),
    "authors": lambda raw: raw.replace(b"From:", b"From: <evil@other.example>\r\nFrom:"),
}


async def judge_chain(raw: bytes, now: float) -> ArcVerdict:
    section, octets = split(raw)
    verifier = ChainVerifier(section, ArcSettings(), now)
    return await verifier.judge(*hash_body(octets, verifier.specs), resolver())


async def seal_by(
    raw: bytes, relay: str, name: str, now: float, edit: Callable[[bytes], bytes]
) -> bytes:
    """What a relay makes of it: it judges the chain, edits the message, and seals."""
    chain = await judge_chain(raw, now)
    raw = edit(raw)
    sealer = Sealer(SigningKey(relay, name, KEYS[name]), SealSettings())
    section, octets = split(raw)
    digests, _ = hash_body(octets, [sealer.spec])
    says = f"{relay}; spf=pass smtp.mailfrom=a.example; arc={chain.status}"
    return sealer.seal(section, digests[sealer.spec], says, chain, now) + raw


async def seal_message(raw: bytes, how: str) -> bytes:
    """Pass it on through relays; some break it on the way, or after that."""
    if how == "no chain":
        return raw
    now = time.time() - 30
    name = "ed25519" if how == "ed25519" else "rsa"
    for number, relay in enumerate(RELAYS[: 1 if how == "one" else 3]):
        if number == 1 and how == "given up":
            raw = edit(raw)
        is_editor = number == 1 and how == "edited"
        raw = await seal_by(raw, relay, name, now, edit if is_editor else nothing)
    return BREAK.get(how, nothing)(raw)


def edit(raw: bytes) -> bytes:
    return raw + b"-- \r\nThe list\r\n"


def drop_set(raw: bytes) -> bytes:
    """The results of the second relay go."""
    start = raw.index(b"ARC-Authentication-Results: i=2")
    return raw[:start] + raw[raw.index(b"ARC-Seal:", start) :]


BREAK: dict[str, Callable[[bytes], bytes]] = {
    "body": edit,
    "seal": lambda raw: raw.replace(b"d=two.relay.example", b"d=two.relay.example; x-a=b", 1),
    "results": lambda raw: raw.replace(b"spf=pass", b"spf=fail", 1),
    "hole": drop_set,
}


async def make_case(number: int) -> Case:
    """Give the message of a number."""
    rng = random.Random(number)
    policy = rng.choice(list(POLICIES))
    author = author_of(rng, policy)
    if rng.random() < 0.02:
        author = "down.invalid"
    signed, sealed = rng.choice(SIGNED), rng.choice(SEALED)
    raw = sign_message(rng, plain_message(rng, author), signed, policy)
    raw = await seal_message(raw, sealed)
    return Case(number, raw, make_envelope(rng, policy), policy, author, signed, sealed)
