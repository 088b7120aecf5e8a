"""Has clamd look at each message (INSTREAM, see its manual)."""

import asyncio
import contextlib
import struct
from typing import Literal

from elemta.plugins import MessageContext, Metadata, Plugin, Result, Settings


class Scanner(Settings):
    """Where clamd is, "/path/of/socket" or "host:port", and what becomes of infected mail.

    Its `StreamMaxLength` must be as large as the largest message that the server takes.
    """

    clamav_socket: str = "/var/run/clamav/clamd.ctl"
    infected: Literal["quarantine", "reject"] = "quarantine"


class VirusScanner(Plugin[Scanner]):
    """Streams a message as it is stored. Whatever goes wrong is raised, and the mail waits."""

    metadata = Metadata(
        name="virus-scanner",
        version="1.0.0",
        description="Scans messages with ClamAV",
        network=("*",),
        files=("/var/run/clamav:rw",),
    )
    Settings = Scanner

    async def on_filter(self, ctx: MessageContext) -> Result | None:
        verdict = await self.scan(ctx)
        if verdict == "stream: OK":
            ctx.metrics.count("clean_messages")
            return None
        virus = verdict.removeprefix("stream: ").removesuffix(" FOUND")
        if not verdict.endswith(" FOUND"):
            raise RuntimeError(f"clamd says: {verdict}")
        ctx.metrics.count("infected_messages")
        ctx.set_metadata("infected", "true")
        ctx.set_metadata("virus_name", virus)
        if self.settings.infected == "quarantine":
            return Result.quarantine(note=virus)
        return Result.reject("Message is infected", code=554, note=virus)

    async def scan(self, ctx: MessageContext) -> str:
        """Send the message in pieces, each with its length before it, and read the verdict."""
        reader, writer = await self.connect()
        try:
            # clamd closes early what is too long for it; its last words say so
            with contextlib.suppress(ConnectionError):
                writer.write(b"zINSTREAM\0")
                async for chunk in ctx.chunks():
                    writer.write(struct.pack(">I", len(chunk)) + chunk)
                    await writer.drain()
                writer.write(struct.pack(">I", 0))
                await writer.drain()
            verdict = await reader.readuntil(b"\0")
        finally:
            writer.close()
        return verdict[:-1].decode("utf-8", "replace")

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        place = self.settings.clamav_socket
        if place.startswith("/"):
            return await asyncio.open_unix_connection(place)
        host, _, port = place.rpartition(":")
        return await asyncio.open_connection(host, int(port))
