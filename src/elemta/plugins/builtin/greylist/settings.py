"""What an operator can tell the greylist."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from elemta.plugins import Settings, parse_domain
from elemta.plugins.builtin._valkey import ValkeySettings
from elemta.plugins.builtin._values import Domain, Networks, Seconds


def _check_recipient(text: str) -> str:
    """Read "user@example.test", "user@" or "example.test" to the form it is compared in."""
    local, at, domain = text.rpartition("@")
    if at and not local:
        raise ValueError('"user@example.test", "user@" or "example.test" is expected')
    return f"{local.lower()}{at}{parse_domain(domain) if domain else ''}"


Recipient = Annotated[str, AfterValidator(_check_recipient)]


class GreylistSettings(Settings):
    """Who waits, how long, and where that is kept."""

    delay: Seconds = Field(
        default=300.0, gt=0, description="How long a stranger has to wait, in seconds or as `5m`."
    )
    window: Seconds = Field(
        default=86400.0,
        gt=0,
        description="How long the second attempt is waited for, counted from the first; then it "
        "is a first one again.",
    )
    expiry: Seconds = Field(
        default=35 * 86400.0,
        gt=0,
        description="How long one who came back is known, counted from the last time.",
    )
    auto_allow: int = Field(
        default=5,
        ge=0,
        le=1_000_000,
        description="A network does not wait any more after so many triplets of it have come "
        "back; 0 never ends the waiting.",
    )
    stage: Literal["rcpt", "data"] = Field(
        default="rcpt",
        description='When strangers are put off: at RCPT, or with "data" after the message has '
        "been read, when it is known who signed it. The null sender is always put off after the "
        "message: whoever only asks whether an address exists is not kept waiting.",
    )
    ipv4_prefix: int = Field(
        default=24, ge=8, le=32, description="What is one network of IPv4 addresses."
    )
    ipv6_prefix: int = Field(default=64, ge=16, le=128, description="And of IPv6 addresses.")
    good_senders: tuple[Domain, ...] = Field(
        default=(),
        description="Domains, with all below them, whose mail does not wait where SPF passes for "
        'them; with `stage = "data"` also where they have signed it (DKIM), or DMARC passes.',
    )
    networks: Networks = Field(default=(), description="Networks of clients that do not wait.")
    recipients: tuple[Recipient, ...] = Field(
        default=("postmaster@",),
        description='Whose mail does not wait: "user@example.test", "user@" of all domains, or '
        '"example.test".',
    )
    max_new: int = Field(
        default=2000,
        ge=1,
        description="Strangers of one network that are remembered in one `window`; more of them "
        "wait until there is room, so that nobody can fill the store.",
    )
    store: Literal["node", "valkey"] = Field(
        default="node",
        description='Where all is kept: "node" on the disk of this server, for all its workers, '
        '"valkey" where several servers share it.',
    )
    valkey: ValkeySettings = Field(
        default=ValkeySettings(), description="The store that is shared, a Valkey or Redis."
    )
    on_store_failure: Literal["accept", "defer"] = Field(
        default="accept",
        description="What becomes of strangers while the store does not work: nobody waits, or "
        "all do (451).",
    )

    @model_validator(mode="after")
    def _check_times(self) -> Self:
        if self.window <= self.delay:
            raise ValueError("window must be longer than delay: nobody could ever pass")
        return self
