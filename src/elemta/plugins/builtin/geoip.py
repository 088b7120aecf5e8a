"""In which country and in whose network a client is, from local databases (MaxMind DB).

A database that is missing or does not know a client leaves nothing: whoever decides by it has to
cope with that.

Leaves behind: `geoip.country` ("DE"), `geoip.asn` ("64496") and `geoip.network` (its name) in the
metadata of a session, and all of it as `geoip` in the notes of a message.
"""

import asyncio
import contextlib
from typing import ClassVar

from pydantic import BaseModel, Field

from elemta.net.tasks import spawn
from elemta.plugins import ConnectionContext, EnvelopeContext, Metadata, Plugin, Settings
from elemta.plugins.builtin._geoip import GeoDatabase, read_asn, read_country
from elemta.plugins.builtin._known import ASN, COUNTRY, asn_of, country_of
from elemta.plugins.builtin._values import Seconds

NETWORK = "geoip.network"
NOTE = "geoip"
KNOWN_FOR = 600.0  # seconds for which a worker does not look an address up again


class GeoipSettings(Settings):
    """Where the databases are."""

    country: str = Field(
        default="",
        description="Path of a database of countries (.mmdb), or of cities, from "
        "`server.state_dir` on where it does not begin with a slash; empty for none.",
    )
    asn: str = Field(
        default="",
        description="Path of a database of autonomous systems: whose network it is; empty for "
        "none.",
    )
    check_every: Seconds = Field(
        default=60.0, ge=1, description="How often it is looked whether a file has changed."
    )


class Geoip(Plugin[GeoipSettings]):
    """Finds out where clients are."""

    metadata = Metadata(
        name="geoip",
        version="1.0.0",
        description="Country and network of clients, from local databases",
    )
    Settings: ClassVar[type[BaseModel]] = GeoipSettings

    async def setup(self) -> None:
        """Read the databases."""
        settings = self.settings
        self._country = await self._open(settings.country)
        self._asn = await self._open(settings.asn)
        self._generation = 0  # of what is remembered: another with each change
        self._told: dict[GeoDatabase, str] = {}
        self._watching: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        await self.refresh()

    async def enable(self) -> None:
        """Begin to watch their files."""
        if self._watching is None:
            self._stop.clear()
            self._watching = spawn(self._watch(), "databases of places")

    async def disable(self) -> None:
        """Stop that."""
        self._stop.set()
        watching, self._watching = self._watching, None
        if watching is not None:
            await watching

    def on_connect(self, ctx: ConnectionContext) -> None:
        """Leave word of the client."""
        client = ctx.session.client_ip.partition("%")[0]
        if not client:
            return
        key = f"{self._generation} {client}"
        known: dict[str, str] | None = self.tools.cache.get(key)
        if known is None:
            known = self._find(client)
            self.tools.cache.set(key, known, KNOWN_FOR)
        ctx.metadata.update(known)

    def on_mail_from(self, ctx: EnvelopeContext) -> None:
        """Leave the same with a message, for whoever looks at it later."""
        session = ctx.session
        asn = asn_of(session)
        system = f"AS{asn}" if asn else ""
        said = (country_of(session), system, session.metadata.get(NETWORK, ""))
        text = " ".join(filter(None, said))
        if text:
            ctx.message.notes[NOTE] = text

    async def refresh(self) -> None:
        """Read files that have changed, and tell of those that cannot be read."""
        for database in (self._country, self._asn):
            if database is None or not await asyncio.to_thread(database.refresh):
                continue
            self._generation += 1
            problem, before = database.problem, self._told.get(database, "")
            self._told[database] = problem
            if problem:
                text = f"{database.path} cannot be read: {problem}"
                self.tools.log.warning(text)
            elif before:
                text = f"{database.path} has been read"
                self.tools.log.info(text)

    async def _open(self, path: str) -> GeoDatabase | None:
        if not path:
            return None
        return await asyncio.to_thread(GeoDatabase, (self.tools.state_dir / path))

    def _find(self, client: str) -> dict[str, str]:
        found: dict[str, str] = {}
        if self._country is not None:
            found[COUNTRY] = read_country(self._country.find(client))
        if self._asn is not None:
            number, name = read_asn(self._asn.find(client))
            found[ASN], found[NETWORK] = str(number or ""), name
        result = "known" if any(found.values()) else "unknown"
        self.tools.metrics.count("clients", result=result)
        return {name: value for name, value in found.items() if value}

    async def _watch(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.settings.check_every):
                    await self._stop.wait()
            await self.refresh()
