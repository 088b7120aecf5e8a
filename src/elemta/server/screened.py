"""A session whose client has not been here before: does it speak as a mail server does?

    TCP ── "220-name" ── the wait ── "220 name" ── EHLO, MAIL, RCPT ... QUIT
             │    lists in the DNS and other plugins are asked meanwhile   │
             └ who talks now is an early talker                            └ all else is passed

What clients fail by, and what follows, is told in `docs/pregreet.md`. A check never makes anything
allowed that is not: where nothing follows from it, the rules that hold for everybody hold.
"""

from collections.abc import Awaitable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from elemta.mail.ids import SessionId
from elemta.mail.reply import Reply, clean_text
from elemta.net.stream import Stream
from elemta.net.tasks import spawn
from elemta.server.judged import JudgedSession
from elemta.server.limited import LimitedSession
from elemta.server.limits.shedding import Load
from elemta.server.pregreet import DROPPED, Action, Check, find_breach
from elemta.server.proxies import Identity
from elemta.server.session import Handler
from elemta.server.surroundings import Surroundings
from elemta.smtp import Limits
from elemta.smtp import events as smtp

MAX_DETAIL = 100  # characters of what a client has said

Waiting = Awaitable[None] | None


class ScreenedSession(LimitedSession):
    """A session with checks."""

    __slots__ = ()

    def __init__(self, stream: Stream, session_id: SessionId, around: Surroundings) -> None:
        screen = around.pregreet
        self._screening = None if screen is None else screen.begin(stream.peer_ip, session_id)
        super().__init__(stream, session_id, around)
        self._unwatched = self._handlers
        self._handlers = self.WATCHING

    def _limits(self) -> Limits:
        limits, screening = super()._limits(), self._screening
        if screening is None or screening.action_for(Check.PIPELINING) is not Action.ENFORCE:
            return limits
        return replace(
            limits, strict_sync=False
        )  # no mail is taken, but who would have sent it is seen

    def _assume(self, identity: Identity) -> bool:
        before = self._ip
        is_let_in = super()._assume(identity)
        screen = self._around.pregreet
        if screen is not None and self._ip != before:
            self._screening = screen.begin(self._ip, self._id, is_greeted=True)
            self._machine.change_limits(self._limits())
        return is_let_in

    # ---- before the banner

    @property
    def _is_to_listen(self) -> bool:
        """Whether the end of the banner is held back."""
        screening = self._screening
        if screening is None or not screening.is_due(Check.EARLY_TALKER):
            return False
        return not screening.has_listened and not self._is_caught_anyway()

    async def _listen(self) -> bytes | None:
        """Hold the end of the banner back; what comes meanwhile, b"" for the end, None for nothing.

        Raises:
            TimeoutError: The server stops.
            ConnectionError: The connection broke.
        """
        screening, stream, gate = self._screening, self._stream, self._gate
        if screening is None:
            return None
        screening.has_listened = True
        is_stressed = gate is not None and gate.shedding.load is not Load.NORMAL
        wait = screening.wait(is_stressed=is_stressed)
        stream.deadline = self._around.clock.monotonic() + wait
        if screening.teases:
            stream.write(b"220-" + self._banner().encode()[4:])
        try:
            said = await stream.read()
        except TimeoutError:
            if self._is_closing:
                raise
            return None
        stream.unread(said)
        return said

    def _judge_silence(self, said: bytes | None) -> bool:
        """Take note of what came while the banner was held back; False where that is the end."""
        if self._screening is not None and said is None:
            self._screening.succeed(Check.EARLY_TALKER)
        if said:
            return not self._has_failed(Check.EARLY_TALKER, said)
        if said is not None:
            self._over = "lost"
        return said is None

    def _is_caught_anyway(self) -> bool:
        """Whether the client has talked so early that it is refused without this check, too."""
        screening, is_strict = self._screening, self._settings.limits.strict_sync
        if screening is None or screening.action_for(Check.EARLY_TALKER) is not Action.IGNORE:
            return False
        if not is_strict or self._around.door.is_submission or not self._stream.has_early_input():
            return False
        _ = screening.fail(Check.EARLY_TALKER, "input at once")
        return True

    def _greet(self) -> bool:
        screening = self._screening
        if screening is None or not screening.has_listened:
            return super()._greet()
        self._out.append(self._banner().encode())
        return True

    # ---- commands

    def _watch(self, event: Any) -> Waiting:  # noqa: ANN401 - any event of the machine
        screening, machine = self._screening, self._machine
        if screening is not None:
            line, kind = machine.line, type(event)
            breach = find_breach(event, line, is_unsynced=machine.is_unsynced)
            machine.is_unsynced = False
            if breach is not None:
                if self._has_failed(breach, line or b"", event):
                    return None
            elif kind is smtp.Rcpt:
                screening.has_named = True
            elif kind is smtp.BodyEnd or (kind is smtp.Quit and screening.has_named):
                screening.succeed()
        return self._unwatched[type(event)](self, event)

    def _has_failed(self, check: Check, said: bytes, event: smtp.Event | None = None) -> bool:
        """Take note of a failure; True where it ends the session."""
        screening = self._screening
        if screening is None:
            return False
        detail = clean_text(said.decode("ascii", "backslashreplace"), MAX_DETAIL).strip()
        action = screening.fail(check, detail)
        is_closed_anyway = check is Check.NON_SMTP_COMMAND and getattr(event, "close", False)
        if action is not Action.DROP or is_closed_anyway:
            return False
        stage = "connect" if event is None else self._stage()
        self._end("pregreet", self._tell(DROPPED[check], stage, note=detail))
        if event is None:
            self._flush()
        return True

    def _on_rcpt(self, event: smtp.Rcpt) -> Waiting:
        refusal, transaction = self._find_refusal(), self._transaction
        if refusal is None or transaction is None:
            return super()._on_rcpt(event)
        sender, recipient = str(transaction.sender or ""), str(event.recipient)
        self._refuse("rcpt", refusal, mail_from=sender, rcpt_to=recipient)
        return None

    def _begin_data(self) -> Reply | None:
        refusal = super()._begin_data()
        return refusal or self._find_refusal()  # it may have failed since it named recipients

    def _find_refusal(self) -> Reply | None:
        return None if self._screening is None else self._screening.refusal

    WATCHING: ClassVar[Mapping[type[Any], Handler]] = dict.fromkeys(LimitedSession.HANDLERS, _watch)


class ScreenedPlainSession(ScreenedSession):
    """Without plugins."""

    __slots__ = ()

    async def _hold(self) -> None:
        if not self._is_to_listen or self._judge_silence(await self._listen()):
            await super()._hold()


class ScreenedJudgedSession(ScreenedSession, JudgedSession):
    """With plugins: they are asked about the client while the banner is held back."""

    __slots__ = ()

    async def _is_let_in(self) -> bool:
        if not self._is_to_listen:
            return await super()._is_let_in()
        listening = spawn(self._listen_beside(), "silence before the banner")
        try:
            if not await super()._is_let_in():
                return False
            said = await listening
        finally:
            listening.cancel()
        if isinstance(said, OSError):
            raise said
        return self._judge_silence(said)

    async def _listen_beside(self) -> bytes | OSError | None:
        """As `_listen`, but what would be raised is given: it belongs to whoever waits."""
        try:
            return await self._listen()
        except OSError as error:  # TimeoutError and ConnectionError are
            return error


def screened(kind: type[LimitedSession]) -> type[LimitedSession]:
    """Give the kind of session that does the same with checks."""
    return ScreenedJudgedSession if kind is JudgedSession else ScreenedPlainSession
