"""Settings of plugins, as the file has them and as the loader is told."""

from pathlib import Path

import pytest

from elemta.app.settings import plugins_settings
from elemta.config import Config, changed, read
from elemta.plugins.settings import (
    Isolation,
    Limits,
    Mode,
    OnError,
    PluginSettings,
    PluginsSettings,
)

HOST = '[server]\nhostname = "mx.example.test"\n'


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def loaded(text: str, **environ: str):
        Path("elemta.toml").write_text(HOST + text)
        return read(Path("elemta.toml"), environ)

    return loaded


@pytest.fixture
def told(write):
    def tell(text: str, **environ: str) -> list[str]:
        return [str(problem) for problem in write(text, **environ).problems]

    return tell


@pytest.fixture
def settings(write):
    def derive(text: str, **environ: str) -> PluginsSettings:
        loaded = write(text, **environ)
        assert loaded.problems == ()
        return plugins_settings(loaded.config, 1, loaded.source.where)

    return derive


def test_the_room_and_the_file_agree_on_defaults():
    settings = plugins_settings(Config(), 0, lambda _path: "")
    own = PluginsSettings()
    assert (settings.enabled, settings.auto_load, settings.hot_reload, settings.plugins) == (
        own.enabled,
        own.auto_load,
        own.hot_reload,
        own.plugins,
    )
    assert settings.directory == own.directory.absolute()


def test_one_plugin_has_the_defaults_of_the_room(settings):
    [plugin] = settings('[[plugins.plugin]]\nname = "a"\n').plugins
    assert plugin == PluginSettings("a", where="elemta.toml:3")


def test_all_that_can_be_said_of_one(settings):
    found = settings("""
[plugins]
directory = "filters"
auto_load = false
hot_reload = true
[[plugins.plugin]]
name = "a-b"
enabled = false
module = "a.py"
config = { limit = 5 }
timeout = "1m"
on_error = "reject"
isolation = "process"
priority = -3
mode = "shadow"
shadow_hooks = ["on_data"]
listeners = ["lmtp"]
authenticated = true
log_level = "debug"
limits = { memory = "300MB", cpu = "1500ms", files = 40, reply_size = "64KiB", calls = 2 }
""")
    assert found.plugins == (
        PluginSettings(
            name="a-b",
            enabled=False,
            module="a.py",
            config={"limit": 5},
            timeout=60.0,
            on_error=OnError.REJECT,
            isolation=Isolation.PROCESS,
            priority=-3,
            mode=Mode.SHADOW,
            shadow_hooks=frozenset({"on_data"}),
            listeners=("lmtp",),
            authenticated=True,
            log_level="debug",
            limits=Limits(300_000_000, 2, 40, 100 << 20, 64 << 10, 2),
            where="elemta.toml:8",
        ),
    )
    assert found.directory == Path("filters").absolute()
    assert (found.auto_load, found.hot_reload, found.worker) == (False, True, 1)


def test_names_give_the_order(settings):
    found = settings("""
[plugins]
plugins = ["b", "c"]
[[plugins.plugin]]
name = "a"
[[plugins.plugin]]
name = "c"
priority = 3
""")
    assert [(each.name, each.priority, each.where) for each in found.plugins] == [
        ("b", 0, "elemta.toml:5"),
        ("c", 3, "elemta.toml:8"),
        ("a", 0, "elemta.toml:6"),
    ]


def test_a_list_of_names_enables_these_and_no_others(settings):
    found = settings('[plugins]\nenabled = ["b"]\n[[plugins.plugin]]\nname = "a"\n')
    assert [(each.name, each.enabled) for each in found.plugins] == [("b", True), ("a", False)]
    assert (found.enabled, found.auto_load) == (True, False)
    none = settings("[plugins]\nenabled = []\n")
    assert (none.enabled, none.auto_load, none.plugins) == (True, False, ())
    assert settings("[plugins]\nenabled = false\n").enabled is False


def test_tables_of_plugins(settings):
    found = settings('[plugins.spam_filter]\nlimit = 5\n[plugins.b]\nkey = "env:KEY"\n', KEY="k")
    assert found.tables == {"spam_filter": {"limit": 5}, "b": {"key": "k"}}
    assert found.places == {"spam_filter": "elemta.toml:3", "b": "elemta.toml:5"}


def test_variables_override(settings):
    found = settings(
        '[plugins.spam]\nlimit = 5\n[[plugins.plugin]]\nname = "a"\n',
        ELEMTA_PLUGINS__SPAM__LIMIT="6",
        ELEMTA_PLUGINS__PLUGIN__0__TIMEOUT="2s",
        ELEMTA_PLUGINS__HOT_RELOAD="true",
    )
    assert found.tables == {"spam": {"limit": 6}}
    assert found.plugins[0].timeout == 2.0
    assert found.hot_reload


