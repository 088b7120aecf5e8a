"""What a plugin is that has messages scanned: all but the protocol.

Leaves behind: what was found in the metadata of the session and the notes of the message.
"""

import abc
import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Awaitable
from typing import ClassVar, TypeVar

from elemta.mail.errors import PluginError
from elemta.net import Stream, spawn
from elemta.plugins import (
    Address,
    DeliveryContext,
    FamilyInfo,
    MessageContext,
    Plugin,
    Result,
    ScanResult,
    ScanStatus,
)
from elemta.plugins.builtin._elsewhere import OnFailure, Trouble
from elemta.plugins.builtin._known import forget
from elemta.plugins.builtin._scanning.finding import Finding, answer, late_answer
from elemta.plugins.builtin._scanning.mail import (
    Mail,
    from_dialogue,
    from_queue,
    read_facts,
    session_facts,
    write_facts,
)
from elemta.plugins.builtin._scanning.panel import Panel
from elemta.plugins.builtin._scanning.probing import Check, Prober, Trial
from elemta.plugins.builtin._scanning.settings import ScanningSettings, Terms
from elemta.plugins.edits import Edit

S = TypeVar("S", bound=ScanningSettings)

LIFETIME = 3600.0  # seconds for which a verdict on a message in the queue is remembered
MAX_RECENT = 200  # verdicts that are kept for others who ask in the same hook
_About = tuple[str, str, int, int, Address | None]


class _Unlasting(Exception):  # noqa: N818 - what it is
    """Carries a finding that is not to be remembered past those who wait for it."""

    def __init__(self, finding: Finding) -> None:
        super().__init__()
        self.finding = finding


