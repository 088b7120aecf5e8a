"""A delivery job: recipients of one message that go the same way, if possible at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from elemta.mail.address import Address
from elemta.mail.content import Content
from elemta.mail.message import Message, Recipient, State
from elemta.mail.outcome import Outcome


@dataclass(frozen=True, slots=True)
class Destination:
    """Where recipients go together: the unit of concurrency, back-off and fairness.

    Attributes:
        key: Names it in logs and metrics: "mx:example.org", "smtp:127.0.0.1:2700",
            "lmtp:/run/lmtp".
        way: How delivery gets there; nobody else looks at it.
        state: `ACTIVE`, or `HOLD` where the route says so: then nothing is attempted.
    """

    key: str
    way: object = None
    state: State = State.ACTIVE


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt: some recipients of one message, all for one destination."""

    message: Message
    recipients: tuple[Recipient, ...]
    destination: Destination
    content: Content


class Courier(Protocol):
    """What the queue needs of delivery."""

    def destination(
        self, recipient: Address, sender: Address | None, *, is_new: bool = True
    ) -> Destination:
        """Say where a recipient goes, by the routing table alone: no look-up, no waiting.

        What is not new has passed the routes that hold, or was released by an operator.
        """
        ...

    async def deliver(self, job: Job) -> Sequence[Outcome]:
        """Make one attempt; one outcome for each recipient, in their order.

        Whatever a peer does is an outcome, never an exception.
        """
        ...
