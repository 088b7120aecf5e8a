"""The list of settings: what reload makes of it, and that the documentation has all of it."""

import tomllib
from pathlib import Path

import pytest

from elemta.config import Config, changed, keep_fixed, load, read
from elemta.config.reference import show_default, values_of, write_reference
from elemta.config.settings import Setting, label, tables

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "elemta.example.toml"
SITE = {"server.hostname", "relay.local_domains"}  # nobody's example can be everybody's default

SETTINGS = [
    pytest.param(setting, id=setting.full_name)
    for table in tables()
    for setting in table.settings()
]


def config_of(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "elemta.toml"
    path.write_text(text)
    return load(path, {})


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_is_documented(setting: Setting):
    assert setting.field.description
    extra = setting.field.json_schema_extra
    assert isinstance(extra, dict)
    assert isinstance(extra["live"], bool)
    assert values_of(setting)
    page = (ROOT / "docs" / "configuration.md").read_text()
    section = page.partition(f"## {setting.table.heading}\n")[2].partition("\n## ")[0]
    assert f"| `{setting.name}` | " in section


def test_the_page_is_up_to_date():
    assert (ROOT / "docs" / "configuration.md").read_text() == write_reference(), "run `make docs`"


def test_the_example_loads_without_a_word():
    assert read(EXAMPLE, {}).problems == ()


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_example_has_every_setting_with_its_default(setting: Setting):
    node = tomllib.loads(EXAMPLE.read_text())
    for part in setting.table.name.split("."):
        node = node[part] if isinstance(node, dict) else [one[part] for one in node if part in one]
    items = node if isinstance(node, list) else [node]
    assert any(setting.name in item for item in items)
    if setting.is_required or setting.table.is_list or setting.full_name in SITE:
        return
    written = tomllib.loads(f"value = {show_default(setting)}")["value"]
    assert items[0][setting.name] == written


def test_a_default_reads_back(tmp_path):
    lines = []
    for table in tables():
        if not table.is_list and not table.in_list:
            lines.append(table.heading)
            lines += [f"{each.name} = {show_default(each)}" for each in table.settings()]
    assert config_of(tmp_path, "\n".join(lines)) == config_of(tmp_path, "")


def test_the_example_contract():
    """Names and values that operators were promised."""
    config = load(EXAMPLE, {})
    assert config.server.hostname == "mail.example.test"
    assert config.listeners[0].address == "127.0.0.1:2525"
    assert config.routes[0].path == f"{ROOT}/var/mail/{{domain}}/{{local}}"
    assert (config.routes[1].host, config.routes[1].port) == ("127.0.0.1", 2700)
    assert config.delivery.max_messages_per_connection == 100


def test_a_table_within_a_list_is_compared_with_the_list(tmp_path):
    text = '[[plugins.plugin]]\nname = "a"\nlimits = {{ calls = {} }}\n'
    old, new = (config_of(tmp_path, text.format(calls)) for calls in (1, 2))
    assert changed(old, new) == (("plugins.plugin",), ())
    assert keep_fixed(old, new) == new


def test_what_changed_and_when_it_applies(tmp_path):
    old = config_of(tmp_path, "[server]\nworkers = 1\n")
    new = config_of(
        tmp_path,
        """
[server]
workers = 2
max_recipients = 5
[[listeners]]
address = "127.0.0.1:2626"
[queue]
max_age = "1d"
inline_size = "1KiB"
[[queue.priorities]]
priority = "low"
[[routes]]
domains = ["*"]
via = "hold"
[logging]
level = "debug"
format = "console"
""",
    )
    live, restart = changed(old, new)
    assert set(live) == {
        "server.max_recipients",
        "queue.max_age",
        "queue.priorities",
        "routes",
        "logging.level",
    }
    assert set(restart) == {"server.workers", "listeners", "queue.inline_size", "logging.format"}
    assert changed(new, new) == ((), ())

    merged = keep_fixed(old, new)
    assert changed(old, merged) == (live, ())
    assert changed(merged, new) == ((), restart)
    assert merged.server.workers == 1
    assert merged.queue.inline_size == old.queue.inline_size
    assert merged.listeners == old.listeners
    assert merged.routes == new.routes


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("queue", "max_age"), "[queue] max_age"),
        (("queue", "retry_schedule", 2), "[queue] retry_schedule[2]"),
        (("queue",), "[queue]"),
        (("listeners", 0), "[[listeners]]"),
        (("listeners", 0, "kind"), "[[listeners]] kind"),
        (("queue", "priorities", 1, "senders", 0), "[[queue.priorities]] senders[0]"),
        (("nothing", "here", 3), "nothing.here[3]"),
    ],
)
def test_settings_are_named_as_the_file_has_them(path, text):
    assert label(path) == text
