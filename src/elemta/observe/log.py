"""The log: one line for each event, written where a slow reader cannot hold up mail.

An emitted event becomes a line at once and waits in memory; one thread writes what has gathered.
When nobody reads, `BACKLOG` octets are kept and what comes after is counted, not kept: mail goes
on, and a `log_lines_dropped` event tells the gap as soon as lines get through again.

A line is one JSON object: `event_type` first, then `time`, then the fields of the event. All
control characters are escaped, also those beyond ASCII that a terminal may obey. A line is never
mixed with that of another process writing to the same pipe.

Leaves behind lines in the given file descriptor, which stays open.
"""

import fcntl
import os
import re
import select
import stat
import sys
import threading
import time
from collections.abc import Callable, Mapping

import msgspec

from elemta.mail.clock import Clock
from elemta.mail.events import Event, PluginLogged
from elemta.net.clock import SystemClock

LEVELS: Mapping[str, int] = {"debug": 0, "info": 1, "warning": 2, "error": 3}
PAUSE = 0.05  # seconds in which lines gather before they are written together
BATCH = 256 * 1024  # octets that are written without further gathering
BACKLOG = 8 * 1024 * 1024  # octets that wait for a stalled reader before lines are dropped
LONG = 2048  # octets of a line from which its values are looked at
MAX_VALUE = 512  # characters of one value in a long line
MAX_ITEMS = 32  # items of a list in a long line
NEVER = sys.maxsize

_DEL = b"\x7f"
# DEL and C1 controls, line and paragraph separators, direction marks, invisible spaces
_UNSAFE = re.compile("[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
_encode = msgspec.json.Encoder().encode


class LogLinesDropped(Event, tag="log_lines_dropped", frozen=True, omit_defaults=True):
    """The reader of the log was too slow or gone, so that lines were dropped; they are counted."""

    LEVEL = "warning"
    count: int


class Log:
    """An `Emit` that writes lines to a file descriptor. Any thread may call it; it never raises.

    Attributes:
        dropped: Lines lost so far because nobody took them.
    """

    def __init__(
        self,
        fd: int,
        level: str = "info",
        form: str = "json",
        clock: Clock | None = None,
        *,
        threaded: bool = True,
    ):
        """Begin to write lines of `level` and above, as "json" or for people ("console").

        Without a thread each line is written at once where the reader is ready, and waits for
        the next call of the log or `flush` where it is not: for a process that forks, and says
        little.
        """
        self.dropped = 0
        self._fd = fd
        self._form = _console_line if form == "console" else _json_line
        self._now = (clock or SystemClock()).now
        self._kinds = _Kinds(level)
        self._buffer = bytearray()  # never replaced: `+=` and `del` on it are atomic
        self._signal_at = 0  # more octets than this in the buffer: the writer wants to know
        self._stamp = _Stamp()
        self._reported = 0
        self._is_closing = False
        self._needs_lock = _is_shared_stream(fd)
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        if threaded:
            self._thread = threading.Thread(target=self._run, name="log", daemon=True)
            self._thread.start()

    def __call__(self, event: Event) -> None:
        head = self._kinds[type(event)]
        if head is None:
            return
        buffer = self._buffer
        if len(buffer) >= BACKLOG:
            self.dropped += 1
            return
        if type(event) is PluginLogged and LEVELS[event.level] < self._kinds.level:
            return
        buffer += self._form(event, head, self._stamp(self._now()))
        if len(buffer) > self._signal_at:
            self._signal()

    @property
    def is_debug(self) -> bool:
        """Whether events of level debug are written: those who make many can save the work."""
        return self._kinds.level == 0

    def set_level(self, level: str) -> None:
        """Write lines of `level` and above from now on."""
        self._kinds = _Kinds(level)

    def flush(self) -> None:
        """Write what waits, soon; never waits for a reader."""
        self._signal()

    def close(self, timeout: float = 2.0) -> None:
        """Write what waits and end; gives up after `timeout` seconds on a stalled reader."""
        self._is_closing = True
        self._signal()
        if self._thread is not None:
            self._thread.join(timeout)
            return
        give_up_at = time.monotonic() + timeout
        while self._buffer and (left := give_up_at - time.monotonic()) > 0:
            _wait_writable(self._fd, left)
            self._write_ready()

    # ---- the writing side

    def _signal(self) -> None:
        if self._thread is None:
            self._write_ready()
            return
        self._signal_at = NEVER
        self._wake.set()

    def _run(self) -> None:
        """Write batches until closed. Each flag is set before what it speaks of is looked at."""
        buffer, wake = self._buffer, self._wake
        while True:
            wake.clear()
            self._signal_at = 0
            if not buffer and not self._is_closing:
                wake.wait()
            wake.clear()
            self._signal_at = BATCH
            if len(buffer) <= BATCH and not self._is_closing:
                wake.wait(PAUSE)
            self._signal_at = NEVER
            batch = bytes(buffer)
            del buffer[: len(batch)]
            if self._write(batch):
                self._report_dropped()
            if self._is_closing and not buffer:
                return

    def _write(self, batch: bytes) -> bool:
        """Write all of a batch, however long it takes; False when it cannot be written."""
        rest = memoryview(batch)
        locked = self._lock(fcntl.LOCK_EX)
        try:
            while rest:
                try:
                    rest = rest[os.write(self._fd, rest) :]
                except BlockingIOError:
                    _wait_writable(self._fd, None)
        except OSError:
            self.dropped += batch.count(b"\n", len(batch) - len(rest))
            return False
        finally:
            if locked:
                self._lock(fcntl.LOCK_UN)
        return True

    def _write_ready(self) -> None:
        """Write whole lines as long as the reader is ready for them."""
        buffer = self._buffer
        while buffer and _wait_writable(self._fd, 0.0):
            if self._needs_lock and not self._lock(fcntl.LOCK_EX | fcntl.LOCK_NB):
                return
            size = buffer.rfind(b"\n", 0, select.PIPE_BUF) + 1 or buffer.find(b"\n") + 1
            batch = bytes(buffer[:size])
            try:
                del buffer[: os.write(self._fd, batch)]
            except BlockingIOError:
                return
            except OSError:
                self.dropped += batch.count(b"\n")
                del buffer[:size]
                return
            finally:
                if self._needs_lock:
                    self._lock(fcntl.LOCK_UN)
            self._report_dropped()

    def _report_dropped(self) -> None:
        """Tell of lost lines, even where the backlog is full again."""
        count = self.dropped - self._reported
        head = self._kinds[LogLinesDropped]
        if count and head is not None:
            self._reported += count
            report = LogLinesDropped(count)
            self._buffer += self._form(report, head, self._stamp(self._now()))

    def _lock(self, operation: int) -> bool:
        """Lock a stream that several processes write to; it ends with the process."""
        if not self._needs_lock:
            return False
        try:
            fcntl.lockf(self._fd, operation)
        except BlockingIOError:
            return False
        except OSError:
            self._needs_lock = False  # this kernel has no locks on streams
            return operation & fcntl.LOCK_NB != 0
        return True


class _Kinds(dict[type[Event], bytes | None]):
    """What the line of each type of event begins with; None where its level is not wanted."""

    def __init__(self, level: str):
        self.level = LEVELS[level]

    def __missing__(self, kind: type[Event]) -> bytes | None:
        head = None
        if LEVELS[kind.LEVEL] >= self.level or kind is PluginLogged:  # each has its own level
            head = b'{"event_type":%b' % _encode(kind.__struct_config__.tag)
        self[kind] = head
        return head


def _json_line(event: Event, head: bytes, stamp: bytes) -> bytes:
    try:
        body = _encode(event)
    except UnicodeEncodeError:  # a file name that is no UTF-8
        body = _encode(_cap(msgspec.to_builtins(event)))
    if len(body) > LONG:
        body = _encode(_cap(msgspec.to_builtins(event)))
    if not body.isascii() or _DEL in body:  # the only ASCII that JSON does not escape
        body = _UNSAFE.sub(_escape, body.decode()).encode()
    return b"".join((head, b',"time":"', stamp, b'"', body[len(head) :], b"\n"))


def _console_line(event: Event, _head: bytes, stamp: bytes) -> bytes:
    fields = _cap(msgspec.to_builtins(event))
    kind = fields.pop("event_type")
    parts = [f"{name}={_show(value)}" for name, value in fields.items()]
    moment = stamp.decode().replace("T", " ").rstrip("Z")
    level = event.level if isinstance(event, PluginLogged) else event.LEVEL
    return f"{moment} {level:7} {kind} {' '.join(parts)}\n".encode()


def _show(value: object) -> str:
    """Write a value for people: quoted, with escapes, unless it is a plain word."""
    if isinstance(value, str):
        is_word = value.isprintable() and value and " " not in value and "'" not in value
        return value if is_word else repr(value)
    return repr(value)


def _cap(fields: dict[str, object]) -> dict[str, object]:
    return {name: _cap_value(value) for name, value in fields.items()}


def _cap_value(value: object) -> object:
    if isinstance(value, str):
        if len(value) > MAX_VALUE:
            value = value[: MAX_VALUE - 1] + "…"
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, list):
        capped = [_cap_value(item) for item in value[:MAX_ITEMS]]
        if len(value) > MAX_ITEMS:
            capped.append(f"… and {len(value) - MAX_ITEMS} more")
        return capped
    return value


