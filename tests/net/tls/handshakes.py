"""Handshakes in memory, between a context of ours and a client of OpenSSL's."""

import ssl
from dataclasses import dataclass


@dataclass
class Shaken:
    server: ssl.SSLObject
    client: ssl.SSLObject

    def resumable(self) -> ssl.SSLSession | None:
        """What the client would resume; tickets of TLS 1.3 come after the handshake."""
        self.server.write(b"x")
        self.client.read(1)
        return self.client.session


def client_context(maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    """A client that takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = maximum
    return context


def shake_hands(
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
    name: str | None = None,
    session: ssl.SSLSession | None = None,
) -> Shaken:
    """Make a handshake; raises what the server's side raises, else what the client's does."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    client = client_context.wrap_bio(to_client, to_server, server_hostname=name, session=session)
    ended = set()
    problem = None
    for _ in range(10):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as error:
                if side is server:
                    raise
                problem = problem or error
            ended.add(side)
        if len(ended) == 2 and problem is None:
            # with TLS 1.3 a refused client certificate shows after the client's handshake
            return Shaken(server, client)
    raise problem or AssertionError("the handshake does not end")


def outcome(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[str, str] | None:
    """Version and suite of a handshake; None where there is none."""
    try:
        shaken = shake_hands(server, client)
    except ssl.SSLError:
        return None
    return shaken.server.version(), shaken.server.cipher()[0]
