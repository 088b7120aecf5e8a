"""What `elemta check` finds out about accounts on this machine: files that cannot be used."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from elemta.config import Config, Loaded, Problem


def find_account_problems(loaded: Loaded, config: Config) -> Iterator[Problem]:
    """Look at the sources of accounts, and at the keys of an identity provider."""
    if config.auth.sources:
        yield from _sources(loaded, config)
    oauth = config.auth.oauth
    for name in ("keys", "client_secret_file") if oauth.issuer else ():
        place = getattr(oauth, name)
        if place and not place.startswith("https://") and not Path(place).is_file():
            text = "there is no such file now: until there is, logins with tokens get 454"
            yield loaded.problem(("auth", "oauth", name), text, is_error=False)
    secret = Path(oauth.client_secret_file or os.devnull)
    if oauth.issuer and secret.is_file() and secret.stat().st_mode & stat.S_IRWXO:
        text = f"others on this machine can read it: chmod 600 {secret}"
        yield loaded.problem(("auth", "oauth", "client_secret_file"), text, is_error=False)


def _sources(loaded: Loaded, config: Config) -> Iterator[Problem]:
    # not before it is needed: that reads libraries for hashes and tokens
    from elemta.accounts.source import SourceDown  # noqa: PLC0415
    from elemta.app.accounts import registers  # noqa: PLC0415

    for index, register in enumerate(registers(config)):
        place = ("auth", "sources", index)
        try:
            if register.has_begun:
                register.find("")
            elif not register.is_ours:
                text = "there is no such file now: until there is, all logins get 454"
                yield loaded.problem(place, f"{register.name}: {text}", is_error=False)
        except SourceDown as error:
            yield loaded.problem(place, str(error))
        finally:
            register.close()
