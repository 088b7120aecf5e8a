"""Judges the DKIM signatures of a message (RFC 6376 §6, RFC 8301, RFC 8463).

What statuses mean, as RFC 8601 §2.7.1 and RFC 6376 leave some choice:

    pass       The signature is right.
    fail       The message is not what was signed: of the body or of the fields.
    policy     The signature is not taken: SHA-1, a key too short or too long, expired, made in
               the future, or of only a part of the body.
    permerror  The signature or its key is malformed, missing, revoked or not for this; or a From
               field is not signed.
    temperror  The key cannot be looked up for now.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from elemta.mail.errors import LookupFailed
from elemta.mailauth.canonical import canonical_signature
from elemta.mailauth.dkim.lookup import find_key
from elemta.mailauth.dkim.settings import DkimSettings
from elemta.mailauth.dkim.signature import (
    TAG_OCTETS,
    Signature,
    SignatureError,
    parse_name,
    read_signature,
)
from elemta.mailauth.fields import Fields
from elemta.mailauth.keys import ALGORITHMS, KeyRecordError, PublicKey
from elemta.mailauth.resolving import Resolver
from elemta.mailauth.tags import TagError, drop_space, parse_tags
from elemta.mailauth.verdicts import AuthStatus, BodySpec, DkimVerdict

Keys = Mapping[str, PublicKey | KeyRecordError | LookupFailed]

_Finding = tuple[AuthStatus, str]

_NAME = b"dkim-signature"
_MAX_FIELD = 16 * 1024  # octets of a signature field; `z=` copies of others make some long
_SHOWN = 254  # characters of what a signature says that are passed on
_HISTORIC = "rsa-sha1"
_GOOD = (AuthStatus.PASS, "")


class _Claim(NamedTuple):
    """A signature that may pass, and where its field is."""

    place: int
    signature: Signature


class Verifier:
    """Judges all signatures of one message.

    The body is hashed by the caller, as `specs` asks for it. `judge` does all the rest; or else the
    keys are asked for, as `find_key` does, and `verify` computes, in any thread: about 40 us per
    signature.

    Args:
        section: The header section.
        settings: How to judge.
        now: Seconds since the epoch.

    Attributes:
        specs: The hashes of the body that are needed.
        key_names: The names that will be asked for.
    """

    def __init__(self, section: bytes | Fields, settings: DkimSettings, now: float):
        self._fields = section if isinstance(section, Fields) else Fields(section)
        self._settings = settings
        self._now = now
        places = self._fields.places(_NAME)
        self._passed_over = len(places) - settings.max_signatures
        self._claims = [self._read(place) for place in places[: settings.max_signatures]]
        found = [claim.signature for claim in self._claims if isinstance(claim, _Claim)]
        self.specs: tuple[BodySpec, ...] = tuple(dict.fromkeys(each.body for each in found))
        self.key_names: tuple[str, ...] = tuple(dict.fromkeys(each.key_name for each in found))

    async def judge(
        self,
        digests: Mapping[BodySpec, bytes],
        sizes: Mapping[BodySpec, int],
        resolver: Resolver,
        steps: list[str] | None = None,
    ) -> tuple[DkimVerdict, ...]:
        """Give a verdict for each signature, the topmost first, or a single one that none is there.

        Args:
            digests: Of the body, for each of `specs`.
            sizes: Of the canonical body, for each of `specs`.
            resolver: Who is asked for keys.
            steps: Is told how it went, for people.
        """
        keys = {name: await find_key(name, resolver) for name in self.key_names}
        return self.verify(digests, sizes, keys, steps)

    def verify(
        self,
        digests: Mapping[BodySpec, bytes],
        sizes: Mapping[BodySpec, int],
        keys: Keys,
        steps: list[str] | None = None,
    ) -> tuple[DkimVerdict, ...]:
        """Compute the verdicts, with the keys of all `key_names`, or why there is none."""
        verdicts: list[DkimVerdict] = []
        for claim in self._claims:
            if isinstance(claim, _Claim):
                key, spec = keys[claim.signature.key_name], claim.signature.body
                verdict = self._conclude(claim, key, digests[spec], sizes[spec])
            else:
                verdict = claim
            verdicts.append(verdict)
            if steps is not None:
                steps.extend(_explain(len(verdicts), claim, verdict))
        if steps is not None and self._passed_over > 0:
            steps.append(f"DKIM: {self._passed_over} more signatures are not looked at")
        if steps is not None and not verdicts:
            steps.append("DKIM: the message is not signed")
        return tuple(verdicts) or (DkimVerdict(AuthStatus.NONE),)

    def _read(self, place: int) -> _Claim | DkimVerdict:
        """Read a signature; give its verdict where key and body cannot change it."""
        octets = self._fields.octets[place]
        tags: dict[str, str] = {}
        if len(octets) > _MAX_FIELD:
            return _sketch(tags, "the signature is too long")
        try:
            tags = parse_tags(octets.partition(b":")[2])
            signature = read_signature(tags)
        except (TagError, SignatureError) as error:
            return _sketch(tags, str(error))
        finding = self._judge_claim(signature)
        return _tell(signature, finding) if finding else _Claim(place, signature)

    def _judge_claim(self, signature: Signature) -> _Finding | None:
        """Judge what can be judged without the key and the body."""
        if signature.algorithm == _HISTORIC:
            return AuthStatus.POLICY, "SHA-1 proves nothing"
        if signature.algorithm not in ALGORITHMS:
            return AuthStatus.PERMERROR, "the algorithm (a=) is not known"
        signed = signature.names.count(b"from")
        if not signed or self._fields.count(b"from") > signed:
            return AuthStatus.PERMERROR, "a From field is not signed"
        expires_at, signed_at = signature.expires_at, signature.signed_at
        if expires_at is not None and expires_at + self._settings.clock_tolerance < self._now:
            return AuthStatus.POLICY, "the signature has expired"
        if signed_at is not None and signed_at - self._settings.future_tolerance > self._now:
            return AuthStatus.POLICY, "the signature is from the future"
        return None

    def _conclude(
        self,
        claim: _Claim,
        key: PublicKey | KeyRecordError | LookupFailed,
        digest: bytes,
        size: int,
    ) -> DkimVerdict:
        signature, length = claim.signature, claim.signature.body.length
        if isinstance(key, LookupFailed):
            later = AuthStatus.TEMPERROR, "the key cannot be looked up for now"
            return _tell(signature, _judge_body(signature, digest, size) or later)
        if isinstance(key, KeyRecordError):
            return _tell(signature, (AuthStatus.PERMERROR, str(key)))
        unsigned = max(0, size - length) if length is not None else 0
        finding = (
            self._judge_key(signature, key)
            or _judge_body(signature, digest, size)
            or self._judge_fields(claim, key)
        )
        if not finding and unsigned and not self._settings.ignore_length:
            finding = AuthStatus.POLICY, "a part of the body is not signed (l=)"
        return _tell(signature, finding or _GOOD, key, unsigned)

    def _judge_key(self, signature: Signature, key: PublicKey) -> _Finding | None:
        if key.kind != ALGORITHMS[signature.algorithm]:
            return AuthStatus.PERMERROR, "the key is of another algorithm"
        if key.is_exact and signature.identity_domain != signature.domain:
            return AuthStatus.PERMERROR, "the key is not for domains below its own (t=s)"
        if key.kind == "rsa" and key.bits < self._settings.min_key_bits:
            return AuthStatus.POLICY, "the key is too short"
        if key.kind == "rsa" and key.bits > self._settings.max_key_bits:
            return AuthStatus.POLICY, "the key is too long"
        return None

    def _judge_fields(self, claim: _Claim, key: PublicKey) -> _Finding | None:
        signature = claim.signature
        hashed = self._fields.select(signature.names, signature.header_form)
        octets = self._fields.octets[claim.place]
        hashed.append(canonical_signature(octets, signature.header_form))
        if not key.verify(signature.octets, hashlib.sha256(b"".join(hashed)).digest()):
            return AuthStatus.FAIL, "the signature is wrong"
        return None


def _judge_body(signature: Signature, digest: bytes, size: int) -> _Finding | None:
    if signature.body.length is not None and signature.body.length > size:
        return AuthStatus.PERMERROR, "more of the body is signed (l=) than there is"
    if digest != signature.body_hash:
        return AuthStatus.FAIL, "the body is not what was signed"
    return None


def _tell(
    signature: Signature, finding: _Finding, key: PublicKey | None = None, unsigned: int = 0
) -> DkimVerdict:
    status, problem = finding
    return DkimVerdict(
        status,
        signature.domain,
        signature.selector,
        _show(signature.identity),
        _show(signature.algorithm),
        key.bits if key is not None else 0,
        key.is_testing if key is not None else False,
        unsigned,
        signature.tag,
        problem,
    )


def _sketch(tags: Mapping[str, str], problem: str) -> DkimVerdict:
    """Tell of a signature that cannot be read what can be told."""
    names: list[str] = []
    for tag in ("d", "s"):
        try:
            names.append(parse_name(tags.get(tag, "")))
        except SignatureError:
            names.append("")
    return DkimVerdict(
        AuthStatus.PERMERROR,
        names[0],
        names[1],
        _show(tags.get("i", "")),
        _show(tags.get("a", "")),
        tag=_show(drop_space(tags.get("b", ""))[:TAG_OCTETS]),
        problem=problem,
    )


def _show(text: str) -> str:
    """Give text of a signature as people may see it: one line, not endless, no tricks."""
    text = drop_space(text[:_SHOWN])
    return text if text.isprintable() else text.encode("ascii", "backslashreplace").decode()


def _explain(number: int, claim: _Claim | DkimVerdict, verdict: DkimVerdict) -> Iterator[str]:
    yield (
        f"DKIM signature {number}: d={verdict.domain} s={verdict.selector}"
        f" a={verdict.algorithm} b={verdict.tag}"
    )
    if isinstance(claim, _Claim):
        signature = claim.signature
        names = b", ".join(signature.names).decode()
        forms = f"{signature.header_form}/{signature.body.canonicalization}"
        yield f"DKIM signature {number}: {forms}, signs {names}"
        testing = ", for testing" if verdict.is_testing else ""
        size = f"{verdict.key_bits} bits{testing}" if verdict.key_bits else "none that can be used"
        yield f"DKIM key {signature.key_name}: {size}"
    if verdict.unsigned:
        yield f"DKIM signature {number}: {verdict.unsigned} octets of the body are not signed"
    problem = f": {verdict.problem}" if verdict.problem else ""
    yield f"DKIM signature {number}: {verdict.status}{problem}"
