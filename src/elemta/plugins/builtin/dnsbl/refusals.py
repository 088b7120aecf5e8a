"""What is done about a score, and what those are told who are refused for it."""

import asyncio
import contextlib
from collections.abc import Awaitable, Sequence

from elemta.mail.errors import LookupFailed
from elemta.mail.reply import clean_text
from elemta.mailauth import Resolver
from elemta.plugins import ConnectionContext, Result
from elemta.plugins.builtin._judging import Consequence, Words, act
from elemta.plugins.builtin.dnsbl.settings import DnsblSettings
from elemta.plugins.builtin.dnsbl.verdict import DnsblVerdict, Hit
from elemta.plugins.builtin.dnsbl.zone import Zone

MAX_REASON = 200  # characters of what a list says

Answer = Result | Awaitable[Result | None] | None


class Refusals:
    """Makes the answers of hooks.

    Args:
        settings: From which score on what is done.
        zones: All lists.
        dns: Asked for what lists say of whom they list.
    """

    def __init__(self, settings: DnsblSettings, zones: Sequence[Zone], dns: Resolver) -> None:
        self._settings = settings
        self._zones = zones
        self._dns = dns

    def act(self, verdict: DnsblVerdict, ctx: ConnectionContext) -> Answer:
        """Do what the operator wants; what has to be waited for is what lists say."""
        settings, score = self._settings, verdict.score
        if verdict.is_unanswered:
            silent = (*verdict.failed, *verdict.aside)[0]
            words = Words("5.7.1", "4.7.1", "The lists we ask about senders do not answer")
            return act(settings.on_failure, words, f"dnsbl: no answer of {silent}")
        limits: tuple[tuple[Consequence, float], ...] = (
            ("reject", settings.reject_at),
            ("defer", settings.defer_at),
            ("quarantine", settings.quarantine_at),
        )
        what = next((what for what, limit in limits if 0 < limit <= score), None)
        if what is None:
            return None
        bad = [hit for hit in verdict.hits if hit.weight > 0]
        note = f"dnsbl: {verdict}"
        if what != "quarantine" and any(self._zone(hit).settings.reason for hit in bad):
            return self._explain(what, bad, note, ctx)
        return _refuse(what, [self._describe(hit, "", ctx) for hit in bad], note)

    async def _explain(
        self, what: Consequence, hits: Sequence[Hit], note: str, ctx: ConnectionContext
    ) -> Result | None:
        """Refuse, and say what the lists say, as far as they say it in time."""
        reasons = dict.fromkeys(hits, "")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.limit):
                for hit in hits:
                    reasons[hit] = await self._find_reason(hit)
        return _refuse(what, [self._describe(hit, reasons[hit], ctx) for hit in hits], note)

    async def _find_reason(self, hit: Hit) -> str:
        zone = self._zone(hit)
        name = zone.name_of(hit.what)
        if not zone.settings.reason or name is None:
            return ""
        try:
            answer = await self._dns.query(name, "TXT")
        except LookupFailed:
            return ""
        text = answer.records[0].decode("ascii", "replace") if answer.records else ""
        return zone.hide(clean_text(text, MAX_REASON))

    def _describe(self, hit: Hit, reason: str, ctx: ConnectionContext) -> str:
        text = f"{hit.what} is listed by {hit.zone}"
        own = self._zone(hit).text.fill(ctx, {"what": hit.what, "zone": hit.zone})
        return "; ".join(each for each in (text, own, reason) if each)

    def _zone(self, hit: Hit) -> Zone:
        return self._zones[hit.place]


def _refuse(what: Consequence, texts: Sequence[str], note: str) -> Result | None:
    return act(what, Words("5.7.1", "4.7.1", ". ".join(dict.fromkeys(texts))), note)
