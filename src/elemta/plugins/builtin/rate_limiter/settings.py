"""What is limited, for whom, and what becomes of those who want more."""

import re
from functools import cached_property
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from elemta.mail.rate import Rate, parse_rate
from elemta.plugins import Settings
from elemta.plugins.builtin._valkey import ValkeySettings
from elemta.plugins.builtin._values import Domain, Networks
from elemta.plugins.builtin.rules.expressions.facts import Moment
from elemta.plugins.builtin.rules.expressions.templates import Template

Part = Literal[
    "listener",
    "address",
    "network",
    "asn",
    "country",
    "login",
    "tenant",
    "helo",
    "sender",
    "sender_domain",
    "recipient",
    "recipient_domain",
]
Of = Literal["connections", "messages", "recipients", "bytes"]
Hook = Literal["on_connect", "on_helo", "on_auth", "on_mail_from", "on_rcpt_to", "on_data"]

LOGIN_PARTS = frozenset({"login", "tenant"})
RECIPIENT_PARTS = frozenset({"recipient", "recipient_domain"})
OWN = ("limit", "wait")  # what texts may name beside facts
_MOMENTS: dict[Hook, Moment] = {
    "on_connect": Moment.CONNECT,
    "on_helo": Moment.HELO,
    "on_auth": Moment.HELO,
    "on_mail_from": Moment.MAIL,
    "on_rcpt_to": Moment.RCPT,
    "on_data": Moment.HEADERS,
}
_ENVELOPE_PARTS = RECIPIENT_PARTS | {"sender", "sender_domain"}
_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_SIZE_RATE = re.compile(r"([0-9]{1,9}) ?([KMG]i?B) ?/(.+)", re.ASCII)


def _read_rate(value: object) -> str:
    """Check a rate; it stays as it is written, so that a model can be made of the settings."""
    parse_any_rate(value)
    return str(value)


def parse_any_rate(value: object) -> Rate:
    """Read "100/m", or of octets "500MB/d".

    Raises:
        ValueError: It is no rate, or "off".
    """
    found = _SIZE_RATE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found:
        rate = parse_rate(f"{found[1]}/{found[3].strip()}")
        return Rate(rate.count * _UNITS[found[2]], rate.period)
    rate = parse_rate(value)
    if not rate.count:
        raise ValueError("a limit has a rate; leave it out where there is none")
    return rate


RateText = Annotated[str, BeforeValidator(_read_rate)]


