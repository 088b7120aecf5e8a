"""Writes down what has been found out about a message (RFC 8601).

Fields from outside that bear our name, or could be taken for ours, are removed: who reads mail
behind us believes them. Those of others stay. One field with all results goes on top.

Leaves behind: "authentication-results" in the metadata, with the value of the field.
"""

from typing import ClassVar

from pydantic import BaseModel, Field, field_validator

from elemta.mailauth import Authentication
from elemta.mailauth.authres import forged, format_results
from elemta.plugins import (
    InsertHeader,
    MessageContext,
    Metadata,
    Plugin,
    RemoveHeader,
    Result,
    Settings,
    parse_domain,
)

FIELD = "Authentication-Results"
MAX_REMOVED = 20  # one by one; nobody who means well sends so many, and then all of them go
_METADATA = "authentication-results"


class ResultsSettings(Settings):
    """What is written, and what is removed."""

    authserv_id: str = Field(
        default="",
        description="The name under which results are written; empty: `server.hostname`. Servers "
        "that trust one another's results may share one.",
    )
    show_login: bool = Field(
        default=True,
        description="Say of mail that is submitted whose login it came by (`auth=pass`). Who gets "
        "the mail can read it.",
    )
    keep_trusted: bool = Field(
        default=False,
        description="Fields that bear our name stay where they come from a client in "
        "`relay.trusted_networks`: from another server of ours, or a filter that gives mail back.",
    )

    @field_validator("authserv_id")
    @classmethod
    def _read_id(cls, value: str) -> str:
        return parse_domain(value) if value else ""


class AuthenticationResults(Plugin[ResultsSettings]):
    """Writes results down."""

    metadata = Metadata(
        name="authentication-results",
        version="1.0.0",
        description="Writes down what has been found out about a message (RFC 8601)",
        after=("iprev", "spf", "dkim", "arc", "dmarc"),
        only_in_worker=True,
    )
    Settings: ClassVar[type[BaseModel]] = ResultsSettings

    async def setup(self) -> None:
        """Learn our name."""
        self._id = self.settings.authserv_id or self.tools.hostname

    def on_data(self, ctx: MessageContext) -> Result | None:
        """Remove what is forged, and write down what is known."""
        session, about = ctx.session, ctx.message.authentication
        session.metadata.pop(_METADATA, None)
        edits = self._removals(ctx)
        username = session.username if self.settings.show_login else ""
        if username or _is_anything_known(about):
            value = format_results(
                self._id,
                about,
                client_ip=session.client_ip,
                helo=session.helo,
                sender=str(ctx.sender) if ctx.sender is not None else "",
                username=username,
            )
            session.metadata[_METADATA] = value
            edits.append(InsertHeader(FIELD, value))
        return Result.modify(*edits) if edits else None

    def _removals(self, ctx: MessageContext) -> list[InsertHeader | RemoveHeader]:
        if self.settings.keep_trusted and ctx.session.is_trusted:
            return []
        numbers = forged(ctx.headers.raw, self._id)
        if not numbers:
            return []
        self.tools.metrics.count("removed", len(numbers))
        if len(numbers) > MAX_REMOVED:
            return [RemoveHeader(FIELD)]
        return [RemoveHeader(FIELD, number) for number in numbers]


def _is_anything_known(about: Authentication) -> bool:
    return bool(
        about.iprev or about.spf or about.spf_helo or about.dkim or about.dmarc or about.arc
    )
