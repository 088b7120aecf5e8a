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

A restart starts a new generation of the whole program beside this one (see `succession`). It has
the same sockets; its workers accept connections once all of them are prepared, and when they do
this generation ends: sessions finish their message, what they leave in the queue is the next
generation's.

Signals: SIGTERM and SIGINT drain and stop, SIGHUP reads the configuration again, SIGUSR2 restarts.

Raises ConfigError when it cannot start. Logs server_started, worker_restarted, config_changed,
restart_failed, server_replaced, server_stopped. Leaves behind nothing but the spool.
"""

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import msgspec

from elemta import __version__
from elemta.config import Changes, Config, changed, keep_fixed, load
from elemta.config.problems import EX_CONFIG
from elemta.mail import events as ev
from elemta.mail.errors import ConfigError
from elemta.observe import Log, Metrics, capture, describe_error, fan_out
from elemta.observe.exposition import Exposition
from elemta.server import Bound
from elemta.server.limits import Counters
from elemta.supervisor.children import (
    OPEN,
    REPLACED,
    Child,
    Reload,
    describe_status,
    listen,
    make_lifeline,
    refuse_errors,
    tell,
)
from elemta.supervisor.generations import Generations
from elemta.supervisor.notify import notify, notify_reloading
from elemta.supervisor.sockets import (
    bind,
    bind_listeners,
    close_unused,
    raise_file_limit,
    take_passed,
)
from elemta.supervisor.state_folder import (
    Standing,
    find_standing,
    prepare_folder,
    write_standing,
)
from elemta.supervisor.succession import Inheritance, take_inheritance
from elemta.web import serve_web

WorkerMain = Callable[[Config, Path | None, int, Sequence[Bound], int, Counters], int]
"""Runs a worker: configuration, its file, number, sockets, lifeline, what all workers count in.

