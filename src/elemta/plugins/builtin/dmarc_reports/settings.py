"""What the operator can set of reports."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from elemta.mail.address import Address, parse_address
from elemta.plugins import Settings
from elemta.plugins.builtin.dmarc_reports.store import Bounds

DAY = 86_400  # seconds


class DmarcReportsSettings(Settings):
    """Who reports, when, and how much."""

    org_name: str = Field(
        default="", max_length=100, description="Name of the organization; empty: the server's."
    )
    email: str = Field(
        default="",
        description="Address that reports come from, and that answers questions about them. Its "
        "domain has to sign with DKIM, and stands for this receiver; empty: postmaster at the "
        "server's name.",
    )
    contact: str = Field(
        default="", max_length=200, description="Where else to ask, such as a web page."
    )
    bounces: str = Field(
        default="",
        description="Address that hears of reports which cannot be delivered; empty: nobody does.",
    )
    interval: Literal[1, 2, 3, 4, 6, 8, 12, 24] = Field(
        default=24, description="Hours that one report covers; they begin at midnight (UTC)."
    )
    spread: int = Field(
        default=7200,
        ge=0,
        le=DAY,
        description="Seconds after that over which reports are sent, each domain at its time.",
    )
    max_size: int = Field(
        default=5_000_000,
        ge=1000,
        le=25_000_000,
        description="Octets of a file; a report that is larger becomes several.",
    )
    max_rows: int = Field(
        default=10_000, ge=1, le=1_000_000, description="Rows of a report that are kept."
    )
    max_rows_total: int = Field(
        default=200_000, ge=1, le=10_000_000, description="Rows of all reports that are kept."
    )
    max_letters: int = Field(
        default=1000, ge=0, description="Letters with reports that are sent within 24 hours."
    )
    max_letters_per_domain: int = Field(
        default=100,
        ge=0,
        description="Of these, letters on one registered domain and those below it: nobody uses "
        "up what others need.",
    )
    exclude: tuple[str, ...] = Field(
        default=(), description="Domains that get no reports, those below them neither."
    )
    retention: int = Field(
        default=30, ge=1, le=3650, description="Days for which is known what has been sent."
    )

    @field_validator("email", "bounces")
    @classmethod
    def _is_address(cls, text: str) -> str:
        if text:
            address = parse_address(text, allow_utf8=False)
            if not address.domain or address.domain.startswith("["):
                raise ValueError("an address with a domain name is expected")
        return text

    @field_validator("exclude")
    @classmethod
    def _in_lower_case(cls, domains: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(domain.lower().strip(".") for domain in domains)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.spread > self.interval * 3600:
            raise ValueError("spread is longer than interval")
        return self

    def author(self, hostname: str) -> Address:
        """Give the address that reports come from."""
        return parse_address(self.email or f"postmaster@{hostname}")

    def excludes(self, domain: str) -> bool:
        """Whether a domain gets no reports."""
        return any(f".{domain}".endswith(f".{each}") for each in self.exclude if each)

    @property
    def bounds(self) -> Bounds:
        return Bounds(self.interval * 3600, self.max_rows, self.max_rows_total, self.spread)
