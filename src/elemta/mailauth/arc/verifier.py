"""Judges the chain of seals of a message (RFC 8617 §5.2).

A chain passes if its structure is whole, its last server signed the message as it is, and each of
its seals is right. It fails for good with the first thing that is wrong. That a key cannot be
looked up is told apart (temperror), as a deferral may help; for those who seal it is a failure
like any other (§5.2.1).

What a signature of the message must be, as the RFC leaves it to DKIM: RSA or Ed25519 with SHA-256,
not expired, all From fields signed, and the whole body.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace

from elemta.mail.errors import LookupFailed
from elemta.mailauth.arc.sets import (
    SEAL,
    ArcSet,
    ChainError,
    Seal,
    read_seal,
    read_sets,
    seal_digests,
)
from elemta.mailauth.arc.settings import MAX_SETS, ArcSettings
from elemta.mailauth.authres import AuthResultsError, parse
from elemta.mailauth.canonical import canonical_signature
from elemta.mailauth.dkim import (
    Signature,
    SignatureError,
    fetch_key,
    parse_name,
    read_signature,
)
from elemta.mailauth.fields import Fields
from elemta.mailauth.keys import ALGORITHMS, KeyRecordError, PublicKey
from elemta.mailauth.resolving import Resolver
from elemta.mailauth.verdicts import ArcVerdict, AuthStatus, BodySpec


class ChainVerifier:
    """Judges the chain of one message.

    Args:
        section: The header section.
        settings: How to judge.
        now: Seconds since the epoch.

    Attributes:
        specs: The hashes of the body that are needed; none where the structure tells enough.
    """

    def __init__(self, section: bytes | Fields, settings: ArcSettings, now: float):
        self._settings = settings
        self._now = now
        self._sets: tuple[ArcSet, ...] = ()
        self._seals: list[Seal] = []
        self._signatures: list[Signature | str] = []
        self._verdict = ArcVerdict(AuthStatus.NONE)
        self.specs: tuple[BodySpec, ...] = ()
        if isinstance(section, Fields) or b"arc-" in section.lower():
            self._fields = section if isinstance(section, Fields) else Fields(section)
            try:
                self._read()
            except ChainError as error:
                self._verdict = _failed(str(error), error.instances)

    @property
    def key_names(self) -> tuple[str, ...]:
        """The keys that a chain needs which passes, in the order in which they are asked for."""
        last = self._signatures[-1:]
        names = [each.key_name for each in last if isinstance(each, Signature)]
        names += [seal.key_name for seal in reversed(self._seals)]
        return tuple(dict.fromkeys(names))[: self._settings.max_keys]

    async def judge(
        self,
        digests: Mapping[BodySpec, bytes],
        sizes: Mapping[BodySpec, int],
        resolver: Resolver,
        steps: list[str] | None = None,
    ) -> ArcVerdict:
        """Give the verdict.

        Args:
            digests: Of the body, for each of `specs`.
            sizes: Of the canonical body, for each of `specs`.
            resolver: Who is asked for keys.
            steps: Is told how it went, for people.
        """
        verdict = self._verdict
        if verdict.status is AuthStatus.PASS:
            check = _Check(self._fields, digests, sizes, _Keys(resolver, self._settings))
            try:
                await self._judge_last(check)
                await self._judge_seals(check)
                oldest = await self._find_oldest(check)
                verdict = replace(verdict, oldest_pass=oldest, dmarc_passed=self._read_results())
            except ChainError as error:
                verdict = replace(_failed(str(error), len(self._sets)), sealers=verdict.sealers)
            except LookupFailed as error:
                verdict = replace(verdict, status=AuthStatus.TEMPERROR, problem=str(error))
        if steps is not None:
            steps.extend(self._explain(verdict))
        return verdict

    def _read(self) -> None:
        """Read all sets; the verdict is PASS as long as nothing is found against them."""
        self._sets = read_sets(self._fields, min(self._settings.max_sets, MAX_SETS))
        if not self._sets:
            return
        self._seals = [read_seal(one) for one in self._sets]
        for number, seal in enumerate(self._seals, 1):
            if seal.state != ("none" if number == 1 else "pass"):
                raise ChainError(f"AS {number}: cv={seal.state}", len(self._sets))
        self._signatures = [self._read_signature(one) for one in self._sets]
        last = self._signatures[-1]
        if isinstance(last, str):
            raise ChainError(f"AMS {len(self._sets)}: {last}", len(self._sets))
        # a limit of its own for each signature would be as many hashes of the whole body
        of_others = (each.body for each in self._signatures if isinstance(each, Signature))
        whole = (spec for spec in of_others if spec.length is None)
        self.specs = tuple(dict.fromkeys((last.body, *whole)))
        sealers = tuple(seal.domain for seal in self._seals)
        self._verdict = ArcVerdict(AuthStatus.PASS, len(self._sets), sealers)

    def _read_signature(self, one: ArcSet) -> Signature | str:
        """Read a signature of the message, or say why it is none."""
        tags = {**one.signature_tags, "v": "1"}  # there is no version, and i= is a number
        del tags["i"]
        try:
            signature = read_signature(tags)
        except SignatureError as error:
            return str(error)
        if SEAL in signature.names:
            return "it signs seals"
        signed = signature.names.count(b"from")
        if not signed or self._fields.count(b"from") > signed:
            return "a From field is not signed"
        expires_at = signature.expires_at
        if expires_at is not None and expires_at + self._settings.clock_tolerance < self._now:
            return "it has expired"
        return signature

    async def _judge_last(self, check: "_Check") -> None:
        """The last server must have signed the message as it is now (step 4)."""
        problem = await check.judge_message(self._signatures[-1], self._sets[-1])
        if problem:
            raise ChainError(f"AMS {len(self._sets)}: {problem}")

    async def _judge_seals(self, check: "_Check") -> None:
        """All seals must be right (step 6)."""
        digests = seal_digests(self._fields, self._sets)
        for at in reversed(range(len(self._seals))):
            problem = await check.judge_seal(self._seals[at], digests[at])
            if problem:
                raise ChainError(f"AS {at + 1}: {problem}")

    async def _find_oldest(self, check: "_Check") -> int:
        """Find since which set the message is as it is (step 5); what cannot be known ends it."""
        for at in reversed(range(len(self._sets) - 1)):
            try:
                problem = await check.judge_message(self._signatures[at], self._sets[at])
            except LookupFailed:
                return at + 2
            if problem:
                return at + 2
        return 0

    def _read_results(self) -> str:
        """Read from the first set for which author's domain it found that DMARC passed."""
        octets = self._fields.octets[self._sets[0].results]
        value = octets.partition(b":")[2].partition(b";")[2]  # after i=1
        try:
            for result in parse(value.removesuffix(b"\r\n")).results:
                if result.method == "dmarc" and result.result == "pass":
                    return parse_name(result.find("header", "from") or "")
        except (AuthResultsError, SignatureError):
            pass
        return ""

    def _explain(self, verdict: ArcVerdict) -> list[str]:
        if verdict.status is AuthStatus.NONE:
            return ["ARC: no chain"]
        told = [
            f"ARC set {number}: d={seal.domain} s={seal.selector} a={seal.algorithm}"
            f" cv={seal.state}"
            for number, seal in enumerate(self._seals, 1)
        ]
        if verdict.status is AuthStatus.PASS:
            since = verdict.oldest_pass
            told.append(f"ARC: as it is since set {since}" if since else "ARC: never changed")
        problem = f": {verdict.problem}" if verdict.problem else ""
        return [*told, f"ARC: {verdict.status}{problem}"]


