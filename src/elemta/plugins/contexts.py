"""What plugins are told: one kind of context for each kind of moment.

A context is handed to all plugins of a hook in turn. What they see of the session and the message
they must not change in place: changes are edits in a `Result`. Three things are theirs to write:
`metadata`, strings that plugins in any language share; `session.notes`, any Python values; and
`message.notes`, strings that are stored with the message.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from elemta.mail.address import Address
from elemta.mail.content import Content
from elemta.mail.ids import QueueId
from elemta.mail.message import Message, Recipient, State
from elemta.mail.outcome import Outcome
from elemta.plugins.headers import Headers
from elemta.plugins.notes import MessageInfo, Remembered
from elemta.plugins.reading import Readable

if TYPE_CHECKING:
    from elemta.mail.clock import Clock
    from elemta.plugins.tools import Cache, Counters, PluginLog, Store, Tools

MAX_METADATA = 256  # entries of one session or message
MAX_METADATA_VALUE = 64 * 1024  # characters
MAX_METADATA_SIZE = 1024 * 1024  # characters of all of them, names included


class Context:
    """What every hook gets.

    Attributes:
        hook: The name of the hook.
        tools: Those of the plugin that is being asked; `log`, `metrics`, `kv`, `cache` and `clock`
            are short for its parts.
        metadata: Strings that plugins leave for one another, also in other languages; they last
            as long as the session, for queue and delivery as long as the call.
    """

    __slots__ = ("hook", "metadata", "tools")

    tools: "Tools"

    def __init__(self, hook: str, metadata: dict[str, str] | None = None) -> None:
        self.hook = hook
        self.metadata: dict[str, str] = {} if metadata is None else metadata

    def get_metadata(self, name: str) -> str | None:
        """Give what a plugin has left under a name."""
        return self.metadata.get(name)

    def set_metadata(self, name: str, value: str) -> None:
        """Leave a string for other plugins.

        Raises:
            ValueError: It is too long, or there are too many.
        """
        self.check_metadata({name: value})
        self.metadata[name] = value

    def check_metadata(self, more: Mapping[str, str]) -> None:
        """Judge strings that are to be left, all together.

        Raises:
            ValueError: One is too long, or there would be too many, or too much of them.
        """
        if not more:
            return
        after = {**self.metadata, **more}
        if any(len(name) > 256 or len(more[name]) > MAX_METADATA_VALUE for name in more):
            raise ValueError("metadata is too long")
        if len(after) > MAX_METADATA:
            raise ValueError("there is too much metadata")
        if sum(len(name) + len(value) for name, value in after.items()) > MAX_METADATA_SIZE:
            raise ValueError("there is too much metadata")

    @property
    def log(self) -> "PluginLog":
        """Writes to the log in the plugin's name."""
        return self.tools.log

    @property
    def metrics(self) -> "Counters":
        """The plugin's own counters and histograms."""
        return self.tools.metrics

    @property
    def kv(self) -> "Store":
        """Keys and values of the plugin, shared by all workers of the node."""
        return self.tools.kv

    @property
    def cache(self) -> "Cache":
        """What the plugin need not look up again, in this worker."""
        return self.tools.cache

    @property
    def clock(self) -> "Clock":
        """The time; a test can set it."""
        return self.tools.clock


class ServerContext(Context):
    """The life of the server.

    Attributes:
        hostname, version: Of this server.
        worker: Number of the worker this runs in, from 0: each has its own plugins.
    """

    __slots__ = ("hostname", "version", "worker")

    def __init__(self, hook: str, hostname: str, version: str, worker: int) -> None:
        super().__init__(hook)
        self.hostname = hostname
        self.version = version
        self.worker = worker


class ConfigContext(ServerContext):
    """A configuration that has been read.

    Attributes:
        changed: Names of settings that a reload has changed ("queue.max_age"); () at the start.
    """

    __slots__ = ("changed",)

    def __init__(
        self, hook: str, hostname: str, version: str, worker: int, changed: Sequence[str] = ()
    ) -> None:
        super().__init__(hook, hostname, version, worker)
        self.changed = tuple(changed)


class SessionInfo(Remembered):
    """A connection as plugins see it; the server keeps it up to date.

    Attributes:
        session_id: Names it in the log.
        client_ip: Address of the client, "" on a unix socket.
        server: Our end ("192.0.2.1:25").
        listener: The kind of listener: "mta", "lmtp"...
        is_trusted: The client is in a trusted network.
        helo: What the client called itself, "" before.
        protocol: "SMTP", "ESMTP" or "LMTP", "" before the greeting.
        tls_version: "TLSv1.3" and the like, "" in clear.
        username: Whose credentials were right, "" for nobody.
        notes: Whatever Python plugins want to remember of it; no other plugin language sees it.
        metadata: See `Context.metadata`.
        message: The message under way, or the last one: see `EnvelopeContext`.
    """

    __slots__ = (
        "client_ip",
        "helo",
        "is_trusted",
        "listener",
        "metadata",
        "notes",
        "protocol",
        "server",
        "session_id",
        "tls_version",
        "username",
    )

    def __init__(
        self, session_id: str, client_ip: str, server: str, listener: str, *, is_trusted: bool
    ) -> None:
        super().__init__()
        self.session_id = session_id
        self.client_ip = client_ip
        self.server = server
        self.listener = listener
        self.is_trusted = is_trusted
        self.helo = self.protocol = self.tls_version = self.username = ""
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
        username: Who the client says it is.
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