class Scanner(Plugin[S], abc.ABC):
    """Has each message scanned once, in the dialogue or in the queue."""

    family: ClassVar[str]
    sample: ClassVar[bytes]

    # ---- what each scanner does in its own way

    @abc.abstractmethod
    async def scan(self, stream: Stream, mail: Mail) -> Finding:
        """Show a message on a new connection, and say what comes of the answer.

        Raises:
            Trouble: It cannot be understood, or is none.
            OSError: The connection broke.
        """

    @abc.abstractmethod
    async def ping(self, stream: Stream) -> None:
        """Ask a server whether it is there; raises as `scan`."""

    @abc.abstractmethod
    def mark_unscanned(self, mail: Mail, why: str) -> tuple[Edit, ...]:
        """Give the edits that say of a message that nobody has looked at it."""

    def key(self, mail: Mail) -> str:
        """Name what a verdict in the queue is about: that of others is not the same."""
        return mail.queue_id

    # ---- its life

    async def setup(self) -> None:
        """Make what it needs; servers are only connected to when there is something to scan."""
        self._recent: OrderedDict[_About, Finding] = OrderedDict()
        self._panel = Panel(self.settings, self.tools)
        trial = Trial(self.ping, self.scan, self.sample)
        self._prober = Prober(self._panel, trial, self.settings, self.tools)
        self._probing: asyncio.Task[None] | None = None

    async def enable(self) -> None:
        """Begin to look at the servers."""
        if self.settings.probe_every and self._probing is None:
            self._probing = spawn(self._prober.run(), f"{self.metadata.name} probes")

    async def disable(self) -> None:
        """Stop that."""
        probing, self._probing = self._probing, None
        if probing is not None:
            probing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await probing

    async def check_servers(self) -> list[Check]:
        """Try each server once, as the probes do."""
        return await self._prober.check()

    # ---- what others may ask

    def get_info(self) -> FamilyInfo:
        """Say who it is."""
        return FamilyInfo(self.metadata.name, self.metadata.version, self.family)

    async def scan_message(self, ctx: MessageContext) -> ScanResult:
        """Scan a message, unless that was done in the same hook; ERROR says nothing about it."""
        return (await self._examine_once(ctx)).scan

    async def get_score(self, ctx: MessageContext) -> float:
        """Give the score of a message; it is scanned for that, as by `scan_message`.

        Raises:
            PluginError: No server has an answer.
        """
        scan = await self.scan_message(ctx)
        if scan.status is ScanStatus.ERROR:
            raise PluginError(f"there is no score: {scan.details}")
        return scan.score

    # ---- hooks

    def on_filter(self, ctx: MessageContext) -> Awaitable[Result | None] | None:
        """Scan, or note what has to be known to scan later."""
        forget(ctx, f"{self.metadata.name}.")
        if not self.settings.concern(ctx.session):
            return None
        if self.settings.where == "queue":
            ctx.message.notes[self._later] = write_facts(session_facts(ctx))
            return None
        return self._filter(ctx)

    def on_pre_delivery(self, ctx: DeliveryContext) -> Awaitable[Result | None] | None:
        """Scan what is to be scanned here: once, however many places it goes to."""
        note = ctx.message.notes.get(self._later)
        if note is None or self.metadata.name in ctx.released:
            return None
        return self._clear(ctx, note)

    # ---- between them

    async def _filter(self, ctx: MessageContext) -> Result | None:
        finding = await self._examine_once(ctx)
        for name, value in finding.facts.items():
            with contextlib.suppress(ValueError):  # others have left too much
                ctx.set_metadata(name, value)
                ctx.message.notes[name] = value
        return answer(finding)

    async def _clear(self, ctx: DeliveryContext, note: str) -> Result | None:
        mail = from_queue(ctx, read_facts(note))

        async def load() -> Finding:
            finding = await self._examine(mail)
            if not finding.is_lasting:
                raise _Unlasting(finding)
            return finding

        try:
            finding = await ctx.cache.fetch(self.key(mail), LIFETIME, load)
        except _Unlasting as unlasting:
            finding = unlasting.finding
        return late_answer(finding, self.settings.late_refusal)

    @property
    def _later(self) -> str:
        return f"{self.metadata.name}.later"

    async def _examine_once(self, ctx: MessageContext) -> Finding:
        """Scan, unless it was done in this hook: what plugins change after it is scanned anew."""
        about = (ctx.queue_id, ctx.hook, ctx.size, hash(ctx.headers.raw), ctx.sender)
        known = self._recent.get(about)
        if known is not None:
            return known
        finding = await self._examine(from_dialogue(ctx))
        if finding.is_lasting:
            self._recent[about] = finding
            if len(self._recent) > MAX_RECENT:
                self._recent.popitem(last=False)
        return finding

    async def _examine(self, mail: Mail) -> Finding:
        settings, metrics, terms = self.settings, self.tools.metrics, self._terms(mail)
        if mail.size > settings.max_size:
            return self.too_big(mail, f"more than {settings.max_size} octets")
        began = self.tools.clock.monotonic()
        try:
            finding = await self._panel.ask(lambda stream: self.scan(stream, mail), terms)
        except Trouble as error:
            metrics.count("scans", result=ScanStatus.ERROR.value)
            note = f"{self.metadata.name} has not scanned it: {error}"
            text = "The message cannot be scanned at the moment"
            return self._unscanned(mail, terms.on_failure, text, note)
        metrics.count("scans", result=finding.scan.status.value)
        metrics.observe("scan_seconds", self.tools.clock.monotonic() - began)
        return finding

    def too_big(self, mail: Mail, why: str) -> Finding:
        """Give what comes of a message that no server looks at because of its size."""
        self.tools.metrics.count("scans", result="too_big")
        note = f"{self.metadata.name} has not scanned it: {why}"
        text = "The message is too large to be scanned"
        return self._unscanned(mail, self._terms(mail).on_too_big, text, note, is_big=True)

    def _terms(self, mail: Mail) -> Terms:
        return self.settings.terms(mail.session.get("listener", ""))

    def _unscanned(
        self, mail: Mail, what: OnFailure, text: str, note: str, *, is_big: bool = False
    ) -> Finding:
        why = "too large" if is_big else "the scanner did not answer"
        return Finding(
            ScanResult(ScanStatus.ERROR, note),
            what,
            text,
            note,
            enhanced="3.4" if is_big else "3.0",
            code=552 if is_big else 550,
            edits=self.mark_unscanned(mail, why),
            facts={f"{self.metadata.name}.error": note[:500]},
            is_lasting=is_big,
        )
