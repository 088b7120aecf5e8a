"""From a target to a connection that may take mail: connect, greeting, EHLO, STARTTLS.

Policies (`TlsPolicy`): opportunistic TLS that breaks costs one more connection, in clear, and
is remembered for a while, so that the next messages need not find out again. Where TLS is
demanded, mail is never given in clear, and nothing is remembered.
"""

import ssl
from collections import OrderedDict
from collections.abc import Callable

from elemta.delivery.connection import (
    AGREEING,
    Connection,
    TargetError,
    Waits,
    describe,
    lost_reply,
)
from elemta.delivery.mx import Target
from elemta.delivery.settings import DeliverySettings, TlsPolicy
from elemta.mail.clock import Clock
from elemta.mail.errors import RemoteProtocolError
from elemta.mail.events import Emit, SecurityEvent
from elemta.mail.reply import Reply
from elemta.net.stream import Stream, connect, connect_unix
from elemta.net.tls import unverified_context, verified_context
from elemta.smtp.client import ClientMachine

BROKEN_TLS_FOR = 3600.0
BROKEN_TLS_HOSTS = 4096

_TLS_ERRORS = (OSError, ValueError, RemoteProtocolError)  # ValueError: a name unfit for SNI


class _TlsBroken(Exception):  # noqa: N818 - a turn in the dialogue, seen by nobody else
    """The handshake was agreed on and came to nothing."""


class Opener:
    """Opens connections in one manner for all: our name, our patience, what TLS is trusted."""

    def __init__(
        self,
        settings: DeliverySettings,
        clock: Clock,
        emit: Emit,
        verified: Callable[[], ssl.SSLContext] = verified_context,
    ):
        self._settings = settings
        self._waits = Waits.scaled(settings.timeout)
        self._clock = clock
        self._emit = emit
        self._verified = verified
        self._broken: OrderedDict[tuple[str, int], float] = OrderedDict()

    async def open(self, target: Target, policy: TlsPolicy, *, lmtp: bool) -> Connection:
        """Open a connection that is ready for MAIL.

        Raises:
            TargetError: This target takes no mail, for now or at all.
        """
        is_local = not target.port  # a unix socket: nobody is between
        if is_local or (policy is TlsPolicy.OPPORTUNISTIC and self._is_broken(target)):
            policy = TlsPolicy.NONE
        try:
            return await self._converse(target, policy, lmtp=lmtp)
        except _TlsBroken as error:
            if policy is not TlsPolicy.OPPORTUNISTIC:
                text = f"TLS with {target.host} failed: {error}"
                lacks_tls = isinstance(error.__cause__, ssl.SSLCertVerificationError)
                raise TargetError(Reply(451, text, "4.7.5"), lacks_tls=lacks_tls) from error
        self._remember(target)
        return await self._converse(target, TlsPolicy.NONE, lmtp=lmtp)

    async def _converse(self, target: Target, policy: TlsPolicy, *, lmtp: bool) -> Connection:
        stream = await self._connect(target)
        connection = Connection(stream, ClientMachine(lmtp=lmtp), target, self._clock)
        connection.agree_within(AGREEING * self._waits.command)
        try:
            _check_greeting(await connection.reply(self._waits.command))
            await self._hello(connection)
            if policy is not TlsPolicy.NONE and await self._starttls(connection, policy):
                await self._handshake(connection, policy)
        except TargetError:
            connection.part()
            raise
        except RemoteProtocolError as error:
            connection.abort()
            raise TargetError(Reply(451, describe(error), "4.5.0")) from error
        except OSError as error:
            connection.abort()
            raise TargetError(lost_reply(error, "before the session began")) from error
        except BaseException:
            connection.abort()
            raise
        return connection

    async def _connect(self, target: Target) -> Stream:
        timeout = self._settings.connect_timeout
        try:
            if target.port:
                return await connect(target.address, target.port, timeout=timeout)
            return await connect_unix(target.address, timeout=timeout)
        except OSError as error:  # TimeoutError is one
            what = "timed out" if isinstance(error, TimeoutError) else describe(error)
            reply = Reply(451, f"cannot connect to {target.host}: {what}", "4.4.1")
            raise TargetError(reply, is_answered=False) from error

    async def _hello(self, connection: Connection) -> None:
        """Introduce ourselves; HELO for a peer that knows no EHLO (RFC 5321 §3.2)."""
        machine, wait = connection.machine, self._waits.command
        connection.stream.write(machine.hello(self._settings.hostname))
        reply = await connection.reply(wait)
        if reply.is_permanent and not machine.lmtp:
            connection.stream.write(machine.helo(self._settings.hostname))
            reply = await connection.reply(wait)
        if not 200 <= reply.code < 300:
            raise TargetError(_for_now(reply, "our greeting was refused"))

    async def _starttls(self, connection: Connection, policy: TlsPolicy) -> bool:
        """Agree on TLS; False where the peer will not and need not."""
        machine = connection.machine
        text = "TLS is required but not offered"
        if "STARTTLS" in machine.extensions:
            connection.stream.write(machine.starttls())
            reply = await connection.reply(self._waits.command)
            if reply.code == 220:
                return True
            if machine.is_closing:
                raise TargetError(reply)
            text = f"TLS is required but refused: {reply}"
        if policy is not TlsPolicy.OPPORTUNISTIC:
            lacks_tls = "STARTTLS" not in machine.extensions
            raise TargetError(Reply(451, text, "4.7.5"), lacks_tls=lacks_tls)
        return False

    async def _handshake(self, connection: Connection, policy: TlsPolicy) -> None:
        """Change to TLS and begin anew: what was said in clear is forgotten (RFC 3207 §4.2)."""
        stream, host = connection.stream, connection.target.host
        try:
            if stream.has_input:
                connection.machine.receive(await stream.read())
            connection.machine.tls_started()
        except RemoteProtocolError:
            self._emit(SecurityEvent("starttls_reply_injection", f"{host} ({stream.peer})"))
            raise
        verify = policy is TlsPolicy.VERIFY
        context = self._verified() if verify else unverified_context()
        connection.wait_until(self._waits.command)
        try:
            await stream.start_tls(context, server_hostname=host)
            await self._hello(connection)  # a peer may break off only after its side is done
        except _TLS_ERRORS as error:
            raise _TlsBroken(describe(error)) from error

    def _is_broken(self, target: Target) -> bool:
        key = target.host, target.port
        until = self._broken.get(key)
        if until is None:
            return False
        if until > self._clock.monotonic():
            return True
        del self._broken[key]
        return False

    def _remember(self, target: Target) -> None:
        key = target.host, target.port
        self._broken[key] = self._clock.monotonic() + BROKEN_TLS_FOR
        self._broken.move_to_end(key)
        if len(self._broken) > BROKEN_TLS_HOSTS:
            self._broken.popitem(last=False)


def _check_greeting(reply: Reply) -> None:
    """Go on after a 220 only.

    A 554 (RFC 5321 §3.1) may be the mood of one host or of its list of today: other targets
    are tried, then the mail waits. A 521 (RFC 7504 §3.1) says that this host never takes mail.
    """
    if reply.code == 521:
        raise TargetError(reply)
    if reply.code != 220:
        raise TargetError(_for_now(reply, "the session was refused"))


def _for_now(reply: Reply, what: str) -> Reply:
    """Make sure that a refusal of the session counts as temporary, and keep its words."""
    if reply.is_temporary:
        return reply
    return Reply(451, f"{what}: {reply}", "4.3.2")
