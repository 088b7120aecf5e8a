"""What one milter is told of one client, and what it has said so far.

It is told of the client when a connection to it is there, of a message from MAIL on; where a client
begins another message, it is told that the last one has ended. Whoever asks drops the talk when
that raises anything: it is told nothing more until the next MAIL, where all begins anew.
"""

import asyncio
import enum
from collections.abc import Sequence

from elemta.plugins import Address, Result, SessionInfo
from elemta.plugins.builtin._elsewhere import Trouble
from elemta.plugins.builtin.milter import answers, macros, packets
from elemta.plugins.builtin.milter.draft import Draft
from elemta.plugins.builtin.milter.link import Link, Server
from elemta.plugins.builtin.milter.macros import Ourselves, Values
from elemta.plugins.builtin.milter.packets import Command, Option, Packet

UNKNOWN_SINCE = 3  # the version of the protocol that has it
MAX_ANSWERS = 10_000  # packets about one message, signs of progress included

_SKIPPED = {
    Command.CONNECT: Option.NO_CONNECT,
    Command.HELO: Option.NO_HELO,
    Command.MAIL: Option.NO_MAIL,
    Command.RCPT: Option.NO_RCPT,
    Command.DATA: Option.NO_DATA,
    Command.UNKNOWN: Option.NO_UNKNOWN,
    Command.HEADER: Option.NO_HEADERS,
    Command.END_OF_HEADERS: Option.NO_END_OF_HEADERS,
    Command.BODY: Option.NO_BODY,
}
_SILENT = {
    Command.CONNECT: Option.SILENT_CONNECT,
    Command.HELO: Option.SILENT_HELO,
    Command.MAIL: Option.SILENT_MAIL,
    Command.RCPT: Option.SILENT_RCPT,
    Command.DATA: Option.SILENT_DATA,
    Command.UNKNOWN: Option.SILENT_UNKNOWN,
    Command.HEADER: Option.SILENT_HEADER,
    Command.END_OF_HEADERS: Option.SILENT_END_OF_HEADERS,
    Command.BODY: Option.SILENT_BODY,
}
_ABOUT_CLIENT = frozenset({Command.CONNECT, Command.HELO})
_NO_MESSAGE = _ABOUT_CLIENT | {Command.UNKNOWN}


class Phase(enum.Enum):
    """How far it has come."""

    NEW = enum.auto()  # it knows nothing of the client
    READY = enum.auto()  # it knows the client
    MESSAGE = enum.auto()  # it is told of a message
    DONE = enum.auto()  # it wants to know no more of this message
    PASSED = enum.auto()  # it wants to know no more of this client
    BROKEN = enum.auto()  # it has failed