def _escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


class _Stamp:
    """Writes instants as UTC with milliseconds; the last one is kept, most ask for it again."""

    __slots__ = ("_millisecond", "_second", "_second_text", "_text")

    def __init__(self) -> None:
        self._millisecond = self._second = -1
        self._text = self._second_text = b""

    def __call__(self, now: float) -> bytes:
        millisecond = int(now * 1000)
        if millisecond != self._millisecond:
            second, rest = divmod(millisecond, 1000)
            if second != self._second:
                at = time.gmtime(second)
                self._second_text = b"%04d-%02d-%02dT%02d:%02d:%02d" % at[:6]
                self._second = second
            self._text = b"%b.%03dZ" % (self._second_text, rest)
            self._millisecond = millisecond
        return self._text


def _is_shared_stream(fd: int) -> bool:
    """Say if writes of several processes can mix: in a pipe or socket; a file takes them whole."""
    mode = os.fstat(fd).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _wait_writable(fd: int, timeout: float | None) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(None if timeout is None else timeout * 1000))


def fan_out(
    *emits: Callable[[Event], None],
    heed: Mapping[type[Event], Callable[[Event], None]] | None = None,
) -> Callable[[Event], None]:
    """Make one `Emit` of several, called in this order, and of those who heed one kind alone."""
    heeding = heed or {}

    def each(event: Event) -> None:
        for emit in emits:
            emit(event)
        if type(event) in heeding:
            heeding[type(event)](event)

    return each
