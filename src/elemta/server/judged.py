"""A session whose plugins are asked: before each command is carried out, and around the session.

Order for a command: `on_command` for any line, `on_command_validated` if it is legal here, then
the hook of its own. What the server refuses by itself no plugin is asked to allow, but for one
thing: a recipient elsewhere, whom an untrusted client may have if a plugin says ACCEPT.

A decision to discard or quarantine holds for the message under way, or, before MAIL, for all
messages of the session.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from elemta.accounts import Account, Claim, Result, Verdict
from elemta.accounts.prepare import normal_login
from elemta.mail.errors import LocalProtocolError
from elemta.mail.ids import SessionId
from elemta.mail.reply import Reply
from elemta.net.stream import Stream
from elemta.plugins.asking.chain import Decision
from elemta.plugins.contexts import (
    AuthContext,
    CommandContext,
    ConnectionContext,
    EnvelopeContext,
    HelloContext,
    RecipientContext,
    SessionInfo,
)
from elemta.plugins.result import Action
from elemta.server.client import Client
from elemta.server.inspection import Panel, add_mark
from elemta.server.limited import LimitedSession
from elemta.server.proxies import Identity
from elemta.server.session import Handler
from elemta.server.surroundings import Surroundings
from elemta.server.transaction import APART
from elemta.smtp import events as smtp

COUNTRY = "geoip.country"  # in the metadata of a session: what the plugin geoip says of its client
_CONTENT = frozenset({smtp.Body, smtp.BodyEnd, smtp.ChunkEnd})

Waiting = Awaitable[None] | None


def without_secret(line: bytes) -> bytes:
    """Leave out what follows the mechanism of AUTH (RFC 4954 §4), also where it is ill spaced."""
    if line.lstrip()[:4].upper() != b"AUTH":
        return line
    words = line.split(None, 2)
    return b" ".join(words[: 2 if words[0].upper() == b"AUTH" else 1])


def _for_login(reply: Reply) -> Reply:
    """Refuse a login by the codes that there are for it (RFC 4954 §6), or end the session."""
    if reply.code == 421:
        return reply
    code, prefix, usual = (535, "5.7.", "5.7.8") if reply.is_permanent else (454, "4.7.", "4.7.0")
    enhanced = reply.enhanced or ""
    enhanced = enhanced if enhanced.startswith(prefix) else usual
    return Reply(code, reply.text, enhanced, reply.id)


def _treatment(decision: Decision | None) -> tuple[str, str]:
    """Say how a recipient is treated: what becomes of it, and by which policy."""
    if decision is None:
        return "", ""
    is_apart = decision.action in {Action.QUARANTINE, Action.DISCARD}
    return decision.action.value if is_apart else "", decision.policy


class JudgedSession(LimitedSession):
    """A session with plugins; it keeps those it began with."""

    __slots__ = (
        "_chunk_refusal",
        "_hooks",
        "_info",
        "_marks",
    )

    def __init__(self, stream: Stream, session_id: SessionId, around: Surroundings) -> None:
        super().__init__(stream, session_id, around)
        self._hooks = around.hooks
        self._hooks.enter()  # now: a reload before `run` begins must not close its plugins
        self._info = self._introduce()
        self._marks: list[Decision] = []  # what becomes of all messages
        self._chunk_refusal: Reply | None = None
        if around.hooks.on_command is not None or around.hooks.on_command_validated is not None:
            self._handlers = self.ASKING

    async def run(self) -> None:
        hooks = self._hooks
        try:
            await super().run()
            if hooks.on_disconnect is not None:
                waiting = hooks.on_disconnect(ConnectionContext("on_disconnect", self._info))
                if waiting is not None:
                    await waiting
        finally:
            hooks.leave()

    def _introduce(self) -> SessionInfo:
        stream, listener = self._stream, self._around.listener
        info = SessionInfo(
            self._id, stream.peer_ip, stream.local, listener, is_trusted=self._trusted
        )
        info.username = self._login  # of a user of this machine it is known already
        port = stream.peer.rpartition(":")[2]
        info.client_port = int(port) if port.isdigit() else 0
        return info

    def _info_of_plugins(self) -> SessionInfo | None:
        return self._info

    def _become(self, identity: Identity) -> Waiting:
        return self._meet(identity)

    async def _meet(self, identity: Identity) -> None:
        """Take the client for another: to plugins it is a new connection (XCLIENT)."""
        if not self._assume(identity):
            return
        self._info = self._introduce()
        self._note_tls()
        self._info.username = self._login
        self._marks.clear()
        if await self._is_let_in():
            self._answer(self._banner())

    async def _is_let_in(self) -> bool:
        """Ask about a client that has connected; False when it is turned away."""
        chain = self._hooks.on_connect
        if chain is None:
            return True
        waiting = chain(ConnectionContext("on_connect", self._info))
        decision = await waiting if waiting is not None else None
        country = self._info.metadata.get(COUNTRY, "")
        if country != self._country:
            self._country, self._known = country, None
        reply = self._refusal(decision)
        if reply is not None:
            self._turn_away(reply, decision)
        return reply is None

    async def _hold(self) -> None:
        if not await self._is_let_in():
            return
        if self._stream.tls is None or await self._welcome_tls():
            await super()._hold()

    def _note_tls(self) -> None:
        """Tell plugins how the connection is encrypted."""
        tls, info = self._stream.tls, self._info
        info.tls_version, info.tls_cipher = ("", "") if tls is None else (tls.version, tls.cipher)
        info.client_certificate = b"" if tls is None else tls.certificate
        info.is_trusted = self._trusted  # by its certificate, maybe

    async def _secured(self) -> None:
        self._info.helo = self._info.protocol = self._info.username = ""
        await self._welcome_tls()

    async def _welcome_tls(self) -> bool:
        """Ask about a client that has come under TLS; False when it is turned away."""
        self._note_tls()
        chain = self._hooks.on_starttls
        if chain is None:
            return True
        waiting = chain(ConnectionContext("on_starttls", self._info))
        decision = await waiting if waiting is not None else None
        reply = self._refusal(decision)
        if reply is not None:
            self._turn_away(reply, decision, "starttls")
        return reply is None

    def _notice(self, told: Reply, stage: str, decided: Decision | None) -> None:
        super()._notice(told, stage, decided)
        if decided is None and told.is_permanent and stage != "auth":
            self._info.refusals += 1

    def _turn_away(self, reply: Reply, decision: Decision | None, stage: str = "connect") -> None:
        """Refuse a connection in place of the banner (RFC 5321 §3.1, §3.8; RFC 7504)."""
        if reply.code not in {421, 521, 554}:
            code = 554 if reply.is_permanent else 421
            reply = Reply(code, reply.text, reply.enhanced, reply.id)
        self._end("refused", self._report(stage, reply, decided=decision))
        self._flush()

    # ---- commands

    def _take(self, event: Any) -> Waiting:  # noqa: ANN401 - any event of the machine
        machine = self._machine
        line, machine.line = machine.line, None
        if line is None:
            return self._take_content(event)
        line = without_secret(line)
        chain = self._hooks.on_command
        if chain is None:
            return self._commanded(None, event, line)
        waiting = chain(CommandContext("on_command", self._info, line))
        return self._then(waiting, self._commanded, event, line)

    def _take_content(self, event: Any) -> Waiting:  # noqa: ANN401
        """Go on with content, or with dropping it where its BDAT was refused."""
        refusal, kind = self._chunk_refusal, type(event)
        if refusal is None:
            return self._carry_out(event)
        if kind is not smtp.Body:
            self._chunk_refusal = None
            self._drop_transaction()
            self._answer_refusal(refusal)
            if kind is smtp.BodyEnd and event.close:
                self._over = "refused content"
        return None

    def _commanded(self, decision: Decision | None, event: Any, line: bytes) -> Waiting:  # noqa: ANN401
        event = self._judged(decision, event)
        chain = self._hooks.on_command_validated
        if event is None or chain is None or type(event) is smtp.Fault:
            return self._carry_out(event)
        waiting = chain(CommandContext("on_command_validated", self._info, line))
        return self._then(waiting, self._validated, event)

    def _validated(self, decision: Decision | None, event: Any) -> Waiting:  # noqa: ANN401
        return self._carry_out(self._judged(decision, event))

    def _judged(self, decision: Decision | None, event: Any) -> Any:  # noqa: ANN401
        """Give what is left to be carried out when plugins have judged a command."""
        kind = type(event)
        reply = self._refusal(decision)
        if reply is None or kind is smtp.Quit:  # who wants to leave may
            return event
        if kind is smtp.Fault:
            told = self._tell(reply, event.kind, decided=decision)
            return smtp.Fault(told, event.close, event.kind)
        reply = self._report("command", reply, decided=decision)
        if kind is smtp.Body:  # of BDAT: the answer is due when all its octets are here
            self._chunk_refusal = reply
            return None
        if kind in _CONTENT:
            self._drop_transaction()
        self._answer_refusal(reply)
        return None

    def _carry_out(self, event: Any) -> Waiting:  # noqa: ANN401
        return None if event is None else self.HANDLERS[type(event)](self, event)

    def _on_hello(self, event: smtp.Hello) -> Waiting:
        chain = self._hooks.on_helo
        if chain is None:
            return self._greeted(None, event)
        waiting = chain(HelloContext("on_helo", self._info, event.name, event.verb))
        return self._then(waiting, self._greeted, event)

    def _greeted(self, decision: Decision | None, event: smtp.Hello) -> Waiting:
        reply = self._refusal(decision)
        if reply is not None:
            self._answer_refusal(self._report("helo", reply, decided=decision))
            return None
        super()._on_hello(event)
        info = self._info
        info.helo = event.name
        info.protocol = {"HELO": "SMTP", "LHLO": "LMTP"}.get(event.verb, "ESMTP")
        return None

    # ---- AUTH

    async def _judge(self, claim: Claim) -> None:
        """Ask plugins before the accounts, and again after them.

        A plugin that says ACCEPT to a password has checked it itself, and one that says REJECT
        likewise. Once it has been checked none can let in who was wrong.
        """
        decision = await self._ask_login("on_auth_start", claim, None)
        refusal = self._refusal(decision)
        if refusal is not None:
            verdict = Verdict(Result.WRONG if refusal.is_permanent else Result.DOWN)
        else:
            is_accepted = decision is not None and decision.action is Action.ACCEPT
            is_proven = is_accepted and claim.proven is None
            verdict = await self._ask_accounts(claim, self._peer(), is_proven=is_proven)
        if verdict.result is not Result.DOWN:
            last = await self._ask_login("on_auth", claim, verdict.result is Result.OK)
            reply = self._refusal(last)
            if reply is not None:
                decision, refusal = last, reply
        if refusal is None or decision is None:
            self._settle_login(claim, verdict)
        else:
            reason = f"{decision.plugin}: {decision.note}"
            self._refuse_login(claim.login, _for_login(refusal), reason, decision)

    async def _ask_login(
        self,
        hook: str,
        claim: Claim,
        authenticated: bool | None,  # noqa: FBT001 - three values
    ) -> Decision | None:
        chain = self._hooks.on_auth_start if authenticated is None else self._hooks.on_auth
        if chain is None:
            return None
        password = claim.password if authenticated is None else ""
        login = normal_login(claim.login)
        waiting = chain(
            AuthContext(hook, self._info, claim.mechanism, login, password, authenticated)
        )
        return await waiting if waiting is not None else None

    def _log_in(self, account: Account, mechanism: str) -> None:
        super()._log_in(account, mechanism)
        self._info.username = account.name

    # ---- the transaction

    def _make_client(self) -> Client:
        panel = Panel(self._hooks, self._info, self._around.emit)
        return replace(super()._make_client(), panel=panel)

    def _begin(self, event: smtp.Mail) -> Waiting:
        self._info.begin_message()
        chain = self._hooks.on_mail_from
        if chain is None:
            return self._begun(None, event)
        waiting = chain(EnvelopeContext("on_mail_from", self._info, event.sender))
        return self._then(waiting, self._begun, event)

    def _begun(self, decision: Decision | None, event: smtp.Mail) -> Waiting:
        reply = self._refusal(decision, is_marking=False)
        if reply is not None:
            sender = str(event.sender or "")
            self._answer_refusal(self._report("mail", reply, sender, decided=decision))
            return None
        super()._begin(event)
        if self._transaction is not None:
            for mark in self._marks if decision is None else (*self._marks, decision):
                self._transaction.mark(mark)
        return None

    def _on_rcpt(self, event: smtp.Rcpt) -> Waiting:
        transaction, chain = self._transaction, self._hooks.on_rcpt_to
        if transaction is None:
            raise LocalProtocolError("RCPT without a transaction")
        if chain is None or transaction.accepted >= self._settings.max_recipients:
            return super()._on_rcpt(event)
        recipient, policy = event.recipient, self._around.policy
        if not recipient.domain:
            recipient = policy.postmaster
        is_relaying = policy.refusal(recipient, trusted=self._is_privileged) is not None
        context = RecipientContext(
            "on_rcpt_to",
            self._info,
            transaction.sender,
            tuple(transaction.recipients),
            recipient,
            is_relaying,
        )
        return self._then(chain(context), self._addressed, event, context)

    def _addressed(
        self, decision: Decision | None, event: smtp.Rcpt, context: RecipientContext
    ) -> Waiting:
        transaction = self._transaction
        if transaction is None:
            raise LocalProtocolError("RCPT without a transaction")
        action = Action.CONTINUE if decision is None else decision.action
        reply = self._refusal(decision, is_marking=False)
        if reply is None and context.is_relaying and action is not Action.ACCEPT:
            return super()._on_rcpt(event)  # nobody vouches for it
        if reply is not None:
            sender, recipient = str(context.sender or ""), str(context.recipient)
            self._answer_refusal(self._report("rcpt", reply, sender, recipient, decision))
            return None
        if self._settings.splits and not transaction.is_treated(_treatment(decision)):
            sender, recipient = str(context.sender or ""), str(context.recipient)
            self._refuse("rcpt", APART, mail_from=sender, rcpt_to=recipient, cost=0)
            return None
        if decision is not None and action is Action.QUARANTINE:
            transaction.put_one_aside(context.recipient, decision)
        if decision is not None and action is Action.DISCARD:
            self._settle(self._mail(), "discard", decision)
        transaction.take_recipient(context.recipient, is_kept=action is not Action.DISCARD)
        self._welcome(event, transaction)
        return None

    # ---- answers of plugins

    def _then(
        self,
        waiting: Awaitable[Decision | None] | None,
        what: Callable[..., Waiting],
        *args: Any,  # noqa: ANN401 - those of `what`
    ) -> Waiting:
        """Go on with a decision, at once where that can be."""
        return what(None, *args) if waiting is None else self._await(waiting, what, args)

    async def _await(
        self,
        waiting: Awaitable[Decision | None],
        what: Callable[..., Waiting],
        args: tuple[Any, ...],
    ) -> None:
        following = what(await waiting, *args)
        if following is not None:
            await following

    def _refusal(self, decision: Decision | None, *, is_marking: bool = True) -> Reply | None:
        """Give the reply of a decision that refuses; one that only marks is taken note of."""
        if decision is None:
            return None
        reply = decision.refusal
        if reply is not None:
            return reply
        if is_marking and decision.action in {Action.DISCARD, Action.QUARANTINE}:
            if self._transaction is None:
                add_mark(self._marks, decision)
            else:
                self._transaction.mark(decision)
        return None

    HANDLERS: ClassVar[Mapping[type[Any], Handler]] = {
        **LimitedSession.HANDLERS,
        smtp.Hello: _on_hello,
    }
    ASKING: ClassVar[Mapping[type[Any], Handler]] = dict.fromkeys(HANDLERS, _take)
