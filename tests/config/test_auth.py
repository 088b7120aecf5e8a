"""The settings of logging in, one by one and together."""

import pytest

from elemta.config import Config, read
from elemta.config.settings import changed, keep_fixed

GOOD = """
[server]
hostname = "mx.example.test"
"""
SOURCE = '[[auth.sources]]\ntype = "sqlite"\n'
SUBMISSION = '[[listeners]]\naddress = "127.0.0.1:1587"\nkind = "submission"'


@pytest.fixture
def loaded(tmp_path):
    def load(text: str):
        path = tmp_path / "elemta.toml"
        path.write_text(GOOD + text)
        return read(path, {})

    return load


@pytest.fixture
def found(loaded):
    def find(text: str) -> list[tuple[bool, str, str]]:
        return [(each.is_error, each.setting, each.text) for each in loaded(text).problems]

    return find


def test_without_it_nothing_is_wrong(found):
    assert found("") == []
    assert found(SOURCE) == []


def test_all_of_it(loaded, tmp_path):
    auth = loaded(
        """
[auth]
required_on = ["submission"]
mechanisms = ["PLAIN", "OAUTHBEARER"]
scram_iterations = 0
remember_for = "0s"
hash_threads = 4
max_waiting = 10
[auth.argon2]
memory = "64MiB"
passes = 1
lanes = 4
[auth.oauth]
issuer = "https://login.example.test"
audience = "mail"
keys = "jwks.json"
[[auth.sources]]
type = "file"
path = "people"
[[auth.sources]]
type = "sqlite"
[[auth.rules]]
logins = ["me@example.test"]
groups = ["staff"]
hours = ["Mon-Fri 08:00-18:00"]
timezone = "Europe/Berlin"
networks = ["192.0.2.0/24"]
"""
    ).config.auth
    assert auth.argon2.memory == 64 * 1024 * 1024
    assert auth.oauth.keys == str(tmp_path / "jwks.json")
    assert [source.path for source in auth.sources] == [tmp_path / "people", None]
    assert auth.rules[0].timezone == "Europe/Berlin"


@pytest.mark.parametrize(
    ("text", "setting", "says"),
    [
        ('[auth]\nmechanisms = ["NTLM"]', "[auth] mechanisms[0]", "NTLM"),
        ('[auth]\nrequired_on = ["lmtp"]', "[auth] required_on[0]", "lmtp"),
        ('[[auth.rules]]\nhours = ["8-18"]', "[[auth.rules]] hours[0]", "Mon-Fri 08:00-18:00"),
        ("[[auth.rules]]\nhours = [8]", "[[auth.rules]] hours[0]", "text in quotes"),
        ('[[auth.rules]]\ntimezone = "Mars"', "[[auth.rules]] timezone", "Europe/Berlin"),
        ('[[auth.rules]]\ntimezone = "../UTC"', "[[auth.rules]] timezone", "Europe/Berlin"),
        ('[[auth.rules]]\nlogins = ["a b"]', "[[auth.rules]] logins[0]", "without spaces"),
        ('[[auth.sources]]\ntype = "ldapx"', "[[auth.sources]] type", "sqlite"),
        ('[auth.oauth]\nkeys = "http://x/keys"', "[auth.oauth] keys", "https URL"),
        ('[auth.oauth]\nkeys = "https://u:p@x/"', "[auth.oauth] keys", "https URL"),
        ('[auth.argon2]\nmemory = "1KiB"', "[auth.argon2] memory", "8MiB"),
        ("[auth]\nscram_iterations = 1000", "[auth] scram_iterations", "at least 4096"),
        ('[auth]\nmechanisms = ["XOAUTH2"]', "[auth] mechanisms[0]", "[auth.oauth]"),
        ('[auth.oauth]\nintrospection = "http://x/ask"', "[auth.oauth] introspection", "https URL"),
        ('[auth.oauth]\nissuer = "x"', "[auth.oauth] keys", "or introspection"),
        (
            '[auth.oauth]\nissuer = "x"\nintrospection = "http://[::1]:4445/ask"\n'
            'client_secret_file = "s"',
            "[auth.oauth] client_id",
            "is needed",
        ),
        (
            '[auth]\nmechanisms = ["XOAUTH2"]\n[auth.oauth]\nissuer = "x"\nkeys = "k"',
            "[auth.oauth] audience",
            "is needed",
        ),
        (
            f'[auth]\nmechanisms = ["SCRAM-SHA-256"]\nscram_iterations = 0\n{SOURCE}',
            "[auth] mechanisms[0]",
            "scram_iterations = 0",
        ),
        ('[[auth.rules]]\ncountries = ["Germany"]', "[[auth.rules]] countries[0]", "two letters"),
        (
            '[[auth.rules]]\ncountries = ["de"]',
            "[[auth.rules]] countries",
            "needs the plugin geoip",
        ),
        (
            '[[auth.rules]]\ncountries = ["de"]\n[plugins.geoip]\nenabled = false\n'
            '[plugins]\nenabled = ["rules"]\nplugins = ["geoip"]',
            "[[auth.rules]] countries",
            "needs the plugin geoip",
        ),
        (SOURCE + SOURCE, "[[auth.sources]]", "is there twice"),
        (
            SUBMISSION,
            "[auth] required_on[0]",
            "nobody can log in there",
        ),
        (
            f'{SUBMISSION}\n[plugins]\nenabled = false\nplugins = ["ldap"]',
            "[auth] required_on[0]",
            "nobody can log in there: no [[auth.sources]] has accounts",
        ),
    ],
)
def test_errors(found, text, setting, says):
    errors = [each for each in found(text) if each[0] and each[1].startswith("[")]
    assert [each[1] for each in errors if says in each[2]] == [setting], errors


@pytest.mark.parametrize(
    ("text", "setting", "says"),
    [
        ('[auth]\nmechanisms = ["CRAM-MD5"]', "[auth] mechanisms[0]", "clear text"),
        ('[[auth.rules]]\ngroups = ["x"]', "[[auth.rules]]", "allows everything"),
        (
            '[auth.oauth]\nissuer = "x"\naudience = "y"\nkeys = "z"',
            "[auth.oauth] issuer",
            "no effect",
        ),
        *(
            (SUBMISSION + text, "[auth] required_on[0]", "unless a plugin has on_auth_start")
            for text in (
                '\n[plugins]\nplugins = ["ldap"]',
                '\n[[plugins.plugin]]\nname = "ldap"',
                "\n[plugins.ldap]\nuri = 1",
                '\n[plugins]\ndirectory = "/"',
            )
        ),
    ],
)
def test_warnings(found, text, setting, says):
    ((is_error, where, problem),) = found(text)
    assert (is_error, where) == (False, setting)
    assert says in problem


def test_all_of_it_is_live(loaded):
    before = Config()
    after = loaded(
        f'[auth]\nhash_threads = 3\n[auth.argon2]\npasses = 4\n[auth.oauth]\nscope = "x"\n{SOURCE}'
    ).config
    changes = changed(before, after)
    live = {name for name in changes.live if name.startswith("auth")}
    assert live == {"auth.hash_threads", "auth.argon2.passes", "auth.oauth.scope", "auth.sources"}
    assert not [name for name in changes.restart if name.startswith("auth")]
    assert keep_fixed(before, after).auth == after.auth
