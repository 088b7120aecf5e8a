"""The page on checks of new clients: its examples are configurations, its names exist."""

import re
from pathlib import Path

import pytest

from elemta.config import read
from elemta.server.pregreet import Action, Check

PAGE = (Path(__file__).parents[2] / "docs" / "pregreet.md").read_text()
EXAMPLES = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("text", EXAMPLES)
def test_examples_of_settings(text, tmp_path):
    path = tmp_path / "elemta.toml"
    path.write_text(text + '[server]\nhostname = "mail.example.test"\n')
    loaded = read(path, {})
    assert loaded.problems == ()
    assert loaded.config.pregreet.enabled


def test_all_checks_and_consequences_are_told_of():
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE) == [check.value for check in Check]
    assert re.findall(r"^- `\"(\w+)\"`:", PAGE, re.MULTILINE) == [each.value for each in Action]


def test_its_defaults_are_so(tmp_path):
    path = tmp_path / "elemta.toml"
    path.write_text("")
    pregreet = read(path, {}).config.pregreet
    assert not pregreet.enabled
    assert "It is off by default." in PAGE
