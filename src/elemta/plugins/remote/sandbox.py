"""What the process of a plugin gives up before the plugin's code is read.

Files, by Landlock: it reads Python, the plugin's own code and what its metadata names. Network,
by seccomp and Landlock: none, or the ports its metadata names; hosts the kernel cannot tell apart.
Processes, other processes' signals and the machine, by seccomp. Memory, computing, open files and
what it may write, by limits. Where the kernel lacks one of these, it says so and goes on.
"""

import ctypes
import os
import resource
import socket
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

from elemta.plugins.remote import landlock, seccomp
from elemta.plugins.remote.job import Job
from elemta.plugins.remote.service import limit_cpu
from elemta.plugins.settings import Limits

_PR_SET_NO_NEW_PRIVS = 38
_SYSTEM = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo", "/usr/local/lib"),
    *("/etc/ld.so.cache", "/etc/localtime", "/etc/ssl/certs", "/usr/share/ca-certificates"),
    *("/dev/urandom", "/dev/random", "/dev/zero"),
)
_RESOLVING = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/services")


def confine(job: Job) -> None:
    """Give up files and means; to be called before there is a second thread."""
    _limit(job.limits)
    os.umask(0o077)
    # without it neither Landlock nor seccomp is for everybody
    ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    try:
        landlock.restrict(_paths(job), _ports(job.network))
    except OSError as error:
        _warn(f"its files are not confined: {error}")
        return
    if landlock.version() < 4 and _ports(job.network):
        _warn("its network is not confined: the kernel's Landlock knows no ports")


def confine_calls(job: Job) -> None:
    """Give up system calls; to be called when everything that is needed has been opened."""
    families: list[int] = []
    if any(each.startswith("unix:") for each in job.network):
        families.append(socket.AF_UNIX)
    if any(not each.startswith("unix:") for each in job.network):
        families += [socket.AF_INET, socket.AF_INET6]
        families += [socket.AF_UNIX, socket.AF_NETLINK]  # names are looked up with these
    if not seccomp.is_known():
        _warn("its system calls are not confined: this machine's are not known")
        return
    try:
        seccomp.forbid(families, memory_files=bool(job.library))
    except OSError as error:
        _warn(f"its system calls are not confined: {error}")


def _warn(text: str) -> None:
    sys.stderr.write(f"warning: {text}\n")


def _limit(limits: Limits) -> None:
    for what, value in (
        (resource.RLIMIT_AS, limits.memory),
        (resource.RLIMIT_NOFILE, limits.files),
        (resource.RLIMIT_FSIZE, limits.file_size),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (most, most))
    limit_cpu(limits.cpu)


def _paths(job: Job) -> Iterator[tuple[Path, int]]:
    """All that it may use, and how."""
    prefixes = {sys.prefix, sys.base_prefix, *sysconfig.get_paths().values()}
    for path in (*prefixes, *(each for each in sys.path if each), *_SYSTEM):
        yield Path(path), landlock.READ
    yield Path("/dev/null"), landlock.READ | landlock.WRITE_FILE
    yield Path(job.socket).parent, landlock.MAKE_SOCK
    for code in filter(None, (job.path, job.library)):
        yield Path(code), landlock.READ  # of a file just the file: others' settings lie beside it
    if job.network:
        for path in _RESOLVING:
            yield Path(path), landlock.READ
    for place in job.files:
        path, _, way = place.rpartition(":") if place.endswith(":rw") else (place, "", "")
        yield Path(path), landlock.WRITE if way == "rw" else landlock.READ
    for each in job.network:
        if each.startswith("unix:"):
            yield Path(each.removeprefix("unix:")), landlock.READ | landlock.WRITE_FILE


def _ports(network: Sequence[str]) -> list[int] | None:
    """The TCP ports it may connect to; None for all of them."""
    if "*" in network:
        return None
    ports: list[int] = []
    for each in network:
        port = each.rpartition(":")[2]
        if not each.startswith("unix:") and port.isdecimal() and int(port) < 65536:
            ports.append(int(port))
    return [*ports, 53] if ports else []  # long answers of name servers come by TCP
