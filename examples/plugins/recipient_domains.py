"""Refuses recipients in domains that the operator lists."""

from typing import Annotated

from pydantic import AfterValidator

from elemta.plugins import Metadata, Plugin, RecipientContext, Result, Settings, parse_domain


class Blocked(Settings):
    """The domains."""

    domains: frozenset[Annotated[str, AfterValidator(parse_domain)]] = frozenset()


class RecipientDomains(Plugin[Blocked]):
    """Refuses one recipient; the others of the message are not touched."""

    metadata = Metadata(
        name="recipient-domains", version="1.0.0", description="A block list of recipient domains"
    )
    Settings = Blocked

    def on_rcpt_to(self, ctx: RecipientContext) -> Result | None:
        domain = ctx.recipient.domain
        if domain not in self.settings.domains:
            return None
        ctx.metrics.count("rejected_recipients")
        return Result.reject(f"We do not send to {domain}", note=str(ctx.recipient))
