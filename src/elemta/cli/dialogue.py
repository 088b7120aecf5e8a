"""A conversation with a server over a blocking socket: one message, command by command."""

import contextlib
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from elemta.config import Endpoint
from elemta.mail.address import Address, parse_domain
from elemta.mail.errors import AddressError, ProtocolError
from elemta.mail.reply import Reply
from elemta.smtp.client import ClientMachine

PIECE = 65_536


@dataclass(frozen=True, slots=True)
class Sent:
    """What a server said.

    Attributes:
        reply: To the end of the message, or to what was refused before.
        refused: Recipients that were not accepted.
    """

    reply: Reply
    refused: tuple[tuple[Address, Reply], ...] = ()


class Dialogue:
    """One connection to a server, command by command."""

    def __init__(self, connection: socket.socket) -> None:
        self.machine = ClientMachine()
        self._connection = connection

    def say(self, command: bytes) -> Reply:
        """Send, and wait for the reply.

        Raises:
            OSError: The connection broke, or nothing came in time.
            ProtocolError: What came is no reply.
        """
        self._connection.sendall(command)
        while (reply := self.machine.next_reply()) is None:
            data = self._connection.recv(PIECE)
            if not data:
                raise ConnectionAbortedError("the server closed the connection")
            self.machine.receive(data)
        return reply

    def send(self, sender: Address | None, recipients: Sequence[Address], content: bytes) -> Sent:
        """Greet, and send one message; errors as `say`."""
        machine = self.machine
        for command in (b"", machine.hello(own_name())):
            reply = self.say(command)
            if not reply.is_positive:
                return Sent(reply)
        wide = any(each is not None and each.needs_smtputf8 for each in (sender, *recipients))
        eight_bit = not content.isascii()
        command = machine.mail(
            sender, size=len(content), eight_bit=eight_bit or wide, smtputf8=wide
        )
        reply = self.say(command)
        if not reply.is_positive:
            return Sent(reply)
        refused = []
        for recipient in recipients:
            reply = self.say(machine.rcpt(recipient))
            if not reply.is_positive:
                refused.append((recipient, reply))
        if machine.accepted:
            reply = self.say(machine.data())
            if reply.is_positive:
                reply = self.say(machine.content(content) + machine.end())
        with contextlib.suppress(OSError, ProtocolError):  # what counts has been said
            self.say(machine.quit())
        return Sent(reply, tuple(refused))


def connect(server: Endpoint, timeout: float) -> socket.socket:
    """Open a connection; each wait on it ends after `timeout` seconds."""
    if not server.is_unix:
        return socket.create_connection((server.host, server.port), timeout)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(timeout)
    try:
        connection.connect(server.path)
    except OSError:
        connection.close()
        raise
    return connection


def own_name() -> str:
    """What we call ourselves: this machine, where its name is one."""
    try:
        return parse_domain(socket.gethostname())
    except AddressError:
        return "localhost"
