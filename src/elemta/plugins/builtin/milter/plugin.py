"""The plugin: asks each milter in turn, and does what the operator wants where one fails."""

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar

from pydantic import BaseModel

from elemta.plugins import (
    AuthContext,
    CommandContext,
    ConnectionContext,
    EnvelopeContext,
    HelloContext,
    MessageContext,
    Metadata,
    Plugin,
    RecipientContext,
    Result,
    SessionInfo,
)
from elemta.plugins.builtin._elsewhere import LeftAlone, Trouble, add_to_note, give_up
from elemta.plugins.builtin.milter import answers
from elemta.plugins.builtin.milter.draft import Draft
from elemta.plugins.builtin.milter.link import Server
from elemta.plugins.builtin.milter.macros import Ourselves
from elemta.plugins.builtin.milter.settings import MilterSettings
from elemta.plugins.builtin.milter.talk import Phase, Talk

NOTE = "milter"
FAILED = "milter.failed"  # a note of the message: the milters that it came past unasked
_WORDS = "A content check is not available, try again later"
_ARGUMENTS = re.compile(
    r'(?:FROM|TO):[ \t]*<(?:"(?:\\.|[^"\\])*"|[^">])*>(.*)', re.IGNORECASE | re.DOTALL
)
_MOST_ARGUMENTS = 32
_COMMANDS = frozenset(
    {"AUTH", "BDAT", "DATA", "EHLO", "ETRN", "EXPN", "HELO", "HELP"}
    | {"LHLO", "MAIL", "NOOP", "QUIT", "RCPT", "RSET", "STARTTLS", "VRFY"}
)

Ask = Callable[[Talk], Awaitable[Result | None]]


class Conversation:
    """What is remembered of a client.

    Attributes:
        talks: One for each milter, in order.
        mechanism: By which it has logged in.
        arguments: What the last MAIL or RCPT said beside the address.
    """

    __slots__ = ("arguments", "mechanism", "talks")

    def __init__(self, talks: Sequence[Talk]) -> None:
        self.talks = talks
        self.mechanism = ""
        self.arguments: tuple[str, ...] = ()


