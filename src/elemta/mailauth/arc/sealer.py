"""Adds our own set to the chain of a message that is passed on (RFC 8617 §5.1).

A chain that did not pass is sealed as failed, and so that nobody behind us can take it for whole:
the seal then covers our own set alone (§5.1.2). A chain that says already that it has failed gets
no more sets, nor does one of 50.
"""

import base64
import hashlib

from elemta.mail.headers import build_field
from elemta.mailauth.arc.sets import (
    KINDS,
    ChainError,
    canonical_sets,
    find_highest,
    read_sets,
)
from elemta.mailauth.arc.settings import MAX_SETS, SealSettings
from elemta.mailauth.canonical import RELAXED, canonical_field
from elemta.mailauth.dkim import SigningError, SigningKey
from elemta.mailauth.dkim.signature import MAX_NAMES, SignatureError, parse_name, parse_names
from elemta.mailauth.dkim.signer import sign_field
from elemta.mailauth.fields import Fields
from elemta.mailauth.verdicts import ArcVerdict, AuthStatus, BodySpec

_NEVER = {b"authentication-results", *KINDS}


class Sealer:
    """Seals messages with one key.

    Attributes:
        spec: The hash of the body that is needed.

    Raises:
        SigningError: A name is none, From is not to be signed, or a field is that must not be.
    """

    def __init__(self, key: SigningKey, settings: SealSettings):
        self._key = key.key
        try:
            domain, selector = parse_name(key.domain), parse_name(key.selector)
            names = [*settings.fields, *settings.oversigned]
            lowered = parse_names(":".join(names))
        except SignatureError as error:
            raise SigningError(str(error)) from None
        if b"from" not in lowered:
            raise SigningError("From must be signed")
        if not _NEVER.isdisjoint(lowered):
            raise SigningError("Authentication-Results and fields of ARC must not be signed")
        oversigned = {name.lower() for name in settings.oversigned}
        self._names = [
            (name, name.lower().encode(), name.lower() in oversigned)
            for name in {each.lower(): each for each in reversed(names)}.values()
        ][::-1]
        self._who = (f"a={key.key.algorithm};", f"d={domain};", f"s={selector};")
        self.spec = BodySpec(RELAXED)

    def seal(
        self,
        section: bytes | Fields,
        digest: bytes,
        authres_value: str,
        chain: ArcVerdict,
        now: float,
    ) -> bytes:
        """Give the three fields of our set, to stand before the header section.

        The message must not be changed afterwards. RSA signs twice, most of a millisecond each:
        call it in a thread.

        Args:
            section: The header section, as it is passed on.
            digest: Of the body, as `spec` asks for it.
            authres_value: What we found out, as in our Authentication-Results field.
            chain: What we found out about the chain as it came to us.
            now: Seconds since the epoch.

        Returns:
            b"" where no set may or can be added.

        Raises:
            HeaderError: What we found out cannot stand in a field.
        """
        fields = section if isinstance(section, Fields) else Fields(section)
        highest, has_failed = find_highest(fields)
        state, before = _judge(fields, chain)
        names = self._list_names(fields)
        if has_failed or not state or highest >= MAX_SETS or len(names) > MAX_NAMES:
            return b""
        value = f"i={highest + 1}; {authres_value}"
        results = build_field("ARC-Authentication-Results", value, utf8=True)
        start = (f"i={highest + 1};", *self._who, f"t={int(now)};")
        signature = self._sign_message(fields, names, start, digest)
        covered = b"".join(canonical_field(each, RELAXED) for each in (results, signature))
        parts = [(" ", part) for part in (*start, f"cv={state};", "b=")]
        hashed = hashlib.sha256(before + covered)
        return sign_field(self._key, parts, hashed, RELAXED, "ARC-Seal:") + signature + results

    def _list_names(self, fields: Fields) -> list[str]:
        names: list[str] = []
        for name, lowered, is_oversigned in self._names:
            names += [name] * (fields.count(lowered) + is_oversigned)
        return names

    def _sign_message(
        self, fields: Fields, names: list[str], start: tuple[str, ...], digest: bytes
    ) -> bytes:
        chosen = fields.select([name.lower().encode() for name in names], RELAXED)
        body_hash = base64.b64encode(digest).decode()
        parts = [(" ", part) for part in (*start, "c=relaxed/relaxed;", f"h={names[0]}")]
        parts += [("", f":{name}") for name in names[1:]]
        parts += [("", ";"), (" ", f"bh={body_hash};"), (" ", "b=")]
        hashed = hashlib.sha256(b"".join(chosen))
        return sign_field(self._key, parts, hashed, RELAXED, "ARC-Message-Signature:")


def _judge(fields: Fields, chain: ArcVerdict) -> tuple[str, bytes]:
    """Give `cv=`, and the sets that our seal covers; "" where what we judged is not there.

    What is no pass has failed, also where we could not find out (RFC 8617 §5.2.1), and so has a
    chain that is another one than we judged.
    """
    try:
        sets = read_sets(fields, MAX_SETS)
    except ChainError:
        return "fail", b""
    if not sets:
        return "none" if chain.status is AuthStatus.NONE else "", b""
    if chain.status is AuthStatus.PASS and chain.instances == len(sets):
        return "pass", canonical_sets(fields, sets)
    return "fail", b""
