"""A session around the bare server machine: answers always the same, keeps what it accepts.

The policy is that of `tests/dialogues/README.md`: any sender, recipients at example.test and
the bare postmaster; nothing is relayed.
"""

from dataclasses import dataclass, field

from elemta.mail import Address, Reply
from elemta.smtp import Limits, Offer, ServerMachine, events

DONE = Reply(250, "Done", "2.0.0")
ANSWERS = {
    events.Mail: Reply(250, "Go on", "2.1.0"),
    events.Rcpt: Reply(250, "Go on", "2.1.5"),
    events.Data: Reply(354, "Go on"),
    events.ChunkEnd: DONE,
    events.Reset: DONE,
    events.Noop: DONE,
    events.Help: Reply(214, "RFC 5321", "2.0.0"),
    events.Verify: Reply(252, "Try and see", "2.1.5"),
    events.Expand: Reply(502, "Not here", "5.5.1"),
    events.Quit: Reply(221, "Bye", "2.0.0"),
}


@dataclass
class Accepted:
    """A message as the session would keep it."""

    sender: Address | None
    recipients: list[Address]
    content: bytes


@dataclass
class BareSession:
    """Feed it bytes; it holds what was said, done and accepted."""

    limits: Limits = field(default_factory=Limits)
    lmtp: bool = False
    smtputf8: bool = True

    def __post_init__(self):
        self.machine = ServerMachine(self.limits, Offer(smtputf8=self.smtputf8), lmtp=self.lmtp)
        self.output = b""
        self.closed = False
        self.trace: list[events.Event] = []
        self.messages: list[Accepted] = []
        self._sender: Address | None = None
        self._recipients: list[Address] = []
        self._content = b""

    def feed(self, data: bytes) -> bytes:
        """Take input; gives what is answered to it."""
        before = len(self.output)
        self.machine.receive(data)
        while not self.closed and (event := self.machine.next_event()) is not None:
            if isinstance(event, events.Body):
                self._content += event.chunk
                continue
            self._note(event)
            self.output += self._answer(event)
            self.closed = isinstance(event, events.Quit) or getattr(event, "close", False)
        return self.output[before:]

    def _note(self, event: events.Event) -> None:
        """Keep the trace free of how content was cut."""
        if isinstance(event, events.BodyEnd) and event.fault is None and self._content:
            self.trace.append(events.Body(self._content))
        self.trace.append(event)

    def _answer(self, event: events.Event) -> bytes:
        machine = self.machine
        match event:
            case events.Fault(reply=reply):
                return machine.reply(reply)
            case events.Hello(verb=verb):
                lines = ("mx.example.test", *(machine.extensions if verb != "HELO" else ()))
                return machine.reply(Reply(250, "\n".join(lines)))
            case events.Mail(sender=sender):
                self._sender, self._recipients, self._content = sender, [], b""
            case events.Rcpt(recipient=recipient):
                if recipient.domain not in ("", "example.test"):
                    return machine.reply(Reply(550, "No relaying", "5.7.1"))
                self._recipients.append(recipient)
            case events.BodyEnd():
                return self._end_content(event)
        return machine.reply(ANSWERS[type(event)])

    def _end_content(self, event: events.BodyEnd) -> bytes:
        content, self._content = self._content, b""
        if event.fault is not None:
            return self.machine.reply(event.fault)
        self.messages.append(Accepted(self._sender, self._recipients, content))
        if self.lmtp:
            return self.machine.replies([DONE] * len(self._recipients))
        return self.machine.reply(DONE)
