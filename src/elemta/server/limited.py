"""A session whose client is kept in bounds: rates, delays after errors, the brake on logins."""

from collections.abc import Awaitable, Mapping
from typing import Any, ClassVar

from elemta.accounts import Account, Claim
from elemta.mail import events as ev
from elemta.mail.ids import SessionId
from elemta.mail.reply import Reply
from elemta.net.stream import Stream
from elemta.plugins.asking.chain import Decision
from elemta.server.answering import REFUSALS_PER_ERROR
from elemta.server.limits.guard import (
    ERRORS,
    HANDSHAKES,
    LOGINS,
    MESSAGES,
    RECIPIENTS,
    Refusal,
)
from elemta.server.pregreet import Screening
from elemta.server.proxies import Identity
from elemta.server.session import OVERSHOOT, Handler
from elemta.server.submitted import SubmittedSession
from elemta.server.surroundings import Surroundings
from elemta.smtp import events as smtp

HANDSHAKES_AT_ONCE = Reply(421, HANDSHAKES.text, HANDSHAKES.enhanced)
LIMITS = {
    HANDSHAKES: "handshake_rate",
    HANDSHAKES_AT_ONCE: "handshake_rate",
    MESSAGES: "message_rate",
    RECIPIENTS: "recipient_rate",
    LOGINS: "auth_rate",
    ERRORS: "error_rate",
}
"""The settings behind refusals."""
ADMINS = "admin"  # the group of accounts whose address is never banned

Waiting = Awaitable[None] | None


class LimitedSession(SubmittedSession):
    """A session with a gate before its commands, where its listener has one.

    Two of its slots are for sessions with checks (`elemta.server.screened`): their classes can have
    none of their own.
    """

    __slots__ = (
        "_gate",
        "_held",
        "_ip",
        "_screening",
        "_surplus",
        "_unwatched",
    )

    _screening: Screening | None
    _unwatched: Mapping[type[Any], Handler]

    def __init__(self, stream: Stream, session_id: SessionId, around: Surroundings) -> None:
        super().__init__(stream, session_id, around)
        self._gate = around.gate
        self._ip = stream.peer_ip
        self._held: tuple[str, ...] = ()  # what a client counts for whom a proxy has brought
        self._surplus = 0  # recipients beyond what the client may name for now

    def hurry(self, deadline: float) -> None:
        """Wait no longer than this for a command that is under way."""
        if self._transaction is None:
            self._stream.deadline = min(self._stream.deadline, deadline)
            self._command_ends_at = min(self._command_ends_at or deadline, deadline)

    def _leave(self) -> None:
        if self._gate is not None:
            self._gate.leave(self._held)

    def _assume(self, identity: Identity) -> bool:
        is_let_in = super()._assume(identity)
        before, self._ip = self._ip, self._stream.peer_ip
        gate = self._gate
        if gate is None or self._ip == before:
            return is_let_in
        gate.leave(self._held)
        self._held = ()
        admitted = gate.admit_client(self._ip)
        if isinstance(admitted, Refusal):
            listener, limit = self._around.listener, admitted.limit
            told = self._tell(admitted.reply, "connect", note=limit)
            self._around.emit(ev.ConnectionRefused(self._ip, listener, limit, told.id))
            self._end("banned" if limit == "ban" else "connections", told)
            return False
        self._held = admitted
        return is_let_in

    # ---- commands

    def _limit_mail(self, event: smtp.Mail) -> Waiting:
        gate = self._gate
        refusal = gate.mail(self._ip) if gate is not None else None
        if refusal is not None:
            self._answer_refusal(refusal)
            return None
        return self._on_mail(event)

    def _limit_rcpt(self, event: smtp.Rcpt) -> Waiting:
        gate = self._gate
        refusal = gate.guard.recipient(self._ip) if gate is not None else None
        if refusal is not None:
            self._surplus += 1
            self._answer_refusal(refusal, 0 if self._surplus <= OVERSHOOT else 1)
            return None
        return self._on_rcpt(event)

    def _limit_starttls(self, event: smtp.StartTls) -> Waiting:
        gate = self._gate
        refusal = gate.guard.handshake(self._ip) if gate is not None else None
        if refusal is not None:
            self._answer_junk(refusal)
            return None
        return self._on_starttls(event)

    async def _open(self) -> bool:
        gate = self._gate
        if gate is not None and self._around.door.tls == "implicit":
            refusal = gate.guard.handshake(self._ip)
            if refusal is not None:
                self._over = "handshake rate"
                self._say_last(HANDSHAKES_AT_ONCE)
                return False
        return await super()._open()

    # ---- errors

    def _notice(self, told: Reply, stage: str, decided: Decision | None) -> None:
        super()._notice(told, stage, decided)
        limit, gate = LIMITS.get(told) if decided is None else None, self._gate
        if limit is not None and gate is not None:
            gate.guard.tell(self._id, self._ip, limit, told)

    def _limit_fault(self, event: smtp.Fault) -> Waiting:
        gate = self._gate
        refusal = gate.guard.error(self._ip) if gate is not None else None
        if refusal is not None:
            self._end("error rate", refusal)
            self._suspect(event.kind, event.reply)
            return None
        self._on_fault(event)
        self._punish()
        return None

    def _answer_refusal(self, reply: Reply, cost: int = 1) -> None:
        super()._answer_refusal(reply, cost)
        if cost:
            self._punish()

    def _punish(self) -> None:
        """Make the answer to an error late; ten refusals count as one."""
        gate = self._gate
        if gate is not None and not self._over:
            errors = self._errors + self._refused // REFUSALS_PER_ERROR
            self._penalty = gate.guard.delay(self._ip, errors)

    def _pay(self) -> Waiting:
        seconds, self._penalty = self._penalty, 0.0
        gate = self._gate
        if not seconds or gate is None or self._is_closing:
            return None
        return self._wait(gate.tarpit.wait(seconds))

    async def _wait(self, waiting: Awaitable[bool]) -> None:
        await waiting

    # ---- logins

    async def _may_try(self, claim: Claim) -> bool:
        gate = self._gate
        refusal = await gate.login(self._ip, claim.login) if gate is not None else None
        if refusal is None:
            return True
        told = self._tell(refusal)
        self._tell_failure(claim.login, told.text, told.id)
        if told.code == 454:
            self._answer(told)
        else:
            self._end("login refused", told)
        return False

    def _refuse_login(
        self, login: str, reply: Reply, reason: str, decided: Decision | None = None
    ) -> None:
        super()._refuse_login(login, reply, reason, decided)
        gate = self._gate
        if gate is None or not reply.is_permanent:  # nobody could tell: no failure
            return
        gate.brake.failed(self._ip, login, self._id, self._mechanism)
        banned = gate.brake.turn_away(self._ip)
        if banned is not None and not self._over:
            self._end("banned", banned[1])

    def _log_in(self, account: Account, mechanism: str) -> None:
        super()._log_in(account, mechanism)
        if self._gate is not None:
            is_admin = ADMINS in account.groups
            self._gate.brake.succeeded(self._ip, account.name, is_admin=is_admin)

    HANDLERS: ClassVar[Mapping[type[Any], Handler]] = {
        **SubmittedSession.HANDLERS,
        smtp.Mail: _limit_mail,
        smtp.Rcpt: _limit_rcpt,
        smtp.StartTls: _limit_starttls,
        smtp.Fault: _limit_fault,
    }
