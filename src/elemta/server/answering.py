"""What a session says: answers, the faults it counts, and refusals in the log and the journal.

All that a client is told goes through here, and no refusal goes out that is not in the journal
of the worker, where there is one: whoever refuses may say why (`_tell`), and what nobody has told
is found out from the command that it answers. So each refusal ends with the id of its record.
"""

from typing import TYPE_CHECKING

import msgspec

from elemta.mail import events as ev
from elemta.mail.ids import SessionId
from elemta.mail.reply import Reply
from elemta.mail.why import Mail, Ruling, Who
from elemta.net.stream import Stream
from elemta.plugins.asking.chain import Decision
from elemta.plugins.contexts import SessionInfo
from elemta.server.journal import MAX_RECIPIENTS, SILENT, Case
from elemta.server.replies import TOO_MANY_COMMANDS, TOO_MANY_ERRORS, banner
from elemta.server.surroundings import Surroundings
from elemta.smtp import ServerMachine
from elemta.smtp import events as smtp

if TYPE_CHECKING:
    from elemta.server.client import Client
    from elemta.server.transaction import Transaction

ATTACKS = frozenset(
    {"sync", "cross_protocol", "bare_newline", "nul", "starttls_injection", "early_talk"}
)  # no client that means well does these
REFUSALS_PER_ERROR = 10  # a mailing to stale addresses is no attack: ten refusals are one error
STAGES = {
    smtp.Hello: "helo",
    smtp.Data: "data",
    smtp.Body: "message",
    smtp.BodyEnd: "message",
    smtp.ChunkEnd: "message",
    smtp.AuthResponse: "auth",
}
"""The names of stages that are not those of their events in lower case."""


