"""What questions to name servers came to: counted by type and verdict, and timed."""

import enum
from bisect import bisect_left

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds, seconds, of the buckets of `DnsFigures.seconds`; one more is for what is beyond."""


class Verdict(enum.StrEnum):
    """What came of a question."""

    ANSWER = "answer"
    NO_DATA = "no_data"
    """The name exists, and has no records of the type."""
    NO_NAME = "no_name"
    SERVFAIL = "servfail"
    REFUSED = "refused"
    BOGUS = "bogus"
    """DNSSEC does not hold, says a validating resolver."""
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    UNFIT = "unfit"
    """An answer that makes no sense, is too large or says too little; other error codes."""

    @classmethod
    def of(cls, *, exists: bool, is_empty: bool) -> "Verdict":
        """Name an answer that is no failure."""
        if not exists:
            return cls.NO_NAME
        return cls.NO_DATA if is_empty else cls.ANSWER


class DnsFigures:
    """Figures since the start.

    Attributes:
        questions: How many, by type and verdict.
        seconds: The sum of their durations, then how many fell into each of `BUCKETS`.
    """

    def __init__(self) -> None:
        self.questions: dict[tuple[str, str], int] = {}
        self.seconds = [0.0] * (len(BUCKETS) + 2)

    def count(self, rdtype: str, verdict: Verdict, seconds: float) -> None:
        """Count one question."""
        key = (rdtype, verdict.value)
        self.questions[key] = self.questions.get(key, 0) + 1
        self.seconds[0] += seconds
        self.seconds[bisect_left(BUCKETS, seconds) + 1] += 1
