"""What only the kernel knows of a connection, asked by its socket."""

import contextlib
import fcntl
import os
import socket
import struct
import termios

_CREDENTIALS = struct.Struct("iII")  # pid, uid, gid: SO_PEERCRED of unix(7)
_NOTHING = bytes(struct.calcsize("i"))  # what FIONREAD says where nothing waits


def has_unread(raw: socket.socket) -> bool:
    """Whether octets have come that nobody has read."""
    return fcntl.ioctl(raw.fileno(), termios.FIONREAD, _NOTHING) != _NOTHING


def read_last(raw: socket.socket, size: int) -> bytes:
    """Give what came before a connection broke, up to so many octets."""
    with contextlib.suppress(OSError, ValueError):
        return os.read(raw.fileno(), size)
    return b""


def find_peer_user(raw: socket.socket) -> int | None:
    """Say which user of this machine is at the other end; None unless by a unix socket."""
    if raw.family != socket.AF_UNIX:
        return None
    credentials = raw.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(credentials)[1])
