"""SCRAM-SHA-256 and -PLUS (RFC 5802, RFC 7677): a proof of the password that does not tell it.

    C: n,,n=me,r=<client nonce>
    S: r=<both nonces>,s=<salt>,i=<iterations>
    C: c=<binding>,r=<both nonces>,p=<proof>
    S: v=<signature>                                  and the client sends an empty response

For a login that does not exist, or may not log in, all goes on as for any other, up to a proof
that is never right: its salt is made of the name and a key of this server, so that it is the
same each time. With -PLUS the proof covers the TLS connection, and a client that would have
used it had it been offered finds out (the flag "y").
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from elemta.accounts.account import ScramKeys
from elemta.accounts.prepare import MAX_LOGIN, prepare_for_scram
from elemta.accounts.sasl.exchange import (
    Challenge,
    Claim,
    MalformedResponse,
    check_size,
    decode,
)

MECHANISM = "SCRAM-SHA-256"
PLUS = f"{MECHANISM}-PLUS"
SALT_SIZE = 16
MAX_NONCE = 256

_NONCE = re.compile(r"[\x21-\x2b\x2d-\x7e]+", re.ASCII)  # printable, no comma
_GS2 = re.compile(r"(n|y|p=([A-Za-z0-9.-]{1,64})),(?:a=([^,\0]*))?,", re.DOTALL)
_ESCAPE = re.compile(r"=(2C|3D)?")


class Known(NamedTuple):
    """What is known of a login.

    Attributes:
        keys: To be used; made up where there are none.
        may_succeed: They are real, and it may log in.
        trouble: Why that cannot be said for now.
    """

    keys: ScramKeys
    may_succeed: bool
    trouble: str = ""


FindKeys = Callable[[str], Awaitable[Known]]


def make_keys(password: str, iterations: int, salt: bytes | None = None) -> ScramKeys:
    """Make the keys of a password; that takes as long as it takes a client."""
    salt = secrets.token_bytes(SALT_SIZE) if salt is None else salt
    prepared = prepare_for_scram(password).encode()
    salted = hashlib.pbkdf2_hmac("sha256", prepared, salt, iterations)
    client_key = _hmac(salted, b"Client Key")
    stored_key = hashlib.sha256(client_key).digest()
    return ScramKeys(iterations, salt, stored_key, _hmac(salted, b"Server Key"))


def make_up_keys(login: str, key: bytes, iterations: int) -> ScramKeys:
    """Make keys that look as those of an account would, the same for a login each time."""
    salt = _hmac(key, b"salt of " + login.encode("utf-8", "replace"))[:SALT_SIZE]
    return ScramKeys(iterations, salt, _hmac(key, b"stored" + salt), _hmac(key, b"server" + salt))


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


class _Opening(NamedTuple):
    """What the client's first message says."""

    header: str
    bare: str
    flag: str
    binding: str
    authzid: str
    login: str
    nonce: str