class EnvelopeContext(ConnectionContext):
    """A transaction.

    Attributes:
        sender: Who sends; None for the null path of notifications, which must not be refused
            as such (RFC 5321 §4.5.5).
        recipients: Those accepted so far.
        message: What plugins know of the message: its `notes`.
    """

    __slots__ = ("recipients", "sender")

    def __init__(
        self,
        hook: str,
        session: SessionInfo,
        sender: Address | None,
        recipients: Sequence[Address] = (),
    ) -> None:
        super().__init__(hook, session)
        self.sender = sender
        self.recipients: Sequence[Address] = recipients

    @property
    def message(self) -> MessageInfo:
        return self.session.message


class RecipientContext(EnvelopeContext):
    """A recipient.

    Attributes:
        recipient: Who is asked for now.
        is_relaying: It is refused unless a plugin says ACCEPT: it is not ours, and the client is
            not trusted.
    """

    __slots__ = ("is_relaying", "recipient")

    def __init__(
        self,
        hook: str,
        session: SessionInfo,
        sender: Address | None,
        recipients: Sequence[Address],
        recipient: Address,
        is_relaying: bool,  # noqa: FBT001 - as above
    ) -> None:
        super().__init__(hook, session, sender, recipients)
        self.recipient = recipient
        self.is_relaying = is_relaying


class MessageContext(EnvelopeContext, Readable):
    """A message.

    Attributes:
        queue_id: The name it will have in the queue.
        headers: Its header section, as the client sent it.
        size: Octets received so far, ours not counted.
    """

    __slots__ = ("_content", "headers", "queue_id", "size")

    def __init__(  # noqa: PLR0913, PLR0917 - the transaction and the message
        self,
        hook: str,
        session: SessionInfo,
        sender: Address | None,
        recipients: Sequence[Address],
        queue_id: QueueId,
        headers: Headers,
        size: int,
        content: Content | None,
    ) -> None:
        super().__init__(hook, session, sender, recipients)
        self.queue_id = queue_id
        self.headers = headers
        self.size = size
        self._content = content


class QueueContext(Context):
    """A message in the queue.

    Attributes:
        queue_id: Its name.
        sender, recipients: Its envelope, or that part of it that this is about.
        size: Octets.
        state: Of those recipients.
        session_id: Of the session that brought it, "" for our own.
        message: What plugins know of the message: its `notes`, as they are stored.
    """

    __slots__ = ("_notes", "queue_id", "recipients", "sender", "session_id", "size", "state")

    def __init__(  # noqa: PLR0913, PLR0917 - the row of a message
        self,
        hook: str,
        queue_id: QueueId,
        sender: Address | None,
        recipients: Sequence[Address],
        size: int,
        state: State = State.ACTIVE,
        session_id: str = "",
        notes: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(hook)
        self.queue_id = queue_id
        self.sender = sender
        self.recipients = recipients
        self.size = size
        self.state = state
        self.session_id = session_id
        self._notes = notes or {}

    @property
    def message(self) -> MessageInfo:
        return MessageInfo(self._notes)


class AttemptContext(QueueContext):
    """An attempt to deliver.

    Attributes:
        destination: Where it goes, as the log names it ("mx:example.org").
        attempts: Attempts made before this one; of several recipients the least. What a plugin has
            deferred or put into quarantine counts, so it is 1 once an operator has released it.
    """

    __slots__ = ("attempts", "destination")

    def __init__(
        self,
        hook: str,
        message: Message,
        recipients: Sequence[Recipient],
        destination: str,
        state: State = State.ACTIVE,
    ) -> None:
        super().__init__(
            hook,
            message.queue_id,
            message.sender,
            tuple(recipient.address for recipient in recipients),
            message.size,
            state,
            message.facts.session_id,
            message.facts.notes,
        )
        self.destination = destination
        self.attempts = min(recipient.attempts for recipient in recipients)


class DeliveryContext(AttemptContext, Readable):
    """A message that is about to be sent, as it is stored: our own trace field is on top.

    Attributes:
        headers: Its header section.
    """

    __slots__ = ("_content", "headers")

    def __init__(
        self,
        hook: str,
        message: Message,
        recipients: Sequence[Recipient],
        destination: str,
        headers: Headers,
        content: Content,
    ) -> None:
        super().__init__(hook, message, recipients, destination)
        self.headers = headers
        self._content = content


class OutcomeContext(AttemptContext):
    """What an attempt came to, for one recipient: `recipients` has just that one.

    Attributes:
        reply: What the other side said, or we in its place.
        remote: Who said it ("mx1.example.org"), or "".
        next_at: When the next attempt is due, seconds since 1970; 0 where there is none.
    """

    __slots__ = ("next_at", "remote", "reply")

    def __init__(  # noqa: PLR0913, PLR0917 - the attempt and its outcome
        self,
        hook: str,
        message: Message,
        recipient: Recipient,
        destination: str,
        state: State,
        outcome: Outcome,
        next_at: float = 0.0,
    ) -> None:
        super().__init__(hook, message, (recipient,), destination, state)
        self.reply = outcome.reply
        self.remote = outcome.remote
        self.next_at = next_at


class SecurityContext(Context):
    """Something that only an attack or a badly broken peer does.

    Attributes:
        kind: What ("early_talk", "bare_newline"...), as in the log.
        detail: In words.
        session_id, client_ip: Who.
    """

    __slots__ = ("client_ip", "detail", "kind", "session_id")

    def __init__(self, hook: str, kind: str, detail: str, session_id: str, client_ip: str) -> None:
        super().__init__(hook)
        self.kind = kind
        self.detail = detail
        self.session_id = session_id
        self.client_ip = client_ip
