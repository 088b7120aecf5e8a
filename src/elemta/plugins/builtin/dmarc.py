"""What the domain in From wants to be done with mail that nobody vouches for (DMARC).

Asked when SPF, DKIM and ARC have been; what their results come to for an author is remembered for a
minute. A message that fails is treated as its domain asks, or as the operator says instead. Of one
that failed and was taken all the same, a failure to deliver is told to nobody: its sender may be
forged.

Leaves behind: `authentication.dmarc` and `.dmarc_record`, `auth.dmarc` in the metadata; of a fail
a note with the message.
"""

from collections.abc import Awaitable
from typing import ClassVar, Literal

from pydantic import BaseModel, Field, field_validator

from elemta.mailauth import Authentication, AuthStatus, DmarcVerdict
from elemta.mailauth.dmarc import (
    Author,
    AuthorProblem,
    DmarcChecker,
    DmarcJudgement,
    DmarcRecord,
    DmarcSettings,
    decide,
    find_author,
)
from elemta.plugins import (
    ConnectionContext,
    DMARCResult,
    FamilyInfo,
    MessageContext,
    Metadata,
    OutcomeContext,
    Plugin,
    Result,
    parse_domain,
)
from elemta.plugins.builtin._judging import (
    Consequence,
    JudgingSettings,
    Words,
    act,
    announce_dmarc,
)
from elemta.plugins.builtin._steps import Begun, begin, within

LIFETIME = 60.0  # seconds for which a judgement is remembered
_METADATA = "auth.dmarc"
_NOTE = "dmarc"
_UNCLEAR = Words("5.7.1", "4.7.1", "It is not clear from whom this message is")

Policy = Literal["none", "quarantine", "reject"]
Answer = Result | Awaitable[Result | None] | None


class DmarcPluginSettings(JudgingSettings):
    """What is done about mail that fails."""

    policy: Policy = Field(
        default="reject",
        description="The most that is done, whatever a domain asks for: `none` writes the result "
        "down, `quarantine` keeps mail where an operator sees it, `reject` refuses it.",
    )
    overrides: dict[str, Policy] = Field(
        default={},
        description="What is done instead of what a domain asks for, by domain; that of a domain "
        "is that of its subdomains, too.",
    )
    trusted_sealers: tuple[str, ...] = Field(
        default=(),
        description="Domains that are believed when they say, by ARC seals, that a message passed "
        "where it came from: such a message is not treated as one that fails. Needs `arc`.",
    )
    discovery: Literal["treewalk", "psl"] = Field(
        default="treewalk",
        description="How the policy of a domain is found: as RFC 9989 has it, or by the public "
        "suffix list, as RFC 7489 had it.",
    )
    on_unclear_from: Consequence = Field(
        default="reject",
        description="What is done about mail without From, with several, or with one that cannot "
        "be read or has more than four domains; with `continue` it is judged by the first four "
        "domains in it.",
    )
    on_temperror: Consequence = Field(
        default="continue",
        description="What is done where the DNS does not answer and the answer could matter.",
    )
    limit: float = Field(
        default=20.0,
        gt=0,
        le=300,
        description="Seconds that look-ups may take; then it counts as a temperror.",
    )

    @field_validator("overrides")
    @classmethod
    def _read_overrides(cls, value: dict[str, Policy]) -> dict[str, Policy]:
        return {parse_domain(domain): policy for domain, policy in value.items()}

    @field_validator("trusted_sealers")
    @classmethod
    def _read_sealers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(parse_domain(domain) for domain in value)


