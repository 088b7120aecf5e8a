"""docs/quarantine.md: commands, settings, events and metrics that it names exist."""

import re
import tomllib
from pathlib import Path

import click
import pytest

from elemta.cli.main import cli
from elemta.config import read
from elemta.observe.catalogue import CATALOGUE

PAGE = (Path(__file__).parents[2] / "docs" / "quarantine.md").read_text()
COMMANDS = re.findall(r"^elemta (\w+) (\w+) (.*?)(?: *# .*)?$", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("group", "name", "rest"), COMMANDS)
def test_commands_are_understood(group, name, rest):
    context = click.Context(cli)
    area = cli.get_command(context, group)
    command = area.get_command(context, name)
    words = re.findall(r"""'[^']*'|"[^"]*"|\S+""", rest)
    command.make_context(name, [word.strip("'\"") for word in words])


def test_all_its_orders_are_told_of():
    assert {name for group, name, _ in COMMANDS if group == "quarantine"} == {
        "list",
        "show",
        "release",
        "delete",
        "report",
        "audit",
    }


@pytest.mark.parametrize(
    "text", re.findall(r"^```toml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
)
def test_examples_of_settings(text, tmp_path):
    path = tmp_path / "elemta.toml"
    released = tmp_path / "released-senders.txt"
    released.touch()
    text = text.replace("RELEASED", str(released))
    path.write_text(text + '[server]\nhostname = "mail.example.test"\n')
    loaded = read(path, {})
    assert loaded.problems == ()
    assert loaded.config.queue.quarantine_age == 30 * 86_400
    assert tomllib.loads(text)["queue"]["quarantine_age"] == "30d"


def test_metrics_exist():
    names = {metric.name for metric in CATALOGUE}
    for name in re.findall(r"`(elemta_\w+?)(?:_total)?(?:\{.*?\})?`", PAGE):
        assert name in names
