"""The plugin: says at RCPT whether a recipient exists, from memory wherever that is possible.

Nobody is asked the same twice at a time. What is found is remembered on the disk of the node, for
all workers; how often each server is asked at the same time is bounded. Where a question comes back
to us as one, because servers ask each other, it is not passed on again.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel

from elemta.mail.errors import PluginError
from elemta.plugins import Address, Metadata, Plugin, RecipientContext, Result
from elemta.plugins.builtin._elsewhere import Breaker, Trouble
from elemta.plugins.builtin.recipient_verification.database import Database
from elemta.plugins.builtin.recipient_verification.probe import Finding, Prober, Unclear
from elemta.plugins.builtin.recipient_verification.settings import (
    Destination,
    VerificationSettings,
)
from elemta.plugins.builtin.recipient_verification.table import Table

NAME = "recipient-verification"
CATCH_ALL = f"{NAME}.catch-all"  # a note of the message: domains that take all recipients
UNVERIFIED = f"{NAME}.unverified"  # likewise: nobody could say whether a recipient exists
LATEST = 1.0  # seconds for which those share an answer who have waited for it together
_UNKNOWN = "No such recipient here"
_LATER = "The recipient cannot be verified at the moment"
_YES, _NO, _ALL, _SOME = b"yes", b"no", b"all", b"some"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of a recipient.

    Attributes:
        exists: It exists.
        takes_all: Its domain takes all recipients, so that this says little.
        why: In words, for the operator.
    """

    exists: bool
    takes_all: bool = False
    why: str = ""


