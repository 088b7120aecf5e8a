"""Makes the reports that are due, and hands them to the queue, which delivers them as any mail.

What fails for now is tried again, for three days; from then on the report would be of no use.
A report that was handed over and could not be marked as sent, because the server died in between,
is sent again: with the same name and id, by which its receiver knows it (RFC 9990 §3.5.4).
"""

import asyncio

from elemta.mail.errors import HeaderError, LookupFailed, PluginError
from elemta.mail.reply import clean_text
from elemta.mailauth.dmarc.discovery import registered_domain
from elemta.mailauth.reports import Destination, ReportFile, write_letter
from elemta.plugins.builtin.dmarc_reports.making import Made, make_report, make_reporter
from elemta.plugins.builtin.dmarc_reports.settings import DAY, DmarcReportsSettings
from elemta.plugins.builtin.dmarc_reports.store import Period, ReportStore
from elemta.plugins.tools import Tools

AGAIN_AFTER = 1800.0  # seconds
GIVE_UP_AFTER = 3.0 * DAY
OUTCOME_LIMIT = 500  # characters

SENT, NOTHING, GIVEN_UP = "sent", "nothing", "given up"


class Dispatcher:
    """Sends what is due."""

    def __init__(self, store: ReportStore, settings: DmarcReportsSettings, tools: Tools) -> None:
        self._store = store
        self._settings = settings
        self._tools = tools
        self._author = settings.author(tools.hostname)
        self._reporter = make_reporter(settings, tools.hostname)

    async def send_due(self, stop: asyncio.Event) -> None:
        """Make and send the reports that are due, until all are sent or it is told to stop.

        Raises:
            PluginError: The store does not work.
        """
        while not stop.is_set():
            now = self._tools.clock.now()
            period = await asyncio.to_thread(self._store.claim, now)
            if period is None:
                return
            try:
                await self._report(period, now)
            except (LookupFailed, PluginError) as error:
                await self._postpone(period, now, str(error))

    async def _report(self, period: Period, now: float) -> None:
        """Make and send the reports on one domain.

        Raises:
            LookupFailed, PluginError: It cannot be done now.
        """
        if self._settings.excludes(period.domain):
            await self._finish(period, NOTHING, "the domain is excluded")
            return
        rows = await asyncio.to_thread(self._store.rows, period)
        if not period.people or not rows:
            await self._finish(period, NOTHING, "there is only mail that programs have sent")
            return
        made = await make_report(
            period, rows, self._reporter, self._tools.dns, self._settings.max_size
        )
        if made is None:
            await self._finish(period, NOTHING, "the domain has no record any more")
            return
        refused = [f"{uri}: {why}" for uri, why in made.destinations.refused]
        if not made.destinations.allowed:
            if made.destinations.is_unsure:
                raise PluginError("; ".join(refused))
            await self._finish(
                period, NOTHING, "; ".join(refused) or "the domain wants no reports any more"
            )
            return
        await self._send(period, made, refused, now)

    async def _send(self, period: Period, made: Made, refused: list[str], now: float) -> None:
        sent: list[str] = []
        letters = 0
        is_for_good = True
        room = await asyncio.to_thread(self._count_room, period.domain, now)
        for number, destination in enumerate(made.destinations.allowed):
            if letters + len(made.files) > room:
                refused.append(f"{destination.address}: enough reports have been sent for a day")
                is_for_good = False
                continue
            try:
                for file in made.files:
                    await self._submit(made, file, destination, number)
                    letters += 1
            except HeaderError as error:
                refused.append(f"{destination.address}: {error}")
            except PluginError as error:
                refused.append(f"{destination.address}: {error}")
                is_for_good = False
            else:
                sent.append(str(destination.address))
        if not letters and not is_for_good:
            raise PluginError("; ".join(refused))
        told = [f"to {', '.join(sent)}"] if sent else []
        state = SENT if letters else NOTHING
        await self._finish(period, state, "; ".join([*told, *refused]), letters)

    def _count_room(self, domain: str, now: float) -> int:
        """Say how many letters on a domain may be sent now."""
        settings, since = self._settings, self._store.letters_since
        whole = registered_domain(domain) or domain
        left = settings.max_letters - since(now - DAY)
        return min(left, settings.max_letters_per_domain - since(now - DAY, whole))

    async def _submit(
        self, made: Made, file: ReportFile, destination: Destination, number: int
    ) -> None:
        """Hand one letter to the queue.

        Raises:
            PluginError: It is not taken.
            HeaderError: There can be no such letter, or it is too large.
        """
        letter = write_letter(
            made.report,
            file,
            self._author,
            destination.address,
            self._tools.clock.now(),
            number,
        )
        limit = destination.max_size
        if limit is not None and len(letter) > limit:
            raise HeaderError(f"the report has {len(letter)} octets, it takes {limit}")
        await self._tools.mail.submit(self._settings.bounces, (str(destination.address),), letter)

    async def _finish(self, period: Period, state: str, outcome: str, letters: int = 0) -> None:
        outcome = clean_text(outcome, OUTCOME_LIMIT)
        now = self._tools.clock.now()
        await asyncio.to_thread(self._store.finish, period, state, outcome, letters, now)
        self._tools.metrics.count("reports", outcome=state.replace(" ", "_"))
        self._tools.metrics.count("letters", letters)
        tell = self._tools.log.warning if state == GIVEN_UP else self._tools.log.info
        tell(f"report on {period.domain}: {state}; {outcome}")

    async def _postpone(self, period: Period, now: float, why: str) -> None:
        why = clean_text(why, OUTCOME_LIMIT)
        if now >= period.end + GIVE_UP_AFTER:
            await self._finish(period, GIVEN_UP, why)
            return
        await asyncio.to_thread(self._store.postpone, period, now + AGAIN_AFTER, why)
        text = f"report on {period.domain}: tried again later; {why}"
        self._tools.log.warning(text)
