"""A whole message judged as a server does it: SPF, DKIM, ARC, and DMARC from what they found."""

from dataclasses import dataclass

from mailauth.dkim.signed import hash_body, split

from elemta.mail.address import parse_address
from elemta.mailauth import ArcVerdict, DkimVerdict, DmarcVerdict, Resolver, SpfVerdict
from elemta.mailauth.arc import ArcSettings, ChainVerifier
from elemta.mailauth.dkim import DkimSettings, Verifier
from elemta.mailauth.dmarc import DmarcChecker, DmarcSettings, find_author
from elemta.mailauth.fields import Fields
from elemta.mailauth.spf import SpfChecker, subject_of


@dataclass(frozen=True)
class Envelope:
    """Who brings a message; "" for the null sender."""

    ip: str
    helo: str
    sender: str


@dataclass(frozen=True)
class Verdicts:
    """What all checks came to."""

    spf: SpfVerdict
    dkim: tuple[DkimVerdict, ...]
    arc: ArcVerdict
    dmarc: DmarcVerdict


async def judge(
    raw: bytes, envelope: Envelope, resolver: Resolver, *, now: float, discovery: str = "treewalk"
) -> Verdicts:
    """Judge a message."""
    section, body = split(raw)
    fields = Fields(section)
    sender = parse_address(envelope.sender) if envelope.sender else None
    subject = subject_of("mailfrom", sender, envelope.helo)
    spf = await SpfChecker(resolver).check(
        envelope.ip, subject.domain, subject.sender, envelope.helo, now=now
    )
    verifier = Verifier(fields, DkimSettings(), now)
    chain = ChainVerifier(fields, ArcSettings(), now)
    hashed = hash_body(body, {*verifier.specs, *chain.specs})
    dkim = await verifier.judge(*hashed, resolver)
    arc = await chain.judge(*hashed, resolver)
    checker = DmarcChecker(resolver, DmarcSettings(discovery))
    judgement = await checker.check_author(find_author(section), spf, dkim)
    return Verdicts(spf, dkim, arc, judgement.verdict)
