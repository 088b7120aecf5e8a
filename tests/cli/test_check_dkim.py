"""`elemta check`, where mail is signed or sealed: keys that cannot be used, or are not there."""

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

    def call(more="[authentication]\ndkim_enabled = true\n", plugin="dkim", code=0):
        write(more)
        done = CliRunner().invoke(cli, ["check", "-c", str(config), "--json"])
        assert done.exit_code == code, done.output
        problems = json.loads(done.stdout)["problems"]
        return [each["text"] for each in problems if each["setting"] == f"[plugins] {plugin}"]

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


def test_a_folder_of_keys_that_is_not_there(check, tmp_path):
    folder = tmp_path / "volume"
    more = f'[authentication]\ndkim_enabled = true\n[plugins.dkim]\nkeys_dir = "{folder}"\n'
    (problem,) = check(more)
    assert problem.startswith(f"{folder}: there is no such folder of keys (keys_dir)")
    folder.mkdir()
    assert check(more) == []


def test_keys_that_are_not_there(check, tmp_path):
    signers = '[authentication]\ndkim_enabled = true\n[plugins.dkim.signers]\n"*" = ["esp.test"]\n'
    (problem,) = check(signers)
    assert problem.startswith("esp.test is to sign, and has no keys")
    own = f'selector = "s"\nprivate_key = "{tmp_path / "none"}"\ndomains = ["a.test"]\n'
    (problem,) = check(f"[authentication]\ndkim_enabled = true\n[plugins.dkim]\n{own}")
    assert "none: No such file" in problem


SEALING = "[authentication]\narc_enabled = true\n[plugins.arc]\nseal = {}\n{}\n"


@pytest.mark.parametrize(
    ("seal", "more", "problems"),
    [
        ("true", 'seal_domain = "example.test"', []),
        (
            "true",
            'seal_domain = "esp.test"',
            ["mail is not sealed: esp.test has no key that signs"],
        ),
        ("false", 'seal_domain = "esp.test"', []),
    ],
)
def test_seals_without_a_key(check, seal, more, problems):
    assert check(SEALING.format(seal, more), "arc") == problems


def test_a_key_to_seal_with_that_others_can_read(check, tmp_path):
    (path,) = tmp_path.glob("var/dkim/*/*.pem")
    path.chmod(0o640)
    (problem,) = check(SEALING.format("true", 'seal_domain = "example.test"'), "arc")
    assert problem.startswith("mail is not sealed: ")
    assert f"chmod 600 {path}" in problem


REPORTING = """[authentication]
spf_enabled = true
dmarc_enabled = true
dkim_enabled = {}
[plugins]
plugins = ["dmarc-reports"]
[plugins.dmarc-reports]
email = "reports@{}"
"""


@pytest.mark.parametrize(
    ("is_enabled", "domain", "more", "why"),
    [
        ("true", "example.test", "", ""),
        ("true", "mail.example.test", "", ""),  # the domain above signs
        ("true", "other.test", "", "other.test has no key that signs"),
        ("false", "example.test", "", "the plugin dkim does not sign mail of plugins"),
        ("true", "example.test", "sign = false", "the plugin dkim does not sign mail of plugins"),
    ],
)
def test_reports_that_nobody_signs(check, is_enabled, domain, more, why):
    settings = REPORTING.format(is_enabled, domain) + f"[plugins.dkim]\n{more}\n"
    text = f"reports are not signed, and may be refused: {why}"
    assert check(settings, "dmarc-reports") == ([text] if why else [])


@pytest.mark.parametrize(
    ("settings", "plugin"),
    [
        (SEALING.format("true", 'seal_domain = "no domain"'), "arc"),
        (REPORTING.format("true", "nonsense@"), "dmarc-reports"),
        (REPORTING.format("true", "other.test") + "[plugins.dkim]\nsign = 7\n", "dmarc-reports"),
    ],
)
def test_settings_that_are_wrong_are_told_of_by_themselves(check, settings, plugin):
    assert check(settings, plugin, code=1) == []
