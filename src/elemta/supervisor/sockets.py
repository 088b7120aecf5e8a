"""Listening sockets: bound anew, or taken over from whoever had them before.

A socket that is closed loses the connections that wait in its queue, and with SO_REUSEPORT a new
one at the same address does not get them. So sockets are passed on from one generation of the
server to the next and stay open all the time. Those that the service manager has bound
(LISTEN_FDS, sd_listen_fds(3)) are taken in the same way.
"""

import contextlib
import os
import resource
import socket
from collections.abc import MutableMapping, Sequence

from elemta.config import Config, Endpoint
from elemta.mail.errors import ConfigError
from elemta.net.binding import bind_more, bind_tcp, bind_unix
from elemta.server import Bound

FIRST_PASSED = 3  # sd_listen_fds(3)


def take_passed(environ: MutableMapping[str, str]) -> list[socket.socket]:
    """Take the sockets that the service manager has bound, if it has.

    Raises:
        ConfigError: They are none.
    """
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    try:
        return open_sockets(range(FIRST_PASSED, FIRST_PASSED + int(count)))
    except OSError as error:
        promised = f"{count} sockets are promised: {error.strerror}"
        raise ConfigError("LISTEN_FDS", promised) from error


def open_sockets(numbers: Sequence[int]) -> list[socket.socket]:
    """Make objects of sockets that this process has been started with."""
    opened = []
    for number in numbers:
        bound = socket.socket(fileno=number)
        bound.set_inheritable(False)
        bound.settimeout(0)
        opened.append(bound)
    return opened


def bind_listeners(
    config: Config, workers: int, heirlooms: Sequence[socket.socket] = ()
) -> list[list[Bound]]:
    """Give each worker its sockets for each listener; a unix socket is shared by all.

    Args:
        config: Says which listeners.
        workers: How many workers there are.
        heirlooms: Sockets that are there already; those that no listener wants are closed.

    Raises:
        ConfigError: An address is in use, not ours or not allowed.
    """
    bound: list[list[Bound]] = [[] for _ in range(workers)]
    for number, listener in enumerate(config.doors):
        address = Endpoint(listener.host, listener.port, listener.unix_path or "")
        is_ours = number < len(config.listeners)
        setting = f"listeners[{number}]" if is_ours else "submission.socket"
        shares = bind(setting, address, workers, heirlooms)
        for worker, sockets in zip(bound, shares, strict=True):
            worker += [Bound(ready, listener.kind, listener.address) for ready in sockets]
    return bound


def bind(
    setting: str, address: Endpoint, count: int, heirlooms: Sequence[socket.socket] = ()
) -> list[list[socket.socket]]:
    """Give each of `count` processes its sockets for one address.

    There may be more sockets than processes: none of them may be without somebody who accepts.

    Raises:
        ConfigError: The address is in use, not ours or not allowed; it names the setting.
    """
    ready = [heirloom for heirloom in heirlooms if _address_of(heirloom) == address]
    try:
        if address.is_unix:
            return [ready[:1] or [bind_unix(address.path)]] * count
        if not ready:
            ready = bind_tcp(address.host, address.port, count)
        elif len(ready) < count:
            ready += bind_more(address.host, address.port, count - len(ready))
    except OSError as error:
        raise ConfigError(setting, f"cannot listen on {address}: {error.strerror}") from error
    return [ready[index::count] for index in range(count)]


def close_unused(heirlooms: Sequence[socket.socket], used: Sequence[socket.socket]) -> None:
    """Close what no listener wants any more."""
    for heirloom in heirlooms:
        if heirloom not in used:
            heirloom.close()


def _address_of(bound: socket.socket) -> Endpoint:
    name = bound.getsockname()
    if bound.family == socket.AF_UNIX:
        return Endpoint(path=name if isinstance(name, str) else "")
    return Endpoint(name[0], name[1])


def raise_file_limit() -> None:
    """Allow as many open files as this process may have."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
