"""Seals mail that is passed on: what we have found out goes with it, under our signature.

A seal says what was found, also that a chain did not pass; it never makes one whole again, nor is
it silent where there is no Authentication-Results field. It is put on when all plugins have been
asked, and nothing may change the message after that.

Logs: that there is no key to seal with.
"""

import asyncio
import re

from pydantic import Field, field_validator

from elemta.mail.errors import PluginError
from elemta.mailauth import ArcVerdict, AuthStatus
from elemta.mailauth.arc import Sealer, SealSettings
from elemta.mailauth.authres import format_results
from elemta.mailauth.body import BodyHasher
from elemta.mailauth.dkim import SigningKey
from elemta.plugins import InsertHeader, MessageContext, Result, parse_domain
from elemta.plugins.builtin._judging import JudgingSettings
from elemta.plugins.builtin.dkim.keyring import Keyring
from elemta.plugins.builtin.dkim.keystore import find_store
from elemta.plugins.builtin.dkim.signing_settings import SigningSettings
from elemta.plugins.tools import Tools

TELL_EVERY = 60.0  # seconds between lines about a key that is missing
RESULTS = "authentication-results"  # of the metadata: what the plugin of that name leaves
_FOLD = re.compile(r"\r\n[ \t]+")


class SealingSettings(JudgingSettings):
    """Whether mail is sealed, and with whose key."""

    seal: bool = Field(
        default=False, description="Seal mail that comes in, for those whom it is passed on to."
    )
    seal_domain: str = Field(
        default="",
        description="The domain whose key seals; empty: the nearest of `server.hostname` and the "
        "domains above it that has one. Keys are made by `elemta dkim generate`.",
    )
    keys_dir: str = Field(default="", description="Folder of keys; else `dkim` in the state dir.")
    authserv_id: str = Field(
        default="", description="The name under which results are sealed; empty: `server.hostname`."
    )

    @field_validator("seal_domain", "authserv_id")
    @classmethod
    def _read_domain(cls, value: str) -> str:
        return parse_domain(value) if value else ""


class Sealing:
    """The half of the plugin that seals."""

    def __init__(self, settings: SealingSettings, tools: Tools) -> None:
        self._settings = settings
        self._tools = tools
        self._name = settings.authserv_id or tools.hostname
        keys = SigningSettings(keys_dir=settings.keys_dir)
        store = find_store(settings.keys_dir, tools.state_dir)
        self._keyring = Keyring(keys, store, tools.clock)
        self._sealers: dict[SigningKey, Sealer] = {}
        self._told_at = -TELL_EVERY

    async def on_enqueue(self, ctx: MessageContext) -> Result | None:
        """Seal a message, or say in the log why that cannot be."""
        key = await self._find_key()
        if key is None:
            return None
        values = await self._seal(ctx, key)
        if not values:
            return None
        self._tools.metrics.count("seals")
        edits = (InsertHeader(*each) for each in reversed(values))
        return Result.modify(*edits)

    async def seal_message(self, ctx: MessageContext) -> tuple[str, str, str]:
        """Give the values of ARC-Seal, ARC-Message-Signature and ARC-Authentication-Results.

        Raises:
            PluginError: There is no key, or the chain may have no more seals.
        """
        key = await self._find_key()
        values = await self._seal(ctx, key) if key is not None else []
        if not values:
            raise PluginError(
                "there is no key to seal with" if key is None else "no seal may follow"
            )
        (_, seal), (_, signature), (_, results) = values
        return seal, signature, results

    async def _find_key(self) -> SigningKey | None:
        settings = self._settings
        domain = settings.seal_domain or self._tools.hostname
        named = bool(settings.seal_domain)
        ring = await (self._keyring.ring(domain) if named else self._keyring.find(domain))
        if ring.keys:
            return ring.keys[0]
        now = self._tools.clock.monotonic()
        self._tools.metrics.count("keys_missing")
        if now - self._told_at >= TELL_EVERY:
            self._told_at = now
            trouble = ring.trouble or f"{domain} has no key that signs"
            text = f"mail is not sealed: {trouble}"
            self._tools.log.error(text)
        return None

    async def _seal(self, ctx: MessageContext, key: SigningKey) -> list[tuple[str, str]]:
        """Give names and values of the fields of a set, the topmost first; none where none may be.

        Their folds are undone, as the server folds them again: in the relaxed form that is the
        same.
        """
        sealer = self._sealers.get(key)
        if sealer is None:
            self._sealers = {key: (sealer := Sealer(key, SealSettings()))}
        section, hasher = ctx.headers.raw, BodyHasher((sealer.spec,))
        skipped = len(section)
        async for chunk in ctx.chunks():
            hasher.update(chunk[skipped:] if skipped else chunk)
            skipped = max(0, skipped - len(chunk))
        digest = hasher.finish()[sealer.spec]
        chain = ctx.message.authentication.arc or ArcVerdict(AuthStatus.NONE)
        results = ctx.metadata.get(RESULTS) or self._write_results(ctx)
        now = self._tools.clock.now()
        fields = await asyncio.to_thread(sealer.seal, section, digest, results, chain, now)
        lines = _FOLD.sub(" ", fields.decode()).split("\r\n")
        parts = (line.partition(":") for line in lines if line)
        return [(name, value.strip()) for name, _, value in parts]

    def _write_results(self, ctx: MessageContext) -> str:
        """Say what was found, where no field of the message does."""
        session = ctx.session
        return format_results(
            self._name,
            ctx.message.authentication,
            client_ip=session.client_ip,
            helo=session.helo,
            sender=str(ctx.sender) if ctx.sender is not None else "",
        )
