"""A small SMTP client over a blocking socket, for what smtp-source cannot do."""

import socket

from bench.load import DOMAIN
from bench.loopback import HOST
from bench.processes import BenchError


class Dialogue:
    """One session.

    Raises:
        BenchError: The server does not answer as it should.
    """

    def __init__(self, port: int, timeout: float = 30.0) -> None:
        self._socket = socket.create_connection((HOST, port), timeout)
        try:
            self._expect(b"220")
        except BaseException:
            self.close()
            raise

    def say(self, line: str, code: bytes) -> None:
        """Send a line and read its whole answer."""
        try:
            self._socket.sendall(line.encode("ascii") + b"\r\n")
        except OSError as error:
            raise BenchError(f"the session broke off: {error}") from error
        self._expect(code)

    def send_message(self, text: str) -> None:
        """Have one message accepted."""
        self.say("EHLO client.bench.test", b"250")
        self.say("MAIL FROM:<a@client.test>", b"250")
        self.say(f"RCPT TO:<b@{DOMAIN}>", b"250")
        self.say("DATA", b"354")
        self.say(f"{text}\r\n.", b"250")

    def close(self) -> None:
        self._socket.close()

    def _expect(self, code: bytes) -> None:
        answer = b""
        while not answer.endswith(b"\r\n") or answer.rsplit(b"\r\n", 2)[-2][3:4] == b"-":
            try:
                got = self._socket.recv(4096)
            except OSError as error:
                raise BenchError(f"no answer: {error}") from error
            if not got:
                raise BenchError(f"the session ended instead of {code.decode()}: {answer!r}")
            answer += got
        if not answer.startswith(code):
            raise BenchError(f"{answer[:200]!r} instead of {code.decode()}")
