"""A next hop that remembers every message it takes, and has its moods."""

import contextlib
import random
import select
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from crash.ledger import Copy, read_copy


@dataclass
class Moods:
    """How often what happens, from 0 to 1.

    Attributes:
        refuses_recipient, refuses_content: Answers 450.
        forgets: Breaks off at the end of the content, which is not kept.
        is_silent: Breaks off when it has kept it: the sender cannot know.
        delay: Seconds until it answers the content.
    """

    refuses_recipient: float = 0.0
    refuses_content: float = 0.0
    forgets: float = 0.0
    is_silent: float = 0.0
    delay: float = 0.0


DIFFICULT = Moods(refuses_recipient=0.04, refuses_content=0.04, forgets=0.03, is_silent=0.02)


@dataclass
class Sink:
    """What the next hop has; `moods` may be replaced at any time."""

    rng: random.Random
    moods: Moods = field(default_factory=Moods)
    copies: list[Copy] = field(default_factory=list)
    port: int = 0

    def draws(self, share: float) -> bool:
        return share > 0 and self.rng.random() < share


class _Session(socketserver.StreamRequestHandler):
    """One connection; it ends when either side breaks it off."""

    disable_nagle_algorithm = True
    timeout = 60

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            self._hold(self.server.sink)

    def _answer(self, reply: bytes) -> None:
        self.wfile.write(reply + b"\r\n")

    def _hold(self, sink: Sink) -> None:
        self._answer(b"220 sink ESMTP")
        recipients: list[str] = []
        while line := self.rfile.readline():
            verb, argument = line[:4].upper(), line.partition(b":")[2]
            if verb == b"EHLO":
                self._answer(b"250-sink\r\n250-PIPELINING\r\n250 8BITMIME")
            elif verb == b"RCPT" and sink.draws(sink.moods.refuses_recipient):
                self._answer(b"450 4.2.2 mailbox busy")
            elif verb == b"RCPT":
                recipients.append(argument[1 : argument.find(b">")].decode())
                self._answer(b"250 2.1.5 ok")
            elif verb == b"DATA" and recipients:
                self._answer(b"354 go on")
                if not self._take(sink, recipients):
                    return
                recipients = []
            elif verb == b"DATA":
                self._answer(b"503 5.5.1 no recipients")
            elif verb == b"QUIT":
                self._answer(b"221 2.0.0 bye")
                return
            else:  # MAIL, RSET
                recipients = []
                self._answer(b"250 2.0.0 ok")

    def _take(self, sink: Sink, recipients: list[str]) -> bool:
        """Take the content; False when the connection is to be broken off."""
        lines = []
        while (line := self.rfile.readline()) != b".\r\n":
            if not line:
                return False
            lines.append(line[1:] if line.startswith(b".") else line)
        moods = sink.moods
        if sink.draws(moods.refuses_content):
            self._answer(b"450 4.3.0 not now")
            return True
        if sink.draws(moods.forgets):
            return False
        is_silent = sink.draws(moods.is_silent)
        now, raw, is_left = time.monotonic(), b"".join(lines), self._is_left()
        for recipient in recipients:
            copy = read_copy(raw, recipient, now)
            copy.is_answered = not is_silent
            copy.is_left = is_left
            sink.copies.append(copy)
        if moods.delay:
            time.sleep(moods.delay)
        if not is_silent:
            self._answer(b"250 2.0.0 taken")
        return not is_silent

    def _is_left(self) -> bool:
        """Whether the sender is gone: until it is answered, nothing else makes it readable."""
        if not select.select([self.connection], [], [], 0)[0]:
            return False
        try:
            return not self.connection.recv(1, socket.MSG_PEEK)
        except ConnectionError:
            return True


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 100
    allow_reuse_address = True

    def __init__(self, sink: Sink):
        super().__init__(("127.0.0.1", sink.port), _Session)
        self.sink = sink
        self._open: set[socket.socket] = set()

    def process_request(self, request, client_address) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def break_off(self) -> None:
        """End the sessions that are still held."""
        for request in list(self._open):
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def serving(sink: Sink) -> Iterator[Sink]:
    """Let a sink listen on its port, or on any, until the end of the block."""
    server = _Server(sink)
    sink.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield sink
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        server.break_off()
