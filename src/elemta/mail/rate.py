"""How many in how long: "100/m" as a value."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """So many within so long; all of them may come at once.

    Attributes:
        count: How many, at least 1.
        period: Within how many seconds, more than 0.
    """

    count: int
    period: float
