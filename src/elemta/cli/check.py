"""`elemta check`: what is wrong with a configuration, and with this machine for it.

Nothing is started, nothing is changed. Where the server runs already, its own ports and
sockets are not taken for those of another.
"""

import asyncio
import errno
import fcntl
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import click

from elemta.cli.certificates import find_tls_problems
from elemta.cli.check_accounts import find_account_problems
from elemta.cli.check_dkim import find_key_problems
from elemta.cli.check_replies import find_reply_problems
from elemta.cli.check_rules import find_rule_problems
from elemta.cli.options import config_option, problem_json
from elemta.cli.output import OK, PROBLEM, count, json_option, put_json
from elemta.config import Config, Loaded, Problem, read
from elemta.mail.reply import clean_text

FREE_INODES = 1000  # as the spool wants them
FILES_OF_A_WORKER = 100


@click.command()
@config_option
@json_option
def check(*, config_path: Path | None, as_json: bool) -> None:
    """Tell all that is wrong with a configuration, and start nothing.

    Errors keep the server from starting; warnings do not. Plugins are imported, and not set up.
    """
    loaded = read(config_path, os.environ)
    problems = list(loaded.problems)
    if loaded.config is not None:
        problems += find_all(loaded, loaded.config)
        # not before it is needed: that reads the whole server
        from elemta.app.plugins import check_plugins  # noqa: PLC0415

        problems += asyncio.run(check_plugins(loaded.config, loaded.source.where))
    errors = sum(problem.is_error for problem in problems)
    name = str(config_path) if config_path is not None else "defaults"
    if as_json:
        told = [problem_json(problem) for problem in problems]
        put_json({"ok": not errors, "file": name, "problems": told})
    else:
        for problem in problems:
            click.echo(clean_text(str(problem), 2000))
        warnings = len(problems) - errors
        verdict = f"{count(errors, 'error')}, {count(warnings, 'warning')}" if problems else "fine"
        click.echo(clean_text(f"{name}: {verdict}", 2000))
    raise SystemExit(PROBLEM if errors else OK)


def find_all(loaded: Loaded, config: Config) -> Iterator[Problem]:
    """Look at this machine for everything that would keep the server from working."""
    yield from _state_folder(loaded, config)
    yield from _routes(loaded, config)
    yield from _room(loaded, config)
    yield from _listeners(loaded, config)
    yield from find_tls_problems(loaded, config)
    yield from find_account_problems(loaded, config)
    yield from find_key_problems(loaded, config)
    yield from find_rule_problems(loaded, config)
    yield from find_reply_problems(loaded, config)
    yield from _open_files(loaded, config)


def _state_folder(loaded: Loaded, config: Config) -> Iterator[Problem]:
    path, folder = ("server", "state_dir"), config.server.state_dir
    trouble = unusable(folder)
    if trouble:
        yield loaded.problem(path, trouble)
        return
    queue = folder / "queue"
    if queue.is_dir() and queue.stat().st_mode & 0o077:
        text = f"others on this machine may look into the queue: chmod go= {queue}"
        yield loaded.problem(path, text, is_error=False)


def _routes(loaded: Loaded, config: Config) -> Iterator[Problem]:
    for index, route in enumerate(config.routes):
        path = ("routes", index, "path")
        if route.via == "maildir" and route.path is not None:
            fixed = route.path.partition("{")[0]
            folder = Path(
                fixed if fixed.endswith("/") or "{" not in route.path else Path(fixed).parent
            )
            trouble = unusable(folder)
            if trouble:
                yield loaded.problem(path, trouble)
        if route.via == "lmtp" and route.path is not None and not Path(route.path).is_socket():
            yield loaded.problem(path, "there is no such socket now", is_error=False)


def unusable(folder: Path) -> str:
    """Say why a folder cannot be made or written; "" where it can."""
    try:
        there = folder
        while not there.exists():
            there = there.parent
        if not there.is_dir():
            return f"{there} is not a folder"
    except OSError as error:
        return f"cannot be looked at: {error.strerror}"
    if os.access(there, os.W_OK | os.X_OK):
        return ""
    return "cannot be written" if there == folder else f"cannot be made in {there}"


def _room(loaded: Loaded, config: Config) -> Iterator[Problem]:
    folder = config.server.state_dir
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        disk = os.statvfs(folder)
    except OSError:
        return
    free, wanted = disk.f_bavail * disk.f_frsize, config.queue.min_free_space
    path = ("queue", "min_free_space")
    if free < wanted:
        text = f"new mail would be refused: only {free // 10**6}MB are free in {folder}"
        yield loaded.problem(path, text)
    elif free < 2 * wanted:
        yield loaded.problem(path, f"only {free // 10**6}MB are free in {folder}", is_error=False)
    if disk.f_files and disk.f_favail < FREE_INODES:
        text = f"new mail would be refused: only {disk.f_favail} inodes are free in {folder}"
        yield loaded.problem(path, text)


def _listeners(loaded: Loaded, config: Config) -> Iterator[Problem]:
    if is_running(config.server.state_dir):
        return
    for index, listener in enumerate(config.listeners):
        path = ("listeners", index, "address")
        if listener.unix_path is not None:
            trouble = _socket_trouble(Path(listener.unix_path))
        else:
            trouble = _port_trouble(listener.host, listener.port)
        if trouble:
            yield loaded.problem(path, trouble)
    if config.submission.socket:
        trouble = _socket_trouble(Path(config.submission.socket))
        if trouble:
            yield loaded.problem(("submission", "socket"), trouble)
    if config.metrics.listen is not None:
        trouble = _port_trouble(config.metrics.listen.host, config.metrics.listen.port)
        if trouble:
            yield loaded.problem(("metrics", "listen"), trouble)


def is_running(state_dir: Path) -> bool:
    """Whether a server holds the lock of its state folder."""
    try:
        lock = os.open(state_dir / "run" / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False


def _port_trouble(host: str, port: int) -> str:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((host, port))
    except OSError as error:
        return _SOCKET_ERRORS.get(error.errno or 0) or f"cannot be used: {error.strerror}"
    return ""


_SOCKET_ERRORS = {
    errno.EADDRINUSE: "another program listens there",
    errno.EADDRNOTAVAIL: "not an address of this machine",
    errno.EACCES: "this user may not listen there (ports below 1024 need CAP_NET_BIND_SERVICE)",
}


def _socket_trouble(path: Path) -> str:
    if path.is_socket():
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except OSError:
                return ""  # left behind; it will be replaced
        return "another program listens there"
    if path.exists():
        return "there is a file of this name"
    return "" if path.parent.is_dir() and not unusable(path.parent) else "its folder cannot be used"


def _open_files(loaded: Loaded, config: Config) -> Iterator[Problem]:
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    sessions = config.smtp.max_connections // config.worker_count
    outgoing = config.delivery.max_connections // config.worker_count
    wanted = sessions + outgoing + FILES_OF_A_WORKER
    if hard not in {resource.RLIM_INFINITY, -1} and hard < wanted:
        text = f"a worker may need {wanted} open files and is allowed {hard} (ulimit -Hn)"
        yield loaded.problem(("smtp", "max_connections"), text, is_error=False)
