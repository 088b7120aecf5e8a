"""The supervisor: binds the sockets, starts workers and the web process, and keeps them running.

It stays small so that it does not die: no event loop, no mail. A worker's sockets stay open here
while it is restarted, so that clients wait instead of being refused. Every child holds one end
of a socket pair, its lifeline, whose other end is here: when the supervisor is gone, however it
went, they see it and stop. Workers say through it every second that they are alive; one that falls
silent hangs, and is killed.

A configuration that has changed is judged by each worker and its plugins; what they come to is told
through the lifeline, too, and `config_changed` waits for it. Where no worker takes it the old one
goes on.

A worker that cannot work as it is configured says why and ends with `EX_CONFIG`: the server ends
with it, unless that worker has worked before.

Signals: SIGTERM and SIGINT drain and stop, SIGHUP reads the configuration again.

Raises ConfigError when it cannot start. Logs server_started, worker_restarted, config_changed,
server_stopped. Leaves behind nothing but the spool.
"""

import contextlib
import errno
import fcntl
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from elemta import __version__
from elemta.config import Config, Endpoint, changed, keep_fixed, load
from elemta.config.lint import find_all
from elemta.config.problems import EX_CONFIG
from elemta.mail import events as ev
from elemta.mail.errors import ConfigError
from elemta.net.binding import bind_tcp, bind_unix
from elemta.observe import Log, Metrics, capture, describe_error, fan_out, prepare_metrics
from elemta.observe.exposition import Exposition
from elemta.plugins.loading.listing import clear_listings
from elemta.server import Bound
from elemta.server.limits import Counters
from elemta.supervisor.children import Child, Reload, describe_status, listen, make_lifeline
from elemta.web import serve_web

WorkerMain = Callable[[Config, Path | None, int, Sequence[Bound], int, Counters], int]
"""Runs a worker: configuration, its file, number, sockets, lifeline, what all workers count in.

It gives the exit status.
"""

RESTART_DELAYS = (0.1, 1.0, 5.0, 15.0, 30.0)  # after 1, 2... deaths in a row
LOCK_PATIENCE = (0.05, 0.2, 0.0)  # seconds between attempts
SILENCE = 60.0  # seconds without a word from a worker that had begun to speak
ANSWER_PATIENCE = 60.0  # seconds for workers to judge a changed configuration
STEADY_AFTER = 60.0  # a child that lived so long starts a new row
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


