"""What an operator can tell of lists, and what is done about who is listed."""

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, SecretStr, field_validator

from elemta.plugins import Settings, parse_domain
from elemta.plugins.builtin._judging import Consequence, JudgingSettings
from elemta.plugins.builtin._values import Domain, Networks, Seconds
from elemta.plugins.builtin.dnsbl.codes import parse_codes
from elemta.plugins.builtin.rules.expressions.facts import Moment
from elemta.plugins.builtin.rules.expressions.templates import Template

OWN = ("what", "zone")  # what texts may name beside facts


def _check_codes(text: str) -> str:
    parse_codes(text)
    return text


class ListSettings(Settings):
    """One list."""

    zone: Domain = Field(description="Under which name it is asked; replies and the log show it.")
    kind: Literal["client", "helo", "sender", "url"] = Field(
        default="client",
        description="What it lists: addresses of clients, what they call themselves, domains of "
        "senders, or domains that messages lead to.",
    )
    weight: float = Field(
        default=5.0,
        ge=-1000,
        le=1000,
        description="Added to the score of who is listed; below 0 for a list of good ones.",
    )
    codes: tuple[Annotated[str, AfterValidator(_check_codes)], ...] = Field(
        default=(),
        max_length=64,
        description='The answers that count: "127.0.0.2", "127.0.0.4-127.0.0.7", "127.0.0.0/24" '
        'or bits of the last number, "&6"; none means all. For other weights of other codes name '
        "the list again.",
    )
    key: SecretStr = Field(
        default=SecretStr(""),
        description='A key that is put before `zone` and shown nowhere: "env:NAME" or '
        '"file:/path" keep it out of the configuration.',
    )
    text: str = Field(
        default="",
        max_length=200,
        description='Said to who is refused for it, such as where to ask; "{what}" is the address '
        'or domain, "{zone}" the list, and "{client_ip}" and others the facts of [rules](rules.md) '
        "that are known when a client connects.",
    )
    reason: bool = Field(
        default=False, description="Also say what the list says (TXT) of who is refused."
    )
    ipv6: bool = Field(default=True, description="Also ask about IPv6 addresses.")
    health_test: bool = Field(
        default=True,
        description="Test whether it works: 127.0.0.2 must be listed and 127.0.0.1 must not, of "
        "lists of domains TEST and INVALID (RFC 5782 §5). Off for private lists without these.",
    )

    @field_validator("text")
    @classmethod
    def _check_text(cls, text: str) -> str:
        Template(text, Moment.CONNECT, OWN)
        return text

    @field_validator("key")
    @classmethod
    def _check_key(cls, key: SecretStr) -> SecretStr:
        if key.get_secret_value():
            try:
                parse_domain(key.get_secret_value())
            except ValueError:
                raise ValueError("the key cannot be part of a name") from None
        return key


class DnsblSettings(JudgingSettings):
    """Which lists are asked, and what their word is worth."""

    model_config = ConfigDict(hide_input_in_errors=True)  # there may be keys in it

    lists: tuple[ListSettings, ...] = Field(
        default=(), max_length=32, description="The lists, each a table `[[plugins.dnsbl.lists]]`."
    )
    stage: Literal["connect", "mail"] = Field(
        default="mail",
        description="When lists of clients are asked: before the banner, or at MAIL, when the log "
        "can tell who the sender would have been. Other lists are asked at MAIL.",
    )
    reject_at: float = Field(
        default=5.0, ge=0, description="The score from which on mail is refused; 0 for never."
    )
    defer_at: float = Field(
        default=0.0, ge=0, description="The score from which on it is refused for now; 0 for never."
    )
    quarantine_at: float = Field(
        default=0.0, ge=0, description="The score from which on it is kept back; 0 for never."
    )
    max_urls: int = Field(
        default=20,
        ge=1,
        le=200,
        description="Domains of a message that lists of the kind `url` are asked about; of more of "
        "them those at both its ends.",
    )
    networks: Networks = Field(
        default=(), description="Networks of clients that nobody is asked about."
    )
    limit: Seconds = Field(
        default=5.0,
        gt=0,
        le=60,
        description="Seconds that all lists together may take; who has not answered then has "
        "failed.",
    )
    on_failure: Consequence = Field(
        default="continue",
        description="What is done where not one of the lists has answered, or all are set aside.",
    )
    test_every: Seconds = Field(
        default=3600.0,
        ge=60,
        description="How often lists are tested. One that fails is set aside, and tested each "
        "minute until it works.",
    )
