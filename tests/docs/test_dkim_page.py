"""docs/dkim.md: its settings exist, are all of them, and its examples work."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from elemta.cli.main import cli
from elemta.plugins.builtin.dkim.keystore import KeyState
from elemta.plugins.builtin.dkim.signing_settings import SigningSettings

PAGE = (Path(__file__).parents[2] / "docs" / "dkim.md").read_text()
EXAMPLES = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
COMMANDS = re.findall(r"^\$ elemta (dkim .*)$", PAGE, re.MULTILINE)


def table(heading: str) -> list[list[str]]:
    """The rows of the table under a heading."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:-1] for line in section.split("\n") if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows[1:]]


def test_all_settings_are_told_of():
    rows = table("Settings")
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row[0])]
    assert named == list(SigningSettings.model_fields)
    for names, default, _ in rows:
        (name, *others) = re.findall(r"`(\w+)`", names)
        if default.startswith("`") and default.endswith("`") and not others:
            value = tomllib.loads(f"x = {default.strip('`')}")["x"]
            assert value == SigningSettings.model_fields[name].default, name


def test_all_states_are_told_of():
    assert [row[0] for row in table("Changing keys")] == [str(state) for state in KeyState]


@pytest.mark.parametrize("text", EXAMPLES)
def test_examples_of_settings(text):
    own = tomllib.loads(text).get("plugins", {}).get("dkim", {})
    SigningSettings.model_validate(own)


def test_commands(tmp_path):
    config = tmp_path / "elemta.toml"
    config.write_text(EXAMPLES[0] + f'[server]\nstate_dir = "{tmp_path}"\n')
    assert COMMANDS == ["dkim generate example.test", "dkim rotate example.test"]
    activate = "dkim rotate example.test --activate --force"
    assert activate.replace("example.test", "DOMAIN") in PAGE
    for command in (COMMANDS[0], activate, COMMANDS[1], "dkim show --revoked"):
        done = CliRunner().invoke(cli, [*shlex.split(command), "-c", str(config)])
        assert done.exit_code == 0, done.output


def test_the_key_that_is_made_looks_like_the_one_on_the_page(tmp_path):
    config = tmp_path / "elemta.toml"
    config.write_text(f'[server]\nstate_dir = "{tmp_path}"\n')
    command = [*shlex.split(COMMANDS[0]), "-c", str(config)]
    lines = CliRunner().invoke(cli, command).stdout.split("\n")
    shown = PAGE.partition(f"$ elemta {COMMANDS[0]}\n")[2].split("\n")

    def shape(line: str) -> str:
        return re.sub(r"\d{8}|[A-Za-z0-9+/]{24,}.*|/tmp\S*/|\./var/dkim/", "", line)

    assert shape(lines[1]) == shape(shown[1])
    assert shape(lines[2]) == shape(shown[2])
    assert lines[4] == shown[4] == ")"
