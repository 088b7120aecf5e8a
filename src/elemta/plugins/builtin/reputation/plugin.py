"""Remembers what has come of clients, networks, domains and logins, and gives them a score.

From our own history alone: mail that was taken, refused, kept back, called spam or not authentic,
complaints, wrong passwords, attacks. All of it fades. A domain is only known by mail for which SPF
passes: nobody can harm or use the name of another.

Leaves behind: a `ReputationVerdict` as `reputation` in the notes of the session, `reputation.score`
and `reputation.parts` in the metadata, `reputation` in the notes of a message with less than 100.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from pydantic import BaseModel

from elemta.mail.errors import PluginError
from elemta.mailauth import AuthStatus
from elemta.net.tasks import spawn
from elemta.plugins import (
    AuthContext,
    CommandContext,
    ConnectionContext,
    EnvelopeContext,
    MessageContext,
    Metadata,
    Plugin,
    Result,
    SecurityContext,
    SessionInfo,
)
from elemta.plugins.builtin._judging import Consequence, Words, act
from elemta.plugins.builtin._known import REPUTATION, is_called_spam
from elemta.plugins.builtin.reputation.history import History
from elemta.plugins.builtin.reputation.record import BEST, Part, Record, ReputationVerdict
from elemta.plugins.builtin.reputation.settings import ReputationSettings
from elemta.plugins.builtin.reputation.subjects import counts, named, places_of, system_of

NOTE = "reputation"
WRITE_EVERY = 3.0  # seconds: what a crash may cost
COMPLAINT_KEPT = 600.0  # seconds for which the id of a complaint is remembered
_PARTS = "reputation.parts"
_UNDER_WAY = "reputation.message"
_HEARD = "reputation.heard"
_REFUSALS = "reputation.refusals"
MAX_REFUSALS = 30  # of one message that the server refuses by itself: a list may be stale
_LIMITS = frozenset({"limit_reached", "connection_refused"})
_NO_FAULT = frozenset({"connections", "load", "proxy", "ban"})
"""Refused connections that are no fault of the client, or have counted before."""
_KEPT = frozenset({"quarantine", "discard"})
_WORDS = Words("5.7.1", "4.7.1", "Too much bad mail has come from there")

Answer = Result | Awaitable[Result | None] | None


@dataclass(slots=True)
class _UnderWay:
    """A message that has been begun.

    Attributes:
        subjects: Who is behind it.
        is_read: It was about to go into the queue.
        is_unauthentic: SPF or DMARC fails.
        is_spam: A scanner calls it spam.
    """

    subjects: tuple[str, ...]
    is_read: bool = False
    is_unauthentic: bool = False
    is_spam: bool = False


class Reputation(Plugin[ReputationSettings]):
    """Gives scores."""

    metadata = Metadata(
        name="reputation",
        version="1.0.0",
        description="Scores of clients, networks, domains and logins by what has come of them",
        after=("geoip", "iprev", "spf", "dkim", "arc", "dmarc"),
        only_in_worker=True,
    )
    Settings: ClassVar[type[BaseModel]] = ReputationSettings

    async def setup(self) -> None:
        """Begin without anything in memory."""
        tools, settings = self.tools, self.settings
        self._history = History(tools.kv, tools.cache, settings.half_life)
        self._writing: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._trouble = ""

    async def enable(self) -> None:
        """Begin to write down."""
        if self._writing is None:
            self._stop.clear()
            self._writing = spawn(self._keep_writing(), "reputations")

    async def disable(self) -> None:
        """Write down what is left."""
        self._stop.set()
        writing, self._writing = self._writing, None
        if writing is not None:
            await writing
        await self.write_down()

    # ---- what is known

    def on_connect(self, ctx: ConnectionContext) -> Awaitable[Result | None] | None:
        """Find out what is known of the client, for others."""
        subjects = self._subjects_of(ctx.session)
        if not subjects:
            return None
        records = self._find(subjects)
        if records is None:
            return self._load(ctx, subjects)
        self._leave(ctx, subjects, records)
        return None

    def on_mail_from(self, ctx: EnvelopeContext) -> Answer:
        """Find out what is known of all who are behind a message."""
        session = ctx.session
        subjects = self._subjects_of(session)
        if not subjects:
            for left in (session.notes, session.metadata):
                for name in (NOTE, _UNDER_WAY, REPUTATION, _PARTS):
                    left.pop(name, None)
            return None
        spf = ctx.message.authentication.spf
        if spf is not None and spf.status is AuthStatus.PASS and ctx.sender is not None:
            subjects = (*subjects, f"domain {spf.domain}")
        session.notes[_UNDER_WAY] = _UnderWay(subjects)
        records = self._find(subjects)
        if records is None:
            return self._load(ctx, subjects)
        return self._act(self._leave(ctx, subjects, records))

    def _subjects_of(self, session: SessionInfo) -> tuple[str, ...]:
        """Give who is known by now; nobody where it is one of ours."""
        if session.username:
            return (f"login {session.username}",)
        if session.listener != "mta" or session.is_trusted or not session.client_ip:
            return ()
        return (*self._places_of(session.client_ip), *system_of(session))

    def _places_of(self, client: str) -> tuple[str, ...]:
        return places_of(client, self.settings.ipv4_prefix, self.settings.ipv6_prefix)

    def _find(self, subjects: tuple[str, ...]) -> list[Record] | None:
        found = [self._history.find(subject) for subject in subjects]
        known = [record for record in found if record is not None]
        return known if len(known) == len(found) else None

    async def _load(self, ctx: ConnectionContext, subjects: tuple[str, ...]) -> Result | None:
        try:
            records = [await self._history.load(subject) for subject in subjects]
        except PluginError as error:
            self._tell(str(error))
            return None
        verdict = self._leave(ctx, subjects, records)
        return self._act(verdict) if isinstance(ctx, EnvelopeContext) else None

    def _leave(
        self, ctx: ConnectionContext, subjects: tuple[str, ...], records: list[Record]
    ) -> ReputationVerdict:
        """Leave word for rules and other plugins."""
        settings, now = self.settings, self.tools.clock.now()
        parts = []
        for subject, record in zip(subjects, records, strict=True):
            if record.at:
                left = record.faded(now, settings.half_life)
                score = left.score(settings.trust)
                parts.append(Part(subject, score, counts(subject, score), left.good, left.bad))
        verdict = ReputationVerdict(tuple(parts))
        session = ctx.session
        session.notes[NOTE] = verdict
        session.metadata[REPUTATION] = str(verdict.score)
        session.metadata[_PARTS] = ", ".join(map(str, parts))
        if verdict.score < BEST and isinstance(ctx, EnvelopeContext):
            ctx.message.notes[NOTE] = str(verdict)
        return verdict

    def _act(self, verdict: ReputationVerdict) -> Result | None:
        settings, score = self.settings, verdict.score
        limits: tuple[tuple[Consequence, int], ...] = (
            ("reject", settings.reject_below),
            ("defer", settings.defer_below),
            ("quarantine", settings.quarantine_below),
        )
        what = next((what for what, limit in limits if score < limit), None)
        if what is None:
            return None
        self.tools.metrics.count("objections", action=what)
        return act(what, _WORDS, f"reputation: {verdict}")

    # ---- what happens

    def on_command(self, ctx: CommandContext) -> None:
        """Before the next message begins, the last one is over."""
        if ctx.verb == "MAIL":
            self._end(ctx.session)

    def on_disconnect(self, ctx: ConnectionContext) -> None:
        """Nothing comes any more."""
        self._end(ctx.session)

    def on_enqueue(self, ctx: MessageContext) -> None:
        """A message has got this far: unless somebody still refuses it, it is taken."""
        under_way: _UnderWay | None = ctx.session.notes.get(_UNDER_WAY)
        if under_way is not None:
            found = ctx.message.authentication
            checks = (found.spf, found.dmarc)
            under_way.is_read = True
            under_way.is_spam = is_called_spam(ctx.message.notes)
            under_way.is_unauthentic = any(
                check is not None and check.status is AuthStatus.FAIL for check in checks
            )

    def on_auth(self, ctx: AuthContext) -> None:
        """Somebody has tried to log in."""
        session = ctx.session
        if ctx.authenticated is False and session.client_ip and not session.is_trusted:
            self._add(self._places_of(session.client_ip), 0, self.settings.failed_login, "login")

    def on_security_event(self, ctx: SecurityContext) -> None:
        """The server has noticed something, or another plugin has."""
        if not ctx.client_ip or ctx.client_ip == "unix":
            return
        subjects, settings = self._places_of(ctx.client_ip), self.settings
        if ctx.kind not in _LIMITS:
            self._add(subjects, 0, settings.attack, "attack")
        elif ctx.detail not in _NO_FAULT and not ctx.detail.startswith("submission."):
            self._add(subjects, 0, settings.limited, "limited")

    def _end(self, session: SessionInfo) -> None:
        """Count what has come of a message, or of a session without any."""
        under_way: _UnderWay | None = session.notes.pop(_UNDER_WAY, None)
        subjects = under_way.subjects if under_way is not None else self._subjects_of(session)
        if not subjects:
            return
        settings = self.settings
        heard, own = self._hear(session)
        refused = heard.count("reject")
        before = session.notes.get(_REFUSALS, 0)
        by_server = min(session.refusals - before, MAX_REFUSALS)
        if refused + by_server:
            session.notes[_REFUSALS] = session.refusals
            self._add(subjects, 0, (refused + by_server) * settings.refused, "refused")
        if under_way is None or not under_way.is_read or own:
            return
        if not _KEPT.isdisjoint(heard):
            self._add(subjects, 0, settings.suspicious, "suspicious")
        elif under_way.is_spam or under_way.is_unauthentic:
            if under_way.is_spam:
                self._add(subjects, 0, settings.spam, "spam")
            if under_way.is_unauthentic:
                self._add(subjects, 0, settings.unauthentic, "unauthentic")
        elif not refused:
            self._add(subjects, settings.accepted, 0, "accepted")

    def _hear(self, session: SessionInfo) -> tuple[list[str], list[str]]:
        """Give what plugins have said, each answer once; what we have said ourselves apart."""
        last = session.heard[-1] if session.heard else None
        if last is None or session.notes.get(_HEARD) is last:
            return [], []
        session.notes[_HEARD] = last
        own = self.metadata.name
        others = [each.action for each in session.heard if each.plugin != own]
        return others, [each.action for each in session.heard if each.plugin == own]

    def _add(self, subjects: tuple[str, ...], good: float, bad: float, what: str) -> None:
        self.tools.metrics.count("events", kind=what)
        if good or bad:
            for subject in subjects:
                self._history.add(subject, good, bad)

    # ---- operators

    async def answer_operator(self, words: Mapping[str, str]) -> str:
        """Show what is known of somebody, or take note of a complaint; JSON.

        Args:
            words: "do" is "show" or "complain", "id" is of the complaint: all workers are told of
                it, and the first takes note. The rest is who.

        Raises:
            PluginError: Nobody is named, or the store does not work.
        """
        settings, kv = self.settings, self.tools.kv
        subjects = named(words, settings.ipv4_prefix, settings.ipv6_prefix)
        if not subjects:
            raise PluginError("nobody is named")
        if words.get("do") == "complain":
            place = f"complaint {words.get('id', '')}"[:100]
            if await kv.increment(place, ttl=COMPLAINT_KEPT) == 1:
                self._add(subjects, 0, settings.complaint, "complaint")
                await self._history.write_down(self.tools.clock.now())
        now = self.tools.clock.now()
        rows = []
        for subject in subjects:
            left = (await self._history.load(subject)).faded(now, settings.half_life)
            told = {"good": round(left.good, 3), "bad": round(left.bad, 3)}
            rows.append({"subject": subject, "score": left.score(settings.trust), **told})
        return json.dumps(rows)

    # ---- the store

    async def write_down(self) -> None:
        """Put what has been gathered into the store; where that fails, it is told and kept."""
        try:
            await self._history.write_down(self.tools.clock.now())
        except PluginError as error:
            self._tell(str(error))
        else:
            self._trouble = ""
        lost, self._history.lost = self._history.lost, 0
        if lost:
            self.tools.metrics.count("lost", lost)

    async def _keep_writing(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WRITE_EVERY):
                    await self._stop.wait()
            await self.write_down()

    def _tell(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            text = f"reputations cannot be kept: {trouble}"
            self.tools.log.warning(text)
