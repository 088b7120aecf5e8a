"""One check_host() with its includes and redirects: records are read, terms are tested in order.

What the recursion shares is here: the client, the sender, and how much has been asked. An error of
a record ends it as `Unusable` (permerror), an error of the DNS as `LookupFailed` (temperror),
from wherever it is.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from elemta.mail.address import DomainError, parse_domain
from elemta.mail.errors import LookupFailed
from elemta.mail.reply import clean_text
from elemta.mailauth.resolving import Resolver
from elemta.mailauth.spf.client import Client, find_value
from elemta.mailauth.spf.macros import (
    DomainSpec,
    Macro,
    MacroError,
    expand_explanation,
    expand_name,
    parse_explanation,
    printable,
)
from elemta.mailauth.spf.record import Record, Term, compile_record, is_record
from elemta.mailauth.spf.settings import SpfSettings
from elemta.mailauth.verdicts import AuthStatus

_STEP_LIMIT = 512  # characters of a line for people
_LISTED = 20  # records of an answer in such a line
_LONGEST_PART = 1024  # characters of a sender or HELO name that macros see

_ASKING = frozenset({"include", "a", "mx", "ptr", "exists"})
_NO_TERM = Term("", AuthStatus.NEUTRAL, "")


class Unusable(Exception):  # noqa: N818 - it is an outcome
    """A record cannot be evaluated; the text says why."""


class Asked(NamedTuple):
    """What does not change within a check."""

    client: Client
    sender: str
    helo: str
    now: float


class Evaluation:
    """The state of one check."""

    __slots__ = (
        "_asked", "_exp", "_family", "_is_local_ascii", "_is_nameless", "_lookups", "_names",
        "_resolver", "_settings", "_steps", "_term", "_values", "_voids",
    )  # fmt: skip

    def __init__(
        self, resolver: Resolver, settings: SpfSettings, asked: Asked, steps: list[str] | None
    ):
        self._resolver = resolver
        self._settings = settings
        self._asked = asked
        self._steps = steps
        self._family = 0 if asked.client.version == 4 else 1  # which mask of a term counts
        self._is_local_ascii = asked.sender.rpartition("@")[0].isascii()
        self._lookups = 0
        self._voids = 0
        self._names: list[str] | None = None  # of the client, once they have been looked up
        self._is_nameless = False  # the DNS says that it has none
        self._values: dict[str, str] | None = None  # of macros, but `d` and `p`
        self._exp: tuple[DomainSpec | None, str] = (None, "")  # of the record that decided
        self._term = _NO_TERM  # that is being tested

    async def check_host(self, domain: str) -> tuple[AuthStatus, str]:
        """Evaluate the record of a domain; gives the result and the term that decided.

        Raises:
            LookupFailed: The DNS does not answer.
            Unusable: A record breaks the grammar or a limit.
        """
        record = await self._read(domain)
        if record is None:
            return AuthStatus.NONE, ""
        family = self._family
        value = self._asked.client.value
        network = ("ip4", "ip6")[family]
        for term in record.terms:
            kind = term.kind
            if kind == network:
                matches = value & term.mask[family] == term.network
            elif kind in _ASKING:
                matches = await self._ask(term, domain)
            else:
                matches = kind == "all"
            if self._steps is not None:
                outcome = f"matches: {term.status}" if matches else "does not match"
                self._note(f"{domain}: {term.text} {outcome}")
            if matches:
                self._exp = record.exp, domain  # what an included record left is gone
                return term.status, term.text
        if record.redirect is not None:
            return await self._redirect(record.redirect, domain)
        if self._steps is not None:
            self._note(f"{domain}: no term matches")
        return AuthStatus.NEUTRAL, ""

    async def explain(self) -> str:
        """Give what the deciding record tells the client of a fail (RFC 7208 §6.2), "" for nothing.

        It counts against no limit: it asks for one record, and for the names of the client.
        """
        exp, domain = self._exp
        if exp is None:
            return ""
        try:
            if "p" in exp.letters:
                await self._find_names()
            name = await self._expand(exp, domain)
            records = await self._query(name, "TXT") if name else ()
            if len(records) != 1:
                self._note(f"explanation at {name or 'no possible name'}: {len(records)} records")
                return ""
            if self._steps is not None:
                self._note(f"explanation at {name}: {records[0].decode('latin-1')}")
            pieces = parse_explanation(records[0])
            letters = {each.letter for each in pieces if isinstance(each, Macro)}
            if "p" in letters:
                await self._find_names()
            return expand_explanation(pieces, await self._values_of(letters, domain))
        except (LookupFailed, MacroError) as error:
            self._note(f"the explanation is passed over: {error}")
            return ""

    async def _read(self, domain: str) -> Record | None:
        """Look the record of a domain up (RFC 7208 §4.4, §4.5)."""
        found = [raw for raw in await self._query(domain, "TXT") if is_record(raw)]
        if not found:
            self._note(f"{domain}: no SPF record")
            return None
        if len(found) > 1:
            raise Unusable(f"{domain} has {len(found)} SPF records")
        record = compile_record(found[0])
        if record.problem:
            raise Unusable(f"{domain}: {record.problem}")
        if self._steps is not None:
            self._note(f"{domain}: {found[0].decode('latin-1')}")
        return record

    async def _redirect(self, spec: DomainSpec, domain: str) -> tuple[AuthStatus, str]:
        self._count(f"{domain}: redirect")
        name = await self._expand(spec, domain)
        self._note(f"{domain}: no term matches, redirect to {name or 'no possible name'}")
        status, mechanism = await self._check_other(name)
        if status is AuthStatus.NONE:
            raise Unusable(f"{domain} redirects to {name or 'no possible name'}, without a record")
        return status, mechanism

    async def _check_other(self, name: str) -> tuple[AuthStatus, str]:
        """Evaluate the record of another domain, none for a name that can have none."""
        return await self.check_host(name) if "." in name else (AuthStatus.NONE, "")

    async def _ask(self, term: Term, domain: str) -> bool:
        """Test a term for which the DNS is asked."""
        self._count(f"{domain}: {term.text}")
        name = domain
        if term.spec is not None:
            if not self._is_local_ascii and not term.spec.letters.isdisjoint("ls"):
                return False  # no name can have such a local part in it: RFC 8616 §4
            name = await self._expand(term.spec, domain)
        self._term = term
        if term.kind == "include":
            status, _ = await self._check_other(name)
            if status is AuthStatus.NONE:
                raise Unusable(f"{domain}: {term.text}: {name or 'no possible name'} has no record")
            return status is AuthStatus.PASS
        if not name:
            return False
        if term.kind == "ptr":
            return await self._match_ptr(name)
        if term.kind == "mx":
            return await self._match_mx(term, name)
        return await self._match_a(term, name)

    async def _match_a(self, term: Term, name: str) -> bool:
        """Test `a` and `exists`, which asks for IPv4 whatever the client has (RFC 7208 §5.7)."""
        is_exists = term.kind == "exists"
        addresses = await self._query(name, "A" if is_exists or not self._family else "AAAA")
        if not addresses:
            self._count_void()
            return False
        return is_exists or self._is_in(addresses, term.mask[self._family])

    async def _match_mx(self, term: Term, name: str) -> bool:
        hosts = await self._query(name, "MX")
        if len(hosts) > self._settings.max_mx:
            raise Unusable(f"{term.text}: {name} has {len(hosts)} hosts")
        is_void = not hosts
        for _, host in hosts:
            if host == ".":
                continue
            addresses = await self._query(host, "AAAA" if self._family else "A")
            if not addresses:
                is_void = True
            elif self._is_in(addresses, term.mask[self._family]):
                return True
        if is_void:
            self._count_void()  # once: it is terms that are counted
        return False

    async def _match_ptr(self, name: str) -> bool:
        names = await self._find_names()
        if self._is_nameless:
            self._count_void()
        return any(each == name or each.endswith("." + name) for each in names)

    async def _find_names(self) -> list[str]:
        """Give the names of the client that lead back to its address (RFC 7208 §5.5)."""
        if self._names is not None:
            return self._names
        self._names = []
        client = self._asked.client
        reverse = ".".join(reversed(client.dotted.lower().split(".")))
        try:
            found = await self._query(f"{reverse}.{client.arpa}.arpa", "PTR")
        except LookupFailed:
            return self._names
        self._is_nameless = not found
        for name in found[: self._settings.max_ptr]:
            try:
                addresses = await self._query(name, "AAAA" if self._family else "A")
            except LookupFailed:
                continue
            if any(find_value(each) == client.value for each in addresses):
                self._names.append(name)
        return self._names

    async def _query(self, name: str, rdtype: str) -> Sequence[Any]:
        if self._steps is None:
            return (await self._resolver.query(name, rdtype)).records
        try:
            answer = await self._resolver.query(name, rdtype)
        except LookupFailed as error:
            self._note(f"{name} {rdtype}: {error}")
            raise
        if rdtype != "TXT":
            shown = [each[1] if rdtype == "MX" else each for each in answer.records[:_LISTED]]
            nothing = "no such records" if answer.exists else "no such name"
            self._note(f"{name} {rdtype}: {', '.join(shown) or nothing}")
        return answer.records

    def _is_in(self, addresses: Sequence[str], mask: int) -> bool:
        wanted = self._asked.client.value & mask
        return any(number >= 0 and number & mask == wanted for number in map(find_value, addresses))

    def _count(self, what: str) -> None:
        self._lookups += 1
        if self._lookups > self._settings.max_lookups:
            raise Unusable(f"{what}: more than {self._settings.max_lookups} terms ask the DNS")

    def _count_void(self) -> None:
        self._voids += 1
        limit = self._settings.max_void_lookups
        if self._voids > limit:
            raise Unusable(f"{self._term.text}: more than {limit} terms ask for what is not there")

    async def _expand(self, spec: DomainSpec, domain: str) -> str:
        """Give the name that a domain-spec means here, "" for what can be none."""
        if spec.name is not None:
            return spec.name
        return expand_name(spec.pieces, await self._values_of(spec.letters, domain))

    async def _values_of(self, letters: frozenset[str] | set[str], domain: str) -> dict[str, str]:
        """Give the values of macros (RFC 7208 §7.2)."""
        if self._values is None:
            self._values = self._make_values()
        values = self._values
        values["d"] = domain
        if "p" in letters:
            if self._names is None:
                self._count("%{p}")  # RFC 7208 §4.6.4: as if it were the mechanism
            values["p"] = _best_name(await self._find_names(), domain)
        return values

    def _make_values(self) -> dict[str, str]:
        client, sender, helo, now = self._asked
        local, _, origin = sender.rpartition("@")
        local = local[:_LONGEST_PART] or "postmaster"
        origin = _in_ascii(origin[:_LONGEST_PART])
        return {
            "s": f"{local}@{origin}",
            "l": local,
            "o": origin,
            "h": _in_ascii(helo[:_LONGEST_PART]),
            "i": client.dotted,
            "c": client.readable,
            "v": client.arpa,
            "r": self._settings.hostname or "unknown",
            "t": str(int(now)),
        }

    def _note(self, text: str) -> None:
        if self._steps is not None:
            self._steps.append(clean_text(text, _STEP_LIMIT))


def _best_name(names: list[str], domain: str) -> str:
    """Choose the name that macro `p` shows: of the domain if there is one (RFC 7208 §7.3)."""
    if domain in names:
        return domain
    for name in names:
        if name.endswith("." + domain):
            return name
    return names[0] if names else "unknown"


def _in_ascii(domain: str) -> str:
    """Give a domain in A-labels (RFC 8616 §4), or as much of it as is US-ASCII."""
    if domain.isascii():
        return domain
    try:
        return parse_domain(domain)
    except DomainError:
        return printable(domain, len(domain))
