"""What the DNS says about the domains of one message: each name is asked once."""

from dataclasses import dataclass

from elemta.mail.errors import LookupFailed
from elemta.mail.reply import clean_text
from elemta.mailauth.dmarc.record import DmarcRecord, find_record
from elemta.mailauth.resolving import Resolver

WALK_LIMIT = 8  # queries of one walk: RFC 9989 §4.10


@dataclass(frozen=True, slots=True)
class Walk:
    """What a walk from a name to the root came to (RFC 9989 §4.10).

    Attributes:
        start: Where it began.
        found: The names that have a record, the longest first.
        problem: Why it had to stop before its end, "" for nothing.
    """

    start: str
    found: tuple[tuple[str, DmarcRecord], ...]
    problem: str = ""

    @property
    def organizational_domain(self) -> str:
        """What the records make of it (RFC 9989 §4.10.2); a walk ends at the first `psd=`."""
        if not self.found:
            return self.start
        name, record = self.found[-1]
        if record.psd == "y" and name != self.start:
            below = self.start[: -len(name) - 1].rpartition(".")[2]
            return f"{below}.{name}"
        return name


class Survey:
    """Asks for records and remembers the answers for one message.

    Attributes:
        steps: What was asked and found, a line each, for people; None where nobody reads it.
    """

    def __init__(self, resolver: Resolver, steps: list[str] | None = None):
        self.steps = steps
        self._resolver = resolver
        self._records: dict[str, DmarcRecord | None] = {}
        self._failures: dict[str, LookupFailed] = {}
        self._walks: dict[str, Walk] = {}
        self._existing: set[str] = set()

    def say(self, line: str) -> None:
        """Note a step."""
        if self.steps is not None:
            self.steps.append(clean_text(line, 400))

    async def record_at(self, domain: str) -> DmarcRecord | None:
        """Give the policy record of exactly this domain.

        Raises:
            LookupFailed: The DNS does not say.
        """
        if domain in self._records:
            return self._records[domain]
        if domain in self._failures:
            raise self._failures[domain]
        try:
            answer = await self._resolver.query(f"_dmarc.{domain}", "TXT")
        except LookupFailed as error:
            self._failures[domain] = error
            self.say(f"_dmarc.{domain}: {error}")
            raise
        if answer.exists:
            self._existing.add(domain)
        record = self._records[domain] = find_record(answer.records)
        if self.steps is not None:
            self.say(f"_dmarc.{domain}: {_describe(answer.records, record)}")
        return record

    async def walk(self, domain: str) -> Walk:
        """Look for records from a name upwards, up to the first that says `psd=y` or `psd=n`."""
        walk = self._walks.get(domain)
        if walk is None:
            walk = self._walks[domain] = await self._walk(domain)
        return walk

    async def exists(self, domain: str) -> bool:
        """Say whether there is such a name in the DNS (RFC 9989 §3.2.13).

        Raises:
            LookupFailed: The DNS does not say.
        """
        if domain in self._existing:  # there is something below it
            return True
        answer = await self._resolver.query(domain, "TXT")
        self.say(f"{domain}: {'exists' if answer.exists else 'does not exist'}")
        return answer.exists

    async def _walk(self, domain: str) -> Walk:
        found: list[tuple[str, DmarcRecord]] = []
        problem = ""
        try:
            for name in walk_names(domain):
                record = await self.record_at(name)
                if record is not None:
                    found.append((name, record))
                    if record.psd != "u":
                        break
        except LookupFailed as error:
            problem = str(error)
        return Walk(domain, tuple(found), problem)


def walk_names(domain: str) -> list[str]:
    """Give the names of a walk, at most 8; of long ones the parent that has 7 labels is next."""
    labels = domain.split(".")
    first = max(1, len(labels) - WALK_LIMIT + 1)
    return [domain, *(".".join(labels[at:]) for at in range(first, len(labels)))]


def _describe(texts: tuple[bytes, ...], record: DmarcRecord | None) -> str:
    if record is None:
        return "several records, none counts" if _count(texts) > 1 else "no record"
    if record.error:
        return record.error
    tags = [f"{name}={value}" for name in ("p", "sp", "np") if (value := getattr(record, name))]
    tags += ["t=y"] * record.t + [f"psd={record.psd}"] * (record.psd != "u")
    return " ".join([*tags, f"adkim={record.adkim}", f"aspf={record.aspf}", *record.problems])


def _count(texts: tuple[bytes, ...]) -> int:
    return sum(find_record((text,)) is not None for text in texts)
