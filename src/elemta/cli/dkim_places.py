"""Where keys are by a configuration, and how the DNS is asked what it shows of them."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
from pydantic import ValidationError

from elemta.app import settings as derive
from elemta.app.dkim import dkim_table
from elemta.cli.options import load_config
from elemta.cli.output import fail
from elemta.config import Config
from elemta.mail.address import parse_domain
from elemta.mail.errors import AddressError
from elemta.net import DnsResolver
from elemta.net.clock import SystemClock
from elemta.net.references import forget
from elemta.plugins.builtin.dkim.keyring import own_key
from elemta.plugins.builtin.dkim.keystore import (
    KeyEntry,
    KeyState,
    KeyStore,
    KeyStoreError,
    find_store,
)
from elemta.plugins.builtin.dkim.publishing import Sighting, look_up
from elemta.plugins.builtin.dkim.rotation import observe
from elemta.plugins.builtin.dkim.signing_settings import SigningSettings


@dataclass(frozen=True, slots=True)
class Places:
    """Where keys are.

    Attributes:
        config: The configuration.
        settings: What it says of signing.
        store: The folder of keys.
    """

    config: Config
    settings: SigningSettings
    store: KeyStore

    def own_keys(self) -> dict[str, KeyEntry]:
        """Give the key that the configuration names, for each domain it is used for."""
        entry = own_key(self.settings)
        return dict.fromkeys(self.settings.domains, entry) if entry is not None else {}

    def keys(self, domain: str | None) -> list[tuple[str, KeyEntry]]:
        """Give the keys of a domain, or of all of them; those of the configuration come last.

        Raises:
            KeyStoreError: They cannot be read.
        """
        domains = self.store.domains() if domain is None else [domain]
        found = [(each, entry) for each in domains for entry in self.store.entries(each)]
        own = self.own_keys().items()
        return found + [(each, entry) for each, entry in own if domain in {None, each}]

    def look_up(self, keys: Sequence[tuple[str, KeyEntry]]) -> list[Sighting]:
        """Ask the DNS for keys, and note what it shows of those that wait for it."""

        async def ask() -> list[Sighting]:
            resolver = DnsResolver(derive.dns_settings(self.config), SystemClock())
            return [await look_up(resolver, domain, entry) for domain, entry in keys]

        sightings = asyncio.run(ask())
        by_domain: dict[str, dict[str, Sighting]] = {}
        for (domain, entry), sighting in zip(keys, sightings, strict=True):
            if entry.state is KeyState.PENDING:
                by_domain.setdefault(domain, {})[entry.selector] = sighting
        now = SystemClock().now()
        for domain, seen in by_domain.items():
            self.store.edit(domain, partial(observe, sightings=seen, now=now))
        return sightings


@contextmanager
def places(config_path: Path | None) -> Iterator[Places]:
    """Give the places of a configuration; what goes wrong with keys ends the command."""
    config = load_config(config_path)
    known = SigningSettings.model_fields
    values = {name: value for name, value in dkim_table(config).items() if name in known}
    try:
        settings = SigningSettings.model_validate(forget(values))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(map(str, ("plugins", "dkim", *first["loc"])))
        fail(f"{name}: {first['msg']}")
    try:
        yield Places(config, settings, find_store(settings.keys_dir, config.server.state_dir))
    except KeyStoreError as error:
        fail(str(error))


class DomainType(click.ParamType[str]):
    """A domain, in its normal form."""

    name = "domain"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        try:
            domain = parse_domain(str(value))
        except AddressError as error:
            self.fail(str(error), param, ctx)
        if domain.startswith("["):
            self.fail("an address literal has no keys", param, ctx)
        return domain
