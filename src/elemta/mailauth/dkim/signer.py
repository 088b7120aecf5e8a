"""Makes DKIM signatures (RFC 6376 §5, RFC 8463): one pass over the body, any number of keys.

A signature covers every field of the configured names, and says of the most important ones that
there are no others ("oversigning"), so that none can be added. It always covers the whole body.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from elemta.mail.errors import ElemtaError
from elemta.mail.headers import FOLD_AT
from elemta.mailauth.canonical import canonical_field
from elemta.mailauth.dkim.settings import SignSettings
from elemta.mailauth.dkim.signature import SignatureError, parse_forms, parse_name, parse_names
from elemta.mailauth.fields import Fields
from elemta.mailauth.keys import PrivateKey
from elemta.mailauth.verdicts import BodySpec

_FIELD = "DKIM-Signature:"
_FOLD = "\r\n\t"
_MAX_REPEATED = 16  # of one name; those above make no mail, only a signature that nobody reads
_UNSAFE = re.compile(rb"[^!-:<>-~]")  # in a value of dkim-quoted-printable: RFC 6376 §2.11


class SigningError(ElemtaError, ValueError):
    """A signer cannot be made of these keys and settings."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key, and where its other half is published.

    Attributes:
        domain: That signs (`d=`).
        selector: Of the key (`s=`).
        key: That signs.
    """

    domain: str
    selector: str
    key: PrivateKey


class Signer:
    """Signs messages with one or several keys.

    Attributes:
        spec: The hash of the body that is needed.

    Raises:
        SigningError: There is no key, a name is none, the identity is not of all the domains,
            From is not to be signed, or a canonicalisation is not known.
    """

    def __init__(self, keys: Sequence[SigningKey], settings: SignSettings):
        if not keys:
            raise SigningError("there is no key to sign with")
        try:
            self._header_form, body_form = parse_forms(settings.canonicalization)
            listed = ":".join([*settings.fields, *settings.oversigned])
            names = parse_names(listed)
            oversigned = {name.lower().encode() for name in settings.oversigned}
            self._starts = [_begin(key, settings) for key in keys]
        except SignatureError as error:
            raise SigningError(str(error)) from None
        if b"from" not in names:
            raise SigningError("From must be signed")
        if " " in listed:
            raise SigningError("a name of a field to sign has space in it")
        if settings.expires_after is not None and settings.expires_after < 1:
            raise SigningError("signatures must be valid for a second at least")
        self._names = [(name, name in oversigned) for name in dict.fromkeys(names)]
        self._keys = tuple(key.key for key in keys)
        self._expires_after = settings.expires_after
        self.spec = BodySpec(body_form)

    def sign(self, section: bytes | Fields, digest: bytes, now: float) -> bytes:
        """Give the signature fields, to stand before the header section.

        RSA takes most of a millisecond per key: call it in a thread.

        Args:
            section: The header section.
            digest: Of the body, as `spec` asks for it.
            now: Seconds since the epoch.
        """
        fields = section if isinstance(section, Fields) else Fields(section)
        names: list[bytes] = []
        for name, is_oversigned in self._names:
            count = min(fields.count(name), _MAX_REPEATED) + is_oversigned
            # RFC 6376 §5.4: From is always signed, even where there is none
            names += [name] * max(count, name == b"from")
        hashed = hashlib.sha256(b"".join(fields.select(names, self._header_form)))
        middle = self._say_when(int(now))
        listed = [name.decode() for name in names]
        middle += [(" ", f"h={listed[0]}"), *(("", f":{name}") for name in listed[1:])]
        body_hash = base64.b64encode(digest).decode()
        middle += [("", ";"), (" ", f"bh={body_hash};"), (" ", "b=")]
        return b"".join(
            sign_field(key, [*start, *middle], hashed.copy(), self._header_form)
            for key, start in zip(self._keys, self._starts, strict=True)
        )

    def _say_when(self, now: int) -> list[tuple[str, str]]:
        times = [(" ", f"t={now};")]
        if self._expires_after is not None:
            times.append((" ", f"x={now + int(self._expires_after)};"))
        return times


def _begin(key: SigningKey, settings: SignSettings) -> list[tuple[str, str]]:
    """Write what is the same in all signatures of a key."""
    domain, selector = parse_name(key.domain), parse_name(key.selector)
    form = "/".join(parse_forms(settings.canonicalization))
    start = ["v=1;", f"a={key.key.algorithm};", f"c={form};", f"d={domain};", f"s={selector};"]
    if settings.identity:
        local, at, right = settings.identity.rpartition("@")
        right = parse_name(right)
        if not at or (right != domain and not right.endswith(f".{domain}")):
            raise SigningError(f"{settings.identity} is not an identity of {domain}")
        start.append(f"i={_quote(local)}@{right};")
    return [(" ", text) for text in start]


def sign_field(
    key: PrivateKey,
    parts: Iterable[tuple[str, str]],
    hashed: "hashlib._Hash",
    form: str,
    start: str = _FIELD,
) -> bytes:
    """Write one signature field over what is hashed already.

    Args:
        key: That signs.
        parts: All tags, the last of them an empty `b=`, each after its separator.
        hashed: Of the fields that are signed; the field itself is added.
        form: "simple" or "relaxed".
        start: The name of the field, and the colon.
    """
    text, room = _fold(start, parts)
    hashed.update(canonical_field(text.encode(), form).removesuffix(b"\r\n"))
    signature = base64.b64encode(key.sign(hashed.digest())).decode()
    lines = [signature[:room]]
    lines += [signature[at : at + FOLD_AT - 1] for at in range(room, len(signature), FOLD_AT - 1)]
    return f"{text}{_FOLD.join(lines)}\r\n".encode()


def _fold(start: str, parts: Iterable[tuple[str, str]]) -> tuple[str, int]:
    """Write parts, each after its separator, into lines; give also the room on the last line."""
    lines = [start]
    for separator, part in parts:
        if len(lines[-1]) + len(separator) + len(part) > FOLD_AT:
            lines.append(f"\t{part}")
        else:
            lines[-1] += separator + part
    return "\r\n".join(lines), FOLD_AT - len(lines[-1])


def _quote(text: str) -> str:
    return _UNSAFE.sub(lambda found: b"=%02X" % found[0][0], text.encode()).decode()
