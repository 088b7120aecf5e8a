"""Binds listening sockets: TCP ports that several processes share, and unix sockets."""

import socket
from pathlib import Path

BACKLOG = 1024


def bind_tcp(host: str, port: int, count: int) -> list[socket.socket]:
    """Bind `count` sockets to one address, among which the kernel divides the connections.

    Raises:
        OSError: The address is in use, not ours, or not allowed.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # with SO_REUSEPORT another server's port would be shared, silently: ask without it first
        _prepare(probe)
        probe.bind((host, port))
    sockets = bind_more(host, port, count)
    for bound in sockets:
        bound.listen(BACKLOG)
    return sockets


def bind_more(host: str, port: int, count: int) -> list[socket.socket]:
    """Bind further sockets to an address that we have; they get no connections before `listen`.

    Raises:
        OSError: The address is another user's, or one that does not share it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sockets = []
    for _ in range(count):
        bound = socket.socket(family, socket.SOCK_STREAM)
        _prepare(bound)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((host, port))
        bound.settimeout(0)
        sockets.append(bound)
    return sockets


def _prepare(bound: socket.socket) -> None:
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if bound.family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)


def bind_unix(path: str) -> socket.socket:
    """Bind a unix socket for its owner and group; what a dead server left behind is replaced.

    Raises:
        OSError: A server that lives has it, or the folder is not ours.
    """
    place = Path(path)
    if place.is_socket():
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                place.unlink()
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    bound.bind(path)
    place.chmod(0o660)
    bound.listen(BACKLOG)
    bound.settimeout(0)
    return bound
