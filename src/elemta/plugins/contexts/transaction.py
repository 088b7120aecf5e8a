"""What plugins are told of a transaction and its message."""

from collections.abc import Sequence

from elemta.mail.address import Address
from elemta.mail.content import Content
from elemta.mail.ids import QueueId
from elemta.plugins.contexts.session import ConnectionContext, SessionInfo
from elemta.plugins.headers import Headers
from elemta.plugins.notes import MessageInfo
from elemta.plugins.reading import Readable


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
        data: The whole message where it is small and at hand; None: it is read by `chunks`.
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
