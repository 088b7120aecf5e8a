import json
import os
import select
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elemta.mail import events as ev
from elemta.observe import Log, fan_out
from elemta.observe.log import BACKLOG, MAX_ITEMS, MAX_VALUE, LogLinesDropped


class StoppedClock:
    """2026-11-21T02:26:19.123Z, for ever."""

    def now(self) -> float:
        return 1795227979.1235

    def monotonic(self) -> float:
        return 0.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


def write(path: Path, *events: ev.Event, **options) -> bytes:
    """What a log that gets these events leaves in a file."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        log = Log(fd, clock=StoppedClock(), **options)
        for event in events:
            log(event)
        log.close()
        assert log.dropped == 0
    finally:
        os.close(fd)
    return path.read_bytes()


def notice(detail: str) -> ev.Notice:
    return ev.Notice("test", detail)


class TestLine:
    def test_event_type_is_first_then_time_then_fields(self, path):
        event = ev.MessageReceived("s1", "0Q", "a@b.test", ["c@d.test"], 1024, 1, 2.5)
        assert write(path, event) == (
            b'{"event_type":"message_received","time":"2026-11-21T02:26:19.123Z",'
            b'"session_id":"s1","queue_id":"0Q","from_envelope":"a@b.test",'
            b'"to_envelope":["c@d.test"],"message_size":1024,"recipient_count":1,'
            b'"processing_time_ms":2.5}\n'
        )

    def test_every_kind_of_event_makes_a_line(self, path):
        events = [
            ev.ServerStopped("SIGTERM"),
            ev.MessageDelivered("0Q", "a@b.test", delivery_method="smtp"),
            LogLinesDropped(3),
        ]
        lines = [json.loads(line) for line in write(path, *events).splitlines()]
        assert [list(line)[:2] for line in lines] == [["event_type", "time"]] * 3
        assert [line["event_type"] for line in lines] == [
            "server_stopped",
            "message_delivered",
            "log_lines_dropped",
        ]

    def test_a_long_value_is_cut(self, path):
        line = json.loads(write(path, notice("x" * 100_000)))
        assert len(line["detail"]) == MAX_VALUE
        assert line["detail"].endswith("x…")

    def test_a_long_list_is_cut_and_says_so(self, path):
        recipients = [f"user{n}@example.test" for n in range(1000)]
        event = ev.MessageReceived("s1", "0Q", "a@b.test", recipients, 1024, 1000, 2.5)
        line = json.loads(write(path, event))
        assert line["to_envelope"][:MAX_ITEMS] == recipients[:MAX_ITEMS]
        assert line["to_envelope"][MAX_ITEMS:] == [f"… and {1000 - MAX_ITEMS} more"]
        assert line["recipient_count"] == 1000

    @given(st.text(st.characters(exclude_categories=()), max_size=2100))
    def test_any_text_is_one_line_without_a_character_that_acts(self, text):
        read, written = os.pipe()
        try:
            log = Log(written, threaded=False)
            log(notice(text))
            data = os.read(read, 1 << 16)
        finally:
            os.close(read)
            os.close(written)
        assert data.endswith(b"}\n")
        line = data[:-1].decode()
        assert not [letter for letter in line if "\x7f" <= letter <= "\x9f" or letter < " "]
        assert not set(line) & set("\u2028\u2029\u202e\u2066\u200f\ufeff")
        if text.isascii():
            assert json.loads(line)["detail"][: MAX_VALUE - 1] == text[: MAX_VALUE - 1]

    def test_a_delete_among_plain_letters_is_escaped(self, path):
        assert b'"a\\u007fb"' in write(path, notice("a\x7fb"))

    def test_escapes_can_be_read_back(self, path):
        text = "\x1b]0;x\x07 \x9b31m \u202e \u2028 grün"
        assert json.loads(write(path, notice(text)))["detail"] == text

    def test_console(self, path):
        event = ev.MessageRejected("s1", "192.0.2.1", "rcpt", "550 5.7.1 No\x1b[31m")
        assert write(path, event, form="console").decode() == (
            "2026-11-21 02:26:19.123 warning message_rejected session_id=s1 client_ip=192.0.2.1 "
            "stage=rcpt reply='550 5.7.1 No\\x1b[31m'\n"
        )


class TestLevel:
    EVENTS = (
        ev.MailFromAccepted("s1", "a@b.test"),
        ev.ServerStopped("SIGTERM"),
        ev.Notice("a", "b"),
        ev.InternalError("a", "b"),
    )

    @pytest.mark.parametrize(("level", "count"), [("debug", 4), ("info", 3), ("error", 1)])
    def test_lower_levels_are_left_out(self, path, level, count):
        assert write(path, *self.EVENTS, level=level).count(b"\n") == count

    def test_it_changes_while_running(self, path):
        with path.open("wb") as file:
            log = Log(file.fileno(), "error")
            log(ev.ServerStopped("unheard"))
            assert not log.is_debug
            log.set_level("debug")
            assert log.is_debug
            log(ev.MailFromAccepted("s1", "heard"))
            log.close()
        assert b"heard" in path.read_bytes()
        assert b"unheard" not in path.read_bytes()

    @pytest.mark.parametrize(("level", "shown"), [("debug", 4), ("warning", 2), ("error", 1)])
    def test_what_plugins_say_has_levels_of_their_own(self, path, level, shown):
        levels = ("debug", "info", "warning", "error")
        events = [ev.PluginLogged("one", each, "text") for each in levels]
        lines = [json.loads(line) for line in write(path, *events, level=level).splitlines()]
        assert [line["level"] for line in lines] == list(levels[-shown:])

    def test_people_see_the_level_of_a_plugin(self, path):
        line = write(path, ev.PluginLogged("one", "error", "oh no"), form="console")
        assert b" error   plugin_logged plugin=one level=error text='oh no'" in line


class TestWriting:
    def test_lines_come_soon_without_close_or_flush(self):
        read, written = os.pipe()
        log = Log(written)
        try:
            for number in range(3):
                log(notice(str(number)))
                assert select.select([read], [], [], 10)[0], "nothing was written"
                assert json.loads(os.read(read, 4096))["detail"] == str(number)
        finally:
            log.close()
            os.close(read)
            os.close(written)

    @pytest.mark.parametrize("threaded", [True, False])
    def test_a_stalled_reader_costs_lines_never_time_and_is_told(self, threaded):
        read, written = os.pipe()
        log = Log(written, threaded=threaded)
        event = notice("x" * 400)
        emitted = 0
        try:
            slowest = 0.0
            while not log.dropped:
                begun = time.thread_time()
                log(event)
                slowest = max(slowest, time.thread_time() - begun)
                emitted += 1
                assert emitted * 400 < 3 * BACKLOG, "the backlog has no bound"
            for _ in range(1000):
                log(event)
            emitted += 1000
            reader = Reader(read)
            log.flush()
            if not threaded:
                while log._buffer:
                    log.flush()
            kinds = reader.lines_until(b"log_lines_dropped")
            report = json.loads(kinds[-1])
            assert report["count"] == log.dropped
            assert len(kinds) - 1 + report["count"] == emitted
            assert slowest < 0.5
        finally:
            log.close()
            os.close(written)
            reader.join()

    def test_close_gives_up_on_a_stalled_reader(self):
        read, written = os.pipe()
        log = Log(written)
        for _ in range(1000):
            log(notice("x" * 400))
        begun = time.monotonic()
        log.close(timeout=0.2)
        assert time.monotonic() - begun < 20  # the write itself would never end
        os.close(read)  # ends the thread's write
        log._thread.join(60)
        os.close(written)
        assert log.dropped

    @pytest.mark.parametrize("threaded", [True, False])
    def test_a_reader_that_is_gone_is_survived(self, threaded):
        read, written = os.pipe()
        os.close(read)
        log = Log(written, threaded=threaded)
        for _ in range(10):
            log(notice("lost"))
        log.close()
        os.close(written)
        assert log.dropped == 10

    def test_without_a_thread_there_is_none(self):
        before = threading.active_count()
        read, written = os.pipe()
        log = Log(written, threaded=False)
        log(notice("at once"))
        assert b"at once" in os.read(read, 4096)
        assert threading.active_count() == before
        log.close()
        os.close(read)
        os.close(written)

    def test_lines_of_two_processes_do_not_mix(self, tmp_path):
        script = (
            "import sys\n"
            "from elemta.mail.events import Notice\n"
            "from elemta.observe import Log\n"
            "log = Log(1)\n"
            "for number in range(10000):\n"
            "    log(Notice(sys.argv[1], str(number) + 'x' * (number % 900)))\n"
            "log.close(30)\n"
        )
        read, written = os.pipe()
        writers = [
            subprocess.Popen([sys.executable, "-c", script, name], stdout=written)
            for name in ("a", "b", "c")
        ]
        os.close(written)
        with os.fdopen(read, "rb") as output:
            lines = [json.loads(line) for line in output]
        assert [writer.wait() for writer in writers] == [0, 0, 0]
        for name in ("a", "b", "c"):
            details = [line["detail"] for line in lines if line["subject"] == name]
            assert [int(detail.rstrip("x")) for detail in details] == list(range(10000))


class Reader(threading.Thread):
    """Reads lines in the background until the other end is closed."""

    def __init__(self, fd: int):
        super().__init__()
        self._fd = fd
        self._lines: list[bytes] = []
        self._changed = threading.Condition()
        self.start()

    def run(self) -> None:
        with os.fdopen(self._fd, "rb") as file:
            for line in file:
                with self._changed:
                    self._lines.append(line)
                    self._changed.notify()

    def lines_until(self, word: bytes) -> list[bytes]:
        with self._changed:
            arrived = self._changed.wait_for(
                lambda: self._lines and word in self._lines[-1], timeout=20
            )
            assert arrived, f"{len(self._lines)} lines, without {word!r}"
            return list(self._lines)


class TestFanOut:
    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_each_gets_each_event_in_order(self, count):
        got: list[tuple[int, ev.Event]] = []
        emits = [lambda event, index=index: got.append((index, event)) for index in range(count)]
        event = ev.ServerStopped("test")
        fan_out(*emits)(event)
        assert got == [(index, event) for index in range(count)]
