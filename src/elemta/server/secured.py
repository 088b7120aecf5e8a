"""A session that can change to TLS, and whose client can say who it is.

After a TLS handshake nothing that was said in clear counts any more (RFC 3207 §4.2), and what
was sent in clear behind STARTTLS is an attack. An exchange of AUTH (RFC 4954) has three ends:
the client is who it says, it is not, or nobody can tell for now; a wrong password and an unknown
login look the same to it.
"""

import ssl
from binascii import b2a_base64
from collections.abc import Awaitable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from elemta.accounts import (
    Account,
    Challenge,
    Claim,
    Exchange,
    MalformedResponse,
    Peer,
    Result,
    Verdict,
)
from elemta.mail import events as ev
from elemta.mail.errors import LocalProtocolError
from elemta.mail.ids import SessionId
from elemta.mail.reply import Reply, clean_text
from elemta.net.addresses import lies_in
from elemta.net.stream import Stream
from elemta.plugins.asking.chain import Decision
from elemta.server.offers import future_release_line, make_offer
from elemta.server.proxies import Identity, read_identity
from elemta.server.replies import OK
from elemta.server.session import Handler, Session
from elemta.server.settings import Door
from elemta.server.surroundings import Surroundings
from elemta.smtp import Offer, commands
from elemta.smtp import events as smtp

TLS_READY = Reply(220, "Go ahead", "2.0.0")
INJECTED = Reply(554, "Input behind STARTTLS, closing connection", "5.5.0")
LOGGED_IN = Reply(235, "Authentication succeeded", "2.7.0")
WRONG = Reply(535, "Authentication credentials invalid", "5.7.8")
UNDECIDED = Reply(454, "Temporary authentication failure", "4.7.0")
TOO_MANY_LOGINS = Reply(421, "Too many failed logins, closing connection", "4.7.0")
LOGIN_LIMIT = 200  # characters of a login in the log
FORWARDED = ("ADDR", "HELO", "NAME", "PORT", "PROTO", "IDENT", "SOURCE")  # as the event has them


