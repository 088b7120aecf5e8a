"""Tokens of an identity provider: JSON Web Tokens, checked by its public keys (RFC 7519).

Keys are read from a file or fetched by HTTPS (a JWK set, RFC 7517), and kept. A key fits one
algorithm, which follows from the key and never from the token: RSA of 2048 bits or more RS256,
P-256 ES256, Ed25519 EdDSA. All others are ignored. About tokens that no key has signed the
provider itself may be asked (`elemta.accounts.introspection`).
"""

import asyncio
import contextlib
import http.client
import math
import ssl
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.types import Options

from elemta.accounts.fetching import WHOLE_TIMEOUT, fetch, name_trouble
from elemta.accounts.introspection import IntrospectionSettings, Introspector
from elemta.accounts.sasl.bearer import Token
from elemta.accounts.source import SourceDown
from elemta.mail.clock import Clock

MAX_TOKEN = 16 * 1024  # octets
MAX_KEYS_SIZE = 256 * 1024  # octets of a set
MAX_KEYS = 100
FRESH_FOR = 3600.0  # seconds that fetched keys are used before they are fetched again
STALE_FOR = 24 * 3600.0  # seconds that they are used while they cannot be fetched
RETRY_AFTER = 60.0  # seconds between attempts, also for a key that nobody knows
LEEWAY = 60.0  # seconds that clocks may differ
_OPTIONS: Options = {
    "require": ["exp", "iss", "aud"],
    "verify_exp": False,  # these by our own clock
    "verify_nbf": False,
    "verify_iat": False,
}


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """Whose tokens are good.

    Attributes:
        issuer: The provider, as its tokens name it (`iss`).
        audience: What they have to be made for (`aud`); "" for anything, without keys.
        keys: Where its keys are: a path, or an https URL; "": there are none.
        introspection: Whom to ask about tokens that none of the keys has signed.
        claim: What names the login.
        scope: What a token has to allow (`scope`); "" for nothing.
    """

    issuer: str
    audience: str
    keys: str
    claim: str = "email"
    scope: str = ""
    introspection: IntrospectionSettings | None = None


@dataclass(frozen=True, slots=True)
class _Key:
    algorithm: str
    key: Any


