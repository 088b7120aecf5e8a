"""What was sent, what was acknowledged, what arrived where: the books that must balance."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

ID_FIELD = b"Crash-Id: "
SLACK = 1.0  # seconds that a killed process may take to end
LATE = 30.0  # seconds by which a busy test process may read late what a dead one has sent

Pair = tuple[str, str]  # id of a message, one of its recipients


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that a client began to send."""

    recipients: tuple[str, ...]
    digest: bytes


@dataclass(slots=True)
class Copy:
    """A message that has arrived for a recipient.

    Attributes:
        taken_at: Monotonic instant; 0 where nobody looked.
        is_answered: Whoever sent it was told that it has arrived.
        is_left: Whoever sent it was gone when it was read.
    """

    name: str
    recipient: str
    digest: bytes
    taken_at: float = 0.0
    is_answered: bool = True
    is_left: bool = False


def read_copy(raw: bytes, recipient: str, taken_at: float = 0.0) -> Copy:
    """Recognise a message below the trace fields that were put on top of it."""
    at = raw.find(ID_FIELD)
    content = raw[at:] if at >= 0 else raw
    name = content[len(ID_FIELD) : content.find(b"\r\n")].decode() if at >= 0 else "?"
    return Copy(name, recipient, hashlib.sha256(content).digest(), taken_at)


@dataclass
class Ledger:
    """Written by the clients as they send, read when all is quiet."""

    sent: dict[str, Sent] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)
    refused: Counter[str] = field(default_factory=Counter)

    def begin(self, name: str, recipients: Sequence[str], content: bytes) -> None:
        self.sent[name] = Sent(tuple(recipients), hashlib.sha256(content).digest())

    def owed(self) -> set[Pair]:
        """Who has to get what: all that was acknowledged."""
        return {(name, to) for name in self.acknowledged for to in self.sent[name].recipients}

    def check_copies(self, copies: Iterable[Copy]) -> dict[Pair, list[Copy]]:
        """Nothing has arrived that was not sent, or not as it was sent; gives copies by pair."""
        by_pair: dict[Pair, list[Copy]] = defaultdict(list)
        for copy in copies:
            sent = self.sent.get(copy.name)
            assert sent is not None, f"nobody sent {copy}"
            assert copy.recipient in sent.recipients, f"{copy} was not for this recipient"
            assert copy.digest == sent.digest, f"{copy} has changed on its way"
            by_pair[copy.name, copy.recipient].append(copy)
        return by_pair

    def check_nothing_lost(self, *places: Iterable[Pair]) -> None:
        """Every acknowledged message is in one of these places, for each of its recipients."""
        missing = self.owed().difference(*places)
        assert not missing, f"{len(missing)} acknowledged and lost: {sorted(missing)[:20]}"


def count_repeats(by_pair: dict[Pair, list[Copy]], kills: Sequence[float]) -> Counter[float]:
    """Explain every copy beyond the first by a kill while the one before it was under way.

    A next hop that took a message and did not say so explains one too.

    Returns:
        For each kill how many messages were delivered again because of it.
    """
    repeats: dict[float, set[str]] = defaultdict(set)
    for pair, copies in by_pair.items():
        copies.sort(key=lambda copy: copy.taken_at)
        for earlier, later in pairwise(copies):
            if not earlier.is_answered:
                continue
            kill = _find_kill(earlier, later, kills)
            assert kill is not None, f"{pair} was delivered twice without a reason: {copies}"
            repeats[kill].add(pair[0])
    return Counter({at: len(names) for at, names in repeats.items()})


def _find_kill(earlier: Copy, later: Copy, kills: Sequence[float]) -> float | None:
    """The kill after which a message was delivered again; None where there is none."""
    before = [at for at in kills if at <= earlier.taken_at]
    after = [at for at in kills if earlier.taken_at < at <= later.taken_at]
    if after and not earlier.is_left:
        return after[0]
    slack = LATE if earlier.is_left else SLACK
    if before and before[-1] >= earlier.taken_at - slack:
        return before[-1]
    return None
