"""What a session says: answers, the faults it counts, and refusals in the log."""

from elemta.mail import events as ev
from elemta.mail.ids import SessionId
from elemta.mail.reply import Reply
from elemta.net.stream import Stream
from elemta.plugins.asking.chain import Decision
from elemta.server.replies import TOO_MANY_COMMANDS, TOO_MANY_ERRORS, banner
from elemta.server.surroundings import Surroundings
from elemta.smtp import ServerMachine

ATTACKS = frozenset(
    {"sync", "cross_protocol", "bare_newline", "nul", "starttls_injection"}
)  # no client that means well does these
REFUSALS_PER_ERROR = 10  # a mailing to stale addresses is no attack: ten refusals are one error


class Answering:
    """The answering half of a session; answers gather until `_flush`."""

    _machine: ServerMachine

    def __init__(self, stream: Stream, session_id: SessionId, around: Surroundings) -> None:
        self._stream = stream
        self._id = session_id
        self._around = around
        self._settings = around.settings
        self._out: list[bytes] = []
        self._over = ""  # why the session ends, once it does
        self._errors = 0
        self._refused = 0
        self._junk = 0

    def _banner(self) -> Reply:
        name = "LMTP" if self._around.door.is_lmtp else "ESMTP"
        return banner(self._settings.hostname, name)

    def _flush(self) -> None:
        self._stream.write(self._out[0] if len(self._out) == 1 else b"".join(self._out))
        self._out.clear()

    def _answer(self, reply: Reply) -> None:
        """Answer the last event; the machine repeats it where LMTP wants that (RFC 2033 §4.2)."""
        self._out.append(self._machine.reply(reply))

    def _answer_junk(self, reply: Reply) -> None:
        """Answer a command that moves no mail; too many of them end the session."""
        self._junk += 1
        if self._junk > self._settings.max_junk_commands:
            self._end("too many commands", TOO_MANY_COMMANDS)
        else:
            self._answer(reply)

    def _end(self, reason: str, reply: Reply) -> None:
        self._over = reason
        self._out.append(reply.encode())

    def _suspect(self, kind: str, reply: Reply) -> None:
        if kind in ATTACKS:
            ip = self._stream.peer_ip
            self._around.emit(ev.SecurityEvent(kind, str(reply), self._id, ip))

    def _refuse(
        self, stage: str, reply: Reply, *, mail_from: str = "", rcpt_to: str = "", cost: int = 1
    ) -> None:
        self._report(stage, reply, mail_from, rcpt_to)
        self._answer_refusal(reply, cost)

    def _answer_refusal(self, reply: Reply, cost: int = 1) -> None:
        self._refused += cost
        if self._refused >= self._settings.max_errors * REFUSALS_PER_ERROR:
            self._end("too many refused commands", TOO_MANY_ERRORS)
        else:
            self._answer(reply)

    def _report(
        self,
        stage: str,
        reply: Reply,
        mail_from: str,
        rcpt_to: str,
        decided: Decision | None = None,
    ) -> None:
        """Log a refusal, and which plugin wanted it."""
        ip = self._stream.peer_ip or "unix"
        plugin, reason = ("", "") if decided is None else (decided.plugin, decided.note)
        self._around.emit(
            ev.MessageRejected(self._id, ip, stage, str(reply), reason, mail_from, rcpt_to, plugin)
        )
