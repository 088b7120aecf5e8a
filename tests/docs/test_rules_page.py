"""docs/rules.md: its settings, facts and functions are all there are, and its examples work."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from servers.process import free_port

from elemta.app.plugins import check_plugins
from elemta.cli.check_rules import try_rules
from elemta.cli.main import cli
from elemta.config import read
from elemta.plugins.builtin.policy import PolicySettings
from elemta.plugins.builtin.rules.expressions.facts import FACTS, Moment
from elemta.plugins.builtin.rules.expressions.functions import make_functions
from elemta.plugins.builtin.rules.lists.matching import ListKind
from elemta.plugins.builtin.rules.lists.named import NamedList
from elemta.plugins.builtin.rules.settings import ListSettings, RuleSettings, RulesSettings

PAGE = (Path(__file__).parents[2] / "docs" / "rules.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
CONFIGURATIONS = [text for kind, text in BLOCKS if kind == "toml" and "[plugins]" in text]
(RULES,) = [text for kind, text in BLOCKS if kind == "toml" and text.startswith("[[lists]]")]
(CASES,) = [text for kind, text in BLOCKS if kind == "toml" and text.startswith("[[case]]")]
(ENTRIES,) = [text for kind, text in BLOCKS if not kind]
MODELS = {
    "Rules and lists": RulesSettings,
    "Rules": RuleSettings,
    "Lists": ListSettings,
    "policy": PolicySettings,
}


def section(heading: str) -> str:
    return re.split(rf"^##? {heading}\n", PAGE, flags=re.MULTILINE)[1].partition("\n## ")[0]


def shown(field) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "none"
    return json.dumps(sorted(value) if isinstance(value, tuple | frozenset) else value)


@pytest.mark.parametrize("heading", MODELS)
def test_all_settings_are_told_of_as_they_are(heading):
    rows = re.findall(r"^\| `(\w+)` \| `(.*?)` \| (.*) \|$", section(heading), re.MULTILINE)
    assert rows == [
        (name, shown(field), field.description)
        for name, field in MODELS[heading].model_fields.items()
    ]


def test_all_facts_and_functions_are_told_of():
    text = section("Expressions")
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \| (.*) \|$", text, re.MULTILINE)
    assert rows == [
        (
            name,
            fact.kind.value,
            "always" if len(fact.moments) == len(Moment) else ", ".join(fact.moments),
            fact.meaning,
        )
        for name, fact in FACTS.items()
    ]
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \|$", text, re.MULTILINE)
    assert rows == [(name, each.meaning) for name, each in make_functions({}).items()]


@pytest.mark.parametrize("text", CONFIGURATIONS)
async def test_examples_of_settings(text, tmp_path):
    rules = tmp_path / "rules.toml"
    rules.write_text("")
    path = tmp_path / "elemta.toml"
    text = text.replace("/etc/elemta/rules.toml", str(rules))
    path.write_text('[server]\nhostname = "mail.example.test"\n' + text)
    loaded = read(path, {})
    assert loaded.problems == ()
    assert await check_plugins(loaded.config, loaded.source.where) == []
    assert try_rules(loaded.config).troubles == ()


def test_examples_of_rules_and_cases(tmp_path):
    (tmp_path / "rules.toml").write_text(RULES)
    (tmp_path / "spies.txt").write_text(ENTRIES)
    (tmp_path / "rules.policy.toml").write_text(CASES)
    path = tmp_path / "elemta.toml"
    path.write_text(
        f'[[listeners]]\naddress = "127.0.0.1:{free_port()}"\n'
        f'[plugins]\nplugins = ["rules"]\n[plugins.rules]\nfiles = ["{tmp_path}/rules.toml"]\n'
    )
    done = CliRunner().invoke(cli, ["rules", "test", "-c", str(path)])
    assert done.output == f"{CASES.count('[[case]]')} cases as expected, of 5 rules\n"
    assert done.exit_code == 0


def test_the_example_of_entries():
    found = NamedList("it", ListKind.ADDRESS, "it")
    found.fill(ENTRIES.split("\n"))
    assert (found.size, found.problems) == (3, [])
