"""The plugin: it listens, writes down every few seconds, and sends what is due."""

import asyncio
import contextlib
from typing import ClassVar

from pydantic import BaseModel

from elemta.mail.errors import PluginError
from elemta.net.tasks import spawn
from elemta.plugins import ConnectionContext, MessageContext, Metadata, Plugin, ServerContext
from elemta.plugins.builtin.dmarc_reports.gathering import Gatherer
from elemta.plugins.builtin.dmarc_reports.sending import Dispatcher
from elemta.plugins.builtin.dmarc_reports.settings import DAY, DmarcReportsSettings
from elemta.plugins.builtin.dmarc_reports.store import ReportStore, store_path

WRITE_EVERY = 3.0  # seconds: what a crash may cost
TIDY_EVERY = 3600.0  # seconds


class DmarcReports(Plugin[DmarcReportsSettings]):
    """Reports to domains on mail in their name."""

    metadata = Metadata(
        name="dmarc-reports",
        version="1.0.0",
        description="Aggregate reports to domains that ask for them (DMARC, RFC 9990)",
        dependencies=("dmarc",),
        only_in_worker=True,
    )
    Settings: ClassVar[type[BaseModel]] = DmarcReportsSettings

    async def setup(self) -> None:
        """Open the database."""
        settings, tools = self.settings, self.tools
        self._store = await asyncio.to_thread(
            ReportStore, store_path(tools.state_dir), settings.bounds
        )
        self._gatherer = Gatherer(settings.bounds.interval)
        self._dispatcher = Dispatcher(self._store, settings, tools)
        self._working: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._tidy_at = 0.0
        self._told_lost = 0

    async def enable(self) -> None:
        """Begin to write down and to send."""
        if self._working is None:
            self._stop.clear()
            self._working = spawn(self._work(), "dmarc reports")

    async def disable(self) -> None:
        """Stop that, and write down what is left."""
        self._stop.set()
        working, self._working = self._working, None
        if working is not None:
            await working
        with contextlib.suppress(PluginError):  # it has been told of, and there is no other place
            await self.write_down()

    async def close(self) -> None:
        """Close the database."""
        await asyncio.to_thread(self._store.close)

    def on_headers(self, ctx: MessageContext) -> None:
        """A message begins."""
        self._gatherer.begin(ctx, self.tools.clock.now())

    def on_enqueue(self, ctx: MessageContext) -> None:
        """It has been judged, and is going to be kept."""
        self._gatherer.end(ctx.session.session_id, self.tools.clock.now())

    def on_disconnect(self, ctx: ConnectionContext) -> None:
        """Nothing comes after the last message."""
        self._gatherer.end(ctx.session.session_id, self.tools.clock.now())

    def on_server_stopping(self, _ctx: ServerContext) -> None:
        """Begin no more reports: the queue is about to close."""
        self._stop.set()

    async def write_down(self) -> None:
        """Put what has been gathered into the database.

        Raises:
            PluginError: It cannot be; it is kept in memory, as far as there is room.
        """
        seen = self._gatherer.take(self.tools.clock.now())
        if seen:
            try:
                self._gatherer.lost += await asyncio.to_thread(self._store.add, seen)
            except PluginError:
                self._gatherer.put_back(seen)
                raise
        if self._gatherer.lost > self._told_lost:
            lost = self._gatherer.lost - self._told_lost
            self._told_lost = self._gatherer.lost
            self.tools.metrics.count("lost", lost)
            text = f"{lost} messages are in no report: there are too many that differ"
            self.tools.log.warning(text)

    async def send_due(self) -> None:
        """Send reports that are due, and forget what is long past.

        Raises:
            PluginError: The database does not work.
        """
        now = self.tools.clock.now()
        if now >= self._tidy_at:
            self._tidy_at = now + TIDY_EVERY
            before = now - self.settings.retention * DAY
            await asyncio.to_thread(self._store.forget, before)
        await self._dispatcher.send_due(self._stop)

    async def _work(self) -> None:
        trouble = ""
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WRITE_EVERY):
                    await self._stop.wait()
            before, trouble = trouble, ""
            for step in (self.write_down, self.send_due):
                try:
                    await step()
                except PluginError as error:
                    trouble = str(error)
            if trouble and trouble != before:
                self.tools.log.error(trouble)
