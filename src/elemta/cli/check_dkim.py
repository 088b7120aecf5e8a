"""What `elemta check` finds out about keys: those that cannot be used, and those that are missing.

Nothing is kept. What is wrong with the settings themselves is told of the plugins, not here.
"""

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from elemta.config import Config, Loaded, Problem

if TYPE_CHECKING:
    from elemta.plugins.builtin.dkim.keyring import Keyring
    from elemta.plugins.builtin.dkim.signing_settings import SigningSettings

DKIM, ARC, REPORTS = "dkim", "arc", "dmarc-reports"

M = TypeVar("M", bound=BaseModel)


def find_key_problems(loaded: Loaded, config: Config) -> Iterator[Problem]:
    """Try all keys of the plugins that sign, as far as they are asked."""
    asked = _asked(config)
    if asked.isdisjoint({DKIM, ARC, REPORTS}):
        return
    # not before it is needed: that reads cryptography
    from elemta.app.dkim import dkim_table  # noqa: PLC0415
    from elemta.plugins.builtin.dkim.signing_settings import SigningSettings  # noqa: PLC0415

    signing = _read(SigningSettings, dkim_table(config)) if DKIM in asked else None
    if signing is not None and signing.sign:
        ring = _keyring(config, signing)
        if absence := ring.store.find_absence():
            text = f"{absence}; until then mail is not signed with what it should have"
            yield loaded.problem(("plugins", DKIM), text, is_error=False)
        for trouble in ring.find_troubles():
            waits = signing.on_missing_key == "defer"
            effect = "mail that it should sign waits" if waits else "mail is not signed with it"
            text = f"{trouble}; until then {effect}"
            yield loaded.problem(("plugins", DKIM), text, is_error=False)
    is_clear = signing is not None or DKIM not in asked
    texts = {
        ARC: _why_unsealed(config) if ARC in asked else "",
        REPORTS: _why_unsigned(config, signing) if REPORTS in asked and is_clear else "",
    }
    for plugin, text in texts.items():
        if text:
            yield loaded.problem(("plugins", plugin), text, is_error=False)


def _asked(config: Config) -> set[str]:
    """Give the plugins that are asked."""
    plugins = config.plugins
    named = {*config.authentication.plugins, *plugins.plugins}
    named.update(each.name for each in plugins.plugin if each.enabled)
    if isinstance(plugins.enabled, tuple):
        named.update(plugins.enabled)
    return {name.lower().replace("_", "-") for name in named}


def _read(model: type[M], table: dict[str, Any]) -> M | None:
    """Read what a plugin is told; None where it cannot be told so."""
    from elemta.net.references import forget  # noqa: PLC0415

    known = {name: value for name, value in table.items() if name in model.model_fields}
    try:
        return model.model_validate(forget(known))
    except ValidationError:
        return None


def _keyring(config: Config, settings: "SigningSettings") -> "Keyring":
    from elemta.net.clock import SystemClock  # noqa: PLC0415
    from elemta.plugins.builtin.dkim.keyring import Keyring  # noqa: PLC0415
    from elemta.plugins.builtin.dkim.keystore import find_store  # noqa: PLC0415

    store = find_store(settings.keys_dir, config.server.state_dir)
    return Keyring(settings, store, SystemClock())


def _why_unsealed(config: Config) -> str:
    """Say why mail that is to be sealed is not; "" where it is."""
    from elemta.app.dkim import told  # noqa: PLC0415
    from elemta.plugins.builtin.arc.sealing import SealingSettings  # noqa: PLC0415
    from elemta.plugins.builtin.dkim.signing_settings import SigningSettings  # noqa: PLC0415

    sealing = _read(SealingSettings, told(config, ARC))
    if sealing is None or not sealing.seal:
        return ""
    ring = _keyring(config, SigningSettings(keys_dir=sealing.keys_dir))
    domain = sealing.seal_domain or config.server.hostname
    found = asyncio.run(ring.ring(domain) if sealing.seal_domain else ring.find(domain))
    return "" if found.keys else f"mail is not sealed: {found.trouble or _keyless(domain)}"


def _why_unsigned(config: Config, signing: "SigningSettings | None") -> str:
    """Say why reports are not signed; "" where they are."""
    from elemta.app.dkim import told  # noqa: PLC0415
    from elemta.plugins.builtin.dmarc_reports.settings import DmarcReportsSettings  # noqa: PLC0415

    reports = _read(DmarcReportsSettings, told(config, REPORTS))
    if reports is None:
        return ""
    domain = reports.author(config.server.hostname).domain
    if signing is None or not signing.sign or "local" not in signing.sign_for:
        why = "the plugin dkim does not sign mail of plugins"
    else:
        found = asyncio.run(_keyring(config, signing).find(domain))
        why = "" if found.keys else found.trouble or _keyless(domain)
    return f"reports are not signed, and may be refused: {why}" if why else ""


def _keyless(domain: str) -> str:
    return f"{domain} has no key that signs"