class Milter(Plugin[MilterSettings]):
    """Asks milters."""

    metadata = Metadata(
        name="milter",
        version="1.0.0",
        description="Asks milters: programs that speak the milter protocol of Sendmail",
        after=("iprev",),
        only_in_worker=True,
    )
    Settings: ClassVar[type[BaseModel]] = MilterSettings

    async def setup(self) -> None:
        """Know the milters; nobody is connected to before a client comes."""
        tools, settings = self.tools, self.settings
        self._us = Ourselves(tools.hostname, settings.daemon_name)
        self._servers = [Server(each, tools) for each in settings.milters]

    async def close(self) -> None:
        """Say goodbye."""
        for server in self._servers:
            server.close()

    # ---- a client

    async def on_connect(self, ctx: ConnectionContext) -> Result | None:
        """Tell of the client; a milter that cannot be reached is tried again at MAIL."""
        session = ctx.session
        return await self._ask_about_client(session, lambda talk: talk.connect(session))

    async def on_helo(self, ctx: HelloContext) -> Result | None:
        """Tell what it calls itself."""
        session, name = ctx.session, ctx.name
        return await self._ask_about_client(session, lambda talk: talk.helo(session, name))

    def on_auth(self, ctx: AuthContext) -> None:
        """Remember how it has logged in."""
        if ctx.authenticated:
            self._of(ctx.session).mechanism = ctx.mechanism

    def on_command(self, ctx: CommandContext) -> Awaitable[Result | None] | None:
        """Tell of a command that is none of SMTP."""
        if ctx.verb in _COMMANDS or NOTE not in ctx.session.notes:
            return None
        return self._ask_about_client(ctx.session, lambda talk: talk.unknown(ctx.line))

    def on_command_validated(self, ctx: CommandContext) -> None:
        """Remember the arguments of MAIL and RCPT."""
        if ctx.verb in {"MAIL", "RCPT"}:
            found = _ARGUMENTS.fullmatch(ctx.argument)
            arguments = tuple(found[1].split()) if found is not None else ()
            self._of(ctx.session).arguments = arguments[:_MOST_ARGUMENTS]

    def on_disconnect(self, ctx: ConnectionContext) -> None:
        """Tell that it is gone."""
        known: Conversation | None = ctx.session.notes.pop(NOTE, None)
        for talk in known.talks if known is not None else ():
            talk.end()

    # ---- a message

    async def on_mail_from(self, ctx: EnvelopeContext) -> Result | None:
        """Tell of the sender."""
        session, known = ctx.session, self._of(ctx.session)

        def ask(talk: Talk) -> Awaitable[Result | None]:
            return talk.mail(session, ctx.sender, known.mechanism, known.arguments)

        return await self._ask_all(ctx, known, ask)

    async def on_rcpt_to(self, ctx: RecipientContext) -> Result | None:
        """Tell of a recipient."""
        known = self._of(ctx.session)
        return await self._ask_all(
            ctx, known, lambda talk: talk.rcpt(ctx.recipient, known.arguments)
        )

    async def on_data(self, ctx: MessageContext) -> Result | None:
        """Tell the content, if it is to be told here."""
        return await self._tell(ctx)

    async def on_validated(self, ctx: MessageContext) -> Result | None:
        """Tell the content, if it is to be told here."""
        return await self._tell(ctx)

    async def on_filter(self, ctx: MessageContext) -> Result | None:
        """Tell the content, if it is to be told here."""
        return await self._tell(ctx)

    async def on_enqueue(self, ctx: MessageContext) -> Result | None:
        """Tell the content, if it is to be told here."""
        return await self._tell(ctx)

    async def _tell(self, ctx: MessageContext) -> Result | None:
        if ctx.hook != self.settings.content_at:
            return None
        known, draft = self._of(ctx.session), Draft(ctx)
        recipients = len(ctx.recipients)
        kept: list[str] = []
        for talk in known.talks:
            title, saved = talk.server.settings.title, draft.save()
            draft.quarantine = ""
            result = await self._try(
                ctx, talk, lambda talk: talk.content(draft, ctx.queue_id, recipients)
            )
            if talk.phase is Phase.BROKEN:
                draft.restore(saved)
                draft.quarantine = ""
            if result is not None and (result.reply or answers.is_discard(result)):
                return result
            if result is not None:  # it has failed, and the message is to be kept for that
                kept.append(result.note)
            if draft.quarantine:
                kept.append(f"milter {title}: {draft.quarantine}")
        edits = tuple(draft.edits)
        if kept:
            return Result.quarantine(note="; ".join(kept), edits=edits)
        return Result.modify(*edits) if edits else None

    # ---- asking

    def _of(self, session: SessionInfo) -> Conversation:
        known = session.notes.get(NOTE)
        if not isinstance(known, Conversation):
            known = Conversation([Talk(server, self._us) for server in self._servers])
            session.notes[NOTE] = known
        return known

    async def _ask_about_client(self, session: SessionInfo, ask: Ask) -> Result | None:
        for talk in self._of(session).talks:
            if talk.phase is Phase.BROKEN:
                continue
            try:
                result = await self._timed(talk, ask)
            except Trouble as error:
                self._note_failure(talk, error)
                continue
            if result is not None:
                return result
        return None

    async def _ask_all(self, ctx: EnvelopeContext, known: Conversation, ask: Ask) -> Result | None:
        kept: Result | None = None
        for talk in known.talks:
            result = await self._try(ctx, talk, ask)
            if result is not None and (result.reply or answers.is_discard(result)):
                return result
            kept = kept or result
        return kept

    async def _try(self, ctx: EnvelopeContext, talk: Talk, ask: Ask) -> Result | None:
        """Ask one milter; what the operator wants where it fails."""
        is_new = ctx.hook == "on_mail_from"
        if talk.phase is Phase.BROKEN and not is_new:
            return self._give_up(ctx, talk, "it has failed before")
        try:
            return await self._timed(talk, ask)
        except Trouble as error:
            self._note_failure(talk, error)
            return self._give_up(ctx, talk, str(error))

    async def _timed(self, talk: Talk, ask: Ask) -> Result | None:
        title, clock = talk.server.settings.title, self.tools.clock
        began = clock.monotonic()
        try:
            result = await ask(talk)
        except BaseException:
            talk.drop()
            raise
        self.tools.metrics.observe("seconds", clock.monotonic() - began, milter=title)
        if result is not None:
            self.tools.metrics.count("answers", milter=title, result=result.action.value)
        return result

    def _note_failure(self, talk: Talk, error: Trouble) -> None:
        breaker = talk.server.breaker
        if isinstance(error, LeftAlone):
            breaker.complain(error)
        else:
            breaker.failed(error)

    def _give_up(self, ctx: EnvelopeContext, talk: Talk, why: str) -> Result | None:
        settings = talk.server.settings
        add_to_note(ctx.message.notes, FAILED, settings.title)
        return give_up(settings.on_failure, _WORDS, f"milter {settings.title}: {why}")
