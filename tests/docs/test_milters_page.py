"""docs/milters.md: its settings exist, are all of them, and its example works."""

import re
import tomllib
from pathlib import Path

import pytest

from elemta.app.plugins import check_plugins
from elemta.config import read
from elemta.plugins import parse_address
from elemta.plugins.builtin.milter import macros
from elemta.plugins.builtin.milter.macros import Ourselves
from elemta.plugins.builtin.milter.settings import MilterServer, MilterSettings
from elemta.plugins.builtin.policy_delegation.plugin import Memory, _session
from elemta.plugins.builtin.policy_delegation.settings import PolicyServer, PolicySettings
from elemta.plugins.contexts import SessionInfo

PAGE = (Path(__file__).parents[2] / "docs" / "milters.md").read_text()
MODELS = {
    "## milter": MilterSettings,
    "### A milter": MilterServer,
    "## policy-delegation": PolicySettings,
    "### A policy server": PolicyServer,
}


def section(heading: str) -> str:
    return re.split("^##", PAGE.partition(f"\n{heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


@pytest.mark.parametrize("heading", MODELS)
def test_all_settings_are_told_of_as_they_are(heading):
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*) \|$", section(heading), re.MULTILINE)
    fields = MODELS[heading].model_fields
    assert [name for name, _, _ in rows] == list(fields)
    for name, default, meaning in rows:
        field = fields[name]
        assert meaning == field.description
        if field.is_required():
            assert default == "required"
        else:
            value = tomllib.loads(f"x = {default.strip('`')}")["x"]
            assert value == (
                list(field.default) if name in {"milters", "servers", "states"} else field.default
            )


async def test_the_example_of_settings(tmp_path):
    (text,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    path = tmp_path / "elemta.toml"
    path.write_text('[server]\nhostname = "mail.example.test"\n' + text)
    loaded = read(path, {})
    assert loaded.problems == ()
    assert await check_plugins(loaded.config, loaded.source.where) == []


def session() -> SessionInfo:
    return SessionInfo("1", "192.0.2.1", "192.0.2.25:25", "mta", is_trusted=False)


def test_all_macros_are_told_of():
    address = parse_address("a@example.test")
    told = [
        re.findall(r"`\{?(\w+)\}?`", row.split("|")[2])
        for row in section("### What it is told").split("\n")
        if row.startswith("| ") and "`" in row
    ]
    given = (
        macros.of_connect(Ourselves("mail.example.test", ""), session()),
        macros.of_helo(session()),
        macros.of_mail(session(), address, "PLAIN"),
        macros.of_rcpt(address),
        macros.of_content("1", 1),
    )
    assert told == [[name for name, _ in values] for values in given]


def test_all_attributes_are_told_of():
    told = re.findall(r"`([a-z_]+)`", section("### What it is asked"))
    assert {name for name, _ in _session(session(), Memory())} <= set(told)
