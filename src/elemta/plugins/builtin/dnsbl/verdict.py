"""What lists say of a client and a sender, for rules and other plugins."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hit:
    """One list that has something to say.

    Attributes:
        zone: The list, without any key.
        what: The address or domain that is listed.
        weight: What that counts.
        codes: Its answer ("127.0.0.2").
        place: Of the list among the settings.
    """

    zone: str
    what: str
    weight: float
    codes: tuple[str, ...]
    place: int


@dataclass(frozen=True, slots=True)
class DnsblVerdict:
    """What all of them say.

    Attributes:
        hits: Who has listed it.
        failed: Zones that should have answered and did not.
        asked: How many lists were asked, those that failed among them.
        aside: Where none was asked: zones that would have been, if they were not set aside.
    """

    hits: tuple[Hit, ...] = ()
    failed: tuple[str, ...] = ()
    asked: int = 0
    aside: tuple[str, ...] = ()

    @property
    def is_unanswered(self) -> bool:
        """Whether lists should have said something, and none has."""
        return len(self.failed) == self.asked and bool(self.failed or self.aside)

    @property
    def score(self) -> float:
        """The sum of all weights."""
        return sum(hit.weight for hit in self.hits)

    def without_hits(self) -> "DnsblVerdict":
        """Give the same as if nobody were listed."""
        return DnsblVerdict((), self.failed, self.asked, self.aside)

    def __add__(self, other: "DnsblVerdict") -> "DnsblVerdict":
        return DnsblVerdict(
            self.hits + other.hits,
            self.failed + other.failed,
            self.asked + other.asked,
            self.aside + other.aside,
        )

    def __str__(self) -> str:
        """The score and how it comes about: "7: a.test 5 (127.0.0.2), b.test 2 (127.0.0.4)"."""
        parts = ", ".join(f"{hit.zone} {hit.weight:g} ({' '.join(hit.codes)})" for hit in self.hits)
        return f"{self.score:g}: {parts}" if parts else f"{self.score:g}"
