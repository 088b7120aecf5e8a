"""The plugin: it judges chains of seals, and has messages sealed.

Seals are read at the end of the header section, and judged when the body is here. A chain alone is
no reason to refuse or to take mail; DMARC knows which sealers the operator trusts.

Leaves behind: `authentication.arc`, `auth.arc` in the metadata.
"""

from collections.abc import Awaitable
from typing import ClassVar

from pydantic import BaseModel, Field

from elemta.mailauth import ArcVerdict, AuthStatus
from elemta.mailauth.arc import ArcSettings, ChainVerifier
from elemta.plugins import (
    ARCResult,
    FamilyInfo,
    MessageContext,
    Metadata,
    Plugin,
    Result,
)
from elemta.plugins.builtin._intake import Intake, forget_intake, intake_of
from elemta.plugins.builtin._steps import Begun, begin
from elemta.plugins.builtin.arc.asking import KeysAhead
from elemta.plugins.builtin.arc.sealing import Sealing, SealingSettings

_METADATA = "auth.arc"
_NAME = "arc"
_NO_CHAIN = ArcVerdict(AuthStatus.NONE)


class ArcPluginSettings(SealingSettings):
    """How chains are judged."""

    verify: bool = Field(default=True, description="Judge the seals of mail that comes in.")
    max_sets: int = Field(
        default=50, ge=1, le=50, description="Seals of a message; a chain of more has failed."
    )
    limit: float = Field(
        default=20.0,
        gt=0,
        le=300,
        description="Seconds that keys may take; seals whose keys have not come then count as a "
        "temperror.",
    )


class Arc(Plugin[ArcPluginSettings]):
    """Judges chains, and seals."""

    metadata = Metadata(
        name="arc",
        version="1.0.0",
        description="What servers on the way say of a message, and seals of our own (RFC 8617)",
        after=("iprev", "spf", "dkim"),
        seals=True,
        only_in_worker=True,
    )
    Settings: ClassVar[type[BaseModel]] = ArcPluginSettings

    async def setup(self) -> None:
        """Make what seals."""
        self._judging = ArcSettings(max_sets=self.settings.max_sets)
        self._sealing = Sealing(self.settings, self.tools)

    def on_headers(self, ctx: MessageContext) -> None:
        """Read the seals of a message."""
        if self._is_judged(ctx):
            self._read(intake_of(ctx))
        else:
            ctx.session.metadata.pop(_METADATA, None)

    def on_data(self, ctx: MessageContext) -> Awaitable[None] | None:
        """Judge them."""
        if not self._is_judged(ctx):
            return None
        intake = intake_of(ctx)
        verifier = intake.verifiers.get(_NAME) or self._read(intake)
        if not isinstance(verifier, ChainVerifier):
            forget_intake(ctx)
            self._take(ctx, _NO_CHAIN)
            return None
        begun = begin(self._judge(ctx, intake, verifier))
        return begun if isinstance(begun, Begun) else None

    def on_enqueue(self, ctx: MessageContext) -> Awaitable[Result | None] | None:
        """Seal a message that comes in."""
        settings = self.settings
        if not settings.seal or not settings.concern(ctx.session):
            return None
        return self._sealing.on_enqueue(ctx)

    async def verify_chain(self, ctx: MessageContext) -> ARCResult:
        """Give what is known of the chain of a message; judge it where that is not done."""
        verdict = ctx.message.authentication.arc
        if verdict is None:
            intake = intake_of(ctx)
            verifier = self._read(intake)
            verdict = _NO_CHAIN
            if verifier is not None:
                verdict = await self._verdict(ctx, intake, verifier)
        return ARCResult(verdict.status, verdict.instances, verdict.problem)

    async def seal_message(self, ctx: MessageContext) -> tuple[str, str, str]:
        """Give the values of a set of fields; as `ARCPlugin` has it."""
        return await self._sealing.seal_message(ctx)

    def get_info(self) -> FamilyInfo:
        """Say who this is."""
        return FamilyInfo(self.metadata.name, self.metadata.version, "arc")

    def _is_judged(self, ctx: MessageContext) -> bool:
        return self.settings.verify and self.settings.concern(ctx.session)

    def _read(self, intake: Intake) -> ChainVerifier | None:
        if b"\narc-" not in intake.lowered and not intake.lowered.startswith(b"arc-"):
            return None
        verifier = ChainVerifier(intake.fields, self._judging, self.tools.clock.now())
        intake.verifiers[_NAME] = verifier
        intake.want(verifier.specs)
        return verifier

    async def _judge(self, ctx: MessageContext, intake: Intake, verifier: ChainVerifier) -> None:
        self._take(ctx, await self._verdict(ctx, intake, verifier))

    async def _verdict(
        self, ctx: MessageContext, intake: Intake, verifier: ChainVerifier
    ) -> ArcVerdict:
        await intake.hash_body(ctx)
        intake.verifiers.pop(_NAME, None)
        forget_intake(ctx)
        found = ctx.message.authentication
        keys = KeysAhead(self.tools.dns, verifier.key_names, self.settings.limit)
        try:
            return await verifier.judge(found.body_hashes, found.body_size, keys)
        finally:
            await keys.close()

    def _take(self, ctx: MessageContext, verdict: ArcVerdict) -> None:
        ctx.message.authentication.arc = verdict
        ctx.session.metadata[_METADATA] = str(verdict.status)
        self.tools.metrics.count("checks", result=str(verdict.status))
