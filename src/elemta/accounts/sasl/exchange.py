"""What all mechanisms have in common: who speaks, what is sent, and what comes of it.

    client                   Exchange                       Authenticator
    initial response  -----> respond() -> Challenge
    response          -----> respond() -> Claim  ---------> judge() -> Verdict

An exchange only takes in what the client says of itself. Whether that is true, and whether it
is enough, the authenticator judges.
"""

from dataclasses import dataclass, field
from typing import Protocol

from elemta.mail.errors import ElemtaError

MAX_RESPONSE = 16 * 1024  # octets; a line of SMTP carries 9 k at most (RFC 4954 §4)


class MalformedResponse(ElemtaError):  # noqa: N818 - an outcome that callers name, not only an error
    """A client did not keep to its mechanism. The text never repeats what it sent."""


@dataclass(frozen=True, slots=True)
class Peer:
    """What a login may depend on beside what the client says.

    Attributes:
        ip: Its address; "" for a unix socket.
        listener: The kind of listener it came to.
        is_tls: The connection is encrypted.
        tls_exporter: Binding data of RFC 9266; None where there is none.
        tls_server_end_point: That of RFC 5929 §4, the hash of our certificate; None likewise.
        identity: Who its certificate says it is, once that was verified; None without one.
        country: Where it is ("DE"); "" where nobody knows.
    """

    ip: str = ""
    listener: str = ""
    is_tls: bool = False
    tls_exporter: bytes | None = field(default=None, repr=False)
    tls_server_end_point: bytes | None = field(default=None, repr=False)
    identity: str | None = None
    country: str = ""

    @property
    def bindings(self) -> dict[str, bytes]:
        """The channel bindings there are, by the names of their types."""
        kinds = {
            "tls-exporter": self.tls_exporter,
            "tls-server-end-point": self.tls_server_end_point,
        }
        return {kind: data for kind, data in kinds.items() if data}


@dataclass(frozen=True, slots=True)
class Challenge:
    """Octets to be sent to the client; what it answers goes into `Exchange.respond`.

    Attributes:
        reveals: The claim that it shows to be true or false; None: it shows nothing. Where such a
            claim would not be looked at now, the client must not hear of it either.
    """

    data: bytes
    reveals: "Claim | None" = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a finished exchange says. It is not believed before it is judged.

    Attributes:
        mechanism: How it was said.
        login: Who the client is (authentication identity), as it wrote it.
        authzid: As whom it wants to act; "" for as itself.
        password: To be checked; "" where the mechanism has none.
        proven: Whether the mechanism itself has decided; None: the password will.
        note: What the exchange found wrong, for the log.
        trouble: Why it could not be decided for now; "" where it could.
    """

    mechanism: str
    login: str
    authzid: str = ""
    password: str = field(default="", repr=False)
    proven: bool | None = None
    note: str = ""
    trouble: str = ""


class Exchange(Protocol):
    """One attempt to log in."""

    async def respond(self, response: bytes | None) -> Challenge | Claim:
        """Take a response and say what is next.

        Args:
            response: Decoded; None for the first call where no initial response was given, b""
                where an empty one was.

        Raises:
            MalformedResponse: The client did not keep to the mechanism; the attempt is over.
        """
        ...


def check_size(response: bytes) -> bytes:
    """Give back a response that is not too long.

    Raises:
        MalformedResponse: It is.
    """
    if len(response) > MAX_RESPONSE:
        raise MalformedResponse("the response is too long")
    return response


def decode(part: bytes, limit: int) -> str:
    """Read a part of a response as text.

    Raises:
        MalformedResponse: It is no UTF-8, has NUL in it, or is longer than `limit` octets.
    """
    if len(part) > limit:
        raise MalformedResponse("a part of the response is too long")
    try:
        text = part.decode()
    except UnicodeDecodeError:
        raise MalformedResponse("the response is not UTF-8") from None
    if "\0" in text:
        raise MalformedResponse("the response has a NUL in it")
    return text
