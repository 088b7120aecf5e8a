"""One worker: everything for its share of the mail, on one event loop.

It owns a shard of the queue, and those of workers that are no more; workers share nothing. It
ends when told by SIGTERM, or when the supervisor is gone: no new connections or attempts, what
is under way finishes until a deadline. Where another generation of the server has taken over, it
accepts no more connections and ends when its sessions do.

Between it and the supervisor is its lifeline: "=" says that it is prepared, and it waits for "o"
before it lets clients in; "r" says that it is replaced.
"""

import asyncio
import contextlib
import functools
import gc
import os
import resource
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from elemta.accounts import Authenticator
from elemta.app import settings as derive
from elemta.app.accounts import make_authenticator, prepare_accounts
from elemta.app.doors import make_door
from elemta.app.handing_in import PLUGINS, PLUGINS_DOOR, PluginMail
from elemta.app.limits import WorkerLimits
from elemta.app.plugins import WorkerPlugins, as_problems
from elemta.app.pregreet import WorkerPregreet
from elemta.app.shards import Figures, Shards
from elemta.app.submission import WorkerSubmission
from elemta.app.tls import WorkerTls
from elemta.app.why import WorkerWhy
from elemta.config import Config, changed, keep_fixed, load
from elemta.config.problems import EX_CONFIG
from elemta.delivery.courier import Delivery
from elemta.mail import events as ev
from elemta.mail.errors import ConfigError, ElemtaError, LookupFailed
from elemta.mail.ids import SessionId
from elemta.mail.reply import clean_text
from elemta.net.clock import SystemClock
from elemta.net.resolver import DnsResolver
from elemta.net.tasks import spawn
from elemta.observe import (
    Log,
    Metrics,
    Sample,
    capture,
    capture_loop,
    describe_error,
    fan_out,
)
from elemta.plugins.asking.table import HookTable
from elemta.plugins.finding.problems import PluginsError
from elemta.server import Bound, Listeners, RelayPolicy, SessionSettings, Surroundings
from elemta.server.limits import Counters

BEAT_EVERY = 1.0  # seconds between heartbeats, samples and looks for orders
SURVEY_COST = 50  # counting a long queue takes a while: at most a fiftieth of the time
SWITCH_INTERVAL = 0.0005  # seconds; the queue's writer thread must not wait for the loop's turn
LAST_WORDS = 60_000  # octets; a lifeline takes so many at once
LAST_ATTEMPTS = 2 / 3  # of the time to end in; no attempt is begun after that
SPARE_FILES = 200  # databases, spool files, mailboxes, name servers
GARBAGE_THRESHOLD = 50_000  # allocations between collections: sessions make few cycles


@dataclass(frozen=True, slots=True)
class Start:
    """What a worker is started with: its number, its sockets, the pipe to the supervisor.

    And what all workers of the node count in.
    """

    config: Config
    path: Path | None
    index: int
    sockets: Sequence[Bound]
    lifeline: int
    counters: Counters


def run_worker(
    config: Config,
    path: Path | None,
    index: int,
    sockets: Sequence[Bound],
    lifeline: int,
    counters: Counters,
) -> int:
    """Run a worker until it is told to stop; the exit status.

    Args:
        config: Read again from `path` on SIGHUP.
        path: None for the embedded defaults.
        index: The worker's number, from 0.
        sockets: Its listening sockets.
        lifeline: A socket to the supervisor: its end is the supervisor's; what is written to it
            tells that the worker is alive.
        counters: What holds for the node, whatever the number of workers.
    """
    counters.worker = index
    start = Start(config, path, index, sockets, lifeline, counters)
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.set_threshold(GARBAGE_THRESHOLD, 20, 20)
    return run_loop(functools.partial(_run, start))


