"""What an operator can tell of reputations."""

from typing import Annotated

from pydantic import Field

from elemta.plugins import Settings
from elemta.plugins.builtin._values import Seconds

Weight = Annotated[float, Field(ge=0, le=1000)]
Score = Annotated[int, Field(ge=0, le=100)]


class ReputationSettings(Settings):
    """What counts how much, how long, and what is done about it."""

    half_life: Seconds = Field(
        default=7 * 86400.0,
        ge=60,
        description="After how long what has happened counts half, in seconds or as `7d`.",
    )
    trust: float = Field(
        default=10.0,
        gt=0,
        le=10_000,
        description="What everybody has to begin with, as if that much good had come from there: "
        "so much bad halves the score.",
    )
    accepted: Weight = Field(
        default=1.0, description="What a message counts for that was taken, and kept by nobody."
    )
    refused: Weight = Field(
        default=1.0,
        description="What each refusal for good counts against, by a plugin or by the server "
        "itself: a recipient that is not there, a command that is none.",
    )
    limited: Weight = Field(
        default=0.5,
        description="What it counts against its client when a limit of the server is reached.",
    )
    suspicious: Weight = Field(
        default=3.0,
        description="What a message counts against that a plugin has put into quarantine, or "
        "thrown away.",
    )
    spam: Weight = Field(
        default=1.0,
        description="What a message counts against that is taken though Rspamd or SpamAssassin "
        "call it spam.",
    )
    complaint: Weight = Field(
        default=5.0,
        description="What it counts against when somebody complains: `elemta reputation complain`.",
    )
    unauthentic: Weight = Field(
        default=1.0, description="What a message counts against for which SPF or DMARC fails."
    )
    failed_login: Weight = Field(
        default=1.0, description="What a wrong password counts against its client."
    )
    attack: Weight = Field(
        default=3.0, description="What it counts against when the server notices an attack."
    )
    ipv4_prefix: int = Field(
        default=24, ge=8, le=32, description="What is one network of IPv4 addresses."
    )
    ipv6_prefix: int = Field(
        default=48, ge=16, le=64, description="And of IPv6 addresses, whose clients are a /64 each."
    )
    quarantine_below: Score = Field(
        default=0, description="Mail with a lower score is kept back; 0 for never."
    )
    defer_below: Score = Field(
        default=0, description="Mail with a lower score is refused for now (451); 0 for never."
    )
    reject_below: Score = Field(
        default=0,
        description="Mail with a lower score is refused; 0 for never. A reputation alone is a weak "
        "reason for that: rules can ask for more.",
    )
