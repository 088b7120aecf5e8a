"""One list: its names, whether it works, and what it says.

A list is set aside when it fails its test, when its answers are none, and when it fails several
times in a row; then it is tested each minute, and asked again once it passes.
"""

from collections.abc import Callable
from ipaddress import ip_address

from elemta.mail.clock import Clock
from elemta.mail.errors import LookupFailed
from elemta.mailauth import Resolver
from elemta.mailauth.resolving import Answer
from elemta.plugins.builtin.dnsbl.codes import ListError, parse_codes, read_answer
from elemta.plugins.builtin.dnsbl.settings import OWN, ListSettings
from elemta.plugins.builtin.dnsbl.verdict import Hit
from elemta.plugins.builtin.rules.expressions.facts import Moment
from elemta.plugins.builtin.rules.expressions.templates import Template

FAILURES = 5  # in a row, after which a list is set aside
RETEST = 60.0  # seconds
_LISTED = {"client": "2.0.0.127", "helo": "test", "sender": "test", "url": "test"}  # RFC 5782 §5
_UNLISTED = {"client": "1.0.0.127", "helo": "invalid", "sender": "invalid", "url": "invalid"}


class Zone:
    """A list.

    Attributes:
        settings: Which.
        place: Of it among all.
        text: What those are told who are refused for it.
        problem: Why it is set aside, "" where it is not.
        test_at: When it is to be tested, by the monotonic clock.
    """

    def __init__(
        self, place: int, settings: ListSettings, clock: Clock, tell: Callable[[str], None]
    ) -> None:
        self.place = place
        self.settings = settings
        self.problem = "not tested yet" if settings.health_test else ""
        self.test_at = 0.0
        self._clock = clock
        self._tell = tell
        self._failures = 0
        key = settings.key.get_secret_value()
        self._suffix = f"{key}.{settings.zone}" if key else settings.zone
        self.text = Template(settings.text, Moment.CONNECT, OWN)
        self._filters = tuple(parse_codes(text) for text in settings.codes)

    def name_of(self, what: str) -> str | None:
        """Give the name under which an address or a domain is asked for; None for not at all."""
        if self.settings.kind == "client":
            address = ip_address(what.partition("%")[0])
            if address.version == 6 and address.ipv4_mapped is not None:
                address = address.ipv4_mapped
            if address.version == 6 and not self.settings.ipv6:
                return None
            what = address.reverse_pointer.removesuffix(".in-addr.arpa").removesuffix(".ip6.arpa")
        return f"{what}.{self._suffix}"

    def read(self, what: str, answer: Answer | None) -> Hit | None:
        """Say what an answer means; None for not listed, an answer of None is a failure.

        Raises:
            ListError: It is no answer.
        """
        if answer is None:
            self._failures += 1
            if self._failures >= FAILURES and not self.problem:
                self.set_aside("does not answer")
            raise ListError("does not answer")
        self._failures = 0
        try:
            codes = read_answer(answer.records)
        except ListError as error:
            self.set_aside(str(error))
            raise
        filters = self._filters
        counted = [code for code in codes if not filters or any(each(code) for each in filters)]
        if not counted:
            return None
        texts = tuple(sorted(str(code) for code in counted))
        return Hit(self.settings.zone, what, self.settings.weight, texts, self.place)

    def set_aside(self, problem: str) -> None:
        """Ask it no more until it has passed its test."""
        if problem != self.problem:
            self._tell(f"{self.settings.zone} is set aside: it {problem}")
        self.problem = problem
        self.test_at = self._clock.monotonic() + RETEST

    async def test(self, dns: Resolver, every: float) -> None:
        """Find out whether it works."""
        problem = "" if not self.settings.health_test else await self._find_problem(dns)
        if problem:
            self.set_aside(problem)
            return
        if self.problem and self.problem != "not tested yet":
            self._tell(f"{self.settings.zone} works again")
        self.problem = ""
        self._failures = 0
        self.test_at = self._clock.monotonic() + every

    def hide(self, text: str) -> str:
        """Take the key out of a text."""
        key = self.settings.key.get_secret_value()
        return text.replace(key, "***") if key else text

    async def _find_problem(self, dns: Resolver) -> str:
        kind = self.settings.kind
        try:
            listed = await dns.query(f"{_LISTED[kind]}.{self._suffix}", "A")
            unlisted = await dns.query(f"{_UNLISTED[kind]}.{self._suffix}", "A")
            if read_answer(unlisted.records):
                return f"lists {'127.0.0.1' if kind == 'client' else 'INVALID'}, and so everything"
            if not read_answer(listed.records):
                return f"does not list {'127.0.0.2' if kind == 'client' else 'TEST'}, as it should"
        except LookupFailed:  # its text has the whole name, and so the key
            return "does not answer"
        except ListError as error:
            return str(error)
        return ""
