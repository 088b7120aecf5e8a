"""The web process as the supervisor starts it: a socket, a lifeline, the state folder."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from elemta.mail import events as ev
from elemta.net.clock import SystemClock
from elemta.observe import Metrics, prepare_metrics
from elemta.queue.control import Control, Heartbeat
from elemta.web.server import MAX_CONNECTIONS, MAX_REQUEST_HEAD

PROCESS = """
import os, socket, sys
from pathlib import Path
from elemta.observe import Log, capture
from elemta.observe.exposition import Exposition
from elemta.web import serve_web, server

listener, lifeline, state_dir, timeout = sys.argv[1:]
server.REQUEST_TIMEOUT = float(timeout)
log = Log(1)
capture(log)
exposition = Exposition(Path(state_dir))

def render(accept):
    if accept == "text/fail":
        raise RuntimeError("told to fail")
    return exposition.render(accept)

status = serve_web(
    socket.socket(fileno=int(listener)), Path(state_dir), 2, int(lifeline), render
)
log.close()
sys.exit(status)
"""


class Web:
    """A web process and its client."""

    def __init__(self, folder: Path, timeout: float = 10.0):
        self.state_dir = folder
        self.log = folder / "log"
        prepare_metrics(folder)
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        ours, self.lifeline = os.pipe()
        arguments = (str(listener.fileno()), str(ours), str(folder), str(timeout))
        with listener, self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROCESS, *arguments],
                pass_fds=(listener.fileno(), ours),
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        os.close(ours)

    def answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(OSError):
            return self.get("/live")[0] == 200
        return False

    def wait_for(self, condition, limit: float = 40.0):
        end = time.monotonic() + limit
        while not condition():
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.01)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body or None, headers)
            answer = connection.getresponse()
            return answer, answer.read().decode()
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> tuple[int, str]:
        answer, body = self.ask("GET", path, **headers)
        return answer.status, body

    def raw(self, data: bytes) -> bytes:
        """What comes back until the server closes."""
        with self.connect() as client:
            with contextlib.suppress(ConnectionError):  # it may have closed already
                client.sendall(data)
            return rest_of(client)

    def beat(self, index: int, *, ready: bool = True, reason: str = "") -> None:
        control = Control(self.state_dir / "control.db")
        control.beat(Heartbeat(index, os.getpid(), SystemClock().now(), ready, reason))
        control.close()

    def ended(self) -> int:
        return self.process.wait(40)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.lifeline >= 0:
            os.close(self.lifeline)


def rest_of(client: socket.socket) -> bytes:
    data = b""
    with contextlib.suppress(ConnectionError):
        while chunk := client.recv(65536):
            data += chunk
    return data


@contextlib.contextmanager
def run_web(folder: Path, **options) -> Iterator[Web]:
    web = Web(folder, **options)
    try:
        web.wait_for(web.answers)
        yield web
    finally:
        web.close()


@pytest.fixture(scope="module")
def web(tmp_path_factory) -> Iterator[Web]:
    with run_web(tmp_path_factory.mktemp("web")) as running:
        yield running
        assert "Traceback" not in running.log.read_text()


class TestHealth:
    def test_live(self, web):
        for path in ("/live", "/health/live"):
            answer, body = web.ask("GET", path)
            assert (answer.status, json.loads(body)) == (200, {"status": "live"})
            assert answer.getheader("content-type") == "application/json"
            assert answer.getheader("cache-control") == "no-store"
            assert answer.getheader("server") is None

    def test_ready_when_all_workers_say_so(self, tmp_path):
        with run_web(tmp_path) as web:
            for path in ("/ready", "/health/ready", "/health"):
                status, body = web.get(path)
                assert status == 503
                assert json.loads(body) == {
                    "status": "not ready",
                    "reasons": ["worker 0 has not started yet", "worker 1 has not started yet"],
                }
            web.beat(0)
            web.beat(1, ready=False, reason="the disk is full")
            assert json.loads(web.get("/ready")[1])["reasons"] == ["worker 1: the disk is full"]
            web.beat(1)
            for path in ("/ready", "/health/ready", "/health"):
                assert web.get(path) == (200, '{"status":"ready","reasons":[]}')

    def test_without_the_control_database_it_is_not_ready_until_it_is_back(self, tmp_path):
        (tmp_path / "control.db").mkdir()
        with run_web(tmp_path) as web:
            status, body = web.get("/ready")
            assert status == 503
            assert json.loads(body)["reasons"][0].startswith("control database: ")
            assert web.get("/live")[0] == 200
            (tmp_path / "control.db").rmdir()
            web.beat(0)
            web.beat(1)
            assert web.get("/ready")[0] == 200


class TestMetrics:
    def test_those_of_all_processes_together(self, tmp_path):
        with run_web(tmp_path) as web:
            for worker in ("worker-0", "worker-1"):
                metrics = Metrics(tmp_path, worker, print)
                metrics(ev.MessageReceived("s", "0Q", "a@b.test", [], 100, 1, 2.0))
                metrics.close()
            answer, body = web.ask("GET", "/metrics")
            assert answer.status == 200
            assert answer.getheader("content-type").startswith("text/plain; version=0.0.4")
            assert "\nelemta_messages_received_total 2.0\n" in body

    def test_openmetrics_where_it_is_asked_for(self, web):
        accept = "application/openmetrics-text; version=1.0.0, text/plain; q=0.5"
        answer, body = web.ask("GET", "/metrics", Accept=accept)
        assert answer.getheader("content-type").startswith("application/openmetrics-text;")
        assert body.endswith("# EOF\n")


class TestRefusals:
    @pytest.mark.parametrize(
        "path", ["/", "/metrics/", "/nothing", "/health/../metrics", "//live", "/%2e%2e/etc/passwd"]
    )
    def test_other_paths_are_not_there(self, web, path):
        answer, body = web.ask("GET", path)
        assert (answer.status, body) == (404, '{"error":"not found"}')

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "X"])
    def test_other_methods_are_not_allowed(self, web, method):
        answer, body = web.ask(method, "/metrics")
        assert (answer.status, body) == (405, '{"error":"method not allowed"}')
        assert set(answer.getheader("allow").split(", ")) == {"GET", "HEAD"}

    def test_head_is_get_without_content(self, web):
        answer, body = web.ask("HEAD", "/metrics")
        assert (answer.status, body) == (200, "")
        assert int(answer.getheader("content-length")) > 0

    @pytest.mark.parametrize(
        "request_",
        [b"\x16\x03\x01\x02\x00\x01\n\r\n\r\n", b"EHLO x\r\n\r\n", b"GET /live\r\n\r\n"],
    )
    def test_what_is_no_http_is_refused(self, web, request_):
        assert web.raw(request_).startswith(b"HTTP/1.1 400 ")

    def test_a_request_head_has_a_limit(self, web):
        request = b"GET /live HTTP/1.1\r\nX: " + b"x" * (4 * MAX_REQUEST_HEAD)
        assert web.raw(request).startswith(b"HTTP/1.1 400 ")

    def test_a_body_is_not_read(self, web):
        head = b"GET /live HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000000\r\n\r\n"
        answer = web.raw(head + b"x" * 1000)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close\r\n" in answer.lower()

    def test_a_defect_tells_nothing_of_the_inside(self, tmp_path):
        with run_web(tmp_path) as web:
            status, body = web.get("/metrics", Accept="text/fail")
            assert (status, body) == (500, '{"error":"internal server error"}')
            web.wait_for(lambda: web.log.read_bytes().endswith(b"\n"))
            event = json.loads(web.log.read_text())
            assert event["event_type"] == "internal_error"
            assert "RuntimeError: told to fail" in event["error"]
            assert web.get("/live")[0] == 200


class TestLimits:
    def test_slow_requests_are_cut_off(self, tmp_path):
        with run_web(tmp_path, timeout=1.5) as web:
            assert web.raw(b"") == b""
            assert web.raw(b"GET /live HTTP/1.1\r\nX-Slow: ") == b""
            # also the second one of a connection
            kept = web.raw(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\nGET /li")
            assert kept.startswith(b"HTTP/1.1 200 ")
            assert kept.count(b"HTTP/1.1") == 1

    def test_a_connection_between_requests_is_kept_longer(self, tmp_path):
        with run_web(tmp_path, timeout=1.5) as web:
            connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=30)
            connection.request("GET", "/live")
            connection.getresponse().read()
            kept = connection.sock
            assert web.raw(b"") == b""  # so long has a request, and it is over
            connection.request("GET", "/live")
            assert connection.getresponse().read() == b'{"status":"live"}'
            assert connection.sock is kept
            connection.close()

    def test_the_number_of_connections_is_bounded(self, tmp_path):
        with run_web(tmp_path, timeout=60) as web, contextlib.ExitStack() as stack:
            held = [stack.enter_context(web.connect()) for _ in range(MAX_CONNECTIONS)]
            assert web.raw(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n") == b""
            held[0].close()
            web.wait_for(web.answers)


class TestEnd:
    @pytest.mark.parametrize("how", ["lifeline", "SIGTERM"])
    def test_it_ends_with_the_supervisor_and_on_its_word(self, tmp_path, how):
        with run_web(tmp_path) as web, web.connect() as idle, web.connect() as stuck:
            stuck.sendall(b"GET /live HTT")
            if how == "lifeline":
                os.close(web.lifeline)
                web.lifeline = -1
            else:
                web.process.send_signal(signal.SIGTERM)
            assert web.ended() == 0
            assert rest_of(idle) == b""
            assert web.log.read_text() == ""
            with pytest.raises(ConnectionRefusedError):
                web.connect()
