"""Looks at the servers now and then: whether they answer, and whether they see what they should."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from elemta.net import Stream
from elemta.plugins import ScanStatus
from elemta.plugins.builtin._elsewhere import Trouble
from elemta.plugins.builtin._scanning.finding import Finding
from elemta.plugins.builtin._scanning.mail import Mail, from_octets
from elemta.plugins.builtin._scanning.panel import Panel
from elemta.plugins.builtin._scanning.servers import Server
from elemta.plugins.builtin._scanning.settings import ScanningSettings
from elemta.plugins.tools import Tools

FOUND = frozenset({ScanStatus.INFECTED, ScanStatus.SPAM})


@dataclass(frozen=True, slots=True)
class Check:
    """What has come of looking at one server.

    Attributes:
        server: Which.
        result: "ok", "blind" (it answers, and overlooks what it should find) or "down".
        details: What it has found, or what is wrong.
        milliseconds: How long it took.
    """

    server: str
    result: str
    details: str
    milliseconds: float


@dataclass(frozen=True, slots=True)
class Trial:
    """How a kind of server is tried.

    Attributes:
        ping: Asks it on a new connection whether it is there.
        scan: Shows it a message on a new connection.
        sample: A message that it must object to.
    """

    ping: Callable[[Stream], Awaitable[None]]
    scan: Callable[[Stream, Mail], Awaitable[Finding]]
    sample: bytes


class Prober:
    """Tries all servers of a scanner.

    Args:
        panel: The servers.
        trial: How.
        settings: Of the scanner.
        tools: Its clock, log and figures.
    """

    def __init__(
        self, panel: Panel, trial: Trial, settings: ScanningSettings, tools: Tools
    ) -> None:
        self._panel = panel
        self._trial = trial
        self._settings = settings
        self._tools = tools
        self._last: dict[str, str] = {}

    async def run(self) -> None:
        """Try them again and again, until it is cancelled."""
        while True:
            await self.check()
            await asyncio.sleep(self._settings.probe_every)

    async def check(self) -> list[Check]:
        """Try each of them once."""
        checks = [await self._check(server) for server in self._panel.servers]
        for check in checks:
            self._tools.metrics.count("probes", server=check.server, result=check.result)
            if check.result != self._last.get(check.server, "ok"):
                self._tell(check)
            self._last[check.server] = check.result
        return checks

    async def _check(self, server: Server) -> Check:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            result, details = await self._try(server)
        except Trouble as error:
            result, details = "down", str(error)
        took = (loop.time() - began) * 1000
        return Check(server.name, result, details, round(took, 3))

    async def _try(self, server: Server) -> tuple[str, str]:
        panel, trial = self._panel, self._trial
        seconds = min(self._settings.limit, self._settings.server_timeout)
        await panel.ask_one(server, trial.ping, seconds)
        if self._settings.self_test == "off":
            return "ok", "it answers"
        mail = from_octets(trial.sample, "self-test")
        finding = await panel.ask_one(server, lambda stream: trial.scan(stream, mail), seconds)
        is_blind = finding.scan.status not in FOUND
        server.is_blind = is_blind and self._settings.self_test == "require"
        if is_blind:
            return "blind", "it does not object to the message of the self-test"
        return "ok", finding.scan.details

    def _tell(self, check: Check) -> None:
        text = f"{check.server}: {check.result}: {check.details}"
        if check.result == "ok":
            self._tools.log.info(text)
        else:
            self._tools.log.error(text)