It gives the exit status.
"""

RESTART_DELAYS = (0.1, 1.0, 5.0, 15.0, 30.0)  # after 1, 2... deaths in a row
SILENCE = 60.0  # seconds without a word from a worker that had begun to speak
ANSWER_PATIENCE = 60.0  # seconds for workers to judge a changed configuration
STEADY_AFTER = 60.0  # a child that lived so long starts a new row
LOOK_SOON = 0.02  # seconds between looks at who is to say something any moment
ORDERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)
SIGNALS = (*ORDERS, signal.SIGCHLD)


class Supervisor:
    """One server on one machine."""

    def __init__(
        self, config: Config, path: Path | None, run_worker: WorkerMain, inheritance: Inheritance
    ) -> None:
        self._config = config
        self._generations = Generations(inheritance)
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
        self._is_restart_due = False
        self._is_open = not inheritance.is_from_predecessor
        self._is_up = False
        self._is_replaced = False
        self._state_dir = state_dir = Path(config.server.state_dir)
        raise_file_limit()
        self._lock = prepare_folder(state_dir, inheritance.lock)
        before = find_standing(state_dir) if inheritance.is_from_predecessor else None
        self._standing = msgspec.structs.replace(before or Standing(0), pid=os.getpid())
        self._log = Log(
            sys.stdout.fileno(), config.logging.level, config.logging.format, threaded=False
        )
        self._emit = fan_out(self._log, Metrics(state_dir, "supervisor", self._log))
        capture(self._emit)

    def run(self) -> int:
        """Start everything and keep it running until a signal ends it; the exit status."""
        config = self._config
        workers, heirlooms = config.server.worker_count, self._generations.inheritance.sockets
        sockets = bind_listeners(config, workers, heirlooms)
        web = config.metrics.listen
        web_sockets = bind("metrics.listen", web, 1, heirlooms)[0] if web is not None else []
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        for index, own in enumerate(sockets):
            main = self._worker_main(index, own)
            self._children.append(Child("worker", index, main, [bound.socket for bound in own]))
        if web_sockets:
            self._children.append(Child("web", 0, self._web_main(web_sockets[0]), web_sockets))
        self._sockets = [bound for child in self._children for bound in child.sockets]
        close_unused(heirlooms, self._sockets)
        for child in self._children:
            self._start(child)
        if self._generations.is_first:
            self._announce()
        try:
            reason = self._watch()
        finally:
            self._kill_all()
        self._emit(ev.ServerStopped(reason))
        self._log.close()
        if self._is_replaced:
            return self._generations.retire(self._state_dir, ORDERS)
        return self._status

    def _announce(self) -> None:
        """Say that the server is this process."""
        write_standing(self._state_dir, self._standing)
        listeners = [str(listener.address) for listener in self._config.listeners]
        workers = self._config.server.worker_count
        self._emit(ev.ServerStarted(__version__, workers, listeners))

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
        child.is_prepared = False
        if self._is_open and child.is_worker:
            tell(child, OPEN)

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
            self._obey(received.si_signo if received is not None else 0)
            self._reap()
            self._feel_pulses()
            self._come_up()
            if self._is_restart_due and self._is_up:
                self._is_restart_due = False
                self._begin_restart()
            self._look_at_generations()
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

    def _obey(self, number: int) -> None:
        """Do what a signal says, or remember to."""
        if self._is_replaced and number in ORDERS:
            self._generations.pass_on(number, self._state_dir)
        elif number in {signal.SIGTERM, signal.SIGINT}:
            self._stop(signal.Signals(number).name)
        elif number == signal.SIGHUP:
            self._is_reload_due = True
        elif number == signal.SIGUSR2:
            self._is_restart_due = True

    def _wait_for(self) -> float:
        """Seconds until something is to be done without a signal."""
        if self._is_stopping:
            return max(0.0, min(1.0, self._stop_by - time.monotonic()))
        if self._reloading is not None or self._generations.is_pending or not self._is_up:
            return LOOK_SOON
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
        notify("STOPPING=1")
        self._generations.stop()
        self._begin_end(reason)
        for child in self._children:
            if child.pid:
                os.kill(child.pid, signal.SIGTERM)

    def _begin_end(self, reason: str) -> None:
        self._reason = reason
        self._is_stopping = True
        self._stop_by = time.monotonic() + self._config.server.drain_timeout + 10.0
        for bound in self._sockets:
            bound.close()  # else clients would wait in a queue that nobody serves

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                self._generations.note_end(pid, status)
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
        if os.waitstatus_to_exitcode(status) == EX_CONFIG and not child.has_been_fit:
            # to try again would come to the same
            words = child.last_words.decode(errors="replace")
            sys.stderr.write(words)
            sys.stderr.flush()
            self._give_up(f"{child.name} {child.index} cannot work as it is configured", words)
        elif not (self._generations.is_first or self._is_up):
            self._give_up(f"{child.name} {child.index} has ended: {describe_status(status)}")
        else:
            self._start_later(child, describe_status(status))

    def _give_up(self, reason: str, words: str = "") -> None:
        """Stop before the server has begun; an earlier generation goes on."""
        self._status = 1
        self._generations.inheritance.refuse(words or reason)
        self._stop(reason)

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

    # ---- generations

    def _come_up(self) -> None:
        """Let clients in once all workers are prepared; say so once they work."""
        if self._is_up or self._is_stopping:
            return
        workers = [child for child in self._children if child.is_worker]
        if not self._is_open and all(child.is_prepared for child in workers):
            self._is_open = True
            for child in workers:
                tell(child, OPEN)
        if not all(child.was_up for child in workers):
            return
        self._is_up = True
        if self._generations.is_first:
            notify("READY=1")
        else:
            self._tell_standing(restarts=self._standing.restarts + 1, restart_error="")
            self._announce()
            self._generations.inheritance.say(b"+")

    def _begin_restart(self) -> None:
        """Start the next generation, with all that it takes over."""
        if self._is_stopping or self._generations.is_pending:
            return
        notify_reloading()
        try:
            self._generations.start(self._sockets, self._lock)
        except OSError as error:
            self._fail_restart(f"it cannot be started: {error.strerror}")

    def _look_at_generations(self) -> None:
        """See how the next generation fares, and whether the first one is still there."""
        generations = self._generations
        if generations.is_orphaned():
            self._stop("its keeper is gone")
        if self._is_stopping:
            return
        if generations.is_replaced():
            self._hand_over(generations.successor_pid)
        elif trouble := generations.find_trouble():
            self._fail_restart(trouble)

    def _fail_restart(self, why: str) -> None:
        self._emit(ev.RestartFailed(why))
        self._tell_standing(restarts=self._standing.restarts + 1, restart_error=why)
        notify("READY=1")

    def _hand_over(self, pid: int) -> None:
        """End in peace: the next generation accepts connections, and has the queue from now on."""
        self._is_replaced = True
        self._emit(ev.ServerReplaced(pid))
        main = () if self._generations.has_keeper else (f"MAINPID={pid}",)
        notify(*main, "READY=1")
        for child in self._children:
            if child.pid:
                tell(child, REPLACED)
        self._begin_end(f"process {pid} has taken over")

    def _tell_standing(self, **news: object) -> None:
        self._standing = msgspec.structs.replace(self._standing, **news)
        write_standing(self._state_dir, self._standing)

    # ---- reload

    def _reload(self) -> None:
        """Read the configuration again; a bad one changes nothing."""
        notify_reloading()
        try:
            config = load(self._path, os.environ)
            applicable = keep_fixed(self._config, config)
            refuse_errors(applicable)
            changes = changed(self._config, config)
        except Exception as error:  # noqa: BLE001 - whatever is in that file, the server goes on
            text = str(error) if isinstance(error, ConfigError) else describe_error(error)
            self._tell_reload(Changes((), ()), text)
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
            changes = Changes((), ())
        self._tell_reload(changes, reload.error())

    def _tell_reload(self, changes: Changes, error: str) -> None:
        self._emit(ev.ConfigChanged(list(changes.live), list(changes.restart), error))
        self._tell_standing(
            reloads=self._standing.reloads + 1,
            applied=changes.live,
            needs_restart=changes.restart,
            reload_error=error,
        )
        notify("READY=1")

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
    inheritance = take_inheritance(os.environ) or Inheritance(take_passed(os.environ))
    try:
        return Supervisor(config, path, run_worker, inheritance).run()
    except ConfigError as error:
        inheritance.refuse(str(error))
        raise
