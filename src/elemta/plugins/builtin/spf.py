"""Whether the client may send for the domain of the sender, and for what it calls itself (SPF).

The name of HELO is checked when it is said, the sender at MAIL (RFC 7208 §2.3, §2.4). A verdict
is remembered for a minute. A fail is left to DMARC where that judges the message: it knows more.

Leaves behind: `authentication.spf` and `.spf_helo` of each message, `auth.spf` in the metadata.
"""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, Field

from elemta.mailauth import AuthStatus, SpfVerdict
from elemta.mailauth.spf import SpfChecker, SpfSettings, received_spf, subject_of
from elemta.plugins import (
    Address,
    EnvelopeContext,
    FamilyInfo,
    HelloContext,
    InsertHeader,
    MessageContext,
    Metadata,
    Plugin,
    Result,
    SessionInfo,
    SPFResult,
)
from elemta.plugins.builtin._judging import (
    Consequence,
    JudgingSettings,
    Words,
    act,
    is_left_to_dmarc,
)
from elemta.plugins.builtin._steps import Begun, begin, within

LIFETIME = 60.0  # seconds for which a verdict is remembered
_HELO = "spf_helo"
_METADATA = "auth.spf"

Answer = Result | Awaitable[Result | None] | None
Take = Callable[[Any, SpfVerdict], Result | None]


class SpfPluginSettings(JudgingSettings):
    """What is done about senders, and how much their records may make us ask."""

    check_helo: bool = Field(
        default=True, description="Also check the name that the client gives in HELO or EHLO."
    )
    on_fail: Consequence | Literal["auto"] = Field(
        default="auto",
        description="What is done about a client that the domain of the sender does not let send. "
        '"auto": DMARC decides where it judges the message, else the sender is rejected.',
    )
    on_helo_fail: Consequence = Field(
        default="continue",
        description="What is done about a client whose name in HELO is not its own.",
    )
    on_softfail: Consequence = Field(
        default="continue", description="What is done where the domain only has its doubts."
    )
    on_permerror: Consequence = Field(
        default="continue", description="What is done where the record of the domain is broken."
    )
    on_temperror: Consequence = Field(
        default="continue", description="What is done where the DNS does not answer."
    )
    received_spf: bool = Field(
        default=False,
        description="Add a Received-SPF field; Authentication-Results says the same.",
    )
    limit: float = Field(
        default=20.0,
        gt=0,
        le=300,
        description="Seconds that a check may take (RFC 7208 §4.6.4: at least 20); then it counts "
        "as a temperror. `timeout` of the plugin should be longer.",
    )
    max_lookups: int = Field(
        default=10, ge=1, le=50, description="Terms of a record that may ask the DNS."
    )
    max_void_lookups: int = Field(
        default=2, ge=0, le=50, description="Terms whose questions may come back empty."
    )


