"""Asks a mail server whether it takes mail for a recipient, without sending any.

MAIL and RCPT are said, and QUIT instead of DATA. A refusal counts as "unknown" only where it is for
good and about the recipient; what is refused to us, or for now, says nothing about who exists.

Raises:
    Unclear: From all that asks: the server cannot be asked, or does not say.
"""

import asyncio
import secrets
from dataclasses import dataclass

from elemta.mail.errors import ElemtaError, LocalProtocolError, RemoteProtocolError
from elemta.mail.reply import Reply, clean_text
from elemta.net import Stream
from elemta.net.tls import unverified_context
from elemta.plugins import Address
from elemta.plugins.builtin._elsewhere import (
    Breaker,
    LeftAlone,
    Place,
    Trouble,
    parse_place,
    part,
    reach,
)
from elemta.plugins.builtin.recipient_verification.settings import Destination
from elemta.smtp.client import ClientMachine

_TLS_ERRORS = (OSError, ValueError, RemoteProtocolError)  # ValueError: a name unfit for SNI
_UNKNOWN_CODES = frozenset({550, 551, 553})
_UNKNOWN_SUBJECTS = ("5.1.", "5.2.1")  # RFC 3463 §3.2 and §3.3: the address; disabled


class Unclear(ElemtaError):  # noqa: N818 - it is what callers handle, not only an error
    """Nobody can say whether a recipient exists.

    Attributes:
        enhanced: Why, as an enhanced status code.
    """

    def __init__(self, text: str, enhanced: str) -> None:
        super().__init__(text)
        self.enhanced = enhanced


class _TlsBroken(Exception):  # noqa: N818 - a turn in the dialogue, seen by nobody else
    """The handshake was agreed on and came to nothing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a server says.

    Attributes:
        exists: It takes mail for the recipient.
        reply: What it said.
        takes_all: It also takes mail for somebody who cannot exist; None where it was not asked.
    """

    exists: bool
    reply: str
    takes_all: bool | None = None


class Prober:
    """Asks one server, a few questions at a time.

    Args:
        destination: Which, and how.
        hostname: What we call ourselves.
        sender: Who asks; None is the null sender.
        most: Questions at the same time.
        patience: Seconds for a question, the wait for its turn included.
        breaker: Says when the server is to be left alone.
    """

    def __init__(
        self,
        destination: Destination,
        hostname: str,
        sender: Address | None,
        most: int,
        patience: float,
        breaker: Breaker,
    ) -> None:
        self._place: Place = parse_place(destination.server)
        self._is_lmtp = destination.method == "lmtp"
        self._wants_tls = destination.tls != "none" and not self._place.path
        self._server = destination.server
        self._hostname = hostname
        self._sender = sender
        self._turns = asyncio.Semaphore(most)
        self._patience = patience
        self._breaker = breaker

    async def ask(self, recipient: Address, *, and_nobody: bool) -> Finding:
        """Ask for a recipient; with `and_nobody` also for one that nobody can have."""
        try:
            self._breaker.check()
            async with asyncio.timeout(self._patience), self._turns:
                finding = await self._ask(recipient, and_nobody=and_nobody)
        except LeftAlone as error:
            raise Unclear(f"{self._server}: {error}", "4.4.1") from error
        except TimeoutError:
            raise self._failed(f"no answer within {self._patience:g} s", "4.4.2") from None
        except Trouble as error:
            raise self._failed(str(error), "4.4.1") from error
        except OSError as error:
            what = error.strerror or str(error) or type(error).__name__
            raise self._failed(what, "4.4.1") from error
        except RemoteProtocolError as error:
            raise self._failed(str(error), "4.4.2") from error
        except LocalProtocolError as error:
            raise Unclear(clean_text(f"{self._server}: {error}"), "4.4.2") from error
        except Unclear:  # it has answered
            self._breaker.succeeded()
            raise
        self._breaker.succeeded()
        return finding

    def _failed(self, what: str, enhanced: str) -> Unclear:
        self._breaker.failed(what)
        return Unclear(clean_text(f"{self._server}: {what}"), enhanced)

    async def _ask(self, recipient: Address, *, and_nobody: bool) -> Finding:
        try:
            return await self._converse(recipient, and_nobody=and_nobody, with_tls=self._wants_tls)
        except _TlsBroken:
            return await self._converse(recipient, and_nobody=and_nobody, with_tls=False)

    async def _converse(self, recipient: Address, *, and_nobody: bool, with_tls: bool) -> Finding:
        stream = await reach(self._place, self._patience)
        try:
            dialogue = _Dialogue(stream, self._server, lmtp=self._is_lmtp)
            await dialogue.begin(self._hostname)
            if with_tls and "STARTTLS" in dialogue.machine.extensions:
                await self._change_to_tls(dialogue)
            finding = await dialogue.verify(self._sender, recipient, and_nobody=and_nobody)
            part(stream, dialogue.machine.quit())
        except BaseException:
            stream.abort()
            raise
        return finding

    async def _change_to_tls(self, dialogue: "_Dialogue") -> None:
        """Change to TLS; a refusal of it is fine.

        Raises:
            _TlsBroken: It was agreed on, and came to nothing.
        """
        machine, stream = dialogue.machine, dialogue.stream
        if (await dialogue.say(machine.starttls())).code != 220:
            return
        if stream.has_input:
            machine.receive(await stream.read())
        machine.tls_started()
        try:
            await stream.start_tls(unverified_context(), server_hostname=self._place.host)
            await dialogue.hello(self._hostname)
        except TimeoutError:
            raise
        except _TLS_ERRORS as error:
            raise _TlsBroken from error


