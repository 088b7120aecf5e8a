"""Asks lists in the DNS about clients, domains and what messages lead to (RFC 5782).

Lists are asked at the same time, the resolver remembers their answers, and what they say is added
up. One that does not work
is set aside: an error is never a listing.

Leaves behind: a `DnsblVerdict` as `dnsbl` in the notes of the session, `dnsbl.score` and
`dnsbl.lists` in the metadata, and `dnsbl` in the notes of a message that somebody lists.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Sequence
from functools import partial
from typing import ClassVar, NamedTuple

from pydantic import BaseModel

from elemta.mail.errors import AddressError, LookupFailed
from elemta.mailauth.dmarc.discovery import registered_domain
from elemta.mailauth.resolving import Answer as DnsAnswer
from elemta.net.addresses import membership
from elemta.net.tasks import spawn
from elemta.plugins import (
    ConnectionContext,
    EnvelopeContext,
    MessageContext,
    Metadata,
    Plugin,
    Result,
    SessionInfo,
    parse_domain,
)
from elemta.plugins.builtin._mime import InspectionSettings, Reader, TooMuch
from elemta.plugins.builtin._steps import Begun, begin
from elemta.plugins.builtin.dnsbl.codes import ListError
from elemta.plugins.builtin.dnsbl.refusals import Answer, Refusals
from elemta.plugins.builtin.dnsbl.settings import DnsblSettings
from elemta.plugins.builtin.dnsbl.urls import find_domains
from elemta.plugins.builtin.dnsbl.verdict import DnsblVerdict
from elemta.plugins.builtin.dnsbl.zone import Zone

NOTE = "dnsbl"
KNOWN_FOR = 60.0  # seconds for which a worker does not ask the resolver again
TICK = 10.0  # seconds between looks at which list is to be tested
_CLIENT = "dnsbl.client"
_SCORE = "dnsbl.score"
_LISTS = "dnsbl.lists"


class Question(NamedTuple):
    """What a list is asked."""

    zone: Zone
    what: str
    name: str


class Dnsbl(Plugin[DnsblSettings]):
    """Asks lists."""

    metadata = Metadata(
        name="dnsbl",
        version="1.0.0",
        description="Weighted lists of clients and domains in the DNS (RFC 5782)",
        after=("iprev", "spf"),
        only_in_worker=True,
    )
    Settings: ClassVar[type[BaseModel]] = DnsblSettings

    async def setup(self) -> None:
        """Read the lists."""
        tools = self.tools
        self._zones = [
            Zone(place, settings, tools.clock, self._tell)
            for place, settings in enumerate(self.settings.lists)
        ]
        self._is_among = membership(self.settings.networks)
        self._refusals = Refusals(self.settings, self._zones, tools.dns)
        kinds = {each.kind for each in self.settings.lists}
        self._has_names = not kinds.isdisjoint({"helo", "sender"})
        self._has_urls = "url" in kinds
        if self._has_urls:  # the list of public suffixes is read now, not while others wait
            await asyncio.to_thread(registered_domain, "example.org")
        self._reader = Reader(InspectionSettings())
        self._generation = 0  # of what is remembered: another when a list is set aside, or back
        self._testing: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._tested = asyncio.Event()

    async def enable(self) -> None:
        """Begin to test them."""
        if self._testing is None:
            self._stop.clear()
            self._testing = spawn(self._keep_testing(), "tests of lists in the DNS")

    async def disable(self) -> None:
        """Stop that."""
        self._stop.set()
        testing, self._testing = self._testing, None
        if testing is not None:
            await testing

    def on_connect(self, ctx: ConnectionContext) -> Answer:
        """Ask about the client, where that is to be done at once."""
        if self.settings.stage == "mail" or not self._concerns(ctx.session):
            return None
        return self._judge(ctx, ("client",))

    def on_mail_from(self, ctx: EnvelopeContext) -> Answer:
        """Ask about the client, unless that is done, and about the sender."""
        session = ctx.session
        if not self._concerns(session):
            for left in (session.notes, session.metadata):
                for name in (NOTE, _CLIENT, _SCORE, _LISTS):
                    left.pop(name, None)
            return None
        known = _CLIENT in session.notes
        return self._judge(ctx, ("helo", "sender") if known else ("client", "helo", "sender"))

    def on_filter(self, ctx: MessageContext) -> Awaitable[Result | None] | None:
        """Ask about the domains that a message leads to."""
        if not self._has_urls or not self._concerns(ctx.session):
            return None
        return self._judge_urls(ctx)

    async def test_lists(self) -> None:
        """Test all lists that are due."""
        now, settings = self.tools.clock.monotonic(), self.settings
        due = [zone for zone in self._zones if now >= zone.test_at]
        async with asyncio.TaskGroup() as group:
            for zone in due:
                group.create_task(self._test(zone, settings.test_every))
        self._tested.set()

    # ---- asking

    def _concerns(self, session: SessionInfo) -> bool:
        settings = self.settings
        if not session.client_ip or not settings.concern(session):
            return False
        return not (settings.networks and self._is_among(session.client_ip))

    def _judge(self, ctx: ConnectionContext, kinds: Sequence[str]) -> Answer:
        """Give the answer at once where all answers are known."""
        if not self._tested.is_set():
            return self._judge_later(ctx, kinds)
        remembered = self._recall(ctx, kinds)
        if remembered is not None:
            return self._conclude(ctx, *remembered)
        questions = self._questions(ctx, kinds)
        found: list[DnsAnswer | None] = []
        for question in questions:
            begun = begin(self._ask(question))
            if isinstance(begun, Begun):
                return self._judge_later(ctx, kinds)  # what has begun goes on in the resolver
            found.append(begun[0])
        return self._take(ctx, kinds, questions, found)

    async def _judge_later(self, ctx: ConnectionContext, kinds: Sequence[str]) -> Result | None:
        """Ask as soon as it is known which lists work."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.limit):
                await self._tested.wait()
        questions = self._questions(ctx, kinds)
        found = await self._ask_all(questions)
        answer = self._take(ctx, kinds, questions, found)
        return answer if answer is None or isinstance(answer, Result) else await answer

    async def _judge_urls(self, ctx: MessageContext) -> Result | None:
        """Add what lists say of domains in the message: each list counts once."""
        most = self.settings.max_urls
        domains: list[str] = []
        with contextlib.suppress(TooMuch):
            domains = await self._reader.look(ctx, partial(find_domains, most=most))
        asked = [zone for zone in self._zones if zone.settings.kind == "url" and not zone.problem]
        questions = [
            Question(zone, domain, name)
            for zone in asked
            for domain in domains
            if (name := zone.name_of(domain)) is not None
        ]
        verdict: DnsblVerdict = ctx.session.notes.get(NOTE, DnsblVerdict())
        for question, answer in zip(questions, await self._ask_all(questions), strict=True):
            said = self._read(question, answer)
            is_new = question.zone.place not in {hit.place for hit in verdict.hits}
            verdict += said if is_new else said.without_hits()
        if domains and not questions:
            verdict += self._find_aside(ctx, ("url",))
        self._leave(ctx, verdict)
        result = self._refusals.act(verdict, ctx)
        return result if result is None or isinstance(result, Result) else await result

    async def _ask_all(self, questions: Sequence[Question]) -> list[DnsAnswer | None]:
        """Ask all at the same time, and wait for no longer than the limit."""
        tasks = [spawn(self._ask(each), f"list {each.zone.settings.zone}") for each in questions]
        late: set[asyncio.Task[DnsAnswer | None]] = set()
        try:
            if tasks:
                _, late = await asyncio.wait(tasks, timeout=self.settings.limit)
        finally:
            for task in tasks:
                task.cancel()
        return [None if task in late else task.result() for task in tasks]

    async def _ask(self, question: Question) -> DnsAnswer | None:
        try:
            return await self.tools.dns.query(question.name, "A")
        except LookupFailed:
            return None

    def _questions(self, ctx: ConnectionContext, kinds: Sequence[str]) -> list[Question]:
        found = []
        for zone in self._zones:
            if zone.problem or zone.settings.kind not in kinds:
                continue
            what = _find_subject(zone.settings.kind, ctx)
            name = zone.name_of(what) if what else None
            if name is not None:
                found.append(Question(zone, what, name))
        return found

    def _find_aside(self, ctx: ConnectionContext, kinds: Sequence[str]) -> DnsblVerdict:
        """Give the lists that would have been asked, did they work: they do not answer, either."""
        aside = tuple(
            zone.settings.zone
            for zone in self._zones
            if zone.problem and zone.settings.kind in kinds and self._has_subject(zone, ctx)
        )
        return DnsblVerdict(aside=aside)

    def _has_subject(self, zone: Zone, ctx: ConnectionContext) -> bool:
        kind = zone.settings.kind
        what = "" if kind == "url" else _find_subject(kind, ctx)
        return kind == "url" or (bool(what) and zone.name_of(what) is not None)

    # ---- what comes of it

    def _take(
        self,
        ctx: ConnectionContext,
        kinds: Sequence[str],
        questions: Sequence[Question],
        found: Sequence[DnsAnswer | None],
    ) -> Answer:
        """Add up, leave word, and do what is to be done."""
        client, names = DnsblVerdict(), DnsblVerdict()
        for question, answer in zip(questions, found, strict=True):
            if question.zone.settings.kind == "client":
                client += self._read(question, answer)
            else:
                names += self._read(question, answer)
        keep, key = self.tools.cache.set, self._name_key(ctx)
        aside = DnsblVerdict() if questions else self._find_aside(ctx, kinds)
        if "client" not in kinds:
            client = ctx.session.notes[_CLIENT]
            names += aside
        elif not client.failed and not aside.aside:
            keep(self._client_key(ctx), client, KNOWN_FOR)
        else:
            client += aside
        if len(kinds) > 1 and key and not names.failed and not names.aside:
            keep(key, names, KNOWN_FOR)
        return self._conclude(ctx, client, names)

    def _recall(
        self, ctx: ConnectionContext, kinds: Sequence[str]
    ) -> tuple[DnsblVerdict, DnsblVerdict] | None:
        """Give what was found of the client and of names a moment ago, if both are known."""
        get, key = self.tools.cache.get, self._name_key(ctx)
        client = ctx.session.notes[_CLIENT] if "client" not in kinds else None
        client = client or get(self._client_key(ctx))
        names = DnsblVerdict() if len(kinds) == 1 or not key else get(key)
        return None if client is None or names is None else (client, names)

    def _client_key(self, ctx: ConnectionContext) -> str:
        return f"{self._generation} {ctx.session.client_ip}"

    def _name_key(self, ctx: ConnectionContext) -> str:
        """Name what is known of names; "" where no list knows any."""
        if not self._has_names:
            return ""
        return f"{self._generation} {_find_subject('helo', ctx)} {_find_subject('sender', ctx)}"

    def _conclude(
        self, ctx: ConnectionContext, client: DnsblVerdict, names: DnsblVerdict
    ) -> Answer:
        ctx.session.notes[_CLIENT] = client
        verdict = client + names
        self._leave(ctx, verdict)
        return self._refusals.act(verdict, ctx)

    def _read(self, question: Question, answer: DnsAnswer | None) -> DnsblVerdict:
        zone, metrics = question.zone, self.tools.metrics
        try:
            hit = zone.read(question.what, answer)
        except ListError:
            metrics.count("answers", zone=zone.settings.zone, result="error")
            return DnsblVerdict(failed=(zone.settings.zone,), asked=1)
        result = "listed" if hit else "not_listed"
        metrics.count("answers", zone=zone.settings.zone, result=result)
        return DnsblVerdict((hit,) if hit else (), asked=1)

    def _leave(self, ctx: ConnectionContext, verdict: DnsblVerdict) -> None:
        session = ctx.session
        session.notes[NOTE] = verdict
        session.metadata[_SCORE] = f"{verdict.score:g}"
        session.metadata[_LISTS] = " ".join(hit.zone for hit in verdict.hits)
        if verdict.hits and isinstance(ctx, EnvelopeContext):
            ctx.message.notes[NOTE] = str(verdict)

    # ---- testing

    def _tell(self, text: str) -> None:
        self._generation += 1
        self.tools.log.warning(text)

    async def _keep_testing(self) -> None:
        while not self._stop.is_set():
            await self.test_lists()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK):
                    await self._stop.wait()

    async def _test(self, zone: Zone, every: float) -> None:
        try:
            async with asyncio.timeout(self.settings.limit):
                await zone.test(self.tools.dns, every)
        except TimeoutError:
            zone.set_aside("does not answer")


def _find_subject(kind: str, ctx: ConnectionContext) -> str:
    """Give what a list of this kind is asked about; "" for nothing."""
    session = ctx.session
    if kind == "client":
        return session.client_ip
    if kind == "sender":
        sender = ctx.sender if isinstance(ctx, EnvelopeContext) else None
        domain = sender.domain if sender is not None else ""
    else:
        try:
            domain = parse_domain(session.helo)
        except AddressError:
            domain = ""
    return "" if domain.startswith("[") else domain
