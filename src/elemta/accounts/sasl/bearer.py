"""OAUTHBEARER (RFC 7628) and XOAUTH2: a token of an identity provider stands for the password.

    C: n,a=me@example.test,^Ahost=...^Aport=...^Aauth=Bearer <token>^A^A      OAUTHBEARER
    C: user=me@example.test^Aauth=Bearer <token>^A^A                          XOAUTH2

A token that is not good is answered by a challenge in JSON that says so; whatever the client
answers to that, the attempt has failed.
"""

import json
import re
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from elemta.accounts.prepare import MAX_LOGIN
from elemta.accounts.sasl.exchange import (
    Challenge,
    Claim,
    MalformedResponse,
    check_size,
    decode,
)

OAUTHBEARER = "OAUTHBEARER"
XOAUTH2 = "XOAUTH2"

_GS2 = re.compile(r"(?:n|y),(?:a=([^,\x01]*))?,\x01", re.ASCII)
_GS2_BOUND = re.compile(r"p=[^,]*,")
_TOKEN = re.compile(r"Bearer +([A-Za-z0-9._~+/-]+=*)", re.ASCII | re.IGNORECASE)


class Token(NamedTuple):
    """What a token says.

    Attributes:
        login: Whose it is; "" where it is not good.
        fault: Why it is not, for the log.
        trouble: Why that cannot be said for now.
    """

    login: str = ""
    fault: str = ""
    trouble: str = ""


class Bearer:
    """One exchange.

    Args:
        mechanism: `OAUTHBEARER` or `XOAUTH2`.
        validate: Says what a token is good for.
        scope: What a client should ask its provider for; "" for nothing.
        configuration: Where a client finds its provider (OpenID Connect); "" if nowhere.
    """

    def __init__(
        self,
        mechanism: str,
        validate: Callable[[str], Awaitable[Token]],
        scope: str = "",
        configuration: str = "",
    ) -> None:
        self._mechanism = mechanism
        self._validate = validate
        self._scope = scope
        self._configuration = configuration
        self._failed: Claim | None = None

    async def respond(self, response: bytes | None) -> Challenge | Claim:
        """Take the token; after a challenge that says it is bad, anything."""
        if self._failed is not None:
            return self._failed
        if response is None:
            return Challenge(b"")
        text = check_size(response).decode("utf-8", "replace")
        read = _read_oauthbearer if self._mechanism == OAUTHBEARER else _read_xoauth2
        authzid, written = read(text)
        decode(authzid.encode("utf-8", "replace"), MAX_LOGIN)
        token = await self._validate(written)
        claim = Claim(
            self._mechanism,
            token.login or authzid,
            authzid,
            proven=bool(token.login),
            note=token.fault,
            trouble=token.trouble,
        )
        if claim.proven or claim.trouble:
            return claim
        self._failed = claim
        # who is to wait, or is banned, is not to hear of it either: it need not answer
        return Challenge(self._refusal(), reveals=claim)

    def _refusal(self) -> bytes:
        """Say in JSON that the token is no good (RFC 7628 §3.2.2)."""
        if self._mechanism == XOAUTH2:
            facts = {"status": "401", "schemes": "bearer", "scope": self._scope}
        else:
            facts = {
                "status": "invalid_token",
                "scope": self._scope,
                "openid-configuration": self._configuration,
            }
        return json.dumps({key: value for key, value in facts.items() if value}).encode()


def _read_oauthbearer(text: str) -> tuple[str, str]:
    header = _GS2.match(text)
    if header is None:
        if _GS2_BOUND.match(text):
            raise MalformedResponse("OAUTHBEARER has no channel binding (RFC 7628 §3.1)")
        raise MalformedResponse("the GS2 header is malformed (RFC 7628 §3.1)")
    authzid = header[1] or ""
    if re.search("=(?!2C|3D)", authzid):
        raise MalformedResponse("a name has an equals sign that is not written as =3D")
    values = _read_values(text[header.end() :])
    return authzid.replace("=2C", ",").replace("=3D", "="), _read_token(values)


def _read_xoauth2(text: str) -> tuple[str, str]:
    values = _read_values(text)
    if not values.get("user"):
        raise MalformedResponse("the user is missing")
    return values["user"], _read_token(values)


def _read_values(text: str) -> dict[str, str]:
    if not text.endswith("\x01\x01"):
        raise MalformedResponse("two ^A are expected at the end")
    pairs = [part.partition("=") for part in text[:-2].split("\x01")]
    values = {key: value for key, equals, value in pairs if equals}
    if len(values) != len(pairs):
        raise MalformedResponse("pairs of keys and values are expected, each once")
    return values


def _read_token(values: dict[str, str]) -> str:
    """Give the token; "" where a client only asks where to get one (RFC 7628 §4.3)."""
    if not values.get("auth"):
        return ""
    match = _TOKEN.fullmatch(values["auth"])
    if match is None:
        raise MalformedResponse("a bearer token is expected (RFC 6750 §2.1)")
    return match[1]
