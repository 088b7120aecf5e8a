"""What checks of a message's origin come to, as values that plugins and header fields share."""

import enum
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct


class AuthStatus(enum.StrEnum):
    """What a check of a message's origin came to (RFC 8601 §2.7)."""

    NONE = "none"
    PASS = "pass"  # noqa: S105 - the word of the RFC
    FAIL = "fail"
    SOFTFAIL = "softfail"
    NEUTRAL = "neutral"
    POLICY = "policy"
    TEMPERROR = "temperror"
    PERMERROR = "permerror"


@dataclass(frozen=True, slots=True)
class SpfVerdict:
    """Whether an address may send for a domain (RFC 7208 §8).

    Attributes:
        status: The result.
        domain: That was asked, in A-label form.
        identity: "mailfrom" or "helo".
        mechanism: The term that decided ("ip4:192.0.2.0/24", "-all"), "" for none.
        explanation: What the domain tells the client of a fail (`exp=`), "" for nothing.
        problem: Why it is an error, for the operator.
    """

    status: AuthStatus
    domain: str = ""
    identity: str = "mailfrom"
    mechanism: str = ""
    explanation: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class DkimVerdict:
    """One signature (RFC 6376 §6.1), or the lack of any.

    Attributes:
        status: The result.
        domain: Who signed (`d=`), in A-label form.
        selector: Of the key (`s=`).
        identity: For whom (`i=`), "" where the signature does not say.
        algorithm: "rsa-sha256" or "ed25519-sha256", or what the signature names.
        key_bits: Of the key, 0 where it is not known.
        is_testing: The key says that the domain only tries (`t=y`).
        unsigned: Octets of the body that the signature does not cover (`l=`).
        tag: The first octets of `b=`, which tell signatures apart (RFC 6008).
        problem: Why it is no pass.
    """

    status: AuthStatus
    domain: str = ""
    selector: str = ""
    identity: str = ""
    algorithm: str = ""
    key_bits: int = 0
    is_testing: bool = False
    unsigned: int = 0
    tag: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class DmarcVerdict:
    """What the domain in From says of a message (RFC 9989).

    Attributes:
        status: The result; NONE where there is no policy.
        author_domain: The domain in From, in A-label form; "" where it cannot be read.
        policy_domain: Where the policy was found.
        organizational_domain: Of the author domain; "" where nothing depended on it, since finding
            it may take queries.
        policy: What the domain asks for: "none", "quarantine" or "reject"; after `t=`, before any
            override of ours.
        published: What stands in the record for this name (`p`, `sp` or `np`).
        is_testing: The record says that the domain only tries (`t=y`).
        spf_aligned, dkim_aligned: Which of the two passed and speaks for the author domain.
        discovery: "treewalk" or "psl".
        override: Why the policy is not followed to the letter ("trusted_forwarder"...), or "".
        problem: Why it is an error, or cannot be judged.
        disposition: What was done about it ("none", "quarantine" or "reject"), "" where nobody
            has decided.
    """

    status: AuthStatus
    author_domain: str = ""
    policy_domain: str = ""
    organizational_domain: str = ""
    policy: str = "none"
    published: str = ""
    is_testing: bool = False
    spf_aligned: bool = False
    dkim_aligned: bool = False
    discovery: str = "treewalk"
    override: str = ""
    problem: str = ""
    disposition: str = ""


@dataclass(frozen=True, slots=True)
class ArcVerdict:
    """A chain of seals (RFC 8617 §5.2).

    Attributes:
        status: NONE, PASS or FAIL; TEMPERROR where a key could not be looked up.
        instances: How many sets there are.
        sealers: The domains that sealed (`d=`), the first one first.
        oldest_pass: The first set from which on the message has not been changed; 0 for all.
        problem: Why it is no pass.
        dmarc_passed: The domain in From for which the first sealer says that DMARC passed
            (`dmarc=pass header.from=` in its ARC-Authentication-Results), "" for none.
    """

    status: AuthStatus
    instances: int = 0
    sealers: tuple[str, ...] = ()
    oldest_pass: int = 0
    problem: str = ""
    dmarc_passed: str = ""


@dataclass(frozen=True, slots=True)
class IprevVerdict:
    """Whether the name of an address leads back to it (RFC 8601 §3).

    Attributes:
        status: PASS, FAIL, TEMPERROR or PERMERROR.
        name: The host name that leads back; of a fail the first that was looked at.
        problem: Why it is no pass.
    """

    status: AuthStatus
    name: str = ""
    problem: str = ""


class BodySpec(Struct, frozen=True):
    """A hash of a body that a signature asks for.

    Attributes:
        canonicalization: "simple" or "relaxed" (RFC 6376 §3.4).
        length: Octets of the canonical body that count (`l=`); None for all.
        algorithm: "sha256".
    """

    canonicalization: str
    length: int | None = None
    algorithm: str = "sha256"


@dataclass(slots=True)
class Authentication:
    """All that has been found out about one message; None or () for what nobody has checked.

    Attributes:
        dmarc_record: The `elemta.mailauth.dmarc.DmarcRecord` behind `dmarc`: reports go where it
            says.
        body_hashes: Digests of the body as it was received, so that it is read once for all checks.
        body_size: Octets of the canonical body of each of them, before any `length`.
    """

    iprev: IprevVerdict | None = None
    spf_helo: SpfVerdict | None = None
    spf: SpfVerdict | None = None
    dkim: tuple[DkimVerdict, ...] = ()
    dmarc: DmarcVerdict | None = None
    dmarc_record: Any = None  # the room for DMARC knows this one, not the other way round
    arc: ArcVerdict | None = None
    body_hashes: dict[BodySpec, bytes] = field(default_factory=dict)
    body_size: dict[BodySpec, int] = field(default_factory=dict)
