"""What the queue is told: when to try again, how much at once, and whom to notify.

Durations are seconds, sizes octets. Limits are those of one worker: whoever starts several
divides what must hold for the node.
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from elemta.mail.address import Address
from elemta.mail.message import Priority

MINUTE = 60.0
HOUR = 60 * MINUTE
DAY = 24 * HOUR


class BounceUnverified(enum.StrEnum):
    """What a failure comes to when the sender may be forged: a notice might hit a stranger."""

    KEEP = "keep"
    """Nobody is told; the recipient stays in the queue as `failed`."""
    SEND = "send"
    """The sender is notified all the same."""
    DISCARD = "discard"
    """Nobody is told, nothing is kept."""


@dataclass(frozen=True, slots=True)
class PriorityRule:
    """Gives a priority to messages.

    Attributes:
        priority: What they get.
        senders: Patterns of the sender: "*", "example.test", "*.example.test" (subdomains
            only), a whole address, or "<>"; empty matches any.
        domains: Patterns of a recipient's domain; one recipient that matches is enough; empty
            matches any.
    """

    priority: Priority
    senders: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()

    def matches(self, sender: Address | None, recipients: Iterable[Address]) -> bool:
        if self.senders and not any(_is_sender(sender, pattern) for pattern in self.senders):
            return False
        return not self.domains or any(
            _is_domain(recipient.domain, pattern)
            for recipient in recipients
            for pattern in self.domains
        )


def _is_sender(sender: Address | None, pattern: str) -> bool:
    if sender is None:
        return pattern in {"<>", "*"}
    if "@" in pattern:
        return sender.key == pattern.lower()
    return _is_domain(sender.domain, pattern)


def _is_domain(domain: str, pattern: str) -> bool:
    if pattern.startswith("*."):
        return domain.endswith(pattern[1:])
    return pattern in {"*", domain}


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """How a shard plans its mail.

    Attributes:
        hostname: Who notifications are from.
        local_domains: Senders in these hear of delays.
        retry_schedule: Waits before further attempts; the last one repeats until `max_age`.
        jitter: How far a wait strays, as a share of it.
        max_age: After so long a message that could not be delivered fails.
        delay_warnings: Ages at which a local sender hears that a message still waits.
        failed_retention: How long `failed` recipients are kept.
        quarantine_age: After how long, since it came, a message leaves quarantine for good.
        bounce_unverified: What happens when a message of an unverified sender fails.
        dsn_per_domain_per_hour: Most notifications that go to one domain; 0 sends none.
        returned_size: Messages up to this size come back whole where the sender wants that.
        max_resident: Recipients that are planned in memory; more wait in the database.
        resident_bytes: Content kept in memory from acceptance to delivery.
        max_concurrency: Attempts under way at once, `max_per_destination` of them to one
            destination.
        recipients_per_job: Recipients of one message tried in one attempt.
        priorities: The first rule that matches decides; none makes it normal.
    """

    hostname: str = "localhost"
    local_domains: frozenset[str] = frozenset()
    retry_schedule: tuple[float, ...] = (
        MINUTE,
        5 * MINUTE,
        15 * MINUTE,
        HOUR,
        3 * HOUR,
        6 * HOUR,
        12 * HOUR,
    )
    jitter: float = 0.1
    max_age: float = 5 * DAY
    delay_warnings: tuple[float, ...] = (4 * HOUR,)
    failed_retention: float = 7 * DAY
    quarantine_age: float = 30 * DAY
    bounce_unverified: BounceUnverified = BounceUnverified.KEEP
    dsn_per_domain_per_hour: int = 1000
    returned_size: int = 1024 * 1024
    max_resident: int = 50_000
    resident_bytes: int = 64 * 1024 * 1024
    max_concurrency: int = 200
    max_per_destination: int = 20
    recipients_per_job: int = 100
    priorities: tuple[PriorityRule, ...] = ()

    def priority_of(
        self, sender: Address | None, recipients: Iterable[Address], otherwise: Priority
    ) -> Priority:
        """Give the priority of a new message; `otherwise` where no rule matches."""
        for rule in self.priorities:
            if rule.matches(sender, recipients):
                return rule.priority
        return otherwise
