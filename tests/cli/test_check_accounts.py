"""`elemta check` about accounts on this machine."""

import json

import pytest
from click.testing import CliRunner

from elemta.cli.main import cli

FILE = '[[auth.sources]]\ntype = "file"\npath = "accounts"\n'
OAUTH = (
    '[auth]\nmechanisms = ["XOAUTH2"]\n'
    '[auth.oauth]\nissuer = "x"\naudience = "y"\nkeys = "jwks.json"\n'
)


@pytest.fixture
def found(tmp_path):
    def find(text: str) -> list[tuple[str, str, str]]:
        path = tmp_path / "elemta.toml"
        path.write_text(
            '[server]\nhostname = "mx.example.test"\nstate_dir = "var"\n'
            '[[listeners]]\naddress = "127.0.0.1:0"\n[metrics]\nlisten = ""\n' + text
        )
        result = CliRunner().invoke(cli, ["check", "-c", str(path), "--json"])
        problems = json.loads(result.stdout)["problems"]
        assert result.exit_code == int(any(each["severity"] == "error" for each in problems))
        return [(each["severity"], each["setting"], each["text"]) for each in problems]

    return find


def test_a_database_that_is_not_there_will_be(found, tmp_path):
    assert found('[[auth.sources]]\ntype = "sqlite"\n') == []
    assert not (tmp_path / "var").exists()


def test_a_file_that_is_not_there(found):
    ((severity, setting, text),) = found(FILE)
    assert (severity, setting) == ("warning", "[[auth.sources]]")
    assert "all logins get 454" in text


@pytest.mark.parametrize(
    ("content", "mode", "says"),
    [
        ("me:\n", 0o644, "others can read or write it"),
        ("me:secret\n", 0o600, "line 1: the hash is no hash that Elemta can verify"),
    ],
)
def test_a_file_that_cannot_be_used(found, tmp_path, content, mode, says):
    path = tmp_path / "accounts"
    path.write_text(content)
    path.chmod(mode)
    ((severity, setting, text),) = found(FILE)
    assert (severity, setting) == ("error", "[[auth.sources]]")
    assert says in text
    assert "secret" not in text
    path.write_text("me:\n")
    path.chmod(0o600)
    assert found(FILE) == []


def test_keys_that_are_not_there(found, tmp_path):
    ((severity, setting, text),) = found(OAUTH)
    assert (severity, setting) == ("warning", "[auth.oauth] keys")
    assert "454" in text
    (tmp_path / "jwks.json").write_text("{}")
    assert found(OAUTH) == []
    assert found(OAUTH.replace("jwks.json", "https://login.example.test/keys")) == []


def test_the_secret_of_this_server_at_a_provider(found, tmp_path):
    asked = 'introspection = "https://login.example.test/ask"\nclient_id = "mail"\n'
    text = OAUTH.replace('keys = "jwks.json"\n', asked + 'client_secret_file = "secret"\n')
    ((severity, setting, missing),) = found(text)
    assert (severity, setting) == ("warning", "[auth.oauth] client_secret_file")
    assert "no such file" in missing
    secret = tmp_path / "secret"
    secret.write_text("s")
    secret.chmod(0o644)
    ((severity, _setting, readable),) = found(text)
    assert severity == "warning"
    assert readable.endswith(f"chmod 600 {secret}")
    secret.chmod(0o600)
    assert found(text) == []
