"""What `elemta check` finds out about keys that sign mail: those that cannot be used."""

from collections.abc import Iterator

from elemta.config import Config, Loaded, Problem


def find_key_problems(loaded: Loaded, config: Config) -> Iterator[Problem]:
    """Try all keys, if the plugin that signs is asked; nothing is kept."""
    named = {
        *config.plugins.plugins,
        *(each.name for each in config.plugins.plugin if each.enabled),
    }
    if isinstance(config.plugins.enabled, tuple):
        named.update(config.plugins.enabled)
    if not config.authentication.dkim_enabled and "dkim" not in named:
        return
    # not before it is needed: that reads cryptography
    from pydantic import ValidationError  # noqa: PLC0415

    from elemta.app.dkim import dkim_table  # noqa: PLC0415
    from elemta.net.clock import SystemClock  # noqa: PLC0415
    from elemta.net.references import forget  # noqa: PLC0415
    from elemta.plugins.builtin.dkim.keyring import Keyring  # noqa: PLC0415
    from elemta.plugins.builtin.dkim.keystore import find_store  # noqa: PLC0415
    from elemta.plugins.builtin.dkim.signing_settings import SigningSettings  # noqa: PLC0415

    known = SigningSettings.model_fields
    table = {name: value for name, value in dkim_table(config).items() if name in known}
    try:
        settings = SigningSettings.model_validate(forget(table))
    except ValidationError:
        return  # that is told of the plugin
    if not settings.sign:
        return
    store = find_store(settings.keys_dir, config.server.state_dir)
    for trouble in Keyring(settings, store, SystemClock()).find_troubles():
        waits = settings.on_missing_key == "defer"
        effect = "mail that it should sign waits" if waits else "mail is not signed with it"
        yield loaded.problem(("plugins", "dkim"), f"{trouble}; until then {effect}", is_error=False)