class Spf(Plugin[SpfPluginSettings]):
    """Checks senders."""

    metadata = Metadata(
        name="spf",
        version="1.0.0",
        description="Whether the client may send for the domain of the sender (SPF, RFC 7208)",
        after=("iprev",),
        only_in_worker=True,
    )
    Settings: ClassVar[type[BaseModel]] = SpfPluginSettings

    async def setup(self) -> None:
        """Make the checker."""
        settings, tools = self.settings, self.tools
        limits = SpfSettings(
            max_lookups=settings.max_lookups,
            max_void_lookups=settings.max_void_lookups,
            hostname=tools.hostname,
        )
        self._checker = SpfChecker(tools.dns, limits)

    def on_helo(self, ctx: HelloContext) -> Answer:
        """Check what the client calls itself."""
        session = ctx.session
        session.notes.pop(_HELO, None)
        if not (self.settings.check_helo and self._concerns(session)):
            return None
        return self._find(ctx, "helo", None, ctx.name, self._take_helo)

    def on_mail_from(self, ctx: EnvelopeContext) -> Answer:
        """Check the sender."""
        session = ctx.session
        if not self._concerns(session):
            session.metadata.pop(_METADATA, None)
            return None
        ctx.message.authentication.spf_helo = session.notes.get(_HELO)
        return self._find(ctx, "mailfrom", ctx.sender, session.helo, self._take)

    def on_data(self, ctx: MessageContext) -> Result | None:
        """Write the verdict down, where that is wanted."""
        verdict = ctx.message.authentication.spf
        if verdict is None or not self.settings.received_spf:
            return None
        session = ctx.session
        value = received_spf(
            verdict,
            ip=session.client_ip,
            sender=str(ctx.sender or ""),
            helo=session.helo,
            receiver=self.tools.hostname,
        )
        return Result.modify(InsertHeader("Received-SPF", value))

    async def check_spf(self, ip: str, domain: str) -> SPFResult:
        """Find out whether an address may send for a domain; as `SPFPlugin` has it."""
        begun = begin(self._check(ip, domain, f"postmaster@{domain}", domain, "mailfrom"))
        verdict = begun[0] if not isinstance(begun, Begun) else await self._limited(begun, domain)
        details = verdict.problem or verdict.mechanism
        return SPFResult(verdict.status, details)

    def get_info(self) -> FamilyInfo:
        """Say who this is."""
        return FamilyInfo(self.metadata.name, self.metadata.version, "spf")

    def _concerns(self, session: SessionInfo) -> bool:
        return bool(session.client_ip) and self.settings.concern(session)

    def _check(
        self, ip: str, domain: str, sender: str, helo: str, identity: str
    ) -> Coroutine[Any, Any, SpfVerdict]:
        now = self.tools.clock.now()
        return self._checker.check(ip, domain, sender, helo, identity=identity, now=now)

    def _find(
        self,
        ctx: HelloContext | EnvelopeContext,
        identity: str,
        sender: Address | None,
        helo: str,
        take: Take,
    ) -> Answer:
        """Give the answer at once where the verdict is known, or can be had without waiting."""
        subject = subject_of(identity, sender, helo)
        ip, cache = ctx.session.client_ip, self.tools.cache
        key = f"{identity} {ip} {helo} {subject.sender}"
        known = cache.get(key)
        if known is not None:
            return take(ctx, known)
        begun = begin(self._check(ip, subject.domain, subject.sender, helo, identity))
        if isinstance(begun, Begun):
            return self._wait(ctx, key, (subject.domain, identity), begun, take)
        self._remember(key, begun[0])
        return take(ctx, begun[0])

    async def _wait(
        self,
        ctx: HelloContext | EnvelopeContext,
        key: str,
        about: tuple[str, str],
        begun: Begun[SpfVerdict],
        take: Take,
    ) -> Result | None:
        verdict = await self._limited(begun, *about)
        self._remember(key, verdict)
        return take(ctx, verdict)

    async def _limited(
        self, begun: Begun[SpfVerdict], domain: str, identity: str = "mailfrom"
    ) -> SpfVerdict:
        def late() -> SpfVerdict:
            problem = "the check has taken too long"
            return SpfVerdict(AuthStatus.TEMPERROR, domain, identity, problem=problem)

        return await within(self.settings.limit, begun, late)

    def _remember(self, key: str, verdict: SpfVerdict) -> None:
        if verdict.status is not AuthStatus.TEMPERROR:
            self.tools.cache.set(key, verdict, LIFETIME)

    def _take_helo(self, ctx: HelloContext, verdict: SpfVerdict) -> Result | None:
        ctx.session.notes[_HELO] = verdict
        self.tools.metrics.count("checks", identity="helo", result=str(verdict.status))
        if verdict.status is not AuthStatus.FAIL:
            return None
        return act(self.settings.on_helo_fail, _refusal(ctx.session, verdict), _note(verdict))

    def _take(self, ctx: EnvelopeContext, verdict: SpfVerdict) -> Result | None:
        session, status = ctx.session, verdict.status
        ctx.message.authentication.spf = verdict
        session.metadata[_METADATA] = str(status)
        self.tools.metrics.count("checks", identity="mailfrom", result=str(status))
        settings = self.settings
        if status is AuthStatus.FAIL:
            what = settings.on_fail
            if what == "auto":
                what = "continue" if is_left_to_dmarc(session) else "reject"
        elif status is AuthStatus.SOFTFAIL:
            what = settings.on_softfail
        elif status is AuthStatus.PERMERROR:
            what = settings.on_permerror
        elif status is AuthStatus.TEMPERROR:
            what = settings.on_temperror
        else:
            return None
        if what == "continue":
            return None
        return act(what, _refusal(session, verdict), _note(verdict))


def _refusal(session: SessionInfo, verdict: SpfVerdict) -> Words:
    """Say what is wrong, by the codes of RFC 7372 §3.2 and RFC 7208 §8.6."""
    domain, ip = verdict.domain or "the sender", session.client_ip
    if verdict.status is AuthStatus.TEMPERROR:
        return Words("5.4.3", "4.4.3", f"The SPF record of {domain} cannot be looked up")
    if verdict.status is AuthStatus.PERMERROR:
        return Words("5.7.24", "4.7.24", f"The SPF record of {domain} cannot be used")
    text = f"{domain} does not let {ip} send its mail (SPF)"
    if verdict.explanation:
        text += f"; {domain} explains: {verdict.explanation}"
    return Words("5.7.23", "4.7.23", text)


def _note(verdict: SpfVerdict) -> str:
    why = verdict.problem or verdict.mechanism
    return f"spf={verdict.status} of {verdict.identity} {verdict.domain}: {why}"
