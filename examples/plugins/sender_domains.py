"""Takes mail only from domains that the operator lists."""

from typing import Annotated

from pydantic import AfterValidator

from elemta.plugins import EnvelopeContext, Metadata, Plugin, Result, Settings, parse_domain

Domain = Annotated[str, AfterValidator(parse_domain)]


class Allowed(Settings):
    """The domains; without any, all are allowed."""

    domains: frozenset[Domain] = frozenset()


class SenderDomains(Plugin[Allowed]):
    """Never refuses the null sender: it is that of notifications (RFC 5321 §4.5.5)."""

    metadata = Metadata(
        name="sender-domains", version="1.0.0", description="An allow list of sender domains"
    )
    Settings = Allowed

    def on_mail_from(self, ctx: EnvelopeContext) -> Result | None:
        allowed = self.settings.domains
        if not allowed or ctx.sender is None or ctx.sender.domain in allowed:
            return None
        ctx.metrics.count("rejected_senders")
        return Result.reject("Your domain may not send here", note=ctx.sender.domain)