class Scram:
    """One exchange.

    Args:
        find_keys: Finds the keys of a login.
        bindings: What the connection can be bound to.
        is_plus: The client has chosen -PLUS.
        offers_plus: It was offered.
    """

    def __init__(
        self,
        find_keys: FindKeys,
        bindings: Mapping[str, bytes],
        *,
        is_plus: bool,
        offers_plus: bool,
    ) -> None:
        self._find_keys = find_keys
        self._bindings = bindings
        self._is_plus = is_plus
        self._offers_plus = offers_plus
        self._opening: _Opening | None = None
        self._known: Known | None = None
        self._nonce = secrets.token_urlsafe(24)
        self._first = ""
        self._is_proven = False

    async def respond(self, response: bytes | None) -> Challenge | Claim:
        """Take the first message, the proof, and the empty response at the end."""
        if response is None:
            return Challenge(b"")
        if self._is_proven:
            if response:
                raise MalformedResponse("an empty response is expected at the end")
            return self._claim(proven=True)
        text = decode(check_size(response), 8 * MAX_LOGIN + 1024)
        if self._opening is None or self._known is None:
            return await self._begin(text)
        return self._finish(text, self._opening, self._known)

    async def _begin(self, text: str) -> Challenge | Claim:
        opening = self._opening = _parse_first(text)
        fault = self._binding_fault(opening)
        if fault:
            return self._claim(proven=False, note=fault)
        known = self._known = await self._find_keys(opening.login)
        if known.trouble:
            return self._claim(proven=False, trouble=known.trouble)
        salt = base64.b64encode(known.keys.salt).decode()
        self._nonce = opening.nonce + self._nonce
        self._first = f"r={self._nonce},s={salt},i={known.keys.iterations}"
        return Challenge(self._first.encode())

    def _binding_fault(self, opening: _Opening) -> str:
        if opening.flag == "y" and self._offers_plus:
            return "the client was not shown that channel binding is offered: somebody is between"
        if (opening.flag[0] == "p") is not self._is_plus:
            raise MalformedResponse("channel binding and mechanism do not fit (RFC 5802 §6)")
        if self._is_plus and opening.binding not in self._bindings:
            return "the client wants a channel binding that this connection does not have"
        return ""

    def _finish(self, text: str, opening: _Opening, known: Known) -> Challenge | Claim:
        binding, nonce, proof, without_proof = _parse_final(text)
        expected = opening.header.encode() + self._bindings.get(opening.binding, b"")
        if not hmac.compare_digest(binding, expected):
            return self._claim(proven=False, note="bound to another connection")
        if not hmac.compare_digest(nonce.encode(), self._nonce.encode()):
            return self._claim(proven=False, note="not the nonce of this exchange")
        message = f"{opening.bare},{self._first},{without_proof}".encode()
        keys = known.keys
        signature = _hmac(keys.stored_key, message)
        client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
        is_right = hmac.compare_digest(hashlib.sha256(client_key).digest(), keys.stored_key)
        if not (is_right and known.may_succeed):
            return self._claim(proven=False)
        self._is_proven = True
        signed = b"v=" + base64.b64encode(_hmac(keys.server_key, message))
        return Challenge(signed, reveals=self._claim(proven=True))

    def _claim(self, *, proven: bool, note: str = "", trouble: str = "") -> Claim:
        login = self._opening.login if self._opening is not None else ""
        authzid = self._opening.authzid if self._opening is not None else ""
        mechanism = PLUS if self._is_plus else MECHANISM
        return Claim(mechanism, login, authzid, proven=proven, note=note, trouble=trouble)


def _parse_first(text: str) -> _Opening:
    header = _GS2.match(text)
    if header is None:
        raise MalformedResponse("the GS2 header is malformed (RFC 5802 §7)")
    bare = text[header.end() :]
    name, comma, rest = bare.partition(",")
    if name.startswith("m="):
        raise MalformedResponse("mandatory extensions are not supported (RFC 5802 §5.1)")
    nonce = rest.partition(",")[0]
    if not comma or name[:2] != "n=" or nonce[:2] != "r=":
        raise MalformedResponse("login and nonce are expected (RFC 5802 §7)")
    if len(nonce) > MAX_NONCE or not _NONCE.fullmatch(nonce[2:]):
        raise MalformedResponse("the nonce is malformed (RFC 5802 §7)")
    login, authzid = _unescape(name[2:]), _unescape(header[3] or "")
    if not login or len(login.encode()) > MAX_LOGIN or len(authzid.encode()) > MAX_LOGIN:
        raise MalformedResponse("the login is missing or too long")
    return _Opening(header[0], bare, header[1], header[2] or "", authzid, login, nonce[2:])


def _unescape(text: str) -> str:
    """Read a saslname (RFC 5802 §5.1)."""
    if any(match[1] is None for match in _ESCAPE.finditer(text)):
        raise MalformedResponse("a name has an equals sign that is not written as =3D")
    return text.replace("=2C", ",").replace("=3D", "=")


def _parse_final(text: str) -> tuple[bytes, str, bytes, str]:
    """Read binding, nonce and proof, and give the message without the proof besides."""
    without_proof, mark, proof = text.rpartition(",p=")
    parts = without_proof.split(",")
    if not mark or len(parts) < 2 or parts[0][:2] != "c=" or parts[1][:2] != "r=":
        raise MalformedResponse("binding, nonce and proof are expected (RFC 5802 §7)")
    if any(part.startswith("m=") for part in parts):
        raise MalformedResponse("mandatory extensions are not supported (RFC 5802 §5.1)")
    try:
        binding = base64.b64decode(parts[0][2:], validate=True)
        given = base64.b64decode(proof, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedResponse("binding or proof is not base64") from None
    if len(given) != hashlib.sha256().digest_size:
        raise MalformedResponse("the proof has not the size of a hash")
    return binding, parts[1][2:], given, without_proof
