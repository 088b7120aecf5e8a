"""`python -m bench.auth`: what it costs to find out who really sent a message, and to sign one.

verify    the DKIM signature of a message judged, the body hashed and the key asked for
sign      a message signed
spf       the client looked for in the SPF record of the sender, which includes another
chain     all that an inbound message goes through: SPF, DKIM, ARC (one set), DMARC, and their
          results written down

One core, a message of 10 KiB, an RSA key of 2048 bits that is known already, and a DNS that
answers at once. dkimpy does the same in turn. Nothing waits, so CPU time is what counts.
"""

import argparse
import asyncio
import os
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import dkim
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bench import machine
from bench.processes import BenchError
from elemta.mailauth import ArcVerdict, Authentication, AuthStatus, SpfVerdict
from elemta.mailauth.arc import ArcSettings, ChainVerifier, Sealer, SealSettings
from elemta.mailauth.authres import format_results
from elemta.mailauth.body import BodyHasher
from elemta.mailauth.dkim import DkimSettings, Signer, SigningKey, SignSettings, Verifier
from elemta.mailauth.dmarc import DmarcChecker, find_author
from elemta.mailauth.fields import Fields
from elemta.mailauth.keys import PrivateKey
from elemta.mailauth.spf import SpfChecker, SpfSettings
from elemta.testing import FakeResolver

Once = Callable[[], Awaitable[None]]

CLIENT = "192.0.2.25"
ROUND = 0.2  # seconds of CPU time that each side has, in turn
_WORDS = (
    "who",
    "really",
    "sent",
    "this",
    "message",
    "to",
    "whom",
    "and",
    "when",
    "it",
    "is",
    "said",
)
_HEAD = b"".join(
    (
        *(
            b"Received: from mx%d.example.net (mx%d.example.net [192.0.2.%d])\r\n"
            b"\tby mx.example.com with ESMTPS id 4F1A2B3C%d;\r\n"
            b"\tSat, 21 Nov 2026 12:00:0%d +0000\r\n" % ((number,) * 5)
            for number in range(4)
        ),
        b"From: Ann <ann@DOMAIN>\r\nTo: Bob <bob@example.com>, Carl <carl@example.com>\r\n",
        b"Subject: A message of the usual kind, with a subject that\r\n is folded\r\n",
        b"Date: Sat, 21 Nov 2026 12:00:00 +0000\r\nMessage-ID: <20261121120000.1@example.org>\r\n",
        b"References: <1@example.com> <2@example.com>\r\nMIME-Version: 1.0\r\n",
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n",
    )
)


@dataclass(slots=True)
class Part:
    """One thing that is measured.

    Attributes:
        name: Of it.
        ours: Does it once.
        limit: Microseconds that it may take.
        theirs: The yardstick does it once; None for no yardstick.
        factor: How many times as long the yardstick has to take.
    """

    name: str
    ours: Once
    limit: float
    theirs: Once | None = None
    factor: float = 0.0


@dataclass(slots=True)
class Bench:
    """A message, its keys, and a DNS.

    Attributes:
        domain: Of the author, the sender and the signature.
        size: Octets of the message before it is signed, at least those of its header section.
        key: Signs.
        selector: Of the key.
        head, body: The message, in lines of text.
        resolver: Knows the domain.
        signed: The header section with one signature.
        now: The time, all along.
    """

    domain: str = "example.org"
    size: int = 10 * 1024
    key: PrivateKey = field(default_factory=PrivateKey.generate)
    selector: str = "bench"
    head: bytes = field(init=False)
    resolver: FakeResolver = field(init=False)
    body: bytes = field(init=False)
    signed: bytes = field(init=False)
    now: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        domain = self.domain
        zone = {
            domain: {"TXT": [f"v=spf1 ip4:198.51.100.0/24 mx include:_spf.{domain} -all"]},
            f"_spf.{domain}": {"TXT": ["v=spf1 ip4:203.0.113.0/24 ip4:192.0.2.0/24 -all"]},
            f"_dmarc.{domain}": {"TXT": ["v=DMARC1; p=reject"]},
            f"{self.selector}._domainkey.{domain}": {"TXT": [self.key.record()]},
        }
        zone[domain]["MX"] = [(10, f"mx.{domain}")]
        zone[f"mx.{domain}"] = {"A": ["198.51.100.1"]}
        self.resolver = FakeResolver(zone)
        self.head = _HEAD.replace(b"DOMAIN", domain.encode())
        self.body = _write_body(self.size - len(self.head))
        self.signed = self.sign() + self.head

    def sign(self) -> bytes:
        """Sign as a server does: the signer is there, the body comes by in pieces."""
        hasher = BodyHasher([self.signer.spec])
        hasher.update(self.body)
        return self.signer.sign(self.head, hasher.finish()[self.signer.spec], self.now)

    @property
    def signer(self) -> Signer:
        """Signs with the one key."""
        return Signer([SigningKey(self.domain, self.selector, self.key)], SignSettings())

    def seal(self) -> bytes:
        """Give the header section as a server that has passed the message on left it."""
        sealer = Sealer(SigningKey(self.domain, self.selector, self.key), SealSettings())
        hasher = BodyHasher([sealer.spec])
        hasher.update(self.body)
        results = f"{self.domain}; dmarc=pass header.from={self.domain}"
        chain = ArcVerdict(AuthStatus.NONE)
        digest = hasher.finish()[sealer.spec]
        return sealer.seal(self.signed, digest, results, chain, self.now) + self.signed


