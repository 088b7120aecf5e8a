"""From the configuration to logins."""

import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from elemta.accounts import Account, AuthSettings, Claim, Peer, Record, Result
from elemta.accounts.account import AccountError
from elemta.accounts.passwords import Keeping, with_password
from elemta.accounts.server_key import load_key
from elemta.app.accounts import (
    auth_settings,
    keeping,
    make_authenticator,
    prepare_accounts,
    registers,
)
from elemta.config import Config, load
from elemta.mail.errors import ConfigError
from elemta.testing import FakeClock

CHEAP = '[auth.argon2]\nmemory = "8MiB"\npasses = 1\n'
PEER = Peer("192.0.2.1")
BOTH = '[[auth.sources]]\ntype = "file"\n[[auth.sources]]\ntype = "sqlite"\npath = "db"\n'


@pytest.fixture
def configure(tmp_path):
    def make(text: str):
        path = tmp_path / "elemta.toml"
        path.write_text(f'[server]\nhostname = "mx.example.test"\nstate_dir = "state"\n{text}')
        return load(path, {})

    return make


def add(config, number: int, login: str, **more) -> None:
    register = registers(config)[number]
    record = with_password(Record(Account(login, **more)), "hunter2", keeping(config))
    register.edit(login, lambda _: record)
    register.close()


async def say(authenticator, login: str, clock=None) -> Result:
    claim = Claim("PLAIN", login, password="hunter2")
    return (await authenticator.judge(claim, PEER)).result


async def test_sources_are_where_the_configuration_says(configure, tmp_path):
    config = configure(CHEAP + BOTH)
    (tmp_path / "state").mkdir(mode=0o700)
    add(config, 0, "first")
    add(config, 1, "second")
    assert (tmp_path / "state" / "accounts").is_file()
    assert (tmp_path / "db").is_file()
    authenticator = make_authenticator(config, FakeClock(), lambda _: None)
    assert authenticator.mechanisms(PEER) == ("SCRAM-SHA-256", "PLAIN", "LOGIN")
    assert await say(authenticator, "first") is Result.OK
    assert await say(authenticator, "second") is Result.OK
    assert await say(authenticator, "third") is Result.WRONG
    await authenticator.close()


async def test_without_sources_nobody_is_let_in_and_nothing_made(configure, tmp_path):
    authenticator = make_authenticator(configure(CHEAP), FakeClock(), lambda _: None)
    assert authenticator.mechanisms(PEER) == ("PLAIN", "LOGIN")
    assert authenticator.begin("SCRAM-SHA-256", PEER) is None
    assert await say(authenticator, "me") is Result.WRONG
    assert not (tmp_path / "state").exists()
    await authenticator.close()


async def test_a_reload(configure):
    config = configure(CHEAP + '[[auth.sources]]\ntype = "sqlite"\n')
    add(config, 0, "me", groups=("staff",))
    clock = FakeClock()  # Tuesday, 22:13 in UTC, 23:13 in Berlin
    authenticator = make_authenticator(config, clock, lambda _: None)
    assert await say(authenticator, "me") is Result.OK
    rule = '[[auth.rules]]\ngroups = ["staff"]\ntimezone = "Europe/Berlin"\nhours = '
    for hours, result in (
        ('["Tue 23:00-24:00"]', Result.OK),
        ('["Tue 22:00-23:00"]', Result.WRONG),
    ):
        text = f'{CHEAP}[[auth.sources]]\ntype = "sqlite"\n{rule}{hours}\n'
        await authenticator.reload(*prepare_accounts(configure(text)))
        assert await say(authenticator, "me") is result
    bad = configure(
        f'{CHEAP}[[auth.sources]]\ntype = "sqlite"\n[[auth.rules]]\nlogins = ["a\\u0001b"]'
    )
    with pytest.raises(ConfigError):
        prepare_accounts(bad)
    assert await say(authenticator, "me") is Result.WRONG
    await authenticator.close()


def test_the_settings_arrive(configure):
    settings = auth_settings(
        configure(
            """
[auth]
mechanisms = ["PLAIN", "XOAUTH2", "CRAM-MD5"]
scram_iterations = 5000
remember_for = "5s"
hash_threads = 3
max_waiting = 7
[auth.argon2]
memory = "16MiB"
passes = 2
lanes = 2
[auth.oauth]
issuer = "i"
audience = "a"
keys = "https://login.example.test/keys"
claim = "sub"
scope = "s"
"""
        )
    )
    assert settings.mechanisms == {"PLAIN", "XOAUTH2", "CRAM-MD5"}
    assert (settings.scram_iterations, settings.remember_for) == (5000, 5.0)
    assert (settings.hash_threads, settings.max_waiting) == (3, 7)
    assert (settings.argon2.memory, settings.argon2.passes, settings.argon2.lanes) == (16384, 2, 2)
    tokens = settings.tokens
    assert (tokens.issuer, tokens.audience, tokens.claim, tokens.scope) == ("i", "a", "sub", "s")
    assert tokens.keys == "https://login.example.test/keys"


def test_what_the_file_has_by_default_the_room_has():
    assert auth_settings(Config()) == AuthSettings("localhost", b"")
    assert keeping(Config()) == Keeping()


class TestKey:
    def test_all_get_the_same(self, tmp_path):
        with ThreadPoolExecutor(8) as pool:
            keys = set(pool.map(lambda _: load_key(tmp_path / "state"), range(8)))
        assert len(keys) == 1
        assert load_key(tmp_path / "state") in keys
        (file,) = (tmp_path / "state").iterdir()
        assert file.name == "accounts.key"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert load_key(tmp_path / "other") not in keys

    def test_damaged(self, tmp_path):
        (tmp_path / "accounts.key").write_bytes(b"short")
        with pytest.raises(AccountError, match="damaged"):
            load_key(tmp_path)

    def test_it_keeps_the_server_from_starting_where_it_cannot_be_made(self, configure, tmp_path):
        (tmp_path / "state").write_text("a file")
        with pytest.raises(ConfigError, match=r"accounts\.key"):
            auth_settings(configure('[[auth.sources]]\ntype = "file"\n'))
