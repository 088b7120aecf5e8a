"""CRAM-MD5 (RFC 2195): for old clients. The server has to know the password itself.

It is off unless an operator wants it, and only for accounts whose secret was kept for it.
"""

import hmac
import re
import secrets
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

MECHANISM = "CRAM-MD5"
_DIGEST = re.compile(r"[0-9a-f]{32}", re.ASCII)


class Secret(NamedTuple):
    """What is known of a login. `text` is "" where it cannot log in so."""

    text: str
    trouble: str = ""


class CramMd5:
    """One exchange.

    Args:
        hostname: Ours, as part of the challenge.
        find_secret: Finds the secret of a login.
    """

    def __init__(self, hostname: str, find_secret: Callable[[str], Awaitable[Secret]]) -> None:
        self._challenge = f"<{secrets.token_hex(16)}@{hostname}>".encode()
        self._find_secret = find_secret
        self._has_begun = False

    async def respond(self, response: bytes | None) -> Challenge | Claim:
        """Send the challenge, and compare its digest."""
        if not self._has_begun:
            if response is not None:
                raise MalformedResponse("the server speaks first (RFC 4954 §4)")
            self._has_begun = True
            return Challenge(self._challenge)
        text = decode(check_size(response or b""), MAX_LOGIN + 33)
        login, _, digest = text.rpartition(" ")
        if not login or not _DIGEST.fullmatch(digest):
            raise MalformedResponse("a login and a digest are expected (RFC 2195 §2)")
        secret = await self._find_secret(login)
        expected = hmac.new(secret.text.encode(), self._challenge, "md5").hexdigest()
        is_right = hmac.compare_digest(expected, digest) and bool(secret.text)
        return Claim(MECHANISM, login, proven=is_right, trouble=secret.trouble)
