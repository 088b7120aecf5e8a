"""Lets mail pass through to some domains."""

from typing import Annotated

from pydantic import AfterValidator

from elemta.plugins import Metadata, Plugin, RecipientContext, Result, Settings, parse_domain


class Relayed(Settings):
    """Domains that everybody may send to, and whether those who log in may send anywhere."""

    domains: frozenset[Annotated[str, AfterValidator(parse_domain)]] = frozenset()
    relay_for_users: bool = True


class RelayControl(Plugin[Relayed]):
    """Votes for relaying, and never against: without a vote the server refuses it by itself.

    ACCEPT ends the asking about a recipient, so this plugin goes behind those that may refuse:
    give it the highest `priority`.
    """

    metadata = Metadata(
        name="relay-control", version="1.0.0", description="Allows relaying to some domains"
    )
    Settings = Relayed

    def on_rcpt_to(self, ctx: RecipientContext) -> Result | None:
        if not ctx.is_relaying:
            return None
        if ctx.recipient.domain in self.settings.domains:
            ctx.metrics.count("relayed_recipients")
            return Result.accept(note=f"relay domain {ctx.recipient.domain}")
        if self.settings.relay_for_users and ctx.session.is_authenticated:
            ctx.metrics.count("relayed_recipients")
            return Result.accept(note=f"relaying for {ctx.session.username}")
        return None
