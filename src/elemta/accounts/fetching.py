"""Asking an identity provider by HTTPS."""

import contextlib
import http.client
import ssl
import time
import urllib.error
import urllib.request

FETCH_TIMEOUT = 10.0  # seconds without an octet
WHOLE_TIMEOUT = 20.0  # seconds for an answer; a thread is not kept longer by one that drips


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """What is trusted for its address is taken from there only."""

    def redirect_request(self, *_args: object, **_kwargs: object) -> None:
        return None


def fetch(request: urllib.request.Request, limit: int, context: ssl.SSLContext | None) -> bytes:
    """Get an answer; call it in a thread.

    Args:
        request: What to ask.
        limit: Octets that there may be.
        context: TLS; None: as the system trusts.

    Raises:
        OSError: There is no good answer.
        http.client.HTTPException: What came is no HTTP.
        ValueError: It is too large.
    """
    tls = urllib.request.HTTPSHandler(context=context or ssl.create_default_context())
    opener = urllib.request.build_opener(tls, _NoRedirect, urllib.request.ProxyHandler({}))
    try:
        with contextlib.closing(opener.open(request, timeout=FETCH_TIMEOUT)) as answer:
            raw = _read(answer, limit + 1)
    except urllib.error.HTTPError as error:
        error.close()  # it holds the connection, for as long as anybody holds it
        raise OSError(str(error)) from None
    if len(raw) > limit:
        raise ValueError("too large")
    return raw


def _read(answer: http.client.HTTPResponse, most: int) -> bytes:
    ends_at = time.monotonic() + WHOLE_TIMEOUT
    raw = bytearray()
    while len(raw) < most and (piece := answer.read1(most - len(raw))):
        raw += piece
        if time.monotonic() >= ends_at:
            raise TimeoutError
    return bytes(raw)


def name_trouble(error: Exception) -> str:
    """Say why there was no answer, for an operator."""
    if isinstance(error, OSError):  # TimeoutError is one, and says nothing
        return f"cannot be read: {error.strerror or str(error) or 'timeout'}"
    return f"cannot be fetched: {type(error).__name__}"