class Talk:
    """See above.

    Attributes:
        server: The milter.
        phase: How far it has come.
        verdict: What it has said of the whole message while asked about one recipient.
    """

    __slots__ = ("_helo", "_is_open", "_link", "_us", "phase", "server", "verdict")

    def __init__(self, server: Server, us: Ourselves) -> None:
        self.server = server
        self.phase = Phase.NEW
        self.verdict: Result | None = None
        self._us = us
        self._link: Link | None = None
        self._helo = ""
        self._is_open = False  # it has been told of a message, and not of its end

    def __del__(self) -> None:
        link = getattr(self, "_link", None)
        if link is not None and link.is_open:  # nobody has said that the client is gone
            link.close()

    @property
    def is_passed(self) -> bool:
        """Whether it wants to know no more of this client."""
        return self.phase is Phase.PASSED

    async def connect(self, session: SessionInfo) -> Result | None:
        """Tell of a client.

        Raises:
            Trouble: It cannot be asked.
        """
        for fresh in (False, True):
            link = self._link = await self.server.take(fresh=fresh)
            try:
                return await self._connect(session)
            except Trouble:
                self.drop()
                if not link.was_used:
                    raise
        raise AssertionError("unreachable")

    async def _connect(self, session: SessionInfo) -> Result | None:
        self.phase = Phase.READY
        self._helo, self._is_open = "", False
        name = packets.text(macros.client_name(session)) + b"\0"
        data = name + packets.address_of(session.client_ip, session.client_port)
        about = macros.of_connect(self._us, session)
        return await self._ask(Command.CONNECT, data, about)

    async def helo(self, session: SessionInfo, name: str) -> Result | None:
        """Tell what the client calls itself.

        Raises:
            Trouble: It cannot be asked.
        """
        if self.phase not in {Phase.READY, Phase.MESSAGE, Phase.DONE}:
            return None
        self._forget_message()
        self._helo = name
        return await self._ask(Command.HELO, packets.text(name) + b"\0", macros.of_helo(session))

    async def unknown(self, line: bytes) -> Result | None:
        """Tell of a command that nobody knows.

        Raises:
            Trouble: It cannot be asked.
        """
        knows_client = self.phase in {Phase.READY, Phase.MESSAGE, Phase.DONE}
        if not knows_client or self._terms.version < UNKNOWN_SINCE:
            return None
        return await self._ask(Command.UNKNOWN, line.replace(b"\0", b"") + b"\0", ())

    async def mail(
        self, session: SessionInfo, sender: Address | None, mechanism: str, arguments: Sequence[str]
    ) -> Result | None:
        """Tell of a new message; where that fails on an old connection, on a new one.

        Args:
            session: The client.
            sender: Of the message.
            mechanism: By which it has logged in.
            arguments: What else is said in MAIL.

        Raises:
            Trouble: It cannot be asked.
        """
        is_old = self.phase not in {Phase.NEW, Phase.BROKEN}
        try:
            return await self._mail(session, sender, mechanism, arguments)
        except Trouble:
            if not is_old:
                raise
            self.drop()
            return await self._mail(session, sender, mechanism, arguments)

    async def _mail(
        self, session: SessionInfo, sender: Address | None, mechanism: str, arguments: Sequence[str]
    ) -> Result | None:
        self.verdict = None
        if self.is_passed:
            return None
        if self._link is None:
            refusal = await self.connect(session)
            if refusal is not None or self.is_passed:
                return refusal
        self._forget_message()
        if session.helo and session.helo != self._helo:
            refusal = await self.helo(session, session.helo)
            if refusal is not None or self.is_passed:
                return refusal
        self.phase, self._is_open = Phase.MESSAGE, True
        data = b"".join(packets.text(each) + b"\0" for each in (f"<{sender or ''}>", *arguments))
        about = macros.of_mail(session, sender, mechanism)
        result = await self._ask(Command.MAIL, data, about)
        if result is not None:
            self.phase = Phase.DONE
        return result

    async def rcpt(self, recipient: Address, arguments: Sequence[str]) -> Result | None:
        """Tell of a recipient; that the whole message is thrown away becomes `verdict`.

        Raises:
            Trouble: It cannot be asked.
        """
        if not self._is_told():
            return None
        data = b"".join(packets.text(each) + b"\0" for each in (f"<{recipient}>", *arguments))
        result = await self._ask(Command.RCPT, data, macros.of_rcpt(recipient))
        if result is not None and answers.is_discard(result):
            self.verdict, self.phase = result, Phase.DONE
            return None
        return result

    async def content(self, draft: Draft, queue_id: str, recipients: int) -> Result | None:
        """Tell the message, and have it changed.

        Args:
            draft: The message; gets what the milter wants.
            queue_id: Its name.
            recipients: How many there are.

        Raises:
            Trouble: It cannot be asked.
        """
        if not self._is_told():
            return self.verdict
        seconds = self.server.settings.message_timeout
        try:
            async with asyncio.timeout(seconds):
                result = await self._content(draft, macros.of_content(queue_id, recipients))
        except TimeoutError:
            raise Trouble(f"it is not done with the message within {seconds:g} s") from None
        self.server.breaker.succeeded()
        if self.phase is Phase.MESSAGE:
            self.phase = Phase.DONE
        return result

    async def _content(self, draft: Draft, about: Values) -> Result | None:
        for step in (self._data, self._headers, self._end_of_headers, self._body):
            result = await step(draft, about)
            if result is not None:
                self.phase = Phase.DONE
            if self.phase is not Phase.MESSAGE:
                return result
        return await self._end(draft, about)

    async def _data(self, _draft: Draft, about: Values) -> Result | None:
        if self._terms.version < 4:
            return None
        return await self._ask(Command.DATA, b"", about)

    async def _headers(self, draft: Draft, _about: Values) -> Result | None:
        if self._terms.options & Option.NO_HEADERS:
            return None
        leading_space = bool(self._terms.options & Option.LEADING_SPACE)
        for data in draft.fields(leading_space=leading_space):
            answer = await self._answer_to(Command.HEADER, data)
            if answer is None:
                continue
            if answer.letter == answers.SKIP:
                return None
            result = self._judge(Command.HEADER, answer)
            if result is not None or self.phase is not Phase.MESSAGE:
                return result
        return None

    async def _end_of_headers(self, _draft: Draft, about: Values) -> Result | None:
        return await self._ask(Command.END_OF_HEADERS, b"", about)

    async def _body(self, draft: Draft, _about: Values) -> Result | None:
        if self._terms.options & Option.NO_BODY:
            return None
        chunks = draft.chunks()
        try:
            async for piece in chunks:
                answer = await self._answer_to(Command.BODY, piece)
                if answer is None:
                    continue
                if answer.letter == answers.SKIP:
                    return None
                result = self._judge(Command.BODY, answer)
                if result is not None or self.phase is not Phase.MESSAGE:
                    return result
        finally:
            await chunks.aclose()
        return None

    async def _end(self, draft: Draft, about: Values) -> Result | None:
        settings, link, terms = self.server.settings, self._open_link, self._terms
        link.say(packets.macros(Command.END, about, terms))
        link.say(packets.encode(Command.END))
        left = settings.max_answer
        for _ in range(MAX_ANSWERS):
            packet = await link.read(settings.end_timeout)
            left -= len(packet.data)
            if left < 0:
                raise Trouble(f"it sends more than {settings.max_answer} octets")
            if packet.letter != answers.PROGRESS and not draft.change(packet, terms.wishes):
                self._is_open = False
                draft.finish()
                return self._judge(Command.END, packet)
        raise Trouble(f"it gives more than {MAX_ANSWERS} answers")

    def end(self) -> None:
        """Tell that the client is gone."""
        link, self._link = self._link, None
        if link is not None:
            self.server.breaker.succeeded()
            last = (packets.encode(Command.ABORT),) if self._is_open else ()
            self.server.give_back(link, *last)
        self.phase = Phase.NEW

    def drop(self) -> None:
        """Tell nothing more on this connection: nobody knows what comes on it."""
        link, self._link = self._link, None
        if link is not None:
            link.close()
        self.phase, self._is_open = Phase.BROKEN, False

    # ---- one question

    @property
    def _open_link(self) -> Link:
        if self._link is None:
            raise Trouble("there is no connection")
        return self._link

    @property
    def _terms(self) -> packets.Terms:
        return self._open_link.terms

    def _is_told(self) -> bool:
        """Whether it is to be told more of the message under way.

        Raises:
            Trouble: It knows of none, so it cannot have agreed to it.
        """
        if self.phase in {Phase.MESSAGE, Phase.DONE, Phase.PASSED}:
            return self.phase is Phase.MESSAGE
        raise Trouble("it has not been told of the sender")

    def _forget_message(self) -> None:
        if self._is_open:
            self._open_link.say(packets.encode(Command.ABORT))
            self._is_open = False
        self.phase = Phase.READY

    async def _ask(self, command: Command, data: bytes, about: Values) -> Result | None:
        packet = await self._answer_to(command, data, about)
        return None if packet is None else self._judge(command, packet)

    async def _answer_to(self, command: Command, data: bytes, about: Values = ()) -> Packet | None:
        """Say something; None where it need not be said, or is not answered."""
        link, options = self._open_link, self._terms.options
        if options & _SKIPPED[command]:
            return None
        settings = self.server.settings
        is_content = command in {Command.HEADER, Command.BODY, Command.END_OF_HEADERS}
        seconds = settings.content_timeout if is_content else settings.command_timeout
        if about:
            link.say(packets.macros(command, about, link.terms))
        link.say(packets.encode(command, data))
        if options & _SILENT[command]:
            await link.flush_some(seconds)
            return None
        for _ in range(MAX_ANSWERS):
            packet = await link.read(seconds)
            if packet.letter != answers.PROGRESS:
                return packet
        raise Trouble(f"it gives more than {MAX_ANSWERS} answers")

    def _judge(self, command: Command, packet: Packet) -> Result | None:
        """Take an answer that is not SKIP."""
        if packet.letter == answers.CONTINUE:
            return None
        if packet.letter == answers.ACCEPT and command is Command.UNKNOWN:
            return None
        if packet.letter == answers.ACCEPT:
            self.phase = Phase.PASSED if command in _ABOUT_CLIENT else Phase.DONE
            return None
        result = answers.read_refusal(packet, self.server.settings.title)
        if command in _NO_MESSAGE and answers.is_discard(result):
            raise Trouble("it discards a message before there is one")
        return result