def test_what_is_wrong_is_told_with_line_and_nearest_name(told):
    assert told("""
[plugins]
direcotry = "x"
enabled = "yes"
[[plugins.plugin]]
name = "A"
timeuot = 3
[[plugins.plugin]]
name = "b"
config = "{"
on_error = "ignore"
listeners = ["smtp"]
[[plugins.plugin]]
name = "b"
module = "b.py"
library = "b.so"
""") == [
        "elemta.toml:5: [plugins] direcotry: unknown setting; did you mean directory?",
        'elemta.toml:6: [plugins] enabled: "yes": true, false or a list of names is expected, such '
        'as ["clamav", "greylist"]',
        'elemta.toml:8: [[plugins.plugin]] name: "A": lower-case letters, digits and hyphens are '
        "expected, at most 64, a letter first",
        "elemta.toml:9: [[plugins.plugin]] timeuot: unknown setting; did you mean timeout?",
        'elemta.toml:12: [[plugins.plugin]] config: "{": not valid JSON: Expecting property name '
        "enclosed in double quotes: line 1 column 2 (char 1)",
        'elemta.toml:13: [[plugins.plugin]] on_error: "ignore": "defer", "reject" or "continue" is '
        "expected",
        'elemta.toml:14: [[plugins.plugin]] listeners[0]: "smtp": '
        '"mta", "submission", "submissions" or "lmtp" is expected',
        'elemta.toml:18: [[plugins.plugin]] library: "b.so": module says already where it is',
    ]


def test_names_that_are_there_twice(told):
    assert told("""
[[plugins.plugin]]
name = "b"
[[plugins.plugin]]
name = "b"
[plugins.c-d]
[plugins.c_d]
""") == [
        'elemta.toml:7: [[plugins.plugin]] name: "b": is there twice',
        "elemta.toml:9: [plugins] c_d: is there twice: [plugins.c-d]",
    ]


def test_changes_of_plugins_apply_on_reload(write):
    old = write("[plugins]\n[plugins.a]\nlimit = 5\n").config
    new = write(
        '[plugins]\nhot_reload = true\n[plugins.a]\nlimit = 6\n[[plugins.plugin]]\nname = "a"\n'
    ).config
    changes = changed(old, new)
    assert set(changes.live) == {"plugins.hot_reload", "plugins.a", "plugins.plugin"}
    assert changes.restart == ()


NO_NAMES = '[plugins]\ndirectory = "/app/plugins"\nenabled = []\n'
NAMES = """
[plugins]
enabled = true
directory = "/app/plugins"
plugins = [
    "clamav",
    "rspamd",
    "dkim",
    "spf",
    "dmarc"
]

[plugins.clamav]
socket = "/var/run/clamav/clamd.ctl"
timeout = 30

[plugins.rspamd]
url = "http://rspamd:11333"
timeout = 10

[plugins.dkim]
selector = "default"
private_key = "/app/keys/dkim.key"
"""
LIBRARIES = """
[plugins]
enabled = true
directory = "./plugins"
auto_load = true

[[plugins.plugin]]
name = "spam-filter"
enabled = true
library = "libspam_filter.so"
config = '''
{
  "spam_threshold": 5.0,
  "quarantine": true
}
'''

[[plugins.plugin]]
name = "virus-scanner"
enabled = true
library = "libvirus_scanner.so"
config = '''
{
  "clamav_socket": "/var/run/clamav/clamd.sock"
}
'''
"""


def test_an_empty_list_of_names_loads_nothing(settings):
    found = settings(NO_NAMES)
    assert (found.directory, found.auto_load, found.plugins) == (Path("/app/plugins"), False, ())


def test_a_list_of_names_with_tables(settings):
    found = settings(NAMES)
    assert [each.name for each in found.plugins] == ["clamav", "rspamd", "dkim", "spf", "dmarc"]
    assert found.tables["clamav"] == {"socket": "/var/run/clamav/clamd.ctl", "timeout": 30}


def test_libraries_with_settings_in_json(settings):
    found = settings(LIBRARIES)
    assert [(each.name, each.library, each.config) for each in found.plugins] == [
        ("spam-filter", "libspam_filter.so", {"spam_threshold": 5.0, "quarantine": True}),
        (
            "virus-scanner",
            "libvirus_scanner.so",
            {"clamav_socket": "/var/run/clamav/clamd.sock"},
        ),
    ]


def test_references_in_json_text_stand_for_what_they_do_in_a_table(settings):
    config = '{"password": "env:A_WORD", "words": ["env:A_WORD", "plain"]}'
    text = f"[[plugins.plugin]]\nname = 'a'\nconfig = '{config}'\n"
    (plugin,) = settings(text, A_WORD="open").plugins
    assert plugin.config == {"password": "open", "words": ["open", "plain"]}


def test_a_reference_in_json_text_that_stands_for_nothing(told):
    config = '{"password": "env:NO_SUCH"}'
    [problem] = told(f"[[plugins.plugin]]\nname = 'a'\nconfig = '{config}'\n")
    assert "config.password: env:NO_SUCH: the variable is not set" in problem
