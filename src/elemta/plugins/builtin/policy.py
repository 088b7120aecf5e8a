"""A small policy: how much a client may send, for whom, to whom; nothing that is not set holds.

Limits hold for the whole node, whatever the number of workers. Domains are compared as they are:
"example.com" is not "mail.example.com". Rules that take more words are in the plugin `rules`.
"""

from ipaddress import ip_network
from typing import ClassVar

from pydantic import BaseModel, Field

from elemta.mail.rate import Rate
from elemta.plugins import (
    ConnectionContext,
    EnvelopeContext,
    Metadata,
    Plugin,
    RecipientContext,
    Result,
    Settings,
)
from elemta.plugins.builtin._known import reputation_of
from elemta.plugins.builtin._values import Domain

MINUTE = 60.0


class PolicySettings(Settings):
    """What is allowed."""

    max_messages_per_minute: int | None = Field(
        default=None,
        ge=1,
        description="Messages that an address (IPv6: a /64) may begin within any minute; more wait "
        "(451).",
    )
    max_recipients_per_message: int | None = Field(
        default=None, ge=1, description="Recipients of a message; more of them wait (452)."
    )
    allowed_sender_domains: frozenset[Domain] = Field(
        default=frozenset(),
        description="Domains that senders may have; notifications, which have none, always pass.",
    )
    blocked_recipient_domains: frozenset[Domain] = Field(
        default=frozenset(), description="Domains that no recipient may have."
    )
    allowed_relay_domains: frozenset[Domain] = Field(
        default=frozenset(),
        description="Domains elsewhere to which anybody may relay, beside what `[relay]` says.",
    )
    block_bad_reputation: bool = Field(
        default=False,
        description="Refuse clients whose reputation is below `min_reputation_score`, where the "
        "plugin `reputation` knows it.",
    )
    min_reputation_score: int = Field(
        default=50, ge=0, le=100, description="The least that will do, of 100."
    )


class Policy(Plugin[PolicySettings]):
    """One method for each moment; the first of its checks that refuses ends it."""

    metadata = Metadata(
        name="policy",
        version="1.0.0",
        description="How much a client may send, for whom, to whom",
        after=("reputation",),
        only_in_worker=True,
    )
    Settings: ClassVar[type[BaseModel]] = PolicySettings

    def on_connect(self, ctx: ConnectionContext) -> Result | None:
        """Look at the reputation of a client."""
        told = self.settings
        if not told.block_bad_reputation:
            return None
        score = reputation_of(ctx.session)
        if score >= told.min_reputation_score:
            return None
        ctx.metrics.count("rejected_connections")
        note = f"reputation {score}, below {told.min_reputation_score}"
        return Result.reject("Your address has a bad reputation", code=554, note=note)

    def on_mail_from(self, ctx: EnvelopeContext) -> Result | None:
        """Look at the sender, and at how much has come from this client."""
        told, sender = self.settings, ctx.sender
        allowed, most = told.allowed_sender_domains, told.max_messages_per_minute
        if allowed and sender is not None and sender.domain not in allowed:
            ctx.metrics.count("rejected_senders")
            note = f"{sender.domain} is not in allowed_sender_domains"
            return Result.reject("Your domain may not send here", note=note)
        if most is None or not ctx.session.client_ip:
            return None
        wait = ctx.tools.rates.take(_network(ctx.session.client_ip), 1, Rate(most, MINUTE))
        if not wait:
            return None
        ctx.metrics.count("deferred_messages")
        note = f"more than {most} messages in a minute; {wait:.0f} s to wait"
        return Result.defer("Too many messages, try again later", note=note)

    def on_rcpt_to(self, ctx: RecipientContext) -> Result | None:
        """Look at a recipient."""
        told, domain = self.settings, ctx.recipient.domain
        if domain in told.blocked_recipient_domains:
            ctx.metrics.count("rejected_recipients")
            note = f"{domain} is in blocked_recipient_domains"
            return Result.reject(f"We do not send to {domain}", note=note)
        most = told.max_recipients_per_message
        if most is not None and len(ctx.recipients) >= most:
            ctx.metrics.count("deferred_recipients")
            note = f"more than {most} recipients"
            return Result.defer("Too many recipients", code=452, enhanced="4.5.3", note=note)
        if ctx.is_relaying and domain in told.allowed_relay_domains:
            return Result.accept(note=f"{domain} is in allowed_relay_domains")
        return None


def _network(ip: str) -> str:
    """Whose messages are counted together: in IPv6 one customer has a whole /64."""
    return str(ip_network((ip, 64), strict=False)) if ":" in ip else ip
