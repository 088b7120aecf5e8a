"""Landlock: files and ports that this process and what comes of it may use, and no others.

The kernel's interface is three system calls and a few structures (landlock(7)); what a kernel
does not know yet is left out of what is asked of it.
"""

import ctypes
import os
import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the numbers are the same on all architectures
_VERSION_FLAG = 1
_PATH_BENEATH, _NET_PORT = 1, 2

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
MAKE_SOCK = 1 << 9
_FILE_RIGHTS = 13  # in the first version
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | _TRUNCATE | _IOCTL_DEV
_BIND_TCP, _CONNECT_TCP = 1 << 0, 1 << 1
_SCOPES = 3  # abstract unix sockets and signals: only within

READ = READ_FILE | READ_DIR | EXECUTE
"""Reading, and mapping libraries; running programs is for seccomp to refuse."""
_DIRECTORIES = READ_DIR | sum(1 << bit for bit in range(4, 13))
WRITE = READ_FILE | WRITE_FILE | _DIRECTORIES | _TRUNCATE

_libc = ctypes.CDLL(None, use_errno=True)


def _syscall(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(number, *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def version() -> int:
    """The version of Landlock that the kernel has; 0 for none."""
    with suppress(OSError):
        return _syscall(_CREATE, None, ctypes.c_size_t(0), _VERSION_FLAG)
    return 0


def restrict(paths: Iterable[tuple[Path, int]], ports: Sequence[int] | None) -> int:
    """Give up everything but these paths and ports, for this thread and what it starts.

    Args:
        paths: With what is allowed beneath them; those that do not exist are left out.
        ports: To which TCP connections may be made; None for all.

    Returns:
        The version of Landlock: before 4 it knows no ports, before 6 no signals.

    Raises:
        OSError: The kernel has no Landlock.
    """
    known = version()
    if not known:
        raise OSError("the kernel has no Landlock")
    handled = (1 << _FILE_RIGHTS) - 1
    for since, right in ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL_DEV)):
        if known >= since:
            handled |= right
    net = _BIND_TCP | (_CONNECT_TCP if ports is not None else 0)
    attributes = struct.pack(
        "=QQQ", handled, net if known >= 4 else 0, _SCOPES if known >= 6 else 0
    )
    size = 24 if known >= 6 else 16 if known >= 4 else 8
    ruleset = _syscall(_CREATE, attributes, ctypes.c_size_t(size), 0)
    try:
        for path, rights in paths:
            _allow(ruleset, path, rights & handled)
        for port in ports or () if known >= 4 else ():
            rule = struct.pack("=QQ", _CONNECT_TCP, port)
            _syscall(_ADD, ruleset, _NET_PORT, rule, 0)
        _syscall(_RESTRICT, ruleset, 0)
    finally:
        os.close(ruleset)
    return known


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        allowed = rights if path.is_dir() else rights & _OF_FILES
        rule = struct.pack("=Qi", allowed, place)
        _syscall(_ADD, ruleset, _PATH_BENEATH, rule, 0)
    finally:
        os.close(place)
