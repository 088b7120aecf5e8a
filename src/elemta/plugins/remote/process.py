"""The ways to a plugin outside: a process of our own, or an address that the operator gives.

A process has a socket in a folder that only we can enter. It is told what to load, and what it may
do, on its standard input; what it prints goes to the plugin's log.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import grpc
import msgspec

from elemta.mail.errors import PluginError
from elemta.mail.reply import clean_text
from elemta.net.tasks import spawn
from elemta.plugins.remote.job import Job
from elemta.plugins.settings import Limits

_SPARE = 8 * 1024 * 1024  # octets beyond what is allowed: those are refused one by one
START_TIMEOUT = 20.0  # seconds until a process has loaded its plugin, on a busy machine
CONNECT_TIMEOUT = 5.0  # seconds until an address answers
MAX_PRINTED = 50  # lines a second that are passed on of what a process prints
MAX_PRINTED_OCTETS = 1024 * 1024  # a second that are read of it: then it waits
_LOOK_EVERY = 1.0  # seconds
_TICKS = os.sysconf("SC_CLK_TCK")  # of computing, a second
_MAX_SOCKET = 100  # octets of a path; the kernel takes 107
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "VIRTUAL_ENV", "ELEMTA_PLUGIN_DEBUG")

OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),  # a process that starts is not yet there at first
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
)
_KEEPALIVE = (("grpc.keepalive_time_ms", 30_000), ("grpc.keepalive_timeout_ms", 10_000))


def most_received(limits: Limits, body_size: int) -> tuple[tuple[str, int], ...]:
    """How large a message from a plugin may be before gRPC gives the whole session up."""
    most = min(limits.reply_size + body_size + _SPARE, 2**31 - 1)
    return (*OPTIONS, ("grpc.max_receive_message_length", most))


class Place(Protocol):
    """Where a plugin is.

    Attributes:
        channel: To it, while there is one.
        calls: How many have gone there so far.
    """

    channel: grpc.aio.Channel | None
    calls: int

    def hear(self, printed: Callable[[str], None]) -> None:
        """Have somebody told each line that a process there has printed, and prints."""
        ...

    async def connect(self) -> grpc.aio.Channel:
        """Go there; what was there before is left.

        Raises:
            PluginError: There is nobody.
        """
        ...

    async def leave(self) -> str:
        """Leave; what is ours there ends. Says how it had ended before, "" if it had not."""
        ...

    def abandon(self) -> None:
        """Leave at once, without waiting for anything."""
        ...


class Address:
    """A gRPC server that somebody else runs.

    Args:
        address: "unix:/path", "host:port", or "tls:host:port".
        options: Of the channel.
    """

    def __init__(self, address: str, options: tuple[tuple[str, int], ...]) -> None:
        self._address = address
        self._options = (*options, *_KEEPALIVE)
        self.calls = 0
        self.channel: grpc.aio.Channel | None = None

    async def connect(self) -> grpc.aio.Channel:
        await self.leave()
        kind, _, rest = self._address.partition(":")
        options = self._options
        if kind == "tls":
            trust = grpc.ssl_channel_credentials()
            self.channel = grpc.aio.secure_channel(rest, trust, options=options)
        else:
            self.channel = grpc.aio.insecure_channel(self._address, options=options)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await self.channel.channel_ready()
        except TimeoutError:
            await self.leave()
            raise PluginError(f"nobody answers at {self._address}") from None
        return self.channel

    def hear(self, printed: Callable[[str], None]) -> None:
        """What somebody else's process prints is not known here."""

    async def leave(self) -> str:
        channel, self.channel = self.channel, None
        if channel is not None:
            await channel.close()
        return ""

    def abandon(self) -> None:
        _ = spawn(self.leave(), "leaving a plugin")