class SecuredSession(Session):
    """A session with extensions; STARTTLS and AUTH where its listener has them."""

    __slots__ = (
        "_account",
        "_country",
        "_exchange",
        "_failed_logins",
        "_is_shown",
        "_known",
        "_mechanism",
        "_speaks_for",
    )

    def __init__(self, stream: Stream, session_id: SessionId, around: Surroundings) -> None:
        self._account: Account | None = None
        self._known: Peer | None = None  # worked out when somebody asks
        self._country = ""  # of the client, where somebody knows
        self._exchange: Exchange | None = None
        self._mechanism = ""
        self._is_shown = False  # that the client was right, by the exchange itself
        self._failed_logins = 0
        self._speaks_for = _find_powers(around.door, stream.peer_ip)
        super().__init__(stream, session_id, around)

    def _offer(self) -> Offer:
        """Say what this client may use as things stand."""
        settings, around = self._settings, self._around
        is_encrypted = self._stream.tls is not None
        tls = "up" if is_encrypted else "offered" if around.tls is not None else ""
        may_hold = around.door.is_submission and self._is_privileged
        mechanisms = self._mechanisms()
        offer = make_offer(
            settings.max_recipients,
            int(settings.max_hold) if may_hold else 0,
            tls,
            mechanisms,
            smtputf8=settings.smtputf8,
            auth_needs_tls=not mechanisms and around.accounts is not None and not is_encrypted,
        )
        if settings.prdr and not around.door.is_lmtp:  # LMTP is like that anyway
            offer = replace(offer, prdr=True)
        if self._speaks_for is None:
            return offer
        xclient, xforward = self._speaks_for
        return replace(offer, xclient=xclient, xforward=xforward)

    def _extensions(self) -> tuple[str, ...]:
        most = self._offer().future_release
        if not most:
            return super()._extensions()
        return (*super()._extensions(), future_release_line(most, self._around.clock.now()))

    # ---- TLS

    async def _open(self) -> bool:
        return self._around.door.tls != "implicit" or await self._encrypt(is_first=True)

    def _on_starttls(self, _event: smtp.StartTls) -> Awaitable[None]:
        return self._start_tls()

    async def _start_tls(self) -> None:
        stream = self._stream
        if stream.has_input:  # it came before we had agreed
            self._end("starttls injection", INJECTED)
            self._suspect("starttls_injection", INJECTED)
            return
        self._answer(TLS_READY)
        self._flush()
        if await self._encrypt():
            await self._secured()

    async def _secured(self) -> None:
        """Do what is due once TLS has come up in a session."""

    async def _encrypt(self, *, is_first: bool = False) -> bool:
        """Shake hands; a client that fails gets no second chance, in clear least of all."""
        around, stream = self._around, self._stream
        if around.tls is None:
            raise LocalProtocolError("there is no certificate")
        stream.deadline = around.clock.monotonic() + self._settings.handshake_timeout
        ip = stream.peer_ip or "unix"
        try:
            await stream.start_tls(around.tls.context(), server_side=True, is_first=is_first)
        except (OSError, TimeoutError) as error:
            reason = clean_text(_reason(error), LOGIN_LIMIT)
            around.emit(ev.TlsHandshakeFailed(self._id, ip, around.listener, reason))
            self._over = "tls"
            self._tell_silent("tls", "tls.handshake", reason)
            return False
        tls = stream.tls
        if tls is not None:
            words = tls.version, tls.cipher, tls.group, tls.is_resumed
            around.emit(ev.TlsHandshake(self._id, ip, around.listener, *words))
        self._drop_transaction()
        self._client = self._known = self._account = None
        self._login = ""
        self._trusted = around.policy.is_trusted(stream.peer_ip) or self._has_trusted_certificate()
        self._machine = self._make_machine()
        return True

    def _has_trusted_certificate(self) -> bool:
        """Whether the client has shown a certificate that is enough to send to anyone."""
        policy, contexts, tls = self._around.policy, self._around.tls, self._stream.tls
        if not policy.trusts_certificates or tls is None or contexts is None:
            return False
        return policy.is_trusted_identity(contexts.identify(tls.certificate))

    # ---- proxies

    def _on_xclient(self, event: smtp.XClient) -> Awaitable[None] | None:
        identity = read_identity(event.attributes)
        if identity is None:
            self._on_fault(commands.BAD_ATTRIBUTES)
            return None
        if identity.login and self._around.accounts is not None:
            return self._find_account(identity, identity.login)
        return self._become(identity)

    async def _find_account(self, identity: Identity, login: str) -> None:
        """Learn what a login may that a proxy names: its account here says so, if there is one."""
        ip = identity.client or self._stream.peer_ip
        peer, self._mechanism = Peer(ip, self._around.listener), "XCLIENT"
        verdict = await self._ask_accounts(Claim("XCLIENT", login), peer, is_proven=True)
        if verdict.account is not None:
            waiting = self._become(replace(identity, account=verdict.account))
            if waiting is not None:
                await waiting
            return
        reply = UNDECIDED if verdict.result is Result.DOWN else WRONG
        note = clean_text(f"login {login}: {verdict.reason}", LOGIN_LIMIT)
        told = self._tell(reply, "auth", note=note)
        self._tell_failure(login, verdict.reason, told.id, ip)
        self._answer(told)

    def _become(self, identity: Identity) -> Awaitable[None] | None:
        """Take the client for another from now on, and begin anew (XCLIENT)."""
        if self._assume(identity):
            self._answer(self._banner())
        return None

    def _assume(self, identity: Identity) -> bool:
        """Let the client be somebody else; False where that one is not let in."""
        stream, before = self._stream, self._stream.peer_ip
        client, login = identity.client or before, identity.login
        if login is None and client != before:  # whoever it is, it has not logged in
            login = ""
        stream.rename(client, identity.client_port, identity.server or "", identity.server_port)
        self._trusted = self._around.policy.is_trusted(client)
        self._client = self._known = None
        if login is not None:
            account = identity.account or (Account(login) if login else None)
            self._account = None if account is None else self._with_address(account)
            self._login = "" if account is None else account.name
        self._machine.change_limits(self._limits())
        self._machine.change_offer(self._offer())
        return True

    def _on_xforward(self, event: smtp.XForward) -> None:
        said = {name: value or "" for name, value in event.attributes.items()}
        ip = self._stream.peer_ip or "unix"
        words = (said.get(name, "") for name in FORWARDED)
        self._around.emit(ev.ClientForwarded(self._id, ip, *words))
        self._answer_junk(OK)

    # ---- AUTH

    def _mechanisms(self) -> tuple[str, ...]:
        """The mechanisms of AUTH that this client may use now."""
        accounts = self._around.accounts
        may_say = self._stream.tls is not None or self._around.door.clear_login
        return accounts.mechanisms(self._peer()) if accounts is not None and may_say else ()

    def _peer(self) -> Peer:
        """Say what a login may depend on."""
        if self._known is None:
            self._known = self._make_peer()
        return self._known

    def _make_peer(self) -> Peer:
        stream, listener, contexts = self._stream, self._around.listener, self._around.tls
        tls = stream.tls
        if tls is None or contexts is None:
            return Peer(stream.peer_ip, listener, country=self._country)
        exporter, end_point = stream.channel_bindings()
        identity = contexts.identify(tls.certificate) if tls.certificate else ""
        return Peer(
            stream.peer_ip,
            listener,
            is_tls=True,
            tls_exporter=exporter,
            tls_server_end_point=end_point,
            identity=identity or None,
            country=self._country,
        )

    def _on_auth(self, event: smtp.Auth) -> Awaitable[None] | None:
        accounts = self._around.accounts
        if accounts is None:
            raise LocalProtocolError("there are no accounts")
        self._mechanism, self._is_shown = event.mechanism, False
        self._exchange = accounts.begin(event.mechanism, self._peer())
        return self._respond(event.initial)

    def _on_response(self, event: smtp.AuthResponse) -> Awaitable[None]:
        return self._respond(event.data)

    async def _respond(self, response: bytes | None) -> None:
        exchange = self._exchange
        if exchange is None:
            self._on_fault(commands.NO_MECHANISM)
            return
        try:
            said = await exchange.respond(response)
        except MalformedResponse as error:
            fault = commands.NOT_BASE64
            told = self._tell(fault.reply, fault.kind, note=str(error))
            self._tell_failure("", str(error), told.id)
            self._on_fault(smtp.Fault(told, fault.close, fault.kind))
            return
        if isinstance(said, Challenge):
            if said.reveals is None or await self._may_show(said.reveals):
                self._answer(Reply(334, b2a_base64(said.data, newline=False).decode("ascii")))
            return
        self._exchange = None
        if self._is_shown or await self._may_try(said):
            await self._judge(said)

    def _on_fault(self, event: smtp.Fault) -> None:
        self._exchange = None  # whatever was wrong, the exchange is over
        super()._on_fault(event)

    async def _may_show(self, claim: Claim) -> bool:
        """Say whether a client may learn now that it was right; if not, it has been answered."""
        self._is_shown = await self._may_try(claim)
        if not self._is_shown:
            self._exchange = None
        return self._is_shown

    async def _may_try(self, _claim: Claim) -> bool:
        """Say whether a claim is looked at now; if not, it has been answered."""
        return True

    async def _judge(self, claim: Claim) -> None:
        """Find out whether a client is who it says, and answer."""
        self._settle_login(claim, await self._ask_accounts(claim, self._peer()))

    async def _ask_accounts(self, claim: Claim, peer: Peer, *, is_proven: bool = False) -> Verdict:
        accounts = self._around.accounts
        if accounts is None:
            raise LocalProtocolError("there are no accounts")
        ask = accounts.vouch if is_proven else accounts.judge
        return await ask(claim, peer)

    def _settle_login(self, claim: Claim, verdict: Verdict) -> None:
        """Answer a claim that has been judged."""
        if verdict.result is Result.OK and verdict.account is not None:
            self._log_in(verdict.account, claim.mechanism)
        elif verdict.result is Result.DOWN:
            self._refuse_login(claim.login, UNDECIDED, verdict.reason)
        else:
            self._refuse_login(claim.login, WRONG, verdict.reason)

    def _refuse_login(
        self, login: str, reply: Reply, reason: str, decided: Decision | None = None
    ) -> None:
        """Answer a claim that has come to nothing; too many that are wrong end the session."""
        note = clean_text(f"login {login}: {reason}", LOGIN_LIMIT)
        reply = self._tell(reply, "auth", decided=decided, note=note)
        self._tell_failure(login, reason, reply.id)
        if reply.is_permanent:
            self._failed_logins += 1
        if self._failed_logins >= self._settings.max_logins:
            self._end("too many failed logins", TOO_MANY_LOGINS)
        else:
            self._answer(reply)

    def _with_address(self, account: Account) -> Account:
        """Give a login that is no address, and has no other, the one of that name here."""
        if account.senders or "@" in account.name:
            return account
        domain = self._around.policy.postmaster.domain
        return replace(account, senders=(f"{account.name}@{domain}",))

    def _log_in(self, account: Account, mechanism: str) -> None:
        around = self._around
        self._account, self._login = self._with_address(account), account.name
        self._client = None
        self._machine.change_offer(self._offer())
        ip = self._stream.peer_ip or "unix"
        around.emit(ev.AuthSucceeded(self._id, ip, around.listener, self._login, mechanism))
        self._answer(LOGGED_IN)

    def _tell_failure(self, login: str, reason: str, why_id: str, address: str = "") -> None:
        around, ip = self._around, address or self._stream.peer_ip or "unix"
        who, mechanism = clean_text(login, LOGIN_LIMIT), self._mechanism
        around.emit(ev.AuthFailed(self._id, ip, around.listener, who, mechanism, reason, why_id))

    HANDLERS: ClassVar[Mapping[type[Any], Handler]] = {
        **Session.HANDLERS,
        smtp.StartTls: _on_starttls,
        smtp.Auth: _on_auth,
        smtp.AuthResponse: _on_response,
        smtp.Fault: _on_fault,
        smtp.XClient: _on_xclient,
        smtp.XForward: _on_xforward,
    }


def _find_powers(door: Door, ip: str) -> tuple[bool, bool] | None:
    """Say whether a client may use XCLIENT, and XFORWARD; None where nobody may."""
    if not (door.xclient or door.xforward) or not ip:
        return None
    return lies_in(ip, door.xclient), lies_in(ip, door.xforward)


def _reason(error: OSError) -> str:
    """Name what went wrong in a handshake, as OpenSSL does where it was asked."""
    if isinstance(error, ssl.SSLError):
        return error.reason or str(error)
    return "timeout" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