class Supervisor:
    """One server on one machine."""

    def __init__(self, config: Config, path: Path | None, run_worker: WorkerMain) -> None:
        self._config = config
        self._path = path
        self._run_worker = run_worker
        self._counters = Counters(config.server.worker_count)
        self._children: list[Child] = []
        self._sockets: list[socket.socket] = []
        self._is_stopping = False
        self._stop_by = 0.0
        self._status = 0
        self._reason = ""
        self._reloading: Reload | None = None
        self._is_reload_due = False
        prepare(config)
        state_dir = Path(config.server.state_dir)
        self._log = Log(
            sys.stdout.fileno(), config.logging.level, config.logging.format, threaded=False
        )
        self._emit = fan_out(self._log, Metrics(state_dir, "supervisor", self._log))
        capture(self._emit)

    def run(self) -> int:
        """Start everything and keep it running until a signal ends it; the exit status."""
        config = self._config
        workers = config.server.worker_count
        sockets = bind_listeners(config, workers)
        web = config.metrics.listen
        web_socket = bind("metrics.listen", web, 1)[0] if web is not None else None
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        for index, own in enumerate(sockets):
            main = self._worker_main(index, own)
            self._children.append(Child("worker", index, main, [bound.socket for bound in own]))
        if web_socket is not None:
            self._children.append(Child("web", 0, self._web_main(web_socket), [web_socket]))
        self._sockets = [bound for child in self._children for bound in child.sockets]
        for child in self._children:
            self._start(child)
        listeners = [str(listener.address) for listener in config.listeners]
        self._emit(ev.ServerStarted(__version__, workers, listeners))
        try:
            reason = self._watch()
        finally:
            self._kill_all()
        self._emit(ev.ServerStopped(reason))
        self._log.close()
        return self._status

    def _worker_main(self, index: int, sockets: list[Bound]) -> Callable[[int], int]:
        return lambda lifeline: self._run_worker(
            self._config, self._path, index, sockets, lifeline, self._counters
        )

    def _web_main(self, listener: socket.socket) -> Callable[[int], int]:
        def main(lifeline: int) -> int:
            config = self._config
            state_dir = Path(config.server.state_dir)
            log = Log(sys.stdout.fileno(), config.logging.level, config.logging.format)
            capture(log)
            render = Exposition(state_dir).render
            try:
                return serve_web(listener, state_dir, config.server.worker_count, lifeline, render)
            finally:
                log.close()

        return main

    def _start(self, child: Child) -> None:
        child.started_at = time.monotonic()
        ends: tuple[int, ...] = ()
        self._log.flush()
        try:
            ends = ours, theirs = make_lifeline()
            pid = os.fork()
        except OSError as error:  # no memory, too many processes: those that run must go on
            for end in ends:
                os.close(end)
            self._start_later(child, f"cannot be started: {error.strerror}")
            return
        if pid == 0:
            os.close(theirs)
            self._become(child, ours)
        os.close(ours)
        child.pid, child.lifeline, child.pulse_at = pid, theirs, 0.0

    def _become(self, child: Child, lifeline: int) -> NoReturn:
        """Run a child's main in the fresh process; never returns into the supervisor's code."""
        status = 1
        try:
            for other in self._children:
                if other.lifeline >= 0:
                    os.close(other.lifeline)
            for bound in self._sockets:  # a copy here would keep open what another has closed
                if bound not in child.sockets:
                    bound.close()
            for number in SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's ^C comes by the supervisor
            at_once = set(SIGNALS)
            if child.is_worker:  # a reload waits until the worker is ready for it
                at_once.discard(signal.SIGHUP)
            else:
                signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, at_once)
            status = child.main(lifeline)
        except BaseException as error:  # noqa: BLE001 - a forked child must not unwind into its parent's frames
            self._log(ev.InternalError(f"{child.name} {child.index}", describe_error(error)))
            self._log.close()
        finally:
            os._exit(status)

    def _watch(self) -> str:
        """Handle signals, deaths and restarts until all children have ended; says why."""
        while not self._is_stopping or any(child.pid for child in self._children):
            received = signal.sigtimedwait(SIGNALS, self._wait_for())
            number = received.si_signo if received is not None else 0
            if number in {signal.SIGTERM, signal.SIGINT}:
                self._stop(signal.Signals(number).name)
            elif number == signal.SIGHUP:
                self._is_reload_due = True
            self._reap()
            self._feel_pulses()
            self._end_reload()
            if self._is_reload_due and self._reloading is None:
                self._is_reload_due = False
                self._reload()
            self._log.flush()
            if self._is_stopping:
                if time.monotonic() > self._stop_by:
                    return self._reason + ", cut off"
            else:
                self._start_due()
        return self._reason

    def _wait_for(self) -> float:
        """Seconds until something is to be done without a signal."""
        if self._is_stopping:
            return max(0.0, min(1.0, self._stop_by - time.monotonic()))
        if self._reloading is not None:
            return 0.02
        waiting = [child.start_at for child in self._children if not child.pid]
        return max(0.0, min(waiting) - time.monotonic()) if waiting else 5.0

    def _feel_pulses(self) -> None:
        """Kill workers that have said nothing for long: they hang, and their mail with them."""
        now = time.monotonic()
        for child in self._children:
            if not child.pid:
                continue
            listen(child)
            if child.pulse_at and now - child.pulse_at > SILENCE and not self._is_stopping:
                detail = f"worker {child.index} has been silent for {SILENCE:.0f} s"
                self._emit(ev.InternalError("supervisor", f"{detail}; it is killed"))
                child.pulse_at = 0.0
                os.kill(child.pid, signal.SIGKILL)

    def _stop(self, reason: str) -> None:
        if self._is_stopping:
            return
        self._reason = reason
        self._is_stopping = True
        self._stop_by = time.monotonic() + self._config.server.drain_timeout + 10.0
        for child in self._children:
            if child.pid:
                os.kill(child.pid, signal.SIGTERM)
        for bound in self._sockets:
            bound.close()  # else clients would wait in a queue that nobody serves

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                for child in self._children:
                    if child.pid == pid:
                        self._died(child, status)

    def _died(self, child: Child, status: int) -> None:
        listen(child)
        os.close(child.lifeline)
        child.pid, child.lifeline = 0, -1
        if child.is_worker:
            self._counters.drop(child.index)
        if self._is_stopping:
            return
        if os.waitstatus_to_exitcode(status) == EX_CONFIG and not child.was_up:
            # to try again would come to the same
            sys.stderr.write(child.last_words.decode(errors="replace"))
            sys.stderr.flush()
            self._status = 1
            self._stop(f"{child.name} {child.index} cannot work as it is configured")
        else:
            self._start_later(child, describe_status(status))

    def _start_later(self, child: Child, why: str) -> None:
        """Have it started after a while that grows with each death in a row."""
        now = time.monotonic()
        if now - child.started_at > STEADY_AFTER:
            child.deaths = 0
        delay = RESTART_DELAYS[min(child.deaths, len(RESTART_DELAYS) - 1)]
        child.deaths += 1
        child.start_at = now + delay
        self._emit(ev.WorkerRestarted(child.index, why, delay, child.name))

    def _start_due(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if not child.pid and child.start_at <= now:
                self._start(child)

    def _reload(self) -> None:
        """Read the configuration again; a bad one changes nothing."""
        try:
            config = load(self._path, os.environ)
            applicable = keep_fixed(self._config, config)
            refuse_errors(applicable)
            changes = changed(self._config, config)
        except Exception as error:  # noqa: BLE001 - whatever is in that file, the server goes on
            text = str(error) if isinstance(error, ConfigError) else describe_error(error)
            self._emit(ev.ConfigChanged([], [], text))
            return
        asked = [(child.pid, child) for child in self._children if child.pid and child.is_worker]
        self._reloading = Reload(
            self._config,
            changes,
            asked,
            time.monotonic() + ANSWER_PATIENCE,
        )
        self._use(applicable)
        for pid, child in asked:
            child.answer = ""
            os.kill(pid, signal.SIGHUP)

    def _use(self, config: Config) -> None:
        """Let what is started from now on have a configuration."""
        self._config = config
        self._log.set_level(config.logging.level)

    def _end_reload(self) -> None:
        """Say what has become of a changed configuration, once the workers have judged it."""
        reload = self._reloading
        if reload is None or (reload.is_open() and not self._is_stopping):
            return
        self._reloading = None
        changes = reload.changes
        if reload.is_refused():
            self._use(reload.before)
            self._emit(ev.ConfigChanged([], [], reload.error()))
        else:
            event = ev.ConfigChanged(list(changes.live), list(changes.restart), reload.error())
            self._emit(event)

    def _kill_all(self) -> None:
        for child in self._children:
            if child.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGKILL)
                    os.waitpid(child.pid, 0)


