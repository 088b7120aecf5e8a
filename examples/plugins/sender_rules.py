"""Rules for the address of the sender, beyond what the server itself checks."""

from typing import Annotated

from pydantic import AfterValidator

from elemta.plugins import (
    Address,
    EnvelopeContext,
    Metadata,
    Plugin,
    Result,
    Settings,
    parse_address,
    parse_domain,
)


def comparable(text: str) -> str:
    """Give what equal addresses have in common; what is no address is refused."""
    return parse_address(text).key


class Rules(Settings):
    """What is refused beside addresses and domains: hosts without a dot, and "[192.0.2.1]"."""

    addresses: frozenset[Annotated[str, AfterValidator(comparable)]] = frozenset()
    domains: frozenset[Annotated[str, AfterValidator(parse_domain)]] = frozenset()
    allow_literals: bool = False
    allow_single_labels: bool = False


class SenderRules(Plugin[Rules]):
    """Judges the address by its parts; its form has been checked before, quotes and all."""

    metadata = Metadata(
        name="sender-rules", version="1.0.0", description="Rules for addresses of senders"
    )
    Settings = Rules

    def on_mail_from(self, ctx: EnvelopeContext) -> Result | None:
        if ctx.sender is None:  # a notification: never refused as such
            return None
        problem = self.problem_of(ctx.sender)
        if not problem:
            return None
        ctx.metrics.count("rejected_senders", why=problem)
        return Result.reject(f"Sender refused: {problem}", code=553, enhanced="5.1.8")

    def problem_of(self, sender: Address) -> str:
        """Say what is wrong with an address; "" for nothing."""
        rules, domain = self.settings, sender.domain
        if sender.key in rules.addresses:
            return "blocked address"
        if domain in rules.domains:
            return "blocked domain"
        if domain.startswith("["):
            return "" if rules.allow_literals else "address literal"
        if "." not in domain and not rules.allow_single_labels:
            return "domain without a dot"
        return ""