def run_loop(main: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run a coroutine on uvloop where it is, else on asyncio's own loop."""
    try:
        import uvloop  # noqa: PLC0415 - not to be had on every platform
    except ImportError:
        return asyncio.run(main())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


async def _run(start: Start) -> int:
    worker = Worker(start)
    try:
        await worker.start()
        await worker.wait_for_stop()
    except (PluginsError, ConfigError) as error:
        worker.tell(error)
        return EX_CONFIG
    finally:
        await worker.stop()
    return 0


class Worker:
    """The parts of a worker and how they hang together."""

    def __init__(self, start: Start) -> None:
        config = start.config
        self._start = start
        self._config = config
        self._clock = SystemClock()
        self._stop = asyncio.Event()
        self._may_open = asyncio.Event()
        self._is_replaced = False
        self._figures: Figures | None = None
        self._beating: asyncio.Task[None] | None = None
        self._reloading = asyncio.Lock()
        self._sessions_begun = 0
        self._session_prefix = ""
        state_dir = Path(config.server.state_dir)
        self._log = Log(sys.stdout.fileno(), config.logging.level, config.logging.format)
        self._metrics = Metrics(state_dir, f"worker-{start.index}", self._log)
        written = fan_out(self._log, self._metrics)
        self._resolver = DnsResolver(derive.dns_settings(config), self._clock)
        self._plugins = WorkerPlugins(
            start.path,
            start.index,
            written,
            self._clock,
            self._resolver,
            submit=PluginMail.of(lambda: self._around.get(PLUGINS), self._next_session_id),
            rates=start.counters.lent,
        )
        noticed = (ev.SecurityEvent, ev.LimitReached, ev.ConnectionRefused, ev.Banned)
        attacks: dict[type[ev.Event], ev.Emit] = dict.fromkeys(noticed, self._plugins.heed)
        heard = fan_out(self._log, self._metrics, heed=attacks)
        self._tls = WorkerTls(self._clock, heard, start.index)
        self._why = WorkerWhy(config, self._clock, written)
        heard_by: dict[type[ev.Event], ev.Emit] = {
            **self._why.heard,
            ev.TlsHandshake: self._tls.heed,
            ev.TlsHandshakeFailed: self._tls.heed,
        }
        self._emit = fan_out(self._log, self._metrics, heed=attacks | heard_by)
        capture(self._emit)
        self._delivery = Delivery(
            derive.routes(config),
            derive.delivery_settings(config, start.index),
            self._resolver,
            self._clock,
            self._emit,
        )
        self._shards = Shards(
            config, start.index, self._delivery, self._clock, self._emit, self._plugins
        )
        self._shards.flush_names = self._resolver.cache.flush
        self._limits = WorkerLimits(config, start.counters, self._clock, self._emit)
        state = Path(config.server.state_dir)
        self._pregreet = WorkerPregreet(state, start.counters, self._clock, self._emit)
        self._submission = WorkerSubmission(config, start.counters, self._clock, self._emit)
        self._accounts: Authenticator | None = None
        self._around: dict[str, Surroundings] = {}
        # nobody is let in before `_apply` says how many
        self._listeners = Listeners(self._around.__getitem__, 0, self._next_session_id)

    def _max_connections(self) -> int:
        config = self._config
        total, workers = config.smtp.max_connections, config.server.worker_count
        wanted = derive.share(total, workers, self._start.index)
        outgoing = derive.share(config.delivery.max_connections, workers, self._start.index)
        files, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = max(1, files - outgoing - SPARE_FILES)
        if wanted > most:  # beyond that clients would wait in vain, instead of being told
            text = f"{wanted} are wanted, but a process may open {files} files: at most {most}"
            self._emit(ev.Notice("smtp.max_connections", text))
        return min(wanted, most)

    def _next_session_id(self) -> SessionId:
        self._sessions_begun += 1
        return SessionId(f"{self._session_prefix}{self._sessions_begun:x}")

    async def start(self) -> None:
        """Open the queue, then the doors."""
        loop = asyncio.get_running_loop()
        capture_loop(loop, self._emit)
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        loop.add_reader(self._start.lifeline, self._hear)
        self._session_prefix = f"{self._start.index:x}-{os.getpid():x}-"
        self._tls.take(self._tls.prepare(self._config))
        self._submission.take(self._submission.prepare(self._config))
        self._accounts = make_authenticator(self._config, self._clock, self._emit)
        await self._plugins.start(self._config)
        await self._shards.open()
        await self._limits.start()
        self._apply(self._config)
        await self._pregreet.start()
        self._plugins.roster.on_change = self._take_tables
        loop.add_signal_handler(signal.SIGHUP, self._reload_soon)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # one may wait since the fork
        if not await self._is_let_open():
            return
        await self._listeners.start(self._start.sockets)
        self._submission.start(self._config, self._around.__getitem__, self._next_session_id)
        self._beating = spawn(self._beat(), "beat")
        gc.collect()
        gc.freeze()
        self._emit(ev.WorkerStarted(self._start.index, os.getpid()))
        await self._plugins.started()

    def tell(self, error: PluginsError | ConfigError) -> None:
        """Say what does not let the server start: in the log, and to the supervisor."""
        subject, told = "configuration", [str(error)]
        if isinstance(error, PluginsError):
            subject, told = "plugins", [str(each) for each in as_problems(error.problems)]
        lines = [clean_text(each, 2000) for each in told]
        for line in lines:
            self._emit(ev.Notice(subject, line))
        words = "!" + "".join(f"{line}\n" for line in lines)
        with contextlib.suppress(OSError):
            os.write(self._start.lifeline, words.encode()[:LAST_WORDS])

    def _hear(self) -> None:
        """Take in what the supervisor says; its silence for ever is the end."""
        lifeline = self._start.lifeline
        try:
            said = os.read(lifeline, 100)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if b"o" in said:
            self._may_open.set()
        if b"r" in said:
            self._is_replaced = True
            self._stop.set()
        if not said:
            asyncio.get_running_loop().remove_reader(lifeline)
            self._stop.set()

    async def _is_let_open(self) -> bool:
        """Wait until clients may come in; False when the worker is to end instead."""
        with contextlib.suppress(OSError):
            os.write(self._start.lifeline, b"=")
        waits = [spawn(each.wait(), "wait") for each in (self._may_open, self._stop)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for each in waits:
            each.cancel()
        return not self._stop.is_set()

    async def wait_for_stop(self) -> None:
        """Wait until the worker is told to stop."""
        await self._stop.wait()

    async def stop(self) -> None:
        """Stop politely: sessions and attempts by one deadline, then the queue."""
        self._stop.set()
        if self._beating is not None:
            await self._beating
        timeout = self._config.server.drain_timeout
        self._limits.tarpit.close()
        ending = self._hand_over(timeout) if self._is_replaced else self._finish(timeout)
        await asyncio.gather(
            self._plugins.stopping(timeout), self._submission.stop(timeout), ending
        )
        await self._delivery.close()
        await self._limits.stop()
        await self._why.close()
        await self._pregreet.close()
        if self._accounts is not None:
            await self._accounts.close()
        self._shards.close()
        await self._plugins.stop(is_replaced=self._is_replaced)
        if self._beating is not None:  # else the figures are another worker's
            self._metrics.close()
        self._log.close()

    async def _finish(self, timeout: float) -> None:  # noqa: ASYNC109 - told, not waited for
        await asyncio.gather(self._listeners.stop(timeout), self._shards.stop(timeout))

    async def _hand_over(self, timeout: float) -> None:  # noqa: ASYNC109 - as above
        """Deliver as ever while there are sessions: nobody else can have their mail meanwhile."""
        deadline = self._clock.monotonic() + timeout
        leaving = spawn(self._listeners.stop(timeout, is_replaced=True), "leave")
        await asyncio.wait([leaving], timeout=timeout * LAST_ATTEMPTS)
        left = max(0.0, deadline - self._clock.monotonic())
        await asyncio.gather(leaving, self._shards.stop(left))

    def _apply(self, config: Config) -> None:
        """Give every room its part of a configuration."""
        self._config = config
        settings = self._hurried(derive.session_settings(config))
        self._limits.apply(config)
        self._why.apply(config)
        policy = RelayPolicy(derive.relay_settings(config))
        doors = {listener.address: make_door(config, listener) for listener in config.doors}
        screens = {each.address: self._pregreet.screen(config, each) for each in config.doors}
        for address, door in {**doors, PLUGINS: PLUGINS_DOOR}.items():
            hooks = self._plugins.table(door.kind)
            self._around[address] = Surroundings(
                settings=settings,
                policy=policy,
                intake=self._shards.own,
                is_null_mx=self._is_null_mx,
                clock=self._clock,
                emit=self._emit,
                door=door,
                tls=self._tls.find(address),
                accounts=self._accounts_for(hooks),
                gate=self._limits.gate(door.kind),
                desk=self._submission.desk,
                tells_commands=self._log.is_debug,
                hooks=hooks,
                pregreet=screens.get(address),
                journal=self._why.journal,
            )
        self._listeners.limit(self._max_connections())

    def _hurried(self, settings: SessionSettings) -> SessionSettings:
        """Give clients less time while there is too much to do."""
        timeout = self._limits.shedding.timeout(settings.command_timeout)
        return replace(settings, command_timeout=timeout)

    async def _measure(self, lag: float) -> None:
        """Do less while there is too much to do."""
        oldest = self._figures.oldest_at if self._figures is not None else None
        age = self._clock.now() - oldest if oldest else None
        if not await self._limits.measure(lag, age):
            return
        settings = self._hurried(derive.session_settings(self._config))
        for around in self._around.values():
            around.settings = settings
        if self._limits.shedding.load:
            self._listeners.hurry(settings.command_timeout, self._clock.monotonic())

    def _take_tables(self) -> None:
        """Let new sessions have the plugins as they are now."""
        for around in self._around.values():
            around.hooks = self._plugins.table(around.door.kind)
            around.accounts = self._accounts_for(around.hooks)

    def _accounts_for(self, hooks: HookTable) -> Authenticator | None:
        """Say who decides on logins: nobody where there are no accounts, and no plugin is asked."""
        is_used = self._config.auth.sources or hooks.on_auth_start is not None
        return self._accounts if is_used else None

    def _reload_soon(self) -> None:
        _ = spawn(self._reload(), "reload")

    async def _reload(self) -> None:
        """Take over what a changed configuration says and can be changed, and tell the supervisor.

        What it is told: "+" if so, "-" if all stays as it was.
        """
        async with self._reloading:
            answer = b"-"
            try:
                if await self._take_changes():
                    answer = b"+"
            finally:
                with contextlib.suppress(OSError):
                    os.write(self._start.lifeline, answer)

    async def _take_changes(self) -> bool:
        """Take over a changed configuration in all rooms, or in none; True when that is done."""
        try:
            config = load(self._start.path, os.environ)
        except ConfigError as error:  # the supervisor could read it, so it has changed since
            self._emit(ev.Notice(f"worker {self._start.index} not reloaded", str(error)))
            return False
        changes = changed(self._config, config)
        config = keep_fixed(self._config, config)
        accounts = None
        try:
            tls, accounts = self._tls.prepare(config), prepare_accounts(config)
            desk = self._submission.prepare(config)
            # plugins come last: they change all at once, and what is done then cannot fail
            await self._plugins.reload(config, (*changes.live, *changes.restart))
        except (PluginsError, ConfigError) as error:
            self._emit(ev.Notice(f"worker {self._start.index} not reloaded", str(error)))
            for source in accounts.sources if accounts is not None else ():
                await source.close()
            return False
        self._tls.take(tls)
        self._submission.take(desk)
        if self._accounts is not None:
            await self._accounts.reload(*accounts)
        self._log.set_level(config.logging.level)
        self._apply(config)
        index = self._start.index
        self._delivery.apply(derive.routes(config), derive.delivery_settings(config, index))
        self._shards.apply(config)
        return True

    async def _is_null_mx(self, domain: str) -> bool:
        try:
            answer = await self._resolver.mx(domain)
        except LookupFailed:
            return False
        return answer.is_null

    async def _beat(self) -> None:
        """Once a second: say that all is well, take orders, write figures down."""
        loop = asyncio.get_running_loop()
        survey_at, lag, trouble = 0.0, 0.0, ""
        while not self._stop.is_set():
            now, before, trouble = loop.time(), trouble, ""
            try:
                await self._shards.beat()
                if now >= survey_at:
                    self._figures = await self._shards.figures()
                    survey_at = loop.time() + max(BEAT_EVERY, SURVEY_COST * (loop.time() - now))
            except ElemtaError as error:
                trouble = str(error)
                if trouble != before:
                    self._emit(ev.Notice("heartbeat", trouble))
            except Exception as error:  # noqa: BLE001 - without this loop nobody answers for the worker
                self._emit(ev.InternalError("heartbeat", describe_error(error)))
            dead = self._shards.find_dead()
            if dead:
                self._give_up(dead)
            await self._measure(lag)
            self._plugins.beat()
            self._tls.beat()
            self._why.beat()
            self._pregreet.beat()
            self._metrics.plugins(self._plugins.roster.tallies(), self._plugins.roster.figures())
            self._metrics.resolver(self._resolver)
            self._sample(lag)
            self._metrics.flush()
            with contextlib.suppress(OSError):  # a supervisor that is busy knows enough
                os.write(self._start.lifeline, b".")
            due = loop.time() + BEAT_EVERY
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BEAT_EVERY):
                    await self._stop.wait()
            lag = max(0.0, loop.time() - due)

    def _give_up(self, dead: str) -> None:
        """End at once, so that another worker takes over: what was acknowledged is in the store."""
        self._emit(ev.InternalError("worker", f"{dead} has ended; the worker follows"))
        self._metrics.close()
        self._log.close()
        os._exit(1)

    def _sample(self, lag: float) -> None:
        figures = self._figures
        if figures is None:
            return
        self._metrics.sample(
            Sample(
                queue=figures.recipients,
                oldest=self._clock.now() - figures.oldest_at if figures.oldest_at else 0.0,
                ready=figures.ready,
                in_flight=figures.in_flight,
                loop_lag=lag,
                spool_free=figures.spool_free,
                log_lines_dropped=self._log.dropped,
                double_bounces=figures.double_bounces,
                notifications_withheld=figures.notifications_withheld,
                why_records_lost=self._why.lost,
                load=self._limits.shedding.load,
                sessions_delayed=self._limits.tarpit.count,
                certificates=self._tls.days_left(),
            )
        )
