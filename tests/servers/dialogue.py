"""A bare SMTP client for tests: it sends just the bytes it is told, and reads whole replies."""

import re
import socket
from pathlib import Path

PATIENCE = 40.0  # seconds for what should come at once
_ID = re.compile(r" \(id ([0-9a-f]{8})\)$")


class Dialogue:
    """One connection, from the loopback address `source`; `say` sends a line, gives the reply.

    The id that a refusal ends with differs each time: replies are given without it, and `id` is
    that of the last one, "" where it had none.
    """

    def __init__(
        self,
        place: int | Path,
        *,
        greet: bool = True,
        address: str = "127.0.0.1",
        source: str | None = None,
    ):
        if isinstance(place, Path):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(PATIENCE)
            try:
                self.socket.connect(str(place))
            except OSError:
                self.socket.close()
                raise
        else:
            near = (source, 0) if source else None
            self.socket = socket.create_connection((address, place), PATIENCE, near)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self.banner = self.id = ""
        if greet:
            try:
                self.banner = self.reply()
            except OSError:
                self.socket.close()
                raise

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def say(self, line: str | bytes) -> str:
        self.send((line.encode() if isinstance(line, str) else line) + b"\r\n")
        return self.reply()

    def line(self) -> str:
        while b"\r\n" not in self._buffer:
            data = self.socket.recv(65536)
            if not data:
                return ""
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line.decode()

    def reply(self) -> str:
        """One whole reply, its lines joined by newlines; "" when the server has closed."""
        lines = []
        while True:
            line = self.line()
            lines.append(line)
            if line[3:4] != "-":
                found = _ID.search(line)
                self.id = found[1] if found else ""
                return _ID.sub("", "\n".join(lines))

    def hello(self, verb: str = "EHLO") -> str:
        return self.say(f"{verb} client.example.org")

    def envelope(self, sender: str, *recipients: str) -> list[str]:
        replies = [self.say(f"MAIL FROM:<{sender}>")]
        return replies + [self.say(f"RCPT TO:<{recipient}>") for recipient in recipients]

    def deliver(self, content: bytes, sender: str, *recipients: str) -> str:
        """A whole transaction by DATA; the last reply. `content` ends with CRLF."""
        for reply in self.envelope(sender, *recipients):
            if not reply.startswith("250"):
                return reply
        reply = self.say("DATA")
        if not reply.startswith("354"):
            return reply
        stuffed = content.replace(b"\r\n.", b"\r\n..")
        self.send((b"." if stuffed.startswith(b".") else b"") + stuffed + b".\r\n")
        return self.reply()

    def rest(self) -> bytes:
        """All that still comes until the server closes."""
        data = self._buffer
        try:
            while chunk := self.socket.recv(65536):
                data += chunk
        except ConnectionError:
            pass
        return data

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> "Dialogue":
        return self

    def __exit__(self, *_exc) -> None:
        self.close()
