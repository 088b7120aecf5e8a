"""Tokens that only their provider can read: it is asked whether they are good (RFC 7662).

That a token is good is remembered for a while; one that has been revoked is found out after that.
Questions go out in a few threads of their own, and where too many wait nobody can tell.
"""

import asyncio
import base64
import hashlib
import http.client
import ssl
import urllib.parse
import urllib.request
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from elemta.accounts.fetching import WHOLE_TIMEOUT, fetch, name_trouble
from elemta.accounts.hashing import BusyError, Workshop
from elemta.accounts.source import SourceDown
from elemta.mail.clock import Clock

MAX_ANSWER = 64 * 1024  # octets
MAX_REMEMBERED = 10_000
REMEMBER_FOR = 300.0  # seconds; whether a token has expired is looked at each time
THREADS = 4
MAX_WAITING = 100


@dataclass(frozen=True, slots=True)
class IntrospectionSettings:
    """Whom to ask, and as whom.

    Attributes:
        url: Where.
        client_id: What this server is called there; "": it says nothing of itself.
        client_secret: The file with the secret that goes with it; None for none.
    """

    url: str
    client_id: str = ""
    client_secret: Path | None = None


class Introspector:
    """Asks about tokens.

    Args:
        settings: Whom.
        clock: Says how long something has been remembered.
        context: TLS; None: as the system trusts.
    """

    def __init__(
        self, settings: IntrospectionSettings, clock: Clock, context: ssl.SSLContext | None = None
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._context = context
        self._workshop = Workshop("tokens", THREADS, MAX_WAITING)
        self._good: OrderedDict[bytes, tuple[float, Mapping[str, Any]]] = OrderedDict()

    async def ask(self, token: str) -> Mapping[str, Any] | None:
        """Give what the provider says of a token; None: it is not good.

        Raises:
            SourceDown: It does not say.
        """
        digest = hashlib.sha256(token.encode()).digest()
        known = self._good.get(digest)
        if known is not None and self._clock.monotonic() < known[0]:
            return known[1]
        said = await self._fetch(token)
        is_active = said.get("active")
        if not isinstance(is_active, bool):
            raise self._trouble("does not say whether a token is good")
        if not is_active:
            self._good.pop(digest, None)
            return None
        self._good[digest] = self._clock.monotonic() + REMEMBER_FOR, said
        self._good.move_to_end(digest)
        if len(self._good) > MAX_REMEMBERED:
            self._good.popitem(last=False)
        return said

    async def close(self) -> None:
        """Wait for what is under way, and end."""
        await self._workshop.close()

    async def _fetch(self, token: str) -> dict[str, Any]:
        try:
            async with asyncio.timeout(WHOLE_TIMEOUT):
                raw = await self._workshop.run(_ask, self._settings, token, self._context)
            return msgspec.json.decode(raw, type=dict[str, Any])
        except (OSError, http.client.HTTPException) as error:
            raise self._trouble(name_trouble(error)) from None
        except BusyError as error:
            raise self._trouble(str(error)) from None
        except (ValueError, RecursionError, msgspec.MsgspecError):
            raise self._trouble("gives no answer of the right form") from None

    def _trouble(self, what: str) -> SourceDown:
        return SourceDown(f"{self._settings.url}: {what}")


def _ask(settings: IntrospectionSettings, token: str, context: ssl.SSLContext | None) -> bytes:
    form = urllib.parse.urlencode({"token": token, "token_type_hint": "access_token"})
    request = urllib.request.Request(settings.url, form.encode())  # noqa: S310 - as configured
    request.add_header("Accept", "application/json")
    if settings.client_id:
        secret = ""
        if settings.client_secret is not None:
            secret = settings.client_secret.read_text("utf-8").strip()
        pair = ":".join(map(urllib.parse.quote_plus, (settings.client_id, secret)))
        request.add_header("Authorization", f"Basic {base64.b64encode(pair.encode()).decode()}")
    return fetch(request, MAX_ANSWER, context)
