"""The web process: serves the application until the supervisor is gone or says so.

A request and its answer have `REQUEST_TIMEOUT` seconds; there are at most `MAX_CONNECTIONS`
connections, more are closed at once. The body of a request is not read: its connection is closed
after the answer. uvicorn's errors go to `logging`, its chatter nowhere.
"""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from elemta.mail.errors import SpoolError
from elemta.net.clock import SystemClock
from elemta.queue.control import Control
from elemta.web.app import make_app
from elemta.web.health import Readiness, judge

REQUEST_TIMEOUT = 10.0
KEEP_ALIVE = 65  # seconds; Prometheus asks at least once a minute
MAX_CONNECTIONS = 64
MAX_REQUEST_HEAD = 16 * 1024  # octets of request line and header


class Connection(H11Protocol):
    """An HTTP connection whose requests have to come, and be answered, in time."""

    _limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connected = cast("asyncio.Transport", transport)
        super().connection_made(connected)
        self._start_limit()
        if len(self.connections) > MAX_CONNECTIONS:
            connected.abort()

    def data_received(self, data: bytes) -> None:
        if self._limit is None:
            self._start_limit()
        super().data_received(data)

    def on_response_complete(self) -> None:
        self._stop_limit()
        super().on_response_complete()
        if self.conn.trailing_data[0]:  # the next request has begun
            self._start_limit()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._start_limit()  # a peer that does not read would keep it open

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_limit()
        super().connection_lost(exc)

    def _start_limit(self) -> None:
        self._stop_limit()
        self._limit = self.loop.call_later(REQUEST_TIMEOUT, self.transport.abort)

    def _stop_limit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None


class Server(uvicorn.Server):
    """uvicorn, with its signals left to us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signal handlers as they are."""
        yield


def serve_web(
    listener: socket.socket,
    state_dir: Path,
    workers: int,
    lifeline: int,
    render_metrics: Callable[[str], tuple[bytes, str]],
) -> int:
    """Serve metrics and health until SIGTERM, or until `lifeline` is at its end; the exit status.

    Args:
        listener: A bound socket; it is closed at the end.
        state_dir: Where the control database is, in which workers say how they are.
        workers: How many workers there have to be.
        lifeline: Read end of a pipe whose other end dies with the supervisor.
        render_metrics: Gives the metrics and their content type for an HTTP `Accept` field.
    """
    clock = SystemClock()

    def check_readiness() -> Readiness:
        # opened anew each time: the file may have been replaced, or not be there yet
        path = state_dir / "control.db"
        if not path.exists():  # to open it would make it, be it in an empty mount point
            return judge((), workers, clock.now())
        try:
            with contextlib.closing(Control(path)) as control:
                beats = control.heartbeats()
        except SpoolError as error:
            return Readiness(is_ready=False, reasons=(f"control database: {error}",))
        return judge(beats, workers, clock.now())

    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    config = uvicorn.Config(
        close_after_body(make_app(check_readiness, render_metrics)),
        http=Connection,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=2,
        h11_max_incomplete_event_size=MAX_REQUEST_HEAD,
    )
    asyncio.run(_serve(Server(config), listener, lifeline))
    return 0


async def _serve(server: Server, listener: socket.socket, lifeline: int) -> None:
    loop = asyncio.get_running_loop()

    def stop() -> None:
        loop.remove_reader(lifeline)
        server.should_exit = True

    loop.add_signal_handler(signal.SIGTERM, stop)
    loop.add_reader(lifeline, stop)  # nothing is ever written to it: readable means closed
    await server.serve([listener])


def close_after_body(app: ASGIApp) -> ASGIApp:
    """Close the connection after a request that has a body, which nobody is going to read."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        names = {name for name, _ in scope["headers"]}

        async def send_close(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        has_body = b"content-length" in names or b"transfer-encoding" in names
        await app(scope, receive, send_close if has_body else send)

    return answer
