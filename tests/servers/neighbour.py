"""Another mail server beside ours: what it is told, and what a test asks of it.

Its own domain ends in a Maildir. What it gets for `TAKEN_IN` it sends to our port for mail, what
it gets for `SUBMITTED` to our port for submission, where it logs in; both under TLS, with a
certificate that must be good.
"""

from dataclasses import dataclass
from pathlib import Path

from servers.certificates import Authority
from servers.dialogue import Dialogue

TAKEN_IN, SUBMITTED = "example.test", "submitted.test"
NOBODY = 65534


@dataclass(frozen=True)
class Way:
    """How it gets to us.

    Attributes:
        mta, submission: Our ports; we are "localhost".
        login, password: For submission.
        authority: Gave us a certificate, and gives it one.
    """

    mta: int
    submission: int
    login: str
    password: str
    authority: Authority


@dataclass(frozen=True)
class Neighbour:
    """A running server; it is "localhost", too.

    Attributes:
        domain: Its own.
        port: Where it takes mail, for anyone from this machine.
        mail: Its Maildir.
        log: Its log.
    """

    domain: str
    port: int
    mail: Path
    log: Path

    def mailbox(self, subject: str) -> list[bytes]:
        """What it has delivered with this subject; line ends are CRLF."""
        found = []
        for path in sorted(self.mail.glob("new/*")):
            content = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
            if f"\r\nSubject: {subject}\r\n".encode() in content:
                found.append(content)
        return found

    def send(self, content: bytes, mail: str, *recipients: str) -> None:
        """Give it a message; `mail` and `recipients` are paths and their parameters."""
        with Dialogue(self.port) as client:
            client.hello()
            for line in (f"MAIL FROM:{mail}", *(f"RCPT TO:{each}" for each in recipients)):
                reply = client.say(line)
                assert reply.startswith("250"), (line, reply)
            assert client.say("DATA").startswith("354")
            client.send(content.replace(b"\r\n.", b"\r\n..") + b".\r\n")
            reply = client.reply()
            assert reply.startswith("250"), reply