def _write_body(size: int) -> bytes:
    rng = random.Random(1)
    lines: list[bytes] = []
    while size > 0:
        lines.append(" ".join(rng.choices(_WORDS, k=13)).encode()[: max(0, size - 2)] + b"\r\n")
        size -= len(lines[-1])
    return b"".join(lines)


def verifying(bench: Bench) -> Part:
    """Prepare the judging of one signature."""
    settings, resolver, now = DkimSettings(), bench.resolver, bench.now
    message = bench.signed + bench.body
    record = bench.key.record().encode()

    async def ours() -> None:
        verifier = Verifier(bench.signed, settings, now)
        hasher = BodyHasher(verifier.specs)
        hasher.update(bench.body)
        digests = hasher.finish()
        (verdict,) = await verifier.judge(digests, hasher.sizes, resolver)
        resolver.questions.clear()
        if verdict.status is not AuthStatus.PASS:
            raise BenchError(f"our own signature is not taken: {verdict}")

    async def theirs() -> None:
        if not dkim.verify(message, dnsfunc=lambda _name, **_: record):
            raise BenchError("the yardstick does not take our signature")

    return Part("DKIM verify, RSA-2048", ours, 200, theirs, 5)


def signing(bench: Bench) -> Part:
    """Prepare the making of one signature."""
    form = (Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    secret = bench.key.key.private_bytes(*form)
    message = bench.head + bench.body
    signer, now = bench.signer, bench.now

    async def ours() -> None:
        hasher = BodyHasher([signer.spec])
        hasher.update(bench.body)
        signer.sign(bench.head, hasher.finish()[signer.spec], now)

    async def theirs() -> None:
        relaxed = (b"relaxed", b"relaxed")
        selector, domain = bench.selector.encode(), bench.domain.encode()
        dkim.sign(message, selector, domain, secret, canonicalize=relaxed)

    return Part("DKIM sign, RSA-2048", ours, 500, theirs, 10)


def checking_spf(bench: Bench) -> Part:
    """Prepare the check of one sender."""
    checker = SpfChecker(bench.resolver, SpfSettings())

    async def ours() -> None:
        verdict = await _check_spf(checker, bench)
        bench.resolver.questions.clear()
        if verdict.status is not AuthStatus.PASS:
            raise BenchError(f"the sender is not let send: {verdict}")

    return Part("SPF of a typical record", ours, 100)


async def _check_spf(checker: SpfChecker, bench: Bench) -> SpfVerdict:
    sender = f"ann@{bench.domain}"
    helo = f"mx.{bench.domain}"
    return await checker.check(CLIENT, bench.domain, sender, helo, now=bench.now)


def judging(bench: Bench) -> Part:
    """Prepare the judging of a whole message."""
    section, resolver, now = bench.seal(), bench.resolver, bench.now
    checker, dmarc = SpfChecker(resolver, SpfSettings()), DmarcChecker(resolver)

    async def ours() -> None:
        fields = Fields(section)
        dkim_verifier = Verifier(fields, DkimSettings(), now)
        arc_verifier = ChainVerifier(fields, ArcSettings(), now)
        hasher = BodyHasher({*dkim_verifier.specs, *arc_verifier.specs})
        hasher.update(bench.body)
        digests = hasher.finish()
        found = Authentication(spf=await _check_spf(checker, bench))
        found.dkim = await dkim_verifier.judge(digests, hasher.sizes, resolver)
        found.arc = await arc_verifier.judge(digests, hasher.sizes, resolver)
        author = find_author(section)
        found.dmarc = (await dmarc.check_author(author, found.spf, found.dkim)).verdict
        sender, helo = f"ann@{bench.domain}", f"mx.{bench.domain}"
        value = format_results("mx.test", found, client_ip=CLIENT, helo=helo, sender=sender)
        resolver.questions.clear()
        if value.count("=pass") < 4:
            raise BenchError(f"not everything passes: {value}")

    return Part("SPF, DKIM, ARC and DMARC", ours, 1000)


PARTS: dict[str, Callable[[Bench], Part]] = {
    "verify": verifying,
    "sign": signing,
    "spf": checking_spf,
    "chain": judging,
}


async def measure(once: Once, seconds: float) -> float:
    """Give the microseconds of CPU time that it takes, done again and again for so long."""
    count, begin = 0, time.process_time()
    while time.process_time() - begin < seconds:
        await once()
        count += 1
    return 1e6 * (time.process_time() - begin) / count


async def run(part: Part, rounds: int) -> bool:
    """Measure both sides in turn and tell the medians; False where a target is missed."""
    ours, theirs = [], []
    await measure(part.ours, ROUND)  # what is remembered, is remembered from here on
    for _ in range(rounds):
        ours.append(await measure(part.ours, ROUND))
        if part.theirs is not None:
            theirs.append(await measure(part.theirs, ROUND))
    took = statistics.median(ours)
    is_good = took < part.limit
    text = f"{part.name}: {took:.0f} us (target: under {part.limit:.0f})"
    if theirs:
        factor = statistics.median(theirs) / took
        is_good = is_good and factor >= part.factor
        text += f", {factor:.1f} times as fast as dkimpy (target: {part.factor:.0f})"
    print(text if is_good else f"{text}: MISSED", flush=True)
    return is_good


def main() -> int:
    """Measure the parts that are asked for; the exit status is 1 where a target is missed."""
    given = _parser().parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(f"{time.strftime('%Y-%m-%d %H:%M')}, {machine.describe()}", flush=True)
    bench = Bench()
    met = [asyncio.run(run(PARTS[name](bench), given.rounds)) for name in given.only or PARTS]
    return int(not all(met))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.auth", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), help="some of them")
    parser.add_argument("--rounds", type=int, default=9, help="rounds of each (9)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
