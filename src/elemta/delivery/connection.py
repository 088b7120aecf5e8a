"""A connection to a next hop that has greeted us, and how long we wait for it.

The deadlines are those of RFC 5321 §4.5.3.2, each for one whole reply, so that a peer which
sends an octet now and then cannot hold on to us for ever.
"""

import math
from dataclasses import dataclass

from elemta.delivery.mx import Target
from elemta.mail.clock import Clock
from elemta.mail.errors import ElemtaError
from elemta.mail.reply import Reply, clean_text
from elemta.net.stream import Stream
from elemta.smtp.client import ClientMachine

PARTING = 5.0  # for a last word to leave us
AGREEING = 3  # commands' time that all of the talk before content may take: 15 minutes as a rule


@dataclass(frozen=True, slots=True)
class Waits:
    """How long each reply may take; `block` is for the peer to take some of the content."""

    command: float
    data: float
    block: float
    dot: float

    @classmethod
    def scaled(cls, timeout: float) -> "Waits":
        """In the proportion of RFC 5321 §4.5.3.2, with `timeout` for a command."""
        return cls(timeout, timeout * 2 / 5, timeout * 3 / 5, timeout * 2)


class TargetError(ElemtaError):
    """A target did not get as far as taking mail; another one may.

    Attributes:
        reply: What to tell if no other does; permanent where trying again cannot help.
        is_answered: Somebody was there; else the reply is our own word.
        lacks_tls: TLS is demanded, and the target does not offer it, or is not who it should be.
    """

    def __init__(self, reply: Reply, *, is_answered: bool = True, lacks_tls: bool = False):
        super().__init__(str(reply))
        self.reply = reply
        self.is_answered = is_answered
        self.lacks_tls = lacks_tls


class Connection:
    """A dialogue between transactions or in one.

    Attributes:
        used: Transactions begun.
        idle_since: Monotonic instant of the last use.
    """

    __slots__ = (
        "_clock",
        "_ends_at",
        "_is_dead",
        "idle_since",
        "machine",
        "name",
        "stream",
        "target",
        "used",
    )

    def __init__(self, stream: Stream, machine: ClientMachine, target: Target, clock: Clock):
        self.stream = stream
        self.machine = machine
        self.target = target
        self.name = stream.peer if target.port else target.address
        self.used = 0
        self.idle_since = 0.0
        self._clock = clock
        self._ends_at = math.inf
        self._is_dead = False

    def agree_within(self, seconds: float) -> None:
        """Let all replies from now on take no longer than this together.

        A peer that is slow each time, just within the limit, would hold a connection for hours.
        """
        self._ends_at = self._clock.monotonic() + seconds

    async def reply(self, wait: float) -> Reply:
        """Give the next reply, within `wait` seconds.

        Raises:
            TimeoutError: It did not come.
            ConnectionError: The connection broke, or the peer closed it.
            RemoteProtocolError: Something else came.
        """
        receive, next_reply, stream = self.machine.receive, self.machine.next_reply, self.stream
        reply = next_reply()
        if reply is not None:
            return reply
        stream.deadline = min(self._clock.monotonic() + wait, self._ends_at)
        while reply is None:
            data = await stream.read()
            if not data:
                raise ConnectionResetError("closed by the peer")
            receive(data)
            reply = next_reply()
        return reply

    def now(self) -> float:
        """The time of day."""
        return self._clock.now()

    def wait_until(self, wait: float) -> None:
        """Let the next wait for the peer end after `wait` seconds."""
        self.stream.deadline = self._clock.monotonic() + wait

    def part(self) -> None:
        """Say good-bye where the peer listens, and close without waiting for an answer."""
        if not self.is_fit:
            self.abort()
            return
        self.stream.deadline = self._clock.monotonic() + PARTING
        self.stream.write(self.machine.quit())
        self.stream.close()

    def abort(self) -> None:
        """Close at once: what was half said stays unsaid."""
        self._is_dead = True
        self.stream.abort()

    @property
    def is_fit(self) -> bool:
        """Whether another transaction may begin: nothing is unanswered, nothing came unasked."""
        machine = self.machine
        if self._is_dead or machine.owed or machine.is_closing or machine.has_input:
            return False
        return self.stream.is_usable


def lost_reply(error: Exception, when: str) -> Reply:
    """Say in the form of a reply how a connection ended (RFC 3463 §3.5, X.4.2)."""
    what = "timed out" if isinstance(error, TimeoutError) else describe(error)
    return Reply(451, f"connection lost {when}: {what}", "4.4.2")


def describe(error: Exception) -> str:
    """Name an error in one line that can be shown."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return clean_text(text or type(error).__name__, 200)
