"""docs/why.md: its examples are what the command prints, its settings what the server takes."""

import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from elemta.cli.main import cli
from elemta.config import load
from elemta.config.why import WhyConfig
from elemta.mail.why import Heard, Mail, Ruling, Who, Why, pack
from elemta.observe.why import WhyStore, store_path
from elemta.server import journal
from elemta.server.relay import RELAY_DENIED
from elemta.server.rules import RULES

PAGE = (Path(__file__).parents[2] / "docs" / "why.md").read_text()
AT = 1_772_445_600.0  # as the page has it
PLACE = "/etc/elemta/rules.toml:12"
RECORDS = [
    Why(
        "3f9a01c2",
        AT,
        Who("0-5d2-1", "192.0.2.7", "mta", "client.example.org", "ESMTP"),
        Mail("ann@example.org", ("bob@example.net",)),
        Ruling("reject", "rcpt", str(RELAY_DENIED), rule="relay"),
    ),
    Why(
        "1M7ZHE7DV0000",
        AT + 1,
        Who("0-5d2-2", "192.0.2.8", "mta", "relay.example.org", "ESMTPS", "TLSv1.3"),
        Mail("carol@example.org", ("bob@example.test",), "1M7ZHE7DV0000", "<1@example.org>", 1204),
        Ruling("quarantine", "message", plugin="rules", note=PLACE),
        (Heard("rules", "on_data", "quarantine", PLACE, 0.4),),
        "spf=pass dmarc=pass dkim=pass (example.org)",
        {"score": "6.5"},
        3.1,
    ),
]


def blocks(language: str = "") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


DIALOGUES = [each for each in blocks() if each.startswith("$ ")]


@pytest.mark.parametrize("text", DIALOGUES)
def test_the_command_prints_what_the_page_shows(text, tmp_path):
    config = tmp_path / "elemta.toml"
    config.write_text(f'[server]\nhostname = "mail.example.test"\nstate_dir = "{tmp_path}"\n')
    store = WhyStore(store_path(tmp_path))
    store.add(pack(RECORDS))
    store.close()
    command, _, output = text.partition("\n")
    words = command.removeprefix("$ elemta ").split()
    done = CliRunner().invoke(cli, [*words, "-c", str(config)])
    assert (done.exit_code, done.output) == (0, output)


def test_there_are_examples_and_the_reply_is_one():
    assert len(DIALOGUES) == 2
    assert f"{RELAY_DENIED} (id 3f9a01c2)\n" in blocks()


def test_the_settings_shown_are_the_defaults():
    [text] = (each for each in blocks("toml") if "[why]" in each)
    shown = WhyConfig(**tomllib.loads(text)["why"])
    assert shown == WhyConfig()


@pytest.mark.parametrize("text", [each for each in blocks("toml") if "[[replies]]" in each])
def test_refusals_in_other_words_are_taken(text, tmp_path):
    config = tmp_path / "elemta.toml"
    config.write_text(f'[server]\nhostname = "mail.example.test"\nstate_dir = "{tmp_path}"\n{text}')
    assert load(config, {}).replies
    done = CliRunner().invoke(cli, ["check", "-c", str(config)])
    assert "replies" not in done.output


def test_rules_and_numbers_it_names_are_those_of_the_code():
    for rule in ("tls.handshake", "proxy"):
        assert rule in RULES
        assert f"`{rule}`" in PAGE
    assert f"{journal.MAX_REFUSED:,} different" in PAGE
