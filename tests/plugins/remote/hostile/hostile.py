"""A plugin that does what the sender's local part says."""

import asyncio
import ctypes
import fcntl
import os
import platform
import resource
import socket
import subprocess
import sys
import threading
from pathlib import Path

from elemta.plugins import AddHeader, Metadata, Plugin, Result


def fork_bomb():
    for _ in range(1000):
        os.fork()


def connect():
    with socket.create_connection(("127.0.0.1", 25), timeout=2):
        pass


def datagram():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.sendto(b"x", ("127.0.0.1", 53))


def read(path):
    return Path(path).read_bytes()


def write(path):
    Path(path).write_bytes(b"x")


def spin():
    while True:
        pass


def flood():
    while True:
        sys.stdout.write("x" * 1000 + "\n")


def raise_limits():
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def loosen_parent():
    resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (1, 1))


def system(number, *arguments):
    """Make a system call that is numbered so on this machine, or another that is refused, too."""
    if platform.machine() != "x86_64":
        os.kill(os.getppid(), 0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, *arguments) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def outlive():
    system(157, 1, 0, 0, 0, 0)  # prctl(PR_SET_PDEATHSIG)


def signal_by_file():
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getppid())


def threads():
    for _ in range(10_000):
        threading.Thread(target=threading.Event().wait, daemon=True).start()


def descriptors():
    return [os.dup(2) for _ in range(10_000)]


DEEDS = {
    "raise": lambda: 1 / 0,
    "spin": spin,
    "exit": lambda: os._exit(0),
    "leave": sys.exit,
    "segfault": lambda: ctypes.string_at(0),
    "memory": lambda: bytearray(2 << 30),
    "fork": fork_bomb,
    "exec": lambda: subprocess.run(["/bin/true"], check=True),
    "replace": lambda: os.execv("/bin/true", ["true"]),
    "shadow": lambda: read("/etc/shadow"),
    "passwd": lambda: read("/etc/passwd"),
    "environment": lambda: read(f"/proc/{os.getppid()}/environ"),
    "write": lambda: write("/tmp/written-by-a-plugin"),
    "connect": connect,
    "datagram": datagram,
    "kill": lambda: os.kill(os.getppid(), 9),
    "limits": raise_limits,
    "loosen": loosen_parent,
    "threads": threads,
    "descriptors": descriptors,
    "flood": flood,
    "shared": lambda: system(29, 0, 1 << 30, 0o600),
    "memory_file": lambda: os.memfd_create("hidden"),
    "slow": lambda: os.sched_setaffinity(os.getppid(), {0}),
    "outlive": outlive,
    "owner": signal_by_file,
}


class Hostile(Plugin):
    metadata = Metadata(name="hostile", version="6.6.6")

    async def on_mail_from(self, ctx):
        deed = ctx.sender.local
        if deed == "hang":
            await asyncio.Event().wait()
        if deed == "stubborn":
            await self.stay(ctx)
        if deed == "garbage":
            return "yes"
        if deed == "crlf":
            return Result.modify(AddHeader("X", "a\r\nBcc: b@example.test"))
        if deed == "megabytes":
            ctx.metadata["x"] = "y" * 5_000_000
        if deed in DEEDS:
            DEEDS[deed]()
            return Result.accept()
        return None

    async def stay(self, ctx):
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ctx.log.info("I stay")
