"""`python -m bench.plugins`: what plugins cost.

calls     a hook that nobody wants, and hooks that do nothing, called in this process
accept    messages a second without plugins, and with many that do nothing
isolated  calls of a plugin in a process of its own, one after another and many at a time
reload    how long it takes to load a plugin again, with sessions open
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from bench import machine, report
from bench.dialogue import Dialogue
from bench.options import Mode, Options
from bench.options import parse as parse_options
from bench.peers import Elemta, Place
from bench.processes import BenchError, interrupt_once
from bench.profiler import unwatched
from bench.rounds import play
from bench.run import Stand
from bench.spool import open_spool, temporary_folder
from elemta.net.clock import SystemClock
from elemta.plugins import EnvelopeContext, SessionInfo
from elemta.plugins.asking.table import NO_HOOKS, HookTable
from elemta.plugins.loading.roster import Roster
from elemta.plugins.settings import Isolation, PluginSettings, PluginsSettings
from elemta.testing import FakeResolver

Tell = Callable[[str], None]

HOOKS = (
    "on_connect",
    "on_helo",
    "on_mail_from",
    "on_rcpt_to",
    "on_headers",
    "on_data",
    "on_filter",
    "on_enqueue",
)
MANY = 20
SESSIONS = 200
_CLASS = """\
from elemta.plugins import Metadata, Plugin, Result


class Nothing(Plugin):
    metadata = Metadata(name="{name}", version="{version}")
