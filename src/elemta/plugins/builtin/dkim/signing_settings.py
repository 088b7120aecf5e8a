"""What an operator says of signing."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from elemta.mail.address import parse_domain
from elemta.plugins.builtin.dkim.keystore import KeyStoreError, check_domain, check_selector
from elemta.plugins.builtin.dkim.rotation import RETIRE_AFTER
from elemta.plugins.plugin import Settings

ANY = "*"


def _domain(value: str) -> str:
    """Bring a domain, "*.domain" or "*" into its normal form."""
    if value == ANY:
        return value
    star, dot, rest = value.partition(".")
    if star == ANY and dot:
        return f"*.{_plain(rest)}"
    return _plain(value)


def _listed(name: str, signers: tuple[str, ...]) -> tuple[str, ...]:
    """Bring the domains of an entry into their normal form."""
    if not signers:
        raise ValueError(f"{name}: at least one domain is expected")
    return tuple(dict.fromkeys(_plain(each) for each in signers))


def _plain(value: str) -> str:
    try:
        return check_domain(parse_domain(value))
    except KeyStoreError as error:
        raise ValueError(str(error)) from None


class SigningSettings(Settings):
    """Whether, what and with which keys mail is signed."""

    sign: bool = Field(default=True, description="Sign mail of domains that have keys.")
    sign_for: tuple[Literal["authenticated", "trusted", "local"], ...] = Field(
        default=("authenticated", "trusted", "local"),
        description="Whose mail: of logins, of trusted networks, of users of this machine and of "
        "plugins.",
    )
    sign_by: Literal["from", "envelope"] = Field(
        default="from", description="Which domain chooses the keys: in From, or of the sender."
    )
    signers: dict[str, tuple[str, ...]] = Field(
        default={},
        description='Who signs for a domain, "*.domain" or "*": domains with keys of their own, '
        "all of which sign. Without an entry a domain signs for itself, or one above it does.",
    )
    tenants: dict[str, tuple[str, ...]] = Field(
        default={},
        description="Who signs for a tenant, whatever is in From: domains as in `signers`. A "
        "tenant is the domain of the login, or what a plugin has left as `tenant` in the metadata "
        "of the session.",
    )
    parents: bool = Field(
        default=True,
        description="A domain without keys is signed for by the nearest domain above with keys.",
    )
    keys_dir: str = Field(
        default="", description="Folder of keys; else `dkim` in the state folder of the server."
    )
    selector: str = Field(default="", description="Of `private_key`.")
    private_key: str = Field(
        default="",
        repr=False,
        description="A key of your own: the path of a PEM file, or its content (by a reference).",
    )
    domains: tuple[str, ...] = Field(
        default=(), description="Domains that `private_key` signs for; else the local domains."
    )
    on_missing_key: Literal["defer", "send"] = Field(
        default="defer",
        description="What becomes of mail whose key cannot be used: it waits, or goes unsigned.",
    )
    expire_after: float = Field(
        default=0.0, ge=0, le=365 * 86400, description="Seconds a signature is good for; 0: ever."
    )
    check_every: float = Field(
        default=600.0,
        ge=1,
        description="Seconds between looks whether the DNS shows keys that wait for it.",
    )
    retire_after: float = Field(
        default=RETIRE_AFTER,
        ge=0,
        description="Seconds for which mail with the signature of a key may be under way.",
    )

    @field_validator("signers")
    @classmethod
    def _check_signers(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        return {_domain(name): _listed(name, signers) for name, signers in value.items()}

    @field_validator("tenants")
    @classmethod
    def _check_tenants(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        return {name.lower(): _listed(name, signers) for name, signers in value.items()}

    @field_validator("domains")
    @classmethod
    def _check_domains(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_plain(each) for each in value)

    @field_validator("selector")
    @classmethod
    def _check_selector(cls, value: str) -> str:
        if value:
            try:
                check_selector(value.lower())
            except KeyStoreError as error:
                raise ValueError(str(error)) from None
        return value.lower()

    @model_validator(mode="after")
    def _check_together(self) -> Any:  # noqa: ANN401 - pydantic gives the model back
        if bool(self.selector) != bool(self.private_key):
            raise ValueError("selector and private_key need one another")
        if self.private_key and not self.domains:
            raise ValueError("private_key needs domains to sign for: here, or relay.local_domains")
        return self