class Answering:
    """The answering half of a session; answers gather until `_flush`."""

    # more than 30 attributes in a dict are slow to make and to find
    __slots__ = (
        "_around",
        "_errors",
        "_id",
        "_junk",
        "_out",
        "_over",
        "_refused",
        "_settings",
        "_stream",
        "_told",
    )

    _machine: ServerMachine
    _transaction: "Transaction | None"
    _client: "Client | None"
    _login: str

    def __init__(self, stream: Stream, session_id: SessionId, around: Surroundings) -> None:
        self._stream = stream
        self._id = session_id
        self._around = around
        self._settings = around.settings
        self._out: list[bytes] = []
        self._told: Reply | None = None  # the last refusal, with the id of its record
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

    # ---- answers

    def _answer(self, reply: Reply) -> None:
        """Answer the last event; the machine repeats it where LMTP wants that (RFC 2033 §4.2).

        421 is the last that is said, whoever says it (RFC 5321 §3.8).
        """
        if reply.code >= 400:
            reply = self._tell(reply)
            if reply.code == 421 and not self._over:
                self._over = "refused"
        self._out.append(self._machine.reply(reply))

    def _answer_junk(self, reply: Reply) -> None:
        """Answer a command that moves no mail; too many of them end the session."""
        self._junk += 1
        if self._junk > self._settings.max_junk_commands:
            self._end("too many commands", TOO_MANY_COMMANDS)
        else:
            self._answer(reply)

    def _end(self, reason: str, reply: Reply) -> None:
        """End the session with a reply that goes out with the answers before it."""
        self._over = reason
        self._out.append(self._last(reply).encode())

    def _say_last(self, reply: Reply) -> None:
        """Say something at once, whatever has gathered: the session is over."""
        self._stream.write(self._last(reply).encode())

    def _last(self, reply: Reply) -> Reply:
        return self._tell(reply, note=self._over)

    def _suspect(self, kind: str, reply: Reply) -> None:
        """Tell of an attack, once the client has been told off."""
        if kind in ATTACKS:
            ip, why_id = self._stream.peer_ip, self._told.id if self._told is not None else ""
            self._around.emit(ev.SecurityEvent(kind, str(reply), self._id, ip, why_id=why_id))

    def _refuse(
        self, stage: str, reply: Reply, *, mail_from: str = "", rcpt_to: str = "", cost: int = 1
    ) -> None:
        reply = self._report(stage, reply, mail_from, rcpt_to)
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
        mail_from: str = "",
        rcpt_to: str = "",
        decided: Decision | None = None,
        mail: Mail | None = None,
    ) -> Reply:
        """Write a refusal down, and which plugin wanted it; gives the reply with its id.

        `mail` is what it is about, where that is not what the command is about.
        """
        ip = self._stream.peer_ip or "unix"
        plugin, reason = ("", "") if decided is None else (decided.plugin, decided.note)
        told = self._tell(reply, stage, decided=decided, mail=mail)
        text = str(reply if told == reply else Reply(told.code, told.text, told.enhanced))
        self._around.emit(
            ev.MessageRejected(
                self._id, ip, stage, text, reason, mail_from, rcpt_to, plugin, told.id
            )
        )
        return told

    # ---- the journal

    def _tell(
        self,
        reply: Reply,
        stage: str = "",
        *,
        decided: Decision | None = None,
        note: str = "",
        mail: Mail | None = None,
    ) -> Reply:
        """Put a refusal into the journal, once; gives the reply with the id of its record.

        Args:
            reply: What is said.
            stage: When; "" is that of the command which waits for its answer.
            decided: What a plugin has said.
            note: For the operator, where it was none.
            mail: What it is about; None is what the command is about.
        """
        if reply is self._told:
            return reply
        journal, stage = self._around.journal, stage or self._stage()
        told = Reply(reply.code, reply.text, reply.enhanced, reply.id)
        if journal is not None:
            plugin = ""
            if decided is not None:
                plugin, note = decided.plugin, decided.note
            case = self._case(stage, plugin, note)
            if mail is not None:
                case = msgspec.structs.replace(case, mail=mail)
            told = journal.refuse(reply, case)
        self._told = told
        self._notice(told, stage, decided)
        return told

    def _notice(self, told: Reply, stage: str, decided: Decision | None) -> None:
        """Take note of a refusal that is in the journal by now."""

    def _tell_silent(self, stage: str, rule: str, note: str) -> None:
        """Put into the journal that the connection ends without a word."""
        if self._around.journal is not None:
            case = msgspec.structs.replace(self._case(stage, note=note), rule=rule)
            self._around.journal.refuse(SILENT, case)

    def _decide(self, mail: Mail, outcome: str, decided: Decision | None, ms: float = 0.0) -> None:
        """Put into the journal what has become of a message, or a recipient, that is not refused.

        Args:
            mail: What it is about.
            outcome: "discard", "quarantine" and so on.
            decided: What a plugin has said.
            ms: How long the message took.
        """
        journal = self._around.journal
        if journal is None:
            return
        plugin, note = ("", "") if decided is None else (decided.plugin, decided.note)
        reply = "" if decided is None or decided.reply is None else str(decided.reply)
        ruling = Ruling(outcome, self._stage(), reply, plugin, note=note)
        journal.decide(Case(self._who(), mail, "", info=self._info_of_plugins()), ruling, ms)

    def _settle(self, mail: Mail, outcome: str, decision: Decision) -> None:
        """Write down that a recipient, the only one of `mail`, is treated apart from the rest."""
        reply = "" if decision.reply is None else str(decision.reply)
        named = mail.queue_id, mail.recipients[0]
        self._around.emit(
            ev.RecipientSettled(self._id, *named, outcome, decision.plugin, decision.note, reply)
        )
        self._decide(mail, outcome, decision)

    def _stage(self) -> str:
        asked = self._machine.asked
        if asked is None:
            return "session"
        if isinstance(asked, smtp.Fault):
            return asked.kind
        return STAGES.get(type(asked)) or type(asked).__name__.lower()

    def _case(self, stage: str, plugin: str = "", note: str = "") -> Case:
        return Case(self._who(), self._mail(), stage, plugin, note, self._info_of_plugins())

    def _info_of_plugins(self) -> SessionInfo | None:
        """What plugins know of the session, where there are any."""
        return None

    def _who(self) -> Who:
        stream, machine, login = self._stream, self._machine, self._login
        tls = stream.tls
        version = "" if tls is None else tls.version
        ip, listener = stream.peer_ip or "unix", self._around.listener
        return Who(self._id, ip, listener, machine.hello, self._protocol(), version, login)

    def _protocol(self) -> str:
        """Name the protocol as trace headers do (RFC 3848)."""
        protocol = "ESMTP" if self._machine.esmtp else "SMTP"
        if self._around.door.is_lmtp:
            protocol = "LMTP"
        if protocol == "SMTP":
            return protocol
        return protocol + "S" * (self._stream.tls is not None) + "A" * bool(self._login)

    def _mail(self) -> Mail:
        """Say what the command that waits for its answer is about."""
        asked, transaction = self._machine.asked, self._transaction
        if isinstance(asked, smtp.Mail):
            return Mail(str(asked.sender or ""))
        if transaction is None:
            return Mail()
        if isinstance(asked, smtp.Rcpt):
            return Mail(str(transaction.sender or ""), (str(asked.recipient),))
        return transaction.describe(MAX_RECIPIENTS)
