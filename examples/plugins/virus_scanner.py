"""Has clamd look at each message (INSTREAM, see its manual)."""

import asyncio
import contextlib
import struct
from typing import Literal

from elemta.plugins import (
    AntivirusPlugin,
    FamilyInfo,
    MessageContext,
    Metadata,
    Plugin,
    Result,
    ScanResult,
    ScanStatus,
    Settings,
)


class Scanner(Settings):
    """Where clamd is, "/path/of/socket" or "host:port", and what becomes of infected mail.

    See docs/plugins/examples.md for what clamd must be told.
    """

    clamav_socket: str = "/var/run/clamav/clamd.ctl"
    infected: Literal["quarantine", "reject"] = "quarantine"


class VirusScanner(Plugin[Scanner], AntivirusPlugin):
    """Streams a message as it is stored. Without a verdict the mail waits."""

    metadata = Metadata(
        name="virus-scanner",
        version="1.1.0",
        description="Scans messages with ClamAV",
        network=("*",),
        files=("/var/run/clamav:rw",),
    )
    Settings = Scanner

    async def on_filter(self, ctx: MessageContext) -> Result | None:
        found = await self.scan_message(ctx)
        if found.status is ScanStatus.CLEAN:
            ctx.metrics.count("clean_messages")
            return None
        if found.status is not ScanStatus.INFECTED:
            raise RuntimeError(found.details)
        ctx.metrics.count("infected_messages")
        ctx.set_metadata("infected", "true")
        ctx.set_metadata("virus_name", found.details)
        if self.settings.infected == "quarantine":
            return Result.quarantine(note=found.details)
        return Result.reject("Message is infected", code=554, note=found.details)

    async def scan_message(self, ctx: MessageContext) -> ScanResult:
        """Ask clamd; whatever else it says, or that it cannot be asked, is an ERROR."""
        try:
            verdict = await self.ask(ctx)
        except (BrokenPipeError, ConnectionResetError):
            return ScanResult(ScanStatus.ERROR, "clamd hung up: is its StreamMaxLength too small?")
        except (OSError, EOFError, asyncio.LimitOverrunError) as error:
            return ScanResult(ScanStatus.ERROR, f"{type(error).__name__}: {error}")
        if verdict == "stream: OK":
            return ScanResult(ScanStatus.CLEAN)
        if verdict.endswith(" FOUND"):
            virus = verdict.removeprefix("stream: ").removesuffix(" FOUND")
            return ScanResult(ScanStatus.INFECTED, virus)
        return ScanResult(ScanStatus.ERROR, f"clamd says: {verdict}")

    def get_info(self) -> FamilyInfo:
        return FamilyInfo(self.metadata.name, self.metadata.version, "antivirus")

    async def ask(self, ctx: MessageContext) -> str:
        """Send the message in pieces, each with its length before it, and read the verdict."""
        reader, writer = await self.connect()
        try:
            # clamd closes early what is too long for it; its last words, if they arrive, say so
            with contextlib.suppress(ConnectionError):
                writer.write(b"zINSTREAM\0")
                async for chunk in ctx.chunks():
                    writer.write(struct.pack(">I", len(chunk)) + chunk)
                    await writer.drain()
                writer.write(struct.pack(">I", 0))
                await writer.drain()
            verdict = await reader.readuntil(b"\0")
        finally:
            writer.transport.abort()  # when clamd hangs, what it has not read would keep this open
        return verdict[:-1].decode("utf-8", "replace")

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        place = self.settings.clamav_socket
        if place.startswith("/"):
            return await asyncio.open_unix_connection(place)
        host, _, port = place.rpartition(":")
        return await asyncio.open_connection(host, int(port))
