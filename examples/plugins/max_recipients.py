"""Limits the recipients of one message."""

from pydantic import Field

from elemta.plugins import Metadata, Plugin, RecipientContext, Result, Settings


class Limit(Settings):
    """How many; RFC 5321 §4.5.3.1.8 asks for 100 at least."""

    max_recipients: int = Field(default=100, ge=1)


class MaxRecipients(Plugin[Limit]):
    """Says 452: a good client sends to the others in a message of their own."""

    metadata = Metadata(
        name="max-recipients", version="1.0.0", description="Limits recipients of a message"
    )
    Settings = Limit

    def on_rcpt_to(self, ctx: RecipientContext) -> Result | None:
        if len(ctx.recipients) < self.settings.max_recipients:
            return None
        ctx.metrics.count("deferred_recipients")
        return Result.defer("Too many recipients", code=452, enhanced="4.5.3")
