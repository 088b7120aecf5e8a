"""Limits the size of messages, for some senders more than for others."""

from typing import Annotated

from pydantic import AfterValidator, Field

from elemta.plugins import MessageContext, Metadata, Plugin, Result, Settings, parse_domain


class Limit(Settings):
    """Octets, header section included: for all, and for some sender domains.

    The server has a limit of its own that it announces; this one can only be lower.
    """

    max_size: int = Field(default=10_000_000, ge=1)
    domains: dict[Annotated[str, AfterValidator(parse_domain)], int] = Field(default_factory=dict)


class MessageSize(Plugin[Limit]):
    """Knows the size without reading anything."""

    metadata = Metadata(
        name="message-size", version="1.0.0", description="Limits the size of messages"
    )
    Settings = Limit
    independent = True

    def on_data(self, ctx: MessageContext) -> Result | None:
        domain = ctx.sender.domain if ctx.sender is not None else ""
        limit = self.settings.domains.get(domain, self.settings.max_size)
        if ctx.size <= limit:
            return None
        ctx.metrics.count("rejected_messages")
        return Result.reject(
            f"Message is larger than {limit} octets",
            code=552,
            enhanced="5.3.4",
            note=f"{ctx.size} octets",
        )
