"""The plugin: it asks its two halves."""

from collections.abc import AsyncIterator, Awaitable
from typing import ClassVar

from pydantic import BaseModel

from elemta.mailauth import AuthStatus
from elemta.plugins import (
    DKIMResult,
    FamilyInfo,
    InsertHeader,
    MessageContext,
    Metadata,
    Plugin,
    Result,
)
from elemta.plugins.builtin.dkim.signing import Signing
from elemta.plugins.builtin.dkim.signing_settings import SigningSettings
from elemta.plugins.builtin.dkim.verifying import Answer, Verifying, VerifyingSettings


class DkimPluginSettings(VerifyingSettings, SigningSettings):
    """How signatures are judged, and what is signed."""


class Dkim(Plugin[DkimPluginSettings]):
    """Judges signatures of mail that comes in, and signs mail that goes out."""

    metadata = Metadata(
        name="dkim",
        version="1.0.0",
        description="Who has signed a message, and signatures of our own (DKIM, RFC 6376)",
        after=("iprev", "spf"),
        seals=True,
        only_in_worker=True,
    )
    Settings: ClassVar[type[BaseModel]] = DkimPluginSettings

    async def setup(self) -> None:
        """Make both halves."""
        self._verifying = Verifying(self.settings, self.tools)
        self._signing = Signing(self.settings, self.tools)

    async def enable(self) -> None:
        """Begin to see to keys."""
        await self._signing.enable()

    async def disable(self) -> None:
        """See to keys no more."""
        await self._signing.disable()

    async def close(self) -> None:
        """End what signs."""
        await self._signing.close()

    def on_headers(self, ctx: MessageContext) -> None:
        """Read the signatures of a message."""
        self._verifying.on_headers(ctx)

    def on_data(self, ctx: MessageContext) -> Answer:
        """Judge them."""
        return self._verifying.on_data(ctx)

    def on_enqueue(self, ctx: MessageContext) -> Awaitable[Result | None] | None:
        """Sign a message of our own."""
        return self._signing.on_enqueue(ctx)

    async def sign_own(self, section: bytes, content: AsyncIterator[bytes]) -> list[InsertHeader]:
        """Sign what the server itself writes."""
        return await self._signing.sign_own(section, content)

    async def verify_signature(self, ctx: MessageContext) -> DKIMResult:
        """Give the best of the signatures of a message; as `DKIMPlugin` has it."""
        verdicts = await self._verifying.verify(ctx)
        best = next((each for each in verdicts if each.status is AuthStatus.PASS), verdicts[0])
        return DKIMResult(best.status, best.domain, best.selector, best.problem)

    async def sign_message(self, ctx: MessageContext, domain: str) -> str:
        """Give the value of a signature field; as `DKIMPlugin` has it."""
        return await self._signing.sign_message(ctx, domain)

    def get_info(self) -> FamilyInfo:
        """Say who this is."""
        return FamilyInfo(self.metadata.name, self.metadata.version, "dkim")