class TokenJudge:
    """Says whose a token is.

    Args:
        settings: Whose tokens are good.
        clock: Says whether they have expired.
        context: TLS for fetching keys; None: as the system trusts.
    """

    def __init__(
        self, settings: TokenSettings, clock: Clock, context: ssl.SSLContext | None = None
    ) -> None:
        self.settings = settings
        self._clock = clock
        self._context = context
        asked = settings.introspection
        self._introspector = Introspector(asked, clock, context) if asked is not None else None
        self._keys: Mapping[str, _Key] = {}
        self._read_at: float | None = None
        self._tried_at: float | None = None
        self._trouble = ""
        self._reading = asyncio.Lock()

    async def judge(self, text: str) -> Token:
        """Check a token."""
        if not text or len(text) > MAX_TOKEN:
            return Token(fault="there is no token, or it is too long")
        try:
            fault = "it is no token"
            if self.settings.keys and (header := _find_header(text)) is not None:
                key = await self._find_key(header.get("kid") or "")
                if key is not None:
                    return self._check(text, key)
                fault = "the token is signed with an unknown key"
            if self._introspector is None:
                return Token(fault=fault)
            said = await self._introspector.ask(text)
        except SourceDown as error:
            return Token(trouble=str(error))
        if said is None:
            return Token(fault="the provider says that the token is not good")
        return self._read_answer(said)

    async def close(self) -> None:
        """End; idempotent."""
        if self._introspector is not None:
            await self._introspector.close()

    def _check(self, text: str, key: _Key) -> Token:
        try:
            claims = jwt.decode(
                text,
                key.key,
                algorithms=[key.algorithm],
                audience=self.settings.audience,
                issuer=self.settings.issuer,
                options=_OPTIONS,
            )
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            return Token(fault=f"the token is not valid: {type(error).__name__}")
        return self._read(claims)

    def _read_answer(self, said: Mapping[str, Any]) -> Token:
        """Judge a token that its provider says is good; it need not say more (RFC 7662 §2.2)."""
        audience, wanted = said.get("aud", ()), self.settings.audience
        audiences = [audience] if isinstance(audience, str) else audience
        if said.get("iss", self.settings.issuer) != self.settings.issuer:
            return Token(fault="the token is of another issuer")
        if wanted and not (isinstance(audiences, list) and wanted in audiences):
            return Token(fault="the token is not made for this server")
        return self._read({"exp": self._clock.now(), **said})  # which is within the leeway

    def _read(self, claims: Mapping[str, Any]) -> Token:
        now = self._clock.now()
        expires_at, begins_at = claims["exp"], claims.get("nbf", 0)
        if not _is_instant(expires_at) or now >= expires_at + LEEWAY:
            return Token(fault="the token has expired")
        if not _is_instant(begins_at) or now < begins_at - LEEWAY:
            return Token(fault="the token is not valid yet")
        scopes = claims.get("scope", "")
        granted = scopes.split() if isinstance(scopes, str) else []
        if self.settings.scope and self.settings.scope not in granted:
            return Token(fault="the token does not have the scope")
        login = claims.get(self.settings.claim)
        if self.settings.claim == "email" and claims.get("email_verified") is False:
            return Token(fault="the address in the token is not verified")
        if not isinstance(login, str) or not login:
            return Token(fault=f"the token has no {self.settings.claim}")
        return Token(login)

    async def _find_key(self, name: str) -> _Key | None:
        """Find a key by its id, or the only one there is; read them where that may help."""
        now = self._clock.monotonic()
        is_old = self._read_at is None or now >= self._read_at + FRESH_FOR
        if (is_old or self._choose(name) is None) and self._may_try(now):
            async with self._reading:
                if self._may_try(now):  # nobody else has meanwhile
                    self._tried_at = now
                    await self._renew(now)
        key = self._choose(name)
        is_stale = self._read_at is None or now >= self._read_at + STALE_FOR
        if is_stale or (key is None and self._trouble):  # it may be a new one
            raise SourceDown(f"keys of {self.settings.issuer}: {self._trouble or 'too old'}")
        return key

    def _may_try(self, now: float) -> bool:
        return self._tried_at is None or now >= self._tried_at + RETRY_AFTER

    def _choose(self, name: str) -> _Key | None:
        if name:
            return self._keys.get(name)
        return next(iter(self._keys.values())) if len(self._keys) == 1 else None

    async def _renew(self, now: float) -> None:
        try:
            async with asyncio.timeout(WHOLE_TIMEOUT):  # names may be slow, too
                raw = await asyncio.to_thread(_load, self.settings.keys, self._context)
            self._keys = _parse(raw)
            self._read_at, self._trouble = now, ""
        except (OSError, http.client.HTTPException) as error:
            self._trouble = name_trouble(error)
        except (ValueError, RecursionError, msgspec.MsgspecError):
            self._trouble = "no set of keys"


def _is_instant(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


# What the library raises for what is no key, or one that it does not know.
_NO_KEY = (jwt.PyJWTError, ValueError, TypeError, LookupError, NotImplementedError, AttributeError)


class _KeySet(msgspec.Struct):
    keys: list[dict[str, Any]]


def _load(place: str, context: ssl.SSLContext | None) -> bytes:
    if place.startswith("https://"):
        request = urllib.request.Request(place)  # noqa: S310 - as configured
        return fetch(request, MAX_KEYS_SIZE, context)
    with Path(place).open("rb") as file:
        raw = file.read(MAX_KEYS_SIZE + 1)
    if len(raw) > MAX_KEYS_SIZE:
        raise ValueError("too large")
    return raw


def _find_header(text: str) -> Mapping[str, Any] | None:
    """Give the header of a JSON Web Token; None where it is none."""
    try:
        return jwt.get_unverified_header(text)
    except (jwt.PyJWTError, RecursionError):
        return None


def _parse(raw: bytes) -> Mapping[str, _Key]:
    """Read the keys that can be used; those without an id are numbered."""
    keys: dict[str, _Key] = {}
    for item in msgspec.json.decode(raw, type=_KeySet).keys[:MAX_KEYS]:
        with contextlib.suppress(*_NO_KEY):
            found = jwt.PyJWK(item)
            algorithm = _algorithm_of(found.key)
            if algorithm and found.public_key_use in {None, "sig"}:
                keys[found.key_id or f"\0{len(keys)}"] = _Key(algorithm, found.key)
    if not keys:
        raise ValueError("it has no key that can be used")
    return keys


def _algorithm_of(key: object) -> str:
    """Say what a public key is used with; "" for keys that are not used."""
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2048:
        return "RS256"
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return "ES256"
    return "EdDSA" if isinstance(key, ed25519.Ed25519PublicKey) else ""
