"""Judges the signatures of mail that comes in.

Signatures are read at the end of the header section, and judged when the body is here.
"""

import asyncio
from collections.abc import Awaitable, Iterable
from operator import length_hint
from typing import TYPE_CHECKING

from pydantic import Field

from elemta.mail.errors import LookupFailed
from elemta.mailauth import AuthStatus, DkimVerdict, Resolver
from elemta.mailauth.dkim import DkimSettings, Verifier, find_key
from elemta.plugins import MessageContext, Result
from elemta.plugins.builtin._intake import Intake, forget_intake, intake_of
from elemta.plugins.builtin._judging import Consequence, JudgingSettings, Words, act
from elemta.plugins.builtin._steps import Begun, begin, within
from elemta.plugins.tools import Tools

if TYPE_CHECKING:
    from elemta.mailauth.keys import KeyRecordError, PublicKey

_METADATA = "auth.dkim"
_NAME = "dkim"
_AT_ONCE = 5  # keys of a message that are asked for at a time
_UNSIGNED = (DkimVerdict(AuthStatus.NONE),)
_TROUBLE = Words("5.4.3", "4.4.3", "The key of a DKIM signature cannot be looked up")
_ORDER = (AuthStatus.PASS, AuthStatus.TEMPERROR, AuthStatus.FAIL)  # what counts of several

Answer = Result | Awaitable[Result | None] | None


class VerifyingSettings(JudgingSettings):
    """Which signatures are judged, and how."""

    verify: bool = Field(default=True, description="Judge the signatures of mail that comes in.")
    max_signatures: int = Field(
        default=10, ge=1, le=50, description="Signatures of a message that are looked at."
    )
    min_key_bits: int = Field(
        default=1024,
        ge=1024,
        le=4096,
        description="Signatures with shorter RSA keys are no proof (RFC 8301 §3.2).",
    )
    accept_partial: bool = Field(
        default=False,
        description="A signature of the beginning of a body (`l=`) may pass; anybody can write "
        "more below it.",
    )
    on_temperror: Consequence = Field(
        default="continue",
        description="What is done where no signature passes and a key cannot be looked up.",
    )
    limit: float = Field(
        default=20.0,
        gt=0,
        le=300,
        description="Seconds that keys may take; signatures whose keys have not come then count as "
        "a temperror.",
    )


class Verifying:
    """The half of the plugin that verifies."""

    def __init__(self, settings: VerifyingSettings, tools: Tools) -> None:
        self._settings = settings
        self._tools = tools
        self._judging = DkimSettings(
            max_signatures=settings.max_signatures,
            min_key_bits=settings.min_key_bits,
            ignore_length=settings.accept_partial,
        )

    def on_headers(self, ctx: MessageContext) -> None:
        """Read the signatures."""
        if self._concerns(ctx):
            self._read(intake_of(ctx))
        else:
            ctx.session.metadata.pop(_METADATA, None)

    def on_data(self, ctx: MessageContext) -> Answer:
        """Judge them."""
        if not self._concerns(ctx):
            return None
        intake = intake_of(ctx)
        verifier = intake.verifiers.pop(_NAME, None) or self._read(intake)
        if not isinstance(verifier, Verifier):
            forget_intake(ctx)
            return self._take(ctx, _UNSIGNED)
        begun = begin(self._judge(ctx, intake, verifier))
        return begun if isinstance(begun, Begun) else begun[0]

    async def verify(self, ctx: MessageContext) -> tuple[DkimVerdict, ...]:
        """Give what is known of the signatures of a message; judge them where that is not done."""
        known = ctx.message.authentication.dkim
        if known:
            return known
        intake = intake_of(ctx)
        verifier = self._read(intake)
        if verifier is None:
            return _UNSIGNED
        return await self._verdicts(ctx, intake, verifier)

    def _concerns(self, ctx: MessageContext) -> bool:
        return self._settings.verify and self._settings.concern(ctx.session)

    def _read(self, intake: Intake) -> Verifier | None:
        if b"dkim-signature" not in intake.lowered:
            return None
        verifier = Verifier(intake.fields, self._judging, self._tools.clock.now())
        intake.verifiers[_NAME] = verifier
        intake.want(verifier.specs)
        return verifier

    async def _judge(
        self, ctx: MessageContext, intake: Intake, verifier: Verifier
    ) -> Result | None:
        return self._take(ctx, await self._verdicts(ctx, intake, verifier))

    async def _verdicts(
        self, ctx: MessageContext, intake: Intake, verifier: Verifier
    ) -> tuple[DkimVerdict, ...]:
        await intake.hash_body(ctx)
        intake.verifiers.pop(_NAME, None)
        forget_intake(ctx)
        search = _Search(verifier.key_names, self._tools.dns)
        begun = begin(search.ask())
        if isinstance(begun, Begun):
            await within(self._settings.limit, search.finish(begun), search.give_up)
        found = ctx.message.authentication
        return verifier.verify(found.body_hashes, found.body_size, search.keys)

    def _take(self, ctx: MessageContext, verdicts: tuple[DkimVerdict, ...]) -> Result | None:
        ctx.message.authentication.dkim = verdicts
        status = _sum_up(verdicts)
        ctx.session.metadata[_METADATA] = str(status)
        count = self._tools.metrics.count
        for verdict in verdicts:
            count("checks", result=str(verdict.status))
        if status is not AuthStatus.TEMPERROR:
            return None
        note = "; ".join(f"{each.domain}: {each.problem}" for each in verdicts if each.problem)
        return act(self._settings.on_temperror, _TROUBLE, f"dkim=temperror: {note}")


class _Search:
    """Asks for the keys of a message, some of them at the same time.

    Attributes:
        keys: What has come so far.
    """

    def __init__(self, names: tuple[str, ...], dns: Resolver) -> None:
        self._names = names
        self._left = iter(names)
        self._dns = dns
        self.keys: dict[str, PublicKey | KeyRecordError | LookupFailed] = {}

    async def ask(self) -> None:
        """Ask for one key after the other, until nobody has to be asked for."""
        for name in self._left:
            self.keys[name] = await find_key(name, self._dns)

    async def finish(self, begun: Begun[None]) -> None:
        """Wait for what has been begun, while others are asked for."""
        others = min(_AT_ONCE - 1, length_hint(self._left))
        async with asyncio.TaskGroup() as group:
            for _ in range(others):
                group.create_task(self.ask())
            await begun

    def give_up(self) -> None:
        """Wait no longer for what has not come."""
        problem = LookupFailed("the look-up has taken too long")
        self.keys = dict.fromkeys(self._names, problem) | self.keys


def _sum_up(verdicts: Iterable[DkimVerdict]) -> AuthStatus:
    """Give one word for all: a pass if there is any, else what may yet become one."""
    found = [verdict.status for verdict in verdicts]
    return next((status for status in _ORDER if status in found), found[0])