"""
_HOOK = "\n    def {hook}(self, context):\n        return None\n"
_REFUSING = '\n    def on_helo(self, context):\n        return Result.reject("{version}")\n'


def write_plugins(folder: Path, count: int) -> Path:
    """Write plugins that do nothing in each of `HOOKS` into a new folder."""
    folder.mkdir(mode=0o755)
    for number in range(count):
        name = f"nothing-{number}"
        hooks = "".join(_HOOK.format(hook=hook) for hook in HOOKS)
        _write(folder / f"{name.replace('-', '_')}.py", _CLASS.format(name=name, version=1) + hooks)
    return folder


def _write(file: Path, text: str) -> None:
    file.write_text(text)
    file.chmod(0o644)


@contextlib.asynccontextmanager
async def _roster(folder: Path, *plugins: PluginSettings) -> AsyncIterator[Roster]:
    settings = PluginsSettings(
        directory=folder, plugins=plugins, state_dir=folder.with_name(f"{folder.name}-state")
    )
    settings.state_dir.mkdir(mode=0o700)
    roster = await Roster.load(settings, lambda _event: None, SystemClock(), FakeResolver({}))
    try:
        yield roster
    finally:
        await roster.close()


def _context() -> EnvelopeContext:
    session = SessionInfo("0-0-1", "192.0.2.1", "192.0.2.25:25", "mta", is_trusted=False)
    return EnvelopeContext("on_mail_from", session, None)


async def measure_calls(folder: Path, tell: Tell) -> None:
    """Time what a session does for a hook."""

    def ask(table: HookTable, count: int) -> float:
        context, begin = _context(), time.perf_counter()
        for _ in range(count):
            chain = table.on_mail_from
            if chain is not None:
                chain(context)
        return (time.perf_counter() - begin) / count

    count = 200_000
    empty = min(ask(NO_HOOKS, count) for _ in range(5))
    lines = [f"a hook that nobody wants: {empty * 1e9:.0f} ns"]
    for number in (1, MANY):
        plugins = write_plugins(folder / f"calls-{number}", number)
        async with _roster(plugins) as roster:
            took = min(ask(roster.table("mta"), count) for _ in range(5))
        lines.append(f"{number} that do nothing: {took * 1e6 / number:.3f} us each")
    tell("calls: " + "; ".join(lines))


def measure_accept(folder: Path, tell: Tell, options: Options) -> None:
    """Compare messages a second with and without plugins."""
    plugins = write_plugins(folder / "accept", MANY)
    more = f"\n[plugins]\ndirectory = {json.dumps(str(plugins))}\n"
    plain, loaded = Elemta(1), Elemta(1, more=more)
    loaded.name = f"with {MANY} plugins of {len(HOOKS)} hooks"
    spool = open_spool(folder, loop=options.loop, size=4 << 30)
    try:
        stand = Stand(folder, spool, unwatched)
        runs = list(play(stand, (plain, loaded), options, tell))
    finally:
        spool.close()
    tell(report.table(runs))
    for case in dict.fromkeys(run.case for run in runs):
        rates = [
            statistics.median(
                run.rate for run in runs if run.case == case and run.peer == peer.name
            )
            for peer in (plain, loaded)
        ]
        tell(f"accept: {case}: {100 * (1 - rates[1] / rates[0]):.0f} % fewer messages/s")


async def measure_isolated(folder: Path, tell: Tell) -> None:
    """Time calls of a plugin in a process of its own."""
    plugins = write_plugins(folder / "isolated", 1)
    settings = PluginSettings("nothing-0", isolation=Isolation.PROCESS)
    async with _roster(plugins, settings) as roster:
        chain = roster.table("mta").on_mail_from
        if chain is None:
            raise BenchError("the plugin has no hook")

        async def call() -> float:
            begin = time.perf_counter()
            waiting = chain(_context())
            if waiting is not None and await waiting is not None:
                raise BenchError("the plugin objects")
            return time.perf_counter() - begin

        for _ in range(200):
            await call()
        took = sorted([await call() for _ in range(2000)])
        begin = time.perf_counter()
        for _ in range(100):
            await asyncio.gather(*(call() for _ in range(50)))
        rate = 5000 / (time.perf_counter() - begin)
    tell(
        f"isolated: {took[1000] * 1e6:.0f} us at the median, {took[1980] * 1e6:.0f} us at 99 %, "
        f"{1 / statistics.mean(took):,.0f} calls/s one after another, {rate:,.0f}/s at 50 a time"
    )


async def measure_reload(folder: Path, tell: Tell) -> None:
    """Time a reload by itself, then in a server whose sessions must all stay."""
    async with _roster(write_plugins(folder / "again", 1)) as roster:
        times = []
        for _ in range(20):
            begin = time.perf_counter()
            await roster.reload("nothing-0")
            times.append(time.perf_counter() - begin)
    tell(f"reload: {statistics.median(times) * 1000:.1f} ms by itself")
    plugins = write_plugins(folder / "reload", 1)
    more = f"\n[plugins]\nhot_reload = true\ndirectory = {json.dumps(str(plugins))}\n"
    with (
        open_spool(folder, loop=False, size=0).fresh() as spool,
        Elemta(1, more=more).running(Place(folder, spool), Mode.ACCEPT, 0) as server,
    ):
        await asyncio.to_thread(_reload_under, server.port, plugins / "nothing_0.py", tell)


def _reload_under(port: int, file: Path, tell: Tell) -> None:
    with contextlib.ExitStack() as stack:
        sessions = list(_sessions(port, stack))
        _write(file, _CLASS.format(name="nothing-0", version=2) + _REFUSING.format(version=2))
        begin = time.monotonic()
        while not _is_refused(port):
            if time.monotonic() - begin > 10:
                raise BenchError("the changed plugin is not loaded")
            time.sleep(0.005)
        took = time.monotonic() - begin
        for session in sessions:
            session.send_message("Subject: still here\r\n\r\nhello")
    tell(
        f"reload: {took:.2f} s from the change of the file until new sessions have it, "
        f"{SESSIONS} open sessions went on with the old one and sent a message each"
    )


def _sessions(port: int, stack: contextlib.ExitStack) -> Iterator[Dialogue]:
    for _ in range(SESSIONS):
        session = Dialogue(port)
        stack.callback(session.close)
        session.say("EHLO client.bench.test", b"250")
        yield session


def _is_refused(port: int) -> bool:
    with contextlib.closing(Dialogue(port)) as session:
        try:
            session.say("EHLO client.bench.test", b"250")
        except BenchError:
            return True
        return False


def main() -> int:
    """Measure the parts that are asked for; the exit status is 1 where one failed."""
    given = _parser().parse_args()
    interrupt_once()
    tell: Tell = lambda text: print(text, flush=True)  # noqa: E731
    tell(f"{time.strftime('%Y-%m-%d %H:%M')}, {machine.describe()}")
    failed = False
    options = parse_options(["--only", "accept", "--sizes", "1024", "--runs", str(given.runs)])
    with temporary_folder(given.dir) as folder:
        for part in given.only or _PARTS:
            try:
                _measure(part, folder, tell, options)
            except BenchError as error:
                tell(f"{part}: FAILED: {error}")
                failed = True
    return int(failed)


def _measure(part: str, folder: Path, tell: Tell, options: Options) -> None:
    if part == "accept":
        measure_accept(folder, tell, options)
    else:
        asyncio.run(_TIMED[part](folder, tell))


_TIMED = {"calls": measure_calls, "isolated": measure_isolated, "reload": measure_reload}
_PARTS = ("calls", "accept", "isolated", "reload")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.plugins", description=__doc__)
    add = parser.add_argument
    add("--only", nargs="+", choices=_PARTS, help="some of them")
    add("--runs", type=int, default=3, help="runs of each kind of load (3)")
    add("--dir", type=Path, help="make the temporary folder in this one")
    return parser


if __name__ == "__main__":
    sys.exit(main())