class Dmarc(Plugin[DmarcPluginSettings]):
    """Judges who a message says it is from."""

    metadata = Metadata(
        name="dmarc",
        version="1.0.0",
        description="What the domain in From wants of mail that nobody vouches for (RFC 9989)",
        after=("iprev", "spf", "dkim", "arc"),
        only_in_worker=True,
    )
    Settings: ClassVar[type[BaseModel]] = DmarcPluginSettings

    async def setup(self) -> None:
        """Make the checker."""
        settings = self.settings
        self._judging = DmarcSettings(
            discovery=settings.discovery,
            policy_limit=settings.policy,
            overrides=settings.overrides,
            trusted_sealers=frozenset(settings.trusted_sealers),
        )
        self._checker = DmarcChecker(self.tools.dns, self._judging)

    def on_connect(self, ctx: ConnectionContext) -> None:
        """Say that what SPF finds is used here."""
        announce_dmarc(ctx.session, self.settings)

    def on_data(self, ctx: MessageContext) -> Answer:
        """Judge a message."""
        session = ctx.session
        if not self.settings.concern(session):
            session.metadata.pop(_METADATA, None)
            return None
        author = find_author(ctx.headers.raw)
        if author.problem not in {None, AuthorProblem.SEVERAL}:
            answer = act(self.settings.on_unclear_from, _UNCLEAR, _unclear(author))
            if answer is not None:
                self._leave_unclear(ctx, author)
                return answer
        about = ctx.message.authentication
        key = _key(author, about)
        known = self.tools.cache.get(key) if key else None
        if known is not None:
            return self._act(ctx, *known)
        begun = begin(self._judge(author, about))
        if isinstance(begun, Begun):
            return self._wait(ctx, author, begun, key)
        return self._take(ctx, begun[0], key)

    def on_bounced(self, ctx: OutcomeContext) -> Result | None:
        """Tell nobody of a failure: the sender may be forged."""
        if ctx.message.notes.get(_NOTE) != AuthStatus.FAIL:
            return None
        return Result.silence(note="DMARC failed: the sender may be forged")

    async def check_dmarc(self, ctx: MessageContext) -> DMARCResult:
        """Judge a message by what is known of it; as `DMARCPlugin` has it."""
        about = ctx.message.authentication
        verdict = about.dmarc
        if verdict is None:
            author = find_author(ctx.headers.raw)
            begun = begin(self._judge(author, about))
            judged = await self._limited(author, begun) if isinstance(begun, Begun) else begun[0]
            verdict = judged.verdict
        return DMARCResult(verdict.status, verdict.policy, verdict.problem)

    def get_info(self) -> FamilyInfo:
        """Say who this is."""
        return FamilyInfo(self.metadata.name, self.metadata.version, "dmarc")

    async def _judge(self, author: Author, about: Authentication) -> DmarcJudgement:
        return await self._checker.check_author(author, about.spf, about.dkim)

    async def _wait(
        self, ctx: MessageContext, author: Author, begun: Begun[DmarcJudgement], key: str
    ) -> Result | None:
        return self._take(ctx, await self._limited(author, begun), key)

    async def _limited(self, author: Author, begun: Begun[DmarcJudgement]) -> DmarcJudgement:
        def late() -> DmarcJudgement:
            problem = "the look-ups have taken too long"
            return DmarcJudgement(
                DmarcVerdict(AuthStatus.TEMPERROR, author.domain, problem=problem)
            )

        return await within(self.settings.limit, begun, late)

    def _take(self, ctx: MessageContext, judged: DmarcJudgement, key: str) -> Result | None:
        """Decide, and remember it."""
        disposition = decide(judged.verdict, self._judging, ctx.message.authentication.arc)
        verdict = disposition.recorded_in(judged.verdict)
        if key and verdict.status is not AuthStatus.TEMPERROR:
            self.tools.cache.set(key, (verdict, judged.record), LIFETIME)
        return self._act(ctx, verdict, judged.record, is_open=disposition.is_open)

    def _act(
        self,
        ctx: MessageContext,
        verdict: DmarcVerdict,
        record: DmarcRecord | None,
        *,
        is_open: bool = False,
    ) -> Result | None:
        """Do what was decided, and leave behind what has been found out."""
        about = ctx.message.authentication
        about.dmarc, about.dmarc_record = verdict, record
        status = verdict.status
        ctx.session.metadata[_METADATA] = str(status)
        self._count(str(status), verdict.disposition)
        if status is AuthStatus.TEMPERROR:
            return act(self.settings.on_temperror, _trouble(verdict), _note(verdict))
        if status is not AuthStatus.FAIL:
            return None
        ctx.message.notes[_NOTE] = str(status)
        if verdict.disposition == "reject":
            if is_open:  # whoever may vouch for it is not to lose it to an outage
                note = f"{_note(verdict)}; a chain of trusted seals cannot be judged for now"
                return act("defer", _refusal(verdict), note)
            return act("reject", _refusal(verdict), _note(verdict))
        if verdict.disposition == "quarantine":
            return Result.quarantine(note=_note(verdict))
        return None

    def _leave_unclear(self, ctx: MessageContext, author: Author) -> None:
        """Say that it cannot be judged: whoever is asked next may see it in quarantine."""
        status = AuthStatus.PERMERROR
        about = ctx.message.authentication
        about.dmarc, about.dmarc_record = DmarcVerdict(status, problem=_unclear(author)), None
        ctx.session.metadata[_METADATA] = str(status)
        self._count("unclear", "")

    def _count(self, result: str, disposition: str) -> None:
        self.tools.metrics.count("checks", result=result, disposition=disposition)


def _key(author: Author, about: Authentication) -> str:
    """Name all that a judgement is made of; "" where it is not worth remembering."""
    if author.problem is not None or (about.arc is not None and about.arc.sealers):
        return ""
    parts = [author.domain]
    if about.spf is not None:
        parts.append(f"{about.spf.identity} {about.spf.status} {about.spf.domain}")
    parts += [f"{each.status} {each.domain}" for each in about.dkim]
    key = "\n".join(parts)
    return key if key.count("\n") == len(parts) - 1 else ""  # no name makes it another's


def _unclear(author: Author) -> str:
    return f"{author.problem}: {author.detail}" if author.detail else f"{author.problem}"


def _refusal(verdict: DmarcVerdict) -> Words:
    """Say who wants it refused (RFC 7372 §3.3)."""
    domain = verdict.author_domain
    text = f"Neither SPF nor DKIM shows that this message is from {domain}"
    if verdict.published == "reject":
        text += ", and that domain asks to refuse such mail (DMARC)"
    else:
        text += " (DMARC)"
    return Words("5.7.26", "4.7.26", text)


def _trouble(verdict: DmarcVerdict) -> Words:
    domain = verdict.author_domain or "the author"
    return Words("5.4.3", "4.4.3", f"Whether this is from {domain} cannot be looked up (DMARC)")


def _note(verdict: DmarcVerdict) -> str:
    """Say why, for the operator."""
    text = f"dmarc={verdict.status} from {verdict.author_domain}, p={verdict.published}"
    if verdict.override:
        text += f", {verdict.override}"
    return f"{text}: {verdict.problem}" if verdict.problem else text