class Process:
    """A plugin host of our own.

    Args:
        job: What it is to load.
        folder: Where its socket goes.
    """

    def __init__(self, job: Job, folder: Path) -> None:
        self.job = job
        self._unheard: deque[str] = deque(maxlen=MAX_PRINTED)
        self._printed: Callable[[str], None] = self._unheard.append
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self.channel: grpc.aio.Channel | None = None
        self._own: Path | None = None
        self._leaving = asyncio.Lock()
        self._watcher: asyncio.Task[None] | None = None
        self.calls = 0
        self._reader: asyncio.Task[None] | None = None
        self._last = ""

    @property
    def pid(self) -> int:
        """Of the process; 0 where there is none."""
        return self._process.pid if self._process is not None else 0

    async def connect(self) -> grpc.aio.Channel:
        await self.leave()
        self._last = ""
        own = self._own = _make_folder(self._folder)
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "elemta.plugins.remote.host"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=_environment(os.environ),
            start_new_session=True,
        )
        self._reader = spawn(self._listen(self._process), "what a plugin prints")
        address = f"unix:{own / 's'}"
        try:
            await self._instruct(self._process, own / "s")
            options = most_received(self.job.limits, self.job.body_size)
            self.channel = grpc.aio.insecure_channel(address, options=options)
            await self._await_ready(self.channel, self._process)
            self._watcher = spawn(self._watch(self._process), "computing of a plugin")
        except BaseException:
            await self.leave()
            raise
        return self.channel

    def hear(self, printed: Callable[[str], None]) -> None:
        self._printed = printed
        while self._unheard:
            printed(self._unheard.popleft())

    async def _instruct(self, process: asyncio.subprocess.Process, socket: Path) -> None:
        if process.stdin is None:
            raise PluginError("the process of the plugin has no input")
        job = msgspec.structs.replace(self.job, socket=str(socket), parent=os.getpid())
        process.stdin.write(msgspec.json.encode(job))
        with contextlib.suppress(ConnectionError):  # it has ended: that is seen later
            await process.stdin.drain()
        process.stdin.close()

    async def _await_ready(
        self, channel: grpc.aio.Channel, process: asyncio.subprocess.Process
    ) -> None:
        ended = spawn(_wait(process), "start of a plugin")
        ready = spawn(channel.channel_ready(), "start of a plugin")
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await asyncio.wait({ended, ready}, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            raise PluginError(f"its process is not ready within {START_TIMEOUT:g} s") from None
        finally:
            ended.cancel()
            ready.cancel()
        if not ready.done() or ready.cancelled():
            if self._reader is not None:  # what it has started could hold its output open
                await asyncio.wait({self._reader}, timeout=1.0)
            raise PluginError(_ending(process.returncode, self._last))

    async def leave(self) -> str:
        # whoever is cancelled meanwhile must not leave a process behind that nobody waits for
        return await asyncio.shield(spawn(self._leave(), "leaving a plugin"))

    async def _leave(self) -> str:
        async with self._leaving:  # whoever leaves a second time waits until it is done
            return await self._end()

    async def _end(self) -> str:
        channel, self.channel = self.channel, None
        if channel is not None:
            await channel.close()
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.cancel()
        process, self._process = self._process, None
        status = None
        if process is not None:
            # one that has crashed may not have been noticed yet; one that lives has a moment
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await process.wait()
            status = process.returncode
            _kill(process)
            await process.wait()
        reader, self._reader = self._reader, None
        if reader is not None:
            # with the process its output ends; what it has started could hold it open
            await asyncio.wait({reader}, timeout=1.0)
            reader.cancel()
        ending = _ending(status, self._last)  # by now its last words have been read
        if process is not None and process.stdin is not None:
            process.stdin.close()
            with contextlib.suppress(OSError):  # it has ended before it had read all
                await process.stdin.wait_closed()
            # asyncio has no other way to close the pipes now, and not when they are collected
            process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001
            await asyncio.sleep(0)
        self._remove()
        return ending

    def abandon(self) -> None:
        if self._process is not None:
            _kill(self._process)
        self._remove()  # the loop may end before the rest is done
        _ = spawn(self._leave(), "leaving a plugin")

    def _remove(self) -> None:
        own, self._own = self._own, None
        if own is not None:
            shutil.rmtree(own, ignore_errors=True)

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        """End it where it has made the kernel's limit of computing for one call go away."""
        calls, since = self.calls, _computed(process.pid)
        while process.returncode is None:
            await asyncio.sleep(_LOOK_EVERY)
            computed = _computed(process.pid)
            if self.calls != calls:
                calls, since = self.calls, computed
            elif computed - since > self.job.limits.cpu + _LOOK_EVERY:
                self._last = f"it has computed for more than {self.job.limits.cpu} s"
                _kill(process)
                return

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        """Pass on what it prints: line by line, not too long, not too many."""
        if process.stdout is None:
            return
        loop = asyncio.get_running_loop()
        rest = b""
        second = count = octets = 0
        while data := await process.stdout.read(65536):
            now = loop.time()
            if int(now) != second:
                second, count, octets = int(now), 0, 0
            octets += len(data)
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > 4096:
                lines, rest = [*lines, rest], b""
            said = [line for line in lines if line]
            passed = said[: MAX_PRINTED - count]
            count += len(passed)
            for line in passed:
                self._printed(_readable(line))
            if said:
                self._last = _readable(said[-1])
            if octets > MAX_PRINTED_OCTETS:
                await asyncio.sleep(int(now) + 1 - now)


def _make_folder(parent: Path) -> Path:
    """Make a folder for one socket that only we can enter, with a path a socket can have.

    Those of workers that have been killed go.
    """
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for other in parent.iterdir():
        number = other.name.partition("-")[0]
        if number.isdecimal() and not Path("/proc", number).exists():
            shutil.rmtree(other, ignore_errors=True)
    own = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=parent))
    if len(os.fsencode(own)) + 2 <= _MAX_SOCKET:
        return own
    own.rmdir()
    return Path(tempfile.mkdtemp(prefix="elemta-plugin-"))


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    """What the process sees of our environment: nothing that could be a secret."""
    kept = {name: ours[name] for name in _ENVIRONMENT if name in ours}
    # with more arenas every thread would take 64 MB of the address space that is limited
    return {
        **kept,
        "MALLOC_ARENA_MAX": "2",
        "PYTHONUNBUFFERED": "1",
    }


def _computed(pid: int) -> float:
    """Seconds that a process has computed; 0 where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS
    except (OSError, IndexError, ValueError):
        return 0.0


def _readable(line: bytes) -> str:
    return clean_text(line[:4096].decode("utf-8", "replace"))


async def _wait(process: asyncio.subprocess.Process) -> None:
    await process.wait()


def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        if process.returncode is None:  # it leads a session: what it has started goes with it
            os.killpg(process.pid, signal.SIGKILL)


def _ending(status: int | None, last: str) -> str:
    """Say how a process has ended."""
    if status is None:
        return ""
    if status < 0:
        names = {number.value: number.name for number in signal.Signals}
        how = f"its process was ended by {names.get(-status, f'signal {-status}')}"
    else:
        how = f"its process has exited with {status}"
    return f"{how}: {last}" if last else how
