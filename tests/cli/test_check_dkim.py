"""`elemta check`, where mail is signed: keys that cannot be used."""

import json

import pytest
from click.testing import CliRunner
from servers.process import free_port

from elemta.cli.main import cli


@pytest.fixture
def check(tmp_path):
    config, port = tmp_path / "elemta.toml", free_port()

    def write(more):
        config.write_text(
            f'[server]\nstate_dir = "{tmp_path / "var"}"\n[metrics]\nlisten = ""\n'
            f'[[listeners]]\naddress = "127.0.0.1:{port}"\n{more}'
        )

    def call(more="[authentication]\ndkim_enabled = true\n"):
        write(more)
        done = CliRunner().invoke(cli, ["check", "-c", str(config), "--json"])
        assert done.exit_code == 0, done.output
        problems = json.loads(done.stdout)["problems"]
        return [each["text"] for each in problems if each["setting"] == "[plugins] dkim"]

    write("")
    for arguments in (("generate",), ("rotate", "--activate", "--force")):
        command = ["dkim", arguments[0], "example.test", *arguments[1:], "-c", str(config)]
        assert CliRunner().invoke(cli, command).exit_code == 0
    return call


def test_keys_that_can_be_used(check):
    assert check() == []


def test_a_key_that_others_can_read(check, tmp_path):
    (path,) = tmp_path.glob("var/dkim/*/*.pem")
    path.chmod(0o640)
    (problem,) = check()
    assert f"chmod 600 {path}; until then mail that it should sign waits" in problem
    (problem,) = check('[plugins]\nplugins = ["dkim"]\n[plugins.dkim]\non_missing_key = "send"\n')
    assert problem.endswith("until then mail is not signed with it")
    assert check('[plugins]\nplugins = ["dkim"]\n[plugins.dkim]\nsign = false\n') == []
    assert check("") == []


def test_keys_that_are_not_there(check, tmp_path):
    signers = '[authentication]\ndkim_enabled = true\n[plugins.dkim.signers]\n"*" = ["esp.test"]\n'
    (problem,) = check(signers)
    assert problem.startswith("esp.test is to sign, and has no keys")
    own = f'selector = "s"\nprivate_key = "{tmp_path / "none"}"\ndomains = ["a.test"]\n'
    (problem,) = check(f"[authentication]\ndkim_enabled = true\n[plugins.dkim]\n{own}")
    assert "none: No such file" in problem
