"""Clients that send without a pause, to a server that dies under them."""

import contextlib
import random
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from crash.ledger import ID_FIELD, Ledger
from servers.dialogue import Dialogue

LINES = [b"%05d " % n + b"." * (n % 3) + b"x" * 72 + b"\r\n" for n in range(1000)]
LINES += [b"..dots first, line %05d\r\n" % n for n in range(100)]
BOXES = tuple(f"box{n}@example.test" for n in range(3))
REMOTES = tuple(f"far{n}@remote.test" for n in range(3))


@dataclass(frozen=True)
class Habits:
    """How clients send.

    Attributes:
        large: How often a message is large, from 0 to 1; of `sizes` the first two bound the
            octets of a small one, the last two of a large one.
        recipients: Whom it may go to: one to three of these.
        pause: Most seconds between two messages of a client.
    """

    large: float = 0.2
    sizes: tuple[int, int, int, int] = (0, 8_000, 40_000, 400_000)
    recipients: Sequence[str] = BOXES + REMOTES
    pause: float = 0.01


class Client(threading.Thread):
    """Sends until told to stop; what goes wrong with a connection is no concern of its."""

    def __init__(self, name: str, port: int, ledger: Ledger, habits: Habits, seed: int):
        super().__init__(name=name, daemon=True)
        self._port = port
        self._ledger = ledger
        self._habits = habits
        self._rng = random.Random(seed)
        self._stop_event = threading.Event()
        self._count = 0
        self._dialogue: Dialogue | None = None

    def stop(self) -> None:
        self._stop_event.set()

    def run(self) -> None:
        pause = self._habits.pause
        while not self._stop_event.wait(self._rng.uniform(0, pause)):
            try:
                self._send()
            except OSError:
                self._hang_up()
                self._stop_event.wait(0.02)
        self._hang_up()

    def _send(self) -> None:
        rng, ledger = self._rng, self._ledger
        if self._dialogue is None:
            self._dialogue = Dialogue(self._port)
            self._dialogue.hello()
        dialogue = self._dialogue
        self._count += 1
        name = f"{self.name}-{self._count}"
        content = self._content(name)
        recipients = rng.sample(self._habits.recipients, rng.choice((1, 1, 1, 2, 3)))
        ledger.begin(name, recipients, content)
        if rng.random() < 0.5:
            reply = dialogue.deliver(content, "sender@example.org", *recipients)
        else:
            reply = self._deliver_in_chunks(dialogue, content, recipients)
        if reply.startswith("250 2.0.0 Ok: queued as "):
            ledger.acknowledged.add(name)
        else:
            ledger.refused[reply[:9]] += 1
            self._hang_up()
        if rng.random() < 0.2:
            self._hang_up()

    def _content(self, name: str) -> bytes:
        rng, sizes = self._rng, self._habits.sizes
        small, large = sizes[:2], sizes[2:]
        size = rng.randint(*(large if rng.random() < self._habits.large else small))
        head = b"%b%b\r\nSubject: crash\r\n\r\n" % (ID_FIELD, name.encode())
        start = rng.randrange(len(LINES))
        lines = (LINES[start:] + LINES[:start]) * (1 + size // 80_000)
        return head + b"".join(lines[: size // 80])

    def _deliver_in_chunks(self, dialogue: Dialogue, content: bytes, recipients) -> str:
        """As `Dialogue.deliver`, by BDAT (RFC 3030 §2)."""
        for reply in dialogue.envelope("sender@example.org", *recipients):
            if not reply.startswith("250"):
                return reply
        cuts = sorted(self._rng.choices(range(len(content)), k=self._rng.randrange(3)))
        for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True):
            last = b" LAST" if end == len(content) else b""
            dialogue.send(b"BDAT %d%b\r\n" % (end - start, last) + content[start:end])
            reply = dialogue.reply()
            if not reply.startswith("250"):
                return reply
        return reply

    def _hang_up(self) -> None:
        if self._dialogue is not None:
            with contextlib.suppress(OSError):
                self._dialogue.close()
            self._dialogue = None


@contextlib.contextmanager
def sending(
    port: int, ledger: Ledger, rng: random.Random, habits: Habits | None = None, clients: int = 4
) -> Iterator[None]:
    """Have clients send until the end of the block; names of messages tell the clients apart."""
    batch = len(ledger.sent)
    crowd = [
        Client(f"c{batch}.{n}", port, ledger, habits or Habits(), rng.getrandbits(32))
        for n in range(clients)
    ]
    for client in crowd:
        client.start()
    try:
        yield
    finally:
        for client in crowd:
            client.stop()
        for client in crowd:
            client.join(30)
        assert not any(client.is_alive() for client in crowd), "a client hangs"
