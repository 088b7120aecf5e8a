"""Clients that send all the time, and what they have seen."""

import contextlib
import itertools
import re
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from servers.dialogue import Dialogue

MARK = re.compile(rb"^X-Mark: (\S+)\r?$", re.MULTILINE)


@dataclass
class Load:
    """What became of the messages; each has a mark of its own.

    Attributes:
        accepted: Marks of messages that were answered with 250.
        unsure: Marks of messages whose connection broke before the last reply.
        broken: Connections that were refused, reset or closed without a reply.
        goodbyes: Sessions that were ended with 421.
    """

    port: int
    per_session: int = 5
    accepted: list[str] = field(default_factory=list)
    unsure: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    goodbyes: int = 0
    _end: threading.Event = field(default_factory=threading.Event)

    def client(self, name: int) -> None:
        """Send until the end, some messages a session."""
        numbers = itertools.count()
        while not self._end.is_set():
            try:
                self._session(name, numbers)
            except (OSError, ConnectionError) as error:
                self.broken.append(repr(error))

    def _session(self, name: int, numbers: Iterator[int]) -> None:
        with Dialogue(self.port) as client:
            replies = [client.banner, client.hello()]
            for _ in range(self.per_session):
                if self._has_ended(replies) or self._end.is_set():
                    return
                replies = self._send(client, f"{name}-{next(numbers)}")
            if not self._has_ended(replies):
                client.say("QUIT")

    def _send(self, client: Dialogue, mark: str) -> list[str]:
        lines = ("MAIL FROM:<a@example.org>", "RCPT TO:<load@example.test>", "DATA")
        for line in lines:
            reply = client.say(line)
            if not reply.startswith(("250", "354")):
                return [reply]
        self.unsure.append(mark)
        client.send(f"X-Mark: {mark}\r\n\r\nhello\r\n.\r\n".encode())
        reply = client.reply()
        if reply:
            self.unsure.remove(mark)
        if reply.startswith("250"):
            self.accepted.append(mark)
        return [reply]

    def _has_ended(self, replies: list[str]) -> bool:
        for reply in replies:
            if reply.startswith("421"):
                self.goodbyes += 1
                return True
            if not reply.startswith(("2", "354")):
                self.broken.append(reply or "closed without a reply")
                return True
        return False

    @contextlib.contextmanager
    def running(self, clients: int) -> Iterator["Load"]:
        """Have so many clients send until the end of the block."""
        threads = [threading.Thread(target=self.client, args=(each,)) for each in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._end.set()
            for thread in threads:
                thread.join(60)


def delivered(folder: Path) -> Counter[str]:
    """Count the marks of the messages in a mailbox."""
    return Counter(
        mark.decode() for path in folder.glob("new/*") for mark in MARK.findall(path.read_bytes())
    )
