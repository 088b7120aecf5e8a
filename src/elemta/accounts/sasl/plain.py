"""The mechanisms that are one or two lines: PLAIN (RFC 4616), LOGIN, EXTERNAL (RFC 4422)."""

from elemta.accounts.prepare import MAX_LOGIN, MAX_PASSWORD
from elemta.accounts.sasl.exchange import (
    Challenge,
    Claim,
    MalformedResponse,
    Peer,
    check_size,
    decode,
)


class Plain:
    """PLAIN: authorisation identity, NUL, login, NUL, password."""

    async def respond(self, response: bytes | None) -> Challenge | Claim:
        """Take the one response there is."""
        if response is None:
            return Challenge(b"")
        parts = check_size(response).split(b"\0")
        if len(parts) != 3:
            raise MalformedResponse("exactly two NULs are expected (RFC 4616 §2)")
        authzid, login = (decode(part, MAX_LOGIN) for part in parts[:2])
        password = decode(parts[2], MAX_PASSWORD)
        if not login or not password:
            raise MalformedResponse("login or password is missing (RFC 4616 §2)")
        return Claim("PLAIN", login, authzid, password)


class Login:
    """LOGIN: the login, then the password. An initial response is the login."""

    def __init__(self) -> None:
        self._login = ""

    async def respond(self, response: bytes | None) -> Challenge | Claim:
        """Take the login, then the password."""
        if response is None:
            return Challenge(b"Username:")
        if not self._login:
            self._login = decode(check_size(response), MAX_LOGIN)
            if not self._login:
                raise MalformedResponse("the login is missing")
            return Challenge(b"Password:")
        password = decode(check_size(response), MAX_PASSWORD)
        if not password:
            raise MalformedResponse("the password is missing")
        return Claim("LOGIN", self._login, password=password)


class External:
    """EXTERNAL: the certificate says who it is, the response only as whom it wants to act."""

    def __init__(self, peer: Peer) -> None:
        self._identity = peer.identity or ""

    async def respond(self, response: bytes | None) -> Challenge | Claim:
        """Take the one response there is."""
        if response is None:
            return Challenge(b"")
        authzid = decode(check_size(response), MAX_LOGIN)
        return Claim("EXTERNAL", self._identity, authzid, proven=bool(self._identity))