class _Dialogue:
    """One connection."""

    def __init__(self, stream: Stream, server: str, *, lmtp: bool) -> None:
        self.stream = stream
        self.machine = ClientMachine(lmtp=lmtp)
        self._server = server

    async def say(self, command: bytes = b"") -> Reply:
        """Say something, and give the answer to it."""
        if command:
            self.stream.write(command)
        while (reply := self.machine.next_reply()) is None:
            data = await self.stream.read()
            if not data:
                raise ConnectionResetError("closed by the server")
            self.machine.receive(data)
        return reply

    async def begin(self, hostname: str) -> None:
        """Be greeted, and greet."""
        reply = await self.say()
        if reply.code != 220:
            raise self._unclear("the session is refused", reply)
        await self.hello(hostname)

    async def hello(self, hostname: str) -> None:
        """Say who we are."""
        machine = self.machine
        reply = await self.say(machine.hello(hostname))
        if reply.is_permanent and not machine.lmtp:
            reply = await self.say(machine.helo(hostname))
        if not 200 <= reply.code < 300:
            raise self._unclear("our greeting is refused", reply)

    async def verify(
        self, sender: Address | None, recipient: Address, *, and_nobody: bool
    ) -> Finding:
        """Ask for a recipient."""
        machine = self.machine
        utf8 = not str(recipient).isascii()
        reply = await self.say(machine.mail(sender, size=0, smtputf8=utf8))
        if not 200 <= reply.code < 300:
            raise self._unclear("our sender is refused", reply)
        reply = await self.say(machine.rcpt(recipient))
        if _is_unknown(reply):
            return Finding(exists=False, reply=clean_text(str(reply), 300))
        if not 200 <= reply.code < 300:
            raise self._unclear("it does not say", reply)
        takes_all = None
        if and_nobody:
            nobody = Address(f"nobody-{secrets.token_hex(12)}", recipient.domain)
            answer = await self.say(machine.rcpt(nobody))
            if 200 <= answer.code < 300 or _is_unknown(answer):
                takes_all = answer.code < 300
        return Finding(exists=True, reply=clean_text(str(reply), 300), takes_all=takes_all)

    def _unclear(self, what: str, reply: Reply) -> Unclear:
        return Unclear(clean_text(f"{self._server}: {what}: {reply}", 400), "4.4.3")


def _is_unknown(reply: Reply) -> bool:
    """Whether a refusal says for good that there is no such recipient."""
    if not reply.is_permanent:
        return False
    if reply.enhanced:
        return reply.enhanced.startswith(_UNKNOWN_SUBJECTS)
    return reply.code in _UNKNOWN_CODES
