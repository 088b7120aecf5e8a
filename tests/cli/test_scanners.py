"""`elemta scanners test`, with a real clamd."""

import json

import pytest
from click.testing import CliRunner
from servers.clamd import VIRUS, run_clamd
from servers.process import free_port

from elemta.cli.main import cli

CONFIG = """
[server]
hostname = "mail.example.test"
state_dir = "{folder}/var"
[plugins]
directory = "{folder}/plugins"
plugins = [{names}]
[plugins.clamav]
servers = [{servers}]
"""


@pytest.fixture(scope="module")
def clamd(tmp_path_factory):
    with run_clamd(tmp_path_factory.mktemp("c")) as found:
        yield found


def run(folder, *arguments: str, names: str = '"clamav", "iprev"', servers: str = '"/nowhere"'):
    path = folder / "elemta.toml"
    path.write_text(CONFIG.format(folder=folder, names=names, servers=servers))
    return CliRunner().invoke(cli, ["scanners", "test", *arguments, "-c", str(path)])


def test_all_is_well(tmp_path, clamd):
    done = run(tmp_path, servers=f'"{clamd.socket}", "{clamd.tcp}"')
    assert done.exit_code == 0, done.output
    heading, *rows = done.output.splitlines()
    assert heading.split() == ["SCANNER", "SERVER", "RESULT", "TIME", "DETAILS"]
    assert [row.split()[:3] for row in rows] == [
        ["clamav", str(clamd.socket), "ok"],
        ["clamav", clamd.tcp, "ok"],
    ]
    assert all(row.endswith(VIRUS) for row in rows)


def test_one_is_down(tmp_path, clamd):
    dead = f"127.0.0.1:{free_port()}"
    done = run(tmp_path, "clamav", "--json", servers=f'"{clamd.tcp}", "{dead}"')
    assert done.exit_code == 1
    found = json.loads(done.output)
    assert [(each["scanner"], each["server"], each["result"]) for each in found] == [
        ("clamav", clamd.tcp, "ok"),
        ("clamav", dead, "down"),
    ]
    assert dead in found[1]["details"]


def test_what_is_no_scanner(tmp_path):
    for name, text in (("iprev", "iprev is no scanner"), ("x", "there is no plugin x")):
        done = run(tmp_path, name)
        assert (done.exit_code, text in done.output) == (1, True)
    done = run(tmp_path, names='"iprev"')
    assert (done.exit_code, "no scanner is configured" in done.output) == (1, True)