def serve(config: Config, path: Path | None, run_worker: WorkerMain) -> int:
    """Run the server in the foreground until a signal ends it; the exit status.

    Args:
        config: What to do; read again from `path` on SIGHUP.
        path: None for the embedded defaults.
        run_worker: What a worker does.

    Raises:
        ConfigError: It cannot start; nothing has been started.
    """
    return Supervisor(config, path, run_worker).run()


def prepare(config: Config) -> None:
    """Make the state folder ours alone, for as long as this process lives.

    Raises:
        ConfigError: It cannot be used, or another server uses it.
    """
    raise_file_limit()
    state_dir = Path(config.server.state_dir)
    try:
        for folder in ("run", "queue"):
            (state_dir / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        refuse_strangers(state_dir)
        take_lock(state_dir / "run" / "lock")
        prepare_metrics(state_dir)
        clear_listings(state_dir)
    except BlockingIOError as error:
        raise ConfigError("server.state_dir", f"{state_dir} is in use by another server") from error
    except OSError as error:
        raise ConfigError("server.state_dir", f"cannot be used: {error}") from error


def refuse_strangers(state_dir: Path) -> None:
    """Look for what is not ours to write, such as after a command that was run as root.

    Raises:
        PermissionError: There is something; a worker would not get past it.
    """
    shards = (state_dir / "queue").glob("shard-*")
    files = (path for folder in shards for path in (folder, folder / "lock", folder / "queue.db"))
    databases = (state_dir / "control.db", state_dir / "bans.db")
    for path in (state_dir / "queue", *databases, *files):
        if path.exists() and not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
            raise PermissionError(errno.EACCES, "not writable for this user", str(path))


def take_lock(path: Path) -> None:
    """Lock a file until this process ends; `elemta check` may hold it for an instant.

    Raises:
        BlockingIOError: Another server holds it.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for patience in LOCK_PATIENCE:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not patience:
                os.close(lock)
                raise
            time.sleep(patience)
        else:
            return


def refuse_errors(config: Config) -> None:
    """Judge settings that come from two files: what still runs, and what was read now.

    Raises:
        ConfigError: They do not fit together.
    """
    for finding in find_all(config):
        if finding.is_error:
            raise ConfigError("reload", f"{finding.text}; a restart may be needed")


def raise_file_limit() -> None:
    """Allow as many open files as this process may have."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def bind_listeners(config: Config, workers: int) -> list[list[Bound]]:
    """Bind each listener for each worker; a unix socket is shared by all.

    Raises:
        ConfigError: An address is in use, not ours or not allowed.
    """
    bound: list[list[Bound]] = [[] for _ in range(workers)]
    for number, listener in enumerate(config.listeners):
        address = Endpoint(listener.host, listener.port, listener.unix_path or "")
        sockets = bind(f"listeners[{number}]", address, workers)
        for worker, ready in zip(bound, sockets, strict=True):
            worker.append(Bound(ready, listener.kind, listener.address))
    return bound


def bind(setting: str, address: Endpoint, count: int) -> list[socket.socket]:
    """Bind one address; errors name the setting that asked for it."""
    try:
        if address.is_unix:
            return [bind_unix(address.path)] * count
        return bind_tcp(address.host, address.port, count)
    except OSError as error:
        raise ConfigError(setting, f"cannot listen on {address}: {error.strerror}") from error
