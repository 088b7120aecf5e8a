"""What is remembered of one subject, and the score that comes of it."""

from dataclasses import dataclass

BEST = 100


@dataclass(frozen=True, slots=True)
class Record:
    """Good and bad, which fade: after a half-life each counts half.

    Attributes:
        good, bad: Their weights at that time.
        at: Seconds since 1970.
    """

    good: float = 0.0
    bad: float = 0.0
    at: float = 0.0

    def faded(self, now: float, half_life: float) -> "Record":
        """Give what is left of it now; a clock that was set back fades nothing."""
        left = 0.5 ** (max(now - self.at, 0.0) / half_life)
        return Record(self.good * left, self.bad * left, now)

    def plus(self, good: float, bad: float) -> "Record":
        return Record(self.good + good, self.bad + bad, self.at)

    def score(self, trust: float) -> int:
        """From 0, nothing but bad, to 100, nothing bad at all."""
        return round(BEST * (self.good + trust) / (self.good + self.bad + trust))

    def write(self) -> bytes:
        return f"{self.good:.3f} {self.bad:.3f} {self.at:.0f}".encode()


def read_record(raw: bytes | None) -> Record:
    """Read what `write` has written; what cannot be read is nothing."""
    try:
        good, bad, at = (float(each) for each in (raw or b"").split())
    except ValueError:
        return Record()
    return Record(max(good, 0.0), max(bad, 0.0), at)


@dataclass(frozen=True, slots=True)
class Part:
    """One subject of a verdict.

    Attributes:
        subject: "ip 192.0.2.1", "net 192.0.2.0/24", "as 64496", "domain example.org" or
            "login a@example.org".
        score: Its own, 0 to 100.
        counts: What of it goes into the verdict: of a network half of what it lacks, of an
            autonomous system a quarter.
        good, bad: How the score comes about.
    """

    subject: str
    score: int
    counts: int
    good: float
    bad: float

    def __str__(self) -> str:
        return f"{self.subject} {self.score} (good {self.good:.1f}, bad {self.bad:.1f})"


@dataclass(frozen=True, slots=True)
class ReputationVerdict:
    """What is known of all who are behind a message.

    Attributes:
        parts: What is known of each; none is there of whom nothing is known.
    """

    parts: tuple[Part, ...] = ()

    @property
    def score(self) -> int:
        """The lowest of all, 0 to 100; 100 where nothing is known."""
        return min((part.counts for part in self.parts), default=BEST)

    def __str__(self) -> str:
        parts = ", ".join(map(str, self.parts))
        return f"{self.score}: {parts}" if parts else str(self.score)
