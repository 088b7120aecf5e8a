"""A DNS of a few lines: what tests of routing ask instead of name servers."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from elemta.mail.errors import LookupFailed
from elemta.net.dns.cache import Answer
from elemta.net.resolver import Family, MxAnswer, check_rdtype, loopback, mx_answer

MAX_ALIASES = 16

Records = Mapping[str, Sequence[Any]]


class FakeResolver:
    """Answers from a zone; it behaves as `elemta.net.DnsResolver`, without a cache.

    A zone maps names to their records by type, in the form that `Resolver` gives them:

        FakeResolver({
            "example.test": {"MX": [(10, "mx.example.test")]},
            "mx.example.test": {"A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]},
            "alias.test": {"CNAME": ["example.test"]},
            "signed.test": {"TXT": ["v=spf1 -all"]},
            "silent.test": {"MX": [(0, ".")]},
            "broken.test": None,
        })

    A name that is not there does not exist; a name without records of a type has none; a name
    that maps to None cannot be looked up.

    Args:
        zone: Names and their records.
        secure: Names for which DNSSEC vouches, be they there or not.

    Attributes:
        zone, secure: May be changed at any time.
        questions: What was asked so far, `(name, type)`.
    """

    def __init__(self, zone: Mapping[str, Records | None], secure: Collection[str] = ()):
        self.zone: dict[str, Records | None] = dict(zone)
        self.secure = set(secure)
        self.questions: list[tuple[str, str]] = []

    async def query(self, name: str, rdtype: str) -> Answer:
        check_rdtype(rdtype)
        records, is_secure = self._find(name, rdtype)
        if rdtype == "TXT":
            records = records and [
                text.encode() if isinstance(text, str) else text for text in records
            ]
        exists = records is not None
        return Answer(tuple(records or ()), ttl=300.0, exists=exists, is_secure=is_secure)

    async def mx(self, domain: str) -> MxAnswer:
        records, _ = self._find(domain, "MX")
        return mx_answer(tuple(records or ()), exists=records is not None)

    async def addresses(self, host: str, family: Family) -> tuple[str, ...]:
        known = loopback(host, family)
        if known is not None:
            return known
        return tuple(self._find(host, "A" if family == 4 else "AAAA")[0] or ())

    def _find(self, name: str, rdtype: str) -> tuple[Sequence[Any] | None, bool]:
        """Give the records, and whether all on the way to them is secure.

        They are none where the name has no such records, and None without the name.
        """
        self.questions.append((name, rdtype))
        is_secure = True
        for _ in range(MAX_ALIASES):
            is_secure = is_secure and name in self.secure
            if name not in self.zone:
                return None, is_secure
            records = self.zone[name]
            if records is None:
                break
            if "CNAME" not in records:
                return records.get(rdtype, ()), is_secure
            name = records["CNAME"][0]
        raise LookupFailed(f"{name}/{rdtype} cannot be looked up")
