"""What an operator can tell the verification of recipients."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from elemta.mail.duration import parse_duration
from elemta.plugins import Address, Settings, parse_address, parse_domain
from elemta.plugins.builtin._elsewhere import parse_place

Seconds = Annotated[float, BeforeValidator(parse_duration)]


def _check_pattern(text: str) -> str:
    if text == "*":
        return text
    is_below = text.startswith("*.")
    return f"*.{parse_domain(text[2:])}" if is_below else parse_domain(text)


Pattern = Annotated[str, AfterValidator(_check_pattern)]


class Destination(Settings):
    """Domains, and who knows their recipients."""

    domains: tuple[Pattern, ...] = Field(
        min_length=1,
        description='Whose recipients are verified: "example.test", "*.example.test" for what is '
        'below it, "*" for all.',
    )
    method: Literal["smtp", "lmtp", "table", "sqlite"] = Field(
        description="Who is asked: the server that the mail goes to, by SMTP or LMTP, a file, or a "
        "database of SQLite.",
    )
    server: str = Field(
        default="",
        description='Where that server listens: "192.0.2.7:25", "[2001:db8::7]:24" or '
        '"unix:/run/dovecot/lmtp".',
    )
    table: Path | None = Field(
        default=None,
        description="The file, by its whole path: an address a line, or `@example.test` for all of "
        "a domain; `#` begins a comment. It is read again when it has changed.",
    )
    database: Path | None = Field(
        default=None, description="The file of the database, by its whole path; it is only read."
    )
    query: str = Field(
        default="SELECT 1 FROM recipients WHERE address = :address",
        max_length=2000,
        description="Gives a row for a recipient that exists, and none for others: `:address` is "
        "in small letters, `:local` and `:domain` are its parts.",
    )
    delimiter: str = Field(
        default="+",
        max_length=1,
        description="`user+tag@...` is in the table, or the database, where `user@...` is; empty: "
        "it is not.",
    )
    tls: Literal["opportunistic", "none"] = Field(
        default="opportunistic", description="Whether STARTTLS is used where the server offers it."
    )
    on_unreachable: Literal["defer", "accept"] = Field(
        default="defer",
        description="What a recipient is told while nobody can say: `defer` (450), or "
        "`accept` unverified, with a note.",
    )

    @field_validator("server")
    @classmethod
    def _check_server(cls, value: str) -> str:
        if value:
            parse_place(value)
        return value

    @field_validator("table", "database")
    @classmethod
    def _check_path(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_absolute():
            raise ValueError("its whole path is needed, such as /etc/elemta/recipients")
        return value

    @model_validator(mode="after")
    def _check_method(self) -> Self:
        if self.method == "table" and self.table is None:
            raise ValueError('method = "table" needs a table')
        if self.method == "sqlite" and self.database is None:
            raise ValueError('method = "sqlite" needs a database')
        if self.method in {"smtp", "lmtp"} and not self.server:
            raise ValueError(f'method = "{self.method}" needs a server')
        return self

    def concerns(self, domain: str) -> bool:
        """Whether recipients of a domain, in normal form, are verified here."""
        return any(
            pattern in {"*", domain} or (pattern.startswith("*.") and domain.endswith(pattern[1:]))
            for pattern in self.domains
        )


class VerificationSettings(Settings):
    """Whose recipients are verified, how, and how long that is remembered."""

    destinations: tuple[Destination, ...] = Field(
        default=(), max_length=200, description="Tables below; the first that fits counts."
    )
    probe_sender: str = Field(
        default="", description="The sender in questions to servers; empty: the null sender."
    )
    probe_timeout: Seconds = Field(
        default=10.0,
        gt=0,
        le=25,
        description="How long a question may take, connection and waiting for a free one included.",
    )
    max_probes: int = Field(
        default=5,
        ge=1,
        le=1000,
        description="Questions at the same time to one server, of each worker.",
    )
    breaker_failures: int = Field(
        default=5,
        ge=0,
        le=1000,
        description="After so many failures in a row a server is left alone for a while; 0: never.",
    )
    breaker_pause: Seconds = Field(
        default=30.0, gt=0, description="How long it is left alone then."
    )
    positive_ttl: Seconds = Field(
        default=86_400.0, gt=0, description="How long it is remembered that a recipient exists."
    )
    negative_ttl: Seconds = Field(
        default=600.0, gt=0, description="How long it is remembered that one does not."
    )
    detect_catch_all: bool = Field(
        default=True,
        description="Also ask for a recipient that nobody can have: a domain that takes it takes "
        "all, which is noted, and then it is not asked again for `positive_ttl`.",
    )

    @field_validator("probe_sender")
    @classmethod
    def _check_sender(cls, value: str) -> str:
        if value:
            parse_address(value)
        return value

    @property
    def sender(self) -> Address | None:
        """Who asks."""
        return parse_address(self.probe_sender) if self.probe_sender else None
