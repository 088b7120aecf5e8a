"""What plugins are told of mail in the queue, and of attempts to deliver it."""

from collections.abc import Mapping, Sequence

from elemta.mail.address import Address
from elemta.mail.content import Content
from elemta.mail.ids import QueueId
from elemta.mail.message import Message, Recipient, State
from elemta.mail.outcome import Outcome
from elemta.plugins.contexts.context import Context
from elemta.plugins.headers import Headers
from elemta.plugins.notes import MessageInfo
from elemta.plugins.reading import Readable


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
        data: The whole message where it is small and at hand; None: it is read by `chunks`.
        released: Plugins that had put it into quarantine, from which an operator has let it go.
            If one of them wants it there again, that has no effect; its edits have.
    """

    __slots__ = ("_content", "headers", "released")

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
        self.released = message.facts.released
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
