"""TLS of one connection: octets in, octets out, no I/O; `elemta.net.stream` moves them.

The loop's own TLS would hold a quarter of a megabyte for each connection, and would not tell
what was sent in clear from what came after.
"""

import contextlib
import ssl
from dataclasses import dataclass

from elemta.net.tls.binding import exporter, server_end_point
from elemta.net.tls.openssl import find_group

_PIECE = 64 * 1024  # octets taken out at a time; a record has 16 KiB at most
_BARREN_LIMIT = 64 * 1024  # octets of records in which there is nothing to read


@dataclass(frozen=True, slots=True)
class TlsFacts:
    """What a handshake came to.

    Attributes:
        version: "TLSv1.3" and the like.
        cipher: OpenSSL's name of the suite; `bits` of its key.
        group: Of the key exchange, where the platform tells; else "".
        is_resumed: The keys of an earlier session were used again.
        certificate: That of the peer, DER; b"" without one.
        context: The one in force: the client's name for us may have chosen another.
    """

    version: str
    cipher: str
    bits: int
    group: str
    is_resumed: bool
    certificate: bytes
    context: ssl.SSLContext


class Encryption:
    """Begins with a handshake; after that, `decrypt` and `encrypt` change the data."""

    __slots__ = (
        "_barren",
        "_incoming",
        "_object",
        "_outgoing",
        "fault",
        "is_ended",
        "is_established",
    )

    def __init__(
        self, context: ssl.SSLContext, *, server_side: bool, server_hostname: str | None = None
    ) -> None:
        """Raises ValueError for a host name that TLS cannot say."""
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname
        )
        self._barren = 0  # octets that have come since there was something to read
        self.is_established = False
        self.is_ended = False  # the peer has said that no more comes
        self.fault: ssl.SSLError | None = None  # what came behind the data given last

    def receive(self, data: memoryview | bytes) -> None:
        """Take what came from the peer; behind its word that no more comes there is nothing."""
        if not self.is_ended:
            self._incoming.write(data)
            self._barren += len(data)

    def waiting(self) -> bytes:
        """Give what must go to the peer: of a handshake, an alert, an answer to a key update."""
        return self._outgoing.read()

    def shake_hands(self) -> bool:
        """Go on with the handshake; True once it is done.

        Raises:
            ssl.SSLError: It has failed; `waiting` has the alert.
        """
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        self.is_established = True
        self._barren = 0
        return True

    def decrypt(self) -> bytes:
        """Give what can be read by now.

        Raises:
            ssl.SSLError: The peer broke the protocol, or sent an alert; or it goes on sending what
                costs work and answers and says nothing, such as key updates.
        """
        tls, pieces = self._object, list[bytes]()
        while self._incoming.pending or tls.pending():
            try:
                piece = tls.read(_PIECE)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                piece = b""
            except ssl.SSLError as error:
                if not pieces:
                    raise
                self.fault = error  # what was said before it counts
                break
            if not piece:
                self.is_ended = True
                break
            pieces.append(piece)
        if pieces:
            self._barren = 0
        elif self._barren > _BARREN_LIMIT:
            raise ssl.SSLError(ssl.SSL_ERROR_SSL, "the peer sends records without data")
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def encrypt(self, data: bytes) -> bytes:
        """Give what to send for `data`."""
        self._object.write(data)
        return self._outgoing.read()

    def end(self) -> bytes:
        """Give the word that no more comes."""
        if self.is_established:
            with contextlib.suppress(ssl.SSLError, ValueError):
                self._object.unwrap()
        return self._outgoing.read()

    def bindings(self) -> tuple[bytes | None, bytes | None]:
        """Give the data for channel binding: "tls-exporter" and "tls-server-end-point"."""
        return exporter(self._object), server_end_point(self._object)

    def facts(self) -> TlsFacts:
        """Tell what the handshake came to."""
        tls = self._object
        name, _protocol, bits = tls.cipher() or ("", "", 0)
        return TlsFacts(
            version=tls.version() or "",
            cipher=name,
            bits=bits,
            group=find_group(tls),
            is_resumed=bool(tls.session_reused),
            certificate=tls.getpeercert(binary_form=True) or b"",
            context=tls.context,
        )