class LimitSettings(BaseModel):
    """One limit."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    name: str = Field(
        pattern=r"^[a-z][a-z0-9_]{0,31}$",
        description="What it is called in the log, in metrics and by `elemta limits`.",
    )
    by: tuple[Part, ...] = Field(
        default=("address",),
        description="What makes a key: all of these together. Where one of them is not known, as "
        "the login of somebody who has not logged in, the limit does not hold.",
    )
    of: Of = Field(default="messages", description="What is counted.")
    rate: RateText = Field(
        description='How much in how long: "100/m", "20/10m", of octets also "500MB/d".'
    )
    burst: int = Field(
        default=0,
        ge=0,
        description="How much of it may come at once, the rest evenly. 0: all of it may, and then "
        "no more within any such period.",
    )
    store: Literal["memory", "valkey"] = Field(
        default="memory",
        description='Where it is counted: "memory" for this server, "valkey" for all that share '
        "the store.",
    )
    on_store_failure: Literal["", "local", "closed", "open"] = Field(
        default="",
        description="What holds while the store cannot be used: the limit divided by `nodes` on "
        "each server, nothing may pass (it is deferred), or everything may. Empty: `closed` for "
        "limits that are asked at AUTH, `local` for all others.",
    )
    action: Literal["defer", "reject"] = Field(
        default="defer", description="Whether who is over the limit may try again."
    )
    text: str = Field(
        default="",
        max_length=300,
        description="What the client is told; `{sender}` stands for the fact, as in texts of "
        "[rules](rules.md), `{limit}` for the name, `{wait}` for the seconds until there is room; "
        "empty: what there is too much of.",
    )

    @cached_property
    def parsed(self) -> Rate:
        """The rate as a value."""
        return parse_any_rate(self.rate)

    @property
    def hook(self) -> Hook:
        """The earliest moment at which all that it needs is known."""
        by = frozenset(self.by)
        if self.of == "bytes":
            return "on_data"
        if self.of == "recipients" or by & RECIPIENT_PARTS:
            return "on_rcpt_to"
        if self.of == "messages":
            return "on_mail_from"
        if by & LOGIN_PARTS:
            return "on_auth"
        return "on_helo" if "helo" in by else "on_connect"

    @property
    def without_store(self) -> Literal["local", "closed", "open"]:
        """What holds while the store cannot be used."""
        return self.on_store_failure or ("closed" if self.hook == "on_auth" else "local")

    @cached_property
    def template(self) -> Template:
        """What the client is told."""
        return Template(self.text, _MOMENTS[self.hook], OWN)

    @model_validator(mode="after")
    def _check(self) -> "LimitSettings":
        if len(set(self.by)) < len(self.by):
            raise ValueError("a part of the key is named twice")
        if self.of == "connections" and (odd := sorted(_ENVELOPE_PARTS.intersection(self.by))):
            raise ValueError(f"a connection has no {odd[0]}: count messages or recipients")
        if self.burst > self.parsed.count:
            raise ValueError("the burst is more than the rate allows")
        if _SIZE_RATE.fullmatch(self.rate.strip()) and self.of != "bytes":
            raise ValueError(f"a rate of {self.of} has no unit of size")
        if self.text:
            _ = self.template  # what is wrong with it is told now
        return self


class RateLimiterSettings(Settings):
    """All limits."""

    limits: tuple[LimitSettings, ...] = Field(
        default=(), max_length=100, description="The limits, the first one first."
    )
    connection_rate_per_minute: int = Field(
        default=0,
        ge=0,
        description='Short for a limit "connection_rate" of so many connections of an address '
        "each minute; 0 is none.",
    )
    messages_per_domain_and_hour: int = Field(
        default=0,
        ge=0,
        description='Short for a limit "domain_rate" of so many messages of a sender\'s domain '
        "each hour; 0 is none.",
    )
    exempt_networks: Networks = Field(
        default=(), description="Clients for whom nothing is counted."
    )
    exempt_logins: tuple[str, ...] = Field(
        default=(), description="Who has logged in as one of these is not counted from then on."
    )
    exempt_domains: tuple[Domain, ...] = Field(
        default=(),
        description="Domains that limits by sender or by recipient do not hold for. Anybody can "
        "write a sender's domain.",
    )
    limit_trusted: bool = Field(
        default=False, description="Also count for clients in `relay.trusted_networks`."
    )
    ipv4_prefix: int = Field(default=24, ge=8, le=32, description="How wide a network is.")
    ipv6_prefix: int = Field(default=64, ge=16, le=128, description="Likewise.")
    nodes: int = Field(
        default=1,
        ge=1,
        le=10_000,
        description="How many servers share the store: while it cannot be used each allows its "
        "part.",
    )
    valkey: ValkeySettings = Field(
        default=ValkeySettings(), description="The store that servers share."
    )

    @property
    def all_limits(self) -> tuple[LimitSettings, ...]:
        """The limits, those that were written in short first."""
        short: list[LimitSettings] = []
        if self.connection_rate_per_minute:
            rate = f"{self.connection_rate_per_minute}/m"
            short.append(LimitSettings(name="connection_rate", of="connections", rate=rate))
        if self.messages_per_domain_and_hour:
            rate = f"{self.messages_per_domain_and_hour}/h"
            short.append(LimitSettings(name="domain_rate", by=("sender_domain",), rate=rate))
        return (*short, *self.limits)

    @model_validator(mode="after")
    def _check(self) -> "RateLimiterSettings":
        names = [each.name for each in self.all_limits]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two limits are called {twice[0]}")
        return self
