"""From the configuration to whoever says who may log in.

worker:   auth = make_authenticator(config, clock, emit)
reload:   prepared = prepare_accounts(config)
          await auth.reload(*prepared)
stop:     await auth.close()
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from elemta.accounts import Authenticator, AuthSettings
from elemta.accounts.account import AccountError
from elemta.accounts.hashes import Argon2Settings
from elemta.accounts.introspection import IntrospectionSettings
from elemta.accounts.passwords import Keeping
from elemta.accounts.prepare import PrepareError, prepare_login
from elemta.accounts.registers import PasswdRegister, SqliteRegister
from elemta.accounts.rules import Rule
from elemta.accounts.server_key import load_key
from elemta.accounts.source import Register, RegisterSource
from elemta.accounts.tokens import TokenSettings
from elemta.config import Config
from elemta.mail.clock import Clock
from elemta.mail.errors import ConfigError
from elemta.mail.events import Emit
from elemta.mail.hours import parse_hours


def make_authenticator(config: Config, clock: Clock, emit: Emit) -> Authenticator:
    """Make the authenticator of a worker.

    Without sources it lets nobody in, and offers only what a plugin can decide instead.

    Raises:
        ConfigError: It cannot be made as the configuration says.
    """
    return Authenticator(*prepare_accounts(config), clock, emit)


class PreparedAccounts(NamedTuple):
    """What an authenticator takes to go on with; sources that it does not take are to be closed."""

    settings: AuthSettings
    sources: list[RegisterSource]


def prepare_accounts(config: Config) -> PreparedAccounts:
    """Make what a changed configuration asks for.

    Raises:
        ConfigError: It cannot be done.
    """
    return PreparedAccounts(auth_settings(config), _sources(config))


def auth_settings(config: Config) -> AuthSettings:
    """Everything but the sources, for the accounts room.

    Raises:
        ConfigError: A name in a rule cannot be a login, or the key of this server not be read.
    """
    auth, oauth = config.auth, config.auth.oauth
    tokens = None
    if oauth.issuer:
        secret = Path(oauth.client_secret_file) if oauth.client_secret_file else None
        asked = IntrospectionSettings(oauth.introspection, oauth.client_id, secret)
        tokens = TokenSettings(
            oauth.issuer,
            oauth.audience,
            oauth.keys,
            oauth.claim,
            oauth.scope,
            asked if oauth.introspection else None,
        )
    try:
        key = load_key(config.server.state_dir) if auth.sources else b""
    except AccountError as error:
        raise ConfigError("[server] state_dir", str(error)) from error
    return AuthSettings(
        hostname=config.server.hostname,
        key=key,
        mechanisms=frozenset(auth.mechanisms),
        argon2=keeping(config).argon2,
        scram_iterations=auth.scram_iterations,
        hash_threads=auth.hash_threads,
        max_waiting=auth.max_waiting,
        remember_for=auth.remember_for,
        rules=tuple(_rules(config)),
        tokens=tokens,
    )


def keeping(config: Config) -> Keeping:
    """What is kept of a password that is set."""
    auth = config.auth
    costs = auth.argon2
    return Keeping(
        Argon2Settings(costs.memory // 1024, costs.passes, costs.lanes),
        auth.scram_iterations,
        keeps_secret="CRAM-MD5" in auth.mechanisms,
    )


def registers(config: Config) -> list[Register]:
    """The places where accounts are kept that can be edited, in order."""
    folder = config.server.state_dir
    found: list[Register] = []
    for source in config.auth.sources:
        if source.type == "sqlite":
            found.append(SqliteRegister(source.path or folder / "accounts.db"))
        else:
            found.append(PasswdRegister(source.path or folder / "accounts"))
    return found


def _sources(config: Config) -> list[RegisterSource]:
    return [RegisterSource(register) for register in registers(config)]


def _rules(config: Config) -> Iterator[Rule]:
    for rule in config.auth.rules:
        try:
            logins = frozenset(prepare_login(login) for login in rule.logins)
        except PrepareError as error:
            raise ConfigError("[[auth.rules]] logins", str(error)) from error
        yield Rule(
            logins,
            frozenset(rule.groups),
            tuple(parse_hours(text) for text in rule.hours),
            ZoneInfo(rule.timezone),
            tuple(rule.networks),
            frozenset(rule.countries),
        )
