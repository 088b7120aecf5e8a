"""Whether the name of a client's address leads back to it (RFC 8601 §3).

Asked once for a connection, before the banner; all its messages share the verdict. By default
nobody is refused for it: many who mean well have no such name.

Leaves behind: `authentication.iprev` of each message, `auth.iprev` in the metadata.
"""

from collections.abc import Awaitable
from typing import ClassVar

from pydantic import BaseModel, Field

from elemta.mailauth import AuthStatus, IprevVerdict
from elemta.mailauth.iprev import check_iprev
from elemta.plugins import ConnectionContext, EnvelopeContext, Metadata, Plugin, Result
from elemta.plugins.builtin._judging import Consequence, JudgingSettings, Words, act
from elemta.plugins.builtin._steps import Begun, begin, within

NOTE = "iprev"
_FAILED = Words("5.7.25", "4.7.25", "The name of your address does not lead back to it")  # RFC 7372
_TROUBLE = Words("5.4.3", "4.4.3", "The name of your address cannot be looked up")


class IprevSettings(JudgingSettings):
    """What is done about names that do not lead back."""

    on_fail: Consequence = Field(
        default="continue",
        description="What is done about a client whose address has no name, or one that does not "
        "lead back to it.",
    )
    on_temperror: Consequence = Field(
        default="continue", description="What is done where that cannot be looked up."
    )
    limit: float = Field(
        default=5.0,
        gt=0,
        le=60,
        description="Seconds that look-ups may take; then it counts as a temperror.",
    )


class Iprev(Plugin[IprevSettings]):
    """Asks who a client is."""

    metadata = Metadata(
        name="iprev",
        version="1.0.0",
        description="Whether the name of a client's address leads back to it",
        only_in_worker=True,
    )
    Settings: ClassVar[type[BaseModel]] = IprevSettings

    def on_connect(self, ctx: ConnectionContext) -> Result | Awaitable[Result | None] | None:
        """Look the client up."""
        session = ctx.session
        if not session.client_ip or not self.settings.concern(session):
            return None
        begun = begin(check_iprev(ctx.tools.dns, session.client_ip))
        if isinstance(begun, Begun):
            return self._wait(ctx, begun)
        return self._take(ctx, begun[0])

    def on_mail_from(self, ctx: EnvelopeContext) -> None:
        """Say of the message what is known of its client."""
        session = ctx.session
        verdict = session.notes.get(NOTE)
        if verdict is not None and self.settings.concern(session):
            ctx.message.authentication.iprev = verdict

    async def _wait(self, ctx: ConnectionContext, begun: Begun[IprevVerdict]) -> Result | None:
        return self._take(ctx, await within(self.settings.limit, begun, _late))

    def _take(self, ctx: ConnectionContext, verdict: IprevVerdict) -> Result | None:
        session, status = ctx.session, verdict.status
        session.notes[NOTE] = verdict
        session.metadata["auth.iprev"] = str(status)
        self.tools.metrics.count("checks", result=str(status))
        if status is AuthStatus.PASS:
            return None
        note = f"iprev={status}: {verdict.problem}"
        if status is AuthStatus.TEMPERROR:
            return act(self.settings.on_temperror, _TROUBLE, note)
        return act(self.settings.on_fail, _FAILED, note)


def _late() -> IprevVerdict:
    return IprevVerdict(AuthStatus.TEMPERROR, problem="the look-up has taken too long")
