"""What plugins are told of a connection and its commands."""

from typing import Any

from elemta.plugins.contexts.context import Context
from elemta.plugins.notes import Remembered


class SessionInfo(Remembered):
    """A connection as plugins see it; the server keeps it up to date.

    Attributes:
        session_id: Names it in the log.
        client_ip: Address of the client, "" on a unix socket.
        client_port: Its port, 0 where that is not known. A plugin in a process of its own finds 0.
        client_certificate: What the client has shown under TLS, DER; b"" without. It has the key;
            whether anybody vouches for it is not said. In a process of its own there is none.
        server: Our end ("192.0.2.1:25").
        listener: The kind of listener: "mta", "submission", "submissions" or "lmtp".
        is_trusted: The client is in a trusted network, or has shown a trusted certificate.
        helo: What the client called itself, "" before.
        protocol: "SMTP", "ESMTP" or "LMTP", "" before the greeting.
        tls_version: "TLSv1.3" and the like, "" in clear.
        tls_cipher: The suite by OpenSSL's name, "" in clear.
        username: Whose credentials were right, "" for nobody.
        refusals: How often the server itself has refused something for good: a command, a
            recipient, a message, but no login. A plugin in a process of its own finds 0.
        notes: Whatever Python plugins want to remember of it; of that, plugins in other processes
            see numbers, text, octets, lists and tables.
        metadata: See `Context.metadata`.
        message: The message under way, or the last one: see `EnvelopeContext`.
    """

    __slots__ = (
        "client_certificate",
        "client_ip",
        "client_port",
        "helo",
        "is_trusted",
        "listener",
        "metadata",
        "notes",
        "protocol",
        "refusals",
        "server",
        "session_id",
        "tls_cipher",
        "tls_version",
        "username",
    )

    def __init__(
        self, session_id: str, client_ip: str, server: str, listener: str, *, is_trusted: bool
    ) -> None:
        super().__init__()
        self.session_id = session_id
        self.client_ip = client_ip
        self.client_port = 0
        self.client_certificate = b""
        self.server = server
        self.listener = listener
        self.is_trusted = is_trusted
        self.helo = self.protocol = self.username = ""
        self.tls_version = self.tls_cipher = ""
        self.refusals = 0
        self.notes: dict[str, Any] = {}
        self.metadata: dict[str, str] = {}

    @property
    def is_authenticated(self) -> bool:
        return bool(self.username)


class ConnectionContext(Context):
    """A connection.

    Attributes:
        session: The connection.
    """

    __slots__ = ("session",)

    def __init__(self, hook: str, session: SessionInfo) -> None:
        super().__init__(hook, session.metadata)
        self.session = session


class CommandContext(ConnectionContext):
    """A command line.

    Attributes:
        line: As it was sent, without CRLF. For AUTH what follows the mechanism is left out.
        verb: Its first word, upper case.
        argument: The rest.
    """

    __slots__ = ("argument", "line", "verb")

    def __init__(self, hook: str, session: SessionInfo, line: bytes) -> None:
        super().__init__(hook, session)
        self.line = line
        verb, _, argument = line.partition(b" ")
        self.verb = verb.decode("ascii", "replace").upper()
        self.argument = argument.decode("utf-8", "replace")


class HelloContext(ConnectionContext):
    """HELO, EHLO or LHLO.

    Attributes:
        name: What the client calls itself; `session.helo` has it once it is accepted.
        verb: Which of them it said.
    """

    __slots__ = ("name", "verb")

    def __init__(self, hook: str, session: SessionInfo, name: str, verb: str) -> None:
        super().__init__(hook, session)
        self.name = name
        self.verb = verb


class AuthContext(ConnectionContext):
    """Credentials.

    Attributes:
        mechanism: "PLAIN" and the like.
        username: Who the client says it is, in the form in which accounts are compared: lower case
            and so on, however it was written.
        password: What it says to prove it, where the mechanism tells; "" once it is checked.
        authenticated: Whether the credentials were right; None while they are not yet checked.
    """

    __slots__ = ("authenticated", "mechanism", "password", "username")

    def __init__(
        self,
        hook: str,
        session: SessionInfo,
        mechanism: str,
        username: str,
        password: str = "",
        authenticated: bool | None = None,  # noqa: FBT001 - three values
    ) -> None:
        super().__init__(hook, session)
        self.mechanism = mechanism
        self.username = username
        self.password = password
        self.authenticated = authenticated