class RecipientVerification(Plugin[VerificationSettings]):
    """Refuses recipients that do not exist."""

    metadata = Metadata(
        name=NAME,
        version="1.0.0",
        description="Refuses recipients that the next hop, or a table, does not know",
        after=("greylist", "rate-limiter"),
        only_in_worker=True,
    )
    Settings: ClassVar[type[BaseModel]] = VerificationSettings

    async def setup(self) -> None:
        """Read tables; servers are asked when there is something to ask.

        Raises:
            PluginError: A table cannot be read.
        """
        settings = self.settings
        self._under_way: dict[str, int] = {}
        self._tables: dict[Destination, Table] = {}
        self._databases: dict[Destination, Database] = {}
        self._probers: dict[Destination, Prober] = {}
        shared: dict[tuple[str, str, str], Prober] = {}
        for each in settings.destinations:
            if each.table is not None and each.method == "table":
                table = self._tables[each] = Table(each.table, each.delimiter)
                try:
                    await table.refresh(self.tools.clock.monotonic())
                except Trouble as error:
                    raise PluginError(str(error)) from error
                continue
            if each.database is not None and each.method == "sqlite":
                await self._open(each, each.database)
                continue
            key = (each.server, each.method, each.tls)
            prober = shared.get(key)
            if prober is None:
                prober = shared[key] = Prober(
                    each,
                    self.tools.hostname,
                    settings.sender,
                    settings.max_probes,
                    settings.probe_timeout,
                    Breaker(
                        each.server, settings.breaker_failures, settings.breaker_pause, self.tools
                    ),
                )
            self._probers[each] = prober

    async def _open(self, each: Destination, path: Path) -> None:
        database = Database(path, each.query, each.delimiter, self.settings.probe_timeout)
        self._databases[each] = database
        try:  # now, so that a query that is none keeps the server from starting
            await database.knows(Address("postmaster", self.tools.hostname))
        except Trouble as error:
            raise PluginError(str(error)) from error

    async def close(self) -> None:
        """Let go of databases."""
        for database in self._databases.values():
            await asyncio.to_thread(database.close)

    def on_rcpt_to(self, ctx: RecipientContext) -> Awaitable[Result | None] | None:
        """Verify a recipient of a domain that is ours to verify."""
        if ctx.is_relaying:  # it is refused without this
            return None
        domain = ctx.recipient.domain
        for destination in self.settings.destinations:
            if destination.concerns(domain):
                return self._verify(ctx, destination)
        return None

    async def _verify(self, ctx: RecipientContext, destination: Destination) -> Result | None:
        metrics = self.tools.metrics
        try:
            verdict = await self._find(ctx, destination)
        except Unclear as error:
            metrics.count("verified", result="unclear")
            if destination.on_unreachable == "accept":
                _note(ctx, UNVERIFIED, str(ctx.recipient))
                self._warn(f"{ctx.recipient} is taken unverified: {error}")
                return None
            return Result.defer(_LATER, code=450, enhanced=error.enhanced, note=str(error))
        if not verdict.exists:
            metrics.count("verified", result="unknown")
            return Result.reject(_UNKNOWN, code=550, enhanced="5.1.1", note=verdict.why)
        metrics.count("verified", result="catch_all" if verdict.takes_all else "exists")
        if verdict.takes_all:
            _note(ctx, CATCH_ALL, ctx.recipient.domain)
        return None

    # ---- tables

    async def _find(self, ctx: RecipientContext, destination: Destination) -> Verdict:
        database = self._databases.get(destination)
        if database is not None:
            return await self._look_into(database, ctx, destination)
        table = self._tables.get(destination)
        if table is None:
            return await self._remember_or_ask(ctx, destination)
        now = self.tools.clock.monotonic()
        try:
            if table.is_stale(now):
                await table.refresh(now)
        except Trouble as error:
            self._warn(f"the last table that could be read stays: {error}")
        try:
            return Verdict(table.knows(ctx.recipient), why=f"not in {destination.table}")
        except Trouble as error:
            raise Unclear(str(error), "4.3.0") from error

    async def _look_into(
        self, database: Database, ctx: RecipientContext, destination: Destination
    ) -> Verdict:
        try:
            return Verdict(
                await database.knows(ctx.recipient), why=f"not in {destination.database}"
            )
        except Trouble as error:
            raise Unclear(str(error), "4.3.0") from error

    # ---- servers

    async def _remember_or_ask(self, ctx: RecipientContext, destination: Destination) -> Verdict:
        place = f"{destination.method} {destination.server}"
        key = _key("recipient", place, f"{ctx.recipient.local}@{ctx.recipient.domain}")
        everyone = _key("domain", place, ctx.recipient.domain)
        known = await self._recall(everyone)
        if known == _ALL:
            return Verdict(exists=True, takes_all=True)
        found = await self._recall(key)
        if found is not None:
            return Verdict(found == _YES, why=f"{destination.server} did not know it lately")
        if self._is_our_question(ctx, key):
            raise Unclear("a question of ours has come back to us", "4.4.6")
        self._under_way[key] = self._under_way.get(key, 0) + 1
        try:
            finding: Finding = await self.tools.cache.fetch(
                f"ask {key}", LATEST, lambda: self._ask(ctx.recipient, destination, key, everyone)
            )
        finally:
            self._under_way[key] -= 1
            if not self._under_way[key]:
                del self._under_way[key]
        return Verdict(finding.exists, finding.takes_all is True, finding.reply)

    def _is_our_question(self, ctx: RecipientContext, key: str) -> bool:
        """Whether the client asks what we have just asked, or are about to ask it."""
        if ctx.sender != self.settings.sender:
            return False
        return key in self._under_way or ctx.session.helo.lower() == self.tools.hostname.lower()

    async def _ask(
        self, recipient: Address, destination: Destination, key: str, everyone: str
    ) -> Finding:
        settings = self.settings
        wants_more = settings.detect_catch_all and await self._recall(everyone) is None
        began = self.tools.clock.monotonic()
        try:
            finding = await self._probers[destination].ask(recipient, and_nobody=wants_more)
        finally:
            self.tools.metrics.observe("probe_seconds", self.tools.clock.monotonic() - began)
        if finding.takes_all is not None:
            answer = _ALL if finding.takes_all else _SOME
            if finding.takes_all:
                self._warn(
                    f"{destination.server} takes all recipients of {recipient.domain}: they cannot "
                    "be verified"
                )
            await self._keep(everyone, answer, settings.positive_ttl)
        if finding.exists:
            await self._keep(key, _YES, settings.positive_ttl)
        else:
            await self._keep(key, _NO, settings.negative_ttl)
        return finding

    def _warn(self, text: str) -> None:
        self.tools.log.warning(text)

    async def _recall(self, key: str) -> bytes | None:
        try:
            return await self.tools.kv.get(key)
        except PluginError as error:
            self._warn(f"what was found cannot be looked up: {error}")
            return None

    async def _keep(self, key: str, value: bytes, ttl: float) -> None:
        try:
            await self.tools.kv.set(key, value, ttl=ttl)
        except PluginError as error:
            self._warn(f"what was found cannot be kept: {error}")


def _key(kind: str, place: str, what: str) -> str:
    return f"{kind} {hashlib.sha256(f'{place} {what}'.encode()).hexdigest()}"


def _note(ctx: RecipientContext, name: str, value: str) -> None:
    """Leave a note with the message; the first values of a kind are enough."""
    values = ctx.message.notes.get(name, "").split()
    if value not in values and len(values) < 10:
        with contextlib.suppress(ValueError):  # others have left too much
            ctx.message.notes[name] = " ".join([*values, value])
