"""What submission is told: what is mended in messages, and how much a login may send."""

from dataclasses import dataclass, field
from typing import Literal

Way = Literal["accept", "fix", "reject"]


@dataclass(frozen=True, slots=True)
class FixSettings:
    """What becomes of a submitted message that lacks something, or has too much (RFC 6409 §8).

    Attributes:
        date, message_id, author: It has no Date, no Message-ID, no From.
        bcc: It has a Bcc field.
        broken_header: A line of the header section is no field.
    """

    date: Way = "fix"
    message_id: Way = "fix"
    author: Way = "fix"
    bcc: Way = "fix"
    broken_header: Way = "fix"


@dataclass(frozen=True, slots=True)
class Allowance:
    """How much a login may do; 0: as much as it likes.

    Attributes:
        messages, recipients, octets: In an hour, and in a day.
        new_recipients: In a day, those it had not written to before.
        addresses: Client addresses that it is used from in a day.
    """

    messages: tuple[int, int] = (0, 0)
    recipients: tuple[int, int] = (0, 0)
    octets: tuple[int, int] = (0, 0)
    new_recipients: int = 0
    addresses: int = 0

    @property
    def is_unlimited(self) -> bool:
        return self == Allowance()


@dataclass(frozen=True, slots=True)
class SubmissionSettings:
    """How mail of those who have logged in is taken.

    Attributes:
        fixes: What is mended.
        hides_client: Received does not say where a message comes from.
        soft: Beyond it messages have to wait.
        hard: Who tries to send more than that is locked.
        exempt: Logins without these limits.
    """

    fixes: FixSettings = field(default_factory=FixSettings)
    hides_client: bool = False
    soft: Allowance = field(default_factory=Allowance)
    hard: Allowance = field(default_factory=Allowance)
    exempt: frozenset[str] = frozenset()