class _Keys:
    """Asks for keys, each once and not too many of them."""

    def __init__(self, resolver: Resolver, settings: ArcSettings):
        self._resolver = resolver
        self._settings = settings
        self._known: dict[str, PublicKey | str] = {}

    async def find(self, name: str, algorithm: str) -> PublicKey | str:
        """Give a key for an algorithm, or say why there is none.

        Raises:
            LookupFailed: The DNS does not tell for now.
        """
        if algorithm not in ALGORITHMS:
            return "the algorithm (a=) is not known"
        if name not in self._known:
            if len(self._known) >= self._settings.max_keys:
                return "too many keys to ask for"
            try:
                self._known[name] = await fetch_key(name, self._resolver)
            except KeyRecordError as error:
                self._known[name] = str(error)
        key = self._known[name]
        return key if isinstance(key, str) else self._judge(key, ALGORITHMS[algorithm])

    def _judge(self, key: PublicKey, kind: str) -> PublicKey | str:
        if key.kind != kind:
            return "the key is of another algorithm"
        if kind == "rsa" and key.bits < self._settings.min_key_bits:
            return "the key is too short"
        if kind == "rsa" and key.bits > self._settings.max_key_bits:
            return "the key is too long"
        return key


class _Check:
    """Checks signatures of one message."""

    def __init__(
        self,
        fields: Fields,
        digests: Mapping[BodySpec, bytes],
        sizes: Mapping[BodySpec, int],
        keys: _Keys,
    ):
        self._fields = fields
        self._digests = digests
        self._sizes = sizes
        self._keys = keys

    async def judge_seal(self, seal: Seal, digest: bytes) -> str:
        """Say what is wrong with a seal, "" for nothing."""
        key = await self._keys.find(seal.key_name, seal.algorithm)
        if isinstance(key, str):
            return key
        return "" if key.verify(seal.octets, digest) else "the seal is wrong"

    async def judge_message(self, signature: Signature | str, one: ArcSet) -> str:
        """Say what is wrong with a signature of the message, "" for nothing."""
        if isinstance(signature, str):
            return signature
        problem = self._judge_body(signature)
        if problem:
            return problem
        key = await self._keys.find(signature.key_name, signature.algorithm)
        if isinstance(key, str):
            return key
        form = signature.header_form
        hashed = self._fields.select(signature.names, form)
        hashed.append(canonical_signature(self._fields.octets[one.signature], form))
        digest = hashlib.sha256(b"".join(hashed)).digest()
        return "" if key.verify(signature.octets, digest) else "the signature is wrong"

    def _judge_body(self, signature: Signature) -> str:
        spec = signature.body
        is_whole = spec in self._digests and spec.length in (None, self._sizes[spec])
        if not is_whole:
            return "not the whole body is signed (l=)"
        if self._digests[spec] != signature.body_hash:
            return "the body is not what was signed"
        return ""


def _failed(problem: str, instances: int) -> ArcVerdict:
    return ArcVerdict(AuthStatus.FAIL, instances, problem=problem)
