"""Finding, reading and judging plugins: what is right loads, what is wrong is told."""

import os
import sys

import pytest
from plugins.workshop import HEAD, source

from elemta.plugins.builtin.attachments import Attachments
from elemta.plugins.finding.sources import Found, Kind
from elemta.plugins.loading import loader
from elemta.plugins.settings import Isolation, PluginSettings

HOOK = "def on_connect(self, ctx): return None"
SETTINGS = "class Settings(Settings):\n    limit: int = 5\n    name: str = ''"


async def test_a_file_a_package_and_nothing_else(workshop):
    workshop.write("one.py", source("one", HOOK))
    workshop.write("two/__init__.py", "from .inner import Two\n")
    workshop.write("two/inner.py", source("two", HOOK).replace("Sample", "Two"))
    for name in ("_private.py", ".hidden.py", "test_one.py", "one_test.py", "conftest.py", "a.txt"):
        workshop.write(name, "raise SystemError('this is no plugin')")
    (workshop.folder / "empty").mkdir()
    roster = await workshop.load()
    assert [info.name for info in roster.info()] == ["one", "two"]
    assert roster.info()[1].source == str(workshop.folder / "two")
    assert not list(workshop.folder.rglob("__pycache__"))


async def test_a_folder_that_is_not_there_has_no_plugins(workshop):
    workshop.folder.rmdir()
    roster = await workshop.load()
    assert roster.info() == ()
    assert roster.table("mta").is_empty


async def test_only_what_is_named_without_auto_load(workshop):
    workshop.write("one.py", source("one", HOOK))
    workshop.write("two.py", source("two", HOOK))
    roster = await workshop.load(PluginSettings("two"), auto_load=False)
    assert [info.name for info in roster.info()] == ["two"]


async def test_underscores_in_file_names_are_hyphens(workshop):
    workshop.write("spam_filter.py", source("spam-filter", HOOK))
    roster = await workshop.load(PluginSettings("spam-filter"), auto_load=False)
    assert [info.name for info in roster.info()] == ["spam-filter"]


async def test_a_file_named_otherwise_gets_its_settings_all_the_same(workshop):
    workshop.write("other.py", source("sample", HOOK + "\n" + SETTINGS))
    await workshop.load(PluginSettings("sample", config={"limit": 7}))
    assert workshop.plugin().settings.limit == 7


async def test_an_importable_module(workshop, tmp_path, monkeypatch):
    (tmp_path / "elsewhere_plugin.py").write_text(source("sample", HOOK))
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        roster = await workshop.load(PluginSettings("sample", module="elsewhere_plugin"))
        assert roster.info()[0].source == "elsewhere_plugin"
    finally:
        sys.modules.pop("elsewhere_plugin", None)


async def test_what_elemta_brings_is_imported_once(workshop):
    classes = []
    for _ in range(2):
        await workshop.load(PluginSettings("attachments"), auto_load=False)
        classes.append(type(workshop.plugin("attachments")))
    assert classes[0] is classes[1] is Attachments


@pytest.mark.parametrize(
    "body",
    [
        """@field_validator("n")
        def check(cls, value): return {}[value]""",
        """@model_validator(mode="after")
        def check(self): raise SystemExit(3)""",
    ],
)
async def test_settings_whose_own_checks_are_broken(workshop, body):
    head = "from pydantic import field_validator, model_validator\n"
    settings = f"class Settings(Settings):\n        n: int = 1\n        {body}"
    workshop.write("a.py", head + source("a", settings))
    [problem] = await workshop.problems()
    assert problem.startswith("a.py: plugin a: its settings cannot be judged: ")


async def test_a_class_that_cannot_be_looked_at(workshop):
    odd = "class Odd(type):\n    def __dir__(cls): raise KeyError('no')\n"
    text = source("a", HOOK).replace("(Plugin)", "(Plugin, metaclass=Odd)")
    workshop.write("a.py", text.replace("class Sample", odd + "class Sample"))
    [problem] = await workshop.problems()
    assert problem == "a.py:5: plugin a: cannot be looked at: KeyError: 'no'"


async def test_an_entry_point(workshop, tmp_path, monkeypatch):
    (tmp_path / "entered_plugin.py").write_text(source("entered", HOOK))
    about = tmp_path / "entered-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: entered\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[elemta.plugins]\nentered = entered_plugin:Sample\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        roster = await workshop.load(PluginSettings("entered"))
        assert [info.name for info in roster.info()] == ["entered"]
        assert await workshop.problems(PluginSettings("enterd")) == [
            "plugin enterd: there is no such plugin; did you mean entered?"
        ]
    finally:
        sys.modules.pop("entered_plugin", None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = 1\n", "a.py: plugin a: defines no class that is derived from elemta.plugins.Plugin"),
        (
            source("one") + source("two").removeprefix(HEAD).replace("Sample", "Other"),
            "a.py: plugin a: defines several plugins (Other, Sample): say which by "
            "`plugin = Other`",
        ),
        (
            HEAD + "plugin = 5\n",
            "a.py: plugin a: `plugin` must be a class that is derived from elemta.plugins.Plugin",
        ),
        ("def f(:\n    pass\n", "a.py:1: plugin a: not valid Python: invalid syntax"),
        (
            "x = 1\nimport nowhere_to_be_found\n",
            "a.py:2: plugin a: cannot be imported: ModuleNotFoundError: No module named "
            "'nowhere_to_be_found'",
        ),
        ("\nraise SystemExit(3)\n", "a.py:2: plugin a: cannot be imported: SystemExit: 3"),
        (
            HEAD + "class A(Plugin):\n    def on_connect(self, ctx): ...\n",
            'a.py:4: plugin a: has no metadata: metadata = Metadata(name="...", version="1.0.0")',
        ),
        (
            HEAD + "class A(Plugin):\n    metadata = {'name': 'a'}\n",
            "a.py:4: plugin a: metadata must be an elemta.plugins.Metadata",
        ),
        (
            source("Big_Name"),
            "a.py:4: plugin a: metadata: name 'Big_Name': lower-case letters, digits and hyphens, "
            "at most 64, a letter first",
        ),
        (
            source("a", version="new"),
            "a.py:4: plugin a: metadata: version 'new' is no version, such as 1.2.0",
        ),
        (
            source("a", dependencies="spf"),
            "a.py:4: plugin a: metadata: dependencies must be a list of texts",
        ),
        (
            source("a", dependencies=None),
            "a.py:4: plugin a: metadata: dependencies must be a list of texts",
        ),
        (
            source("a", author=5),
            "a.py:4: plugin a: metadata: author must be a text",
        ),
        (
            source("a", dependencies=["spf>>1"]),
            "a.py:4: plugin a: metadata: dependency 'spf>>1': a name with or without versions is "
            'expected, such as "spf>=1.2,<2"',
        ),
        (
            source("a", after=["Spf"]),
            "a.py:4: plugin a: metadata: after 'Spf': the name of a plugin is expected",
        ),
        (
            source("a", "def on_conect(self, ctx): ..."),
            "a.py:6: plugin a: there is no hook on_conect; did you mean on_connect?",
        ),
        (
            source("a", "async def on_message_received(self, ctx): ..."),
            "a.py:6: plugin a: there is no hook on_message_received; did you mean on_data?",
        ),
        (
            source("a", "def on_data(self): ..."),
            "a.py:6: plugin a: on_data(self): it is called with a context: def on_data(self, ctx)",
        ),
        (
            source("a", "def on_data(self, ctx, more): ..."),
            "a.py:6: plugin a: on_data(self, ctx, more): it is called with a context: "
            "def on_data(self, ctx)",
        ),
        (
            source("a", "on_data = 5"),
            "a.py:4: plugin a: on_data must be a method: def on_data(self, ctx)",
        ),
        (
            source("a", "async def on_data(self, ctx): yield 1"),
            "a.py:6: plugin a: on_data yields; it must return a Result or None",
        ),
        (
            source("a", "def setup(self): ..."),
            "a.py:6: plugin a: setup must be defined by `async def`",
        ),
        (
            source("a", "Settings = dict"),
            "a.py:4: plugin a: Settings must be a class derived from elemta.plugins.Settings",
        ),
    ],
)
async def test_what_is_wrong_is_told_with_file_and_line(workshop, text, told):
    workshop.write("a.py", text)
    assert await workshop.problems() == [told]


async def test_all_problems_are_told_at_once(workshop):
    workshop.write("a.py", source("a", "def on_dta(self, ctx): ...\ndef on_data(self): ..."))
    workshop.write("b.py", "import nowhere_to_be_found\n")
    workshop.write("c.py", source("c", HOOK))
    assert len(await workshop.problems(PluginSettings("d"))) == 4
    assert not [name for name in sys.modules if name.startswith("elemta_plugin_c_")]


async def test_a_name_twice(workshop):
    workshop.write("a.py", source("same"))
    workshop.write("b.py", source("same"))
    assert await workshop.problems() == [
        f"b.py: plugin same: there is another plugin of this name: {workshop.folder}/a.py".replace(
            f"{workshop.folder}/", ""
        )
    ]


async def test_a_name_that_is_not_the_plugins_own(workshop):
    workshop.write("a.py", source("b"))
    assert await workshop.problems(PluginSettings("c", module="a.py", where="elemta.toml:3")) == [
        "a.py: plugin c: names itself b: use that name in the configuration"
    ]


async def test_a_file_that_is_not_there_names_the_nearest(workshop):
    workshop.write("limits.py", source("limits"))
    settings = PluginSettings("limits", module="limts.py", where="elemta.toml:3")
    assert await workshop.problems(settings, auto_load=False) == [
        "elemta.toml:3: plugin limits: there is no limts.py; did you mean limits.py?"
    ]


async def test_settings_are_judged_by_the_model(workshop):
    workshop.write("a.py", source("a", SETTINGS))
    settings = PluginSettings("a", config={"limt": 3, "limit": "x"}, where="elemta.toml:7")
    assert await workshop.problems(settings) == [
        "elemta.toml:7: plugin a: limit: input should be a valid integer, unable to parse string "
        "as an integer",
        "elemta.toml:7: plugin a: limt: unknown setting; did you mean limit?",
    ]


async def test_the_nearer_place_of_a_setting_counts(workshop):
    workshop.write("a_b.py", source("a-b", SETTINGS))
    workshop.write("a_b.toml", "limit = 1\nname = 'beside'\n")
    await workshop.load(
        PluginSettings("a-b", config={"limit": 3}), tables={"a_b": {"limit": 2, "name": "table"}}
    )
    assert workshop.plugin("a-b").settings.model_dump() == {"limit": 3, "name": "table"}


REFERRING = """
class Settings(Settings):
    word: str = ""
    words: list[str] = []
    number: int = 0

    @pydantic.field_validator("word")
    @classmethod
    def check(cls, value):
        assert value != "wrong", f"{value} is wrong"
        return value
"""


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('word = "env:NO_SUCH"', "a.toml: plugin a: word: env:NO_SUCH: the variable is not set"),
        ('words = ["file:no"]', "words.0: file:no: the file cannot be read: No such file or dir"),
        ('word = "file:large"', "word: file:large: the file is larger than 64KiB"),
        ('word = "file:odd"', "word: file:odd: the file is not UTF-8"),
        ('word = "env:A_WORD"', "word: what a reference stands for is not allowed"),
        ('number = "env:A_WORD"', "number: input should be a valid integer"),
    ],
)
async def test_references_that_stand_for_nothing_good(workshop, monkeypatch, line, told):
    monkeypatch.setenv("A_WORD", "wrong")
    workshop.write("a.py", "import pydantic\n" + source("a", REFERRING))
    workshop.write("large", "x" * 65537)
    (workshop.folder / "odd").write_bytes(b"\xff")
    workshop.write("a.toml", line)
    [problem] = await workshop.problems()
    assert told in problem
    assert "wrong" not in problem


async def test_a_reference_is_followed_once(workshop, monkeypatch):
    monkeypatch.setenv("A_WORD", "env:ANOTHER")
    workshop.write("a.py", "import pydantic\n" + source("a", REFERRING))
    workshop.write("a.toml", 'word = "env:A_WORD"')
    roster = await workshop.load()
    settings = roster.find("a").settings
    assert settings.word == "env:ANOTHER"
    assert type(settings.word) is str


@pytest.mark.parametrize("name", ["a.json", "a.toml"])
async def test_settings_beside_the_plugin(workshop, name):
    workshop.write("a.py", source("a", SETTINGS))
    text = '{"limit": 8, "enabled": false}' if name == "a.json" else "limit = 8\nenabled = false\n"
    workshop.write(name, text)
    roster = await workshop.load()
    assert roster.info()[0].state == "disabled"
    await roster.enable("a")
    assert workshop.plugin("a").settings.limit == 8


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"a.json": "{"}, "a.json: plugin a: cannot be read: Expecting property name"),
        ({"a.json": "[]"}, "a.json: plugin a: a JSON object is expected"),
        ({"a.toml": "x"}, "a.toml: plugin a: cannot be read: "),
        ({"a.toml": "limt = 3"}, "a.toml: plugin a: limt: unknown setting; did you mean limit?"),
        ({"a.toml": "", "a.json": "{}"}, "a.toml: plugin a: a.json has settings for it, too"),
    ],
)
async def test_wrong_settings_beside_the_plugin(workshop, files, told):
    workshop.write("a.py", source("a", SETTINGS))
    for name, text in files.items():
        workshop.write(name, text)
    [problem] = await workshop.problems()
    assert problem.startswith(told)


async def test_secret_values_are_not_told(workshop):
    workshop.write("a.py", source("a", SETTINGS))
    [problem] = await workshop.problems(PluginSettings("a", config={"limit": "s3cret"}))
    assert "s3cret" not in problem


async def test_a_table_for_nobody(workshop):
    workshop.write("clamav.py", source("clamav", SETTINGS))
    tables = {"clamv": {"limit": 1}}
    assert await workshop.problems(tables=tables, places={"clamv": "elemta.toml:9"}) == [
        "elemta.toml:9: plugin clamv: [plugins.clamv]: there is no such plugin or setting; did you "
        "mean clamav?"
    ]


@pytest.mark.parametrize("name", ["a.py", "", "a.toml", "p/inner.py", "p"])
async def test_files_that_others_can_write_to(workshop, name):
    workshop.write("a.py", source("a"))
    workshop.write("a.toml", "")
    workshop.write("p/__init__.py", source("p"))
    workshop.write("p/inner.py", "")
    path = workshop.folder / name
    path.chmod(path.stat().st_mode | 0o020)
    problems = await workshop.problems()
    assert any("others can write to it: chmod go-w" in problem for problem in problems)
    assert all(str(path).rpartition("/")[2] in problem for problem in problems)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
async def test_files_of_other_users(workshop):
    os.chown(workshop.write("a.py", source("a")), 12345, -1)
    assert await workshop.problems() == [
        "a.py: plugin a: belongs to user 12345, who could change it: chown it"
    ]


@pytest.mark.parametrize("settings", [(), (PluginSettings("a", module="a.py"),)])
async def test_links_out_of_the_folder(workshop, tmp_path, settings):
    (tmp_path / "a.py").write_text(source("a"))
    (workshop.folder / "a.py").symlink_to(tmp_path / "a.py")
    problems = await workshop.problems(*settings)
    assert problems
    assert set(problems) == {
        "a.py: plugin a: is a symbolic link that leads out of the folder of plugins"
    }


async def test_what_is_disabled_and_broken_is_no_error(workshop):
    workshop.write("a.py", "import nowhere_to_be_found\n")
    roster = await workshop.load(
        PluginSettings("a", enabled=False), PluginSettings("gone", enabled=False)
    )
    assert roster.info() == ()


async def test_a_kind_that_nobody_can_load(workshop, monkeypatch):
    monkeypatch.setattr(loader, "READERS", {})
    workshop.write("a.py", source("a"))
    assert await workshop.problems(PluginSettings("a", isolation=Isolation.PROCESS)) == [
        "a.py: plugin a: this release cannot load plugins of this kind (process)"
    ]


async def test_hooks_in_shadow_mode_must_exist(workshop):
    workshop.write("a.py", source("a"))
    settings = PluginSettings("a", shadow_hooks=frozenset({"on_dta"}), where="elemta.toml:4")
    assert await workshop.problems(settings) == [
        "elemta.toml:4: plugin a: shadow_hooks: there is no hook on_dta; did you mean on_data?"
    ]


async def test_folders_on_the_way_that_others_can_write_to(workshop):
    workshop.write("inner/a.py", source("a"))
    workshop.folder.chmod(0o777)
    problems = await workshop.problems(PluginSettings("a", module="inner/a.py"))
    assert problems == [
        f"{workshop.folder}: plugin a: others can write to it: chmod go-w {workshop.folder}"
    ]


async def test_what_is_to_be_isolated_is_not_used_here_under_another_name(workshop):
    workshop.write("other.py", source("a"))
    settings = PluginSettings("a", isolation=Isolation.PROCESS, where="elemta.toml:3")
    assert await workshop.problems(settings) == [
        "elemta.toml:3: plugin a: say where it is, so that it is not loaded here: "
        'module = "other.py"'
    ]


def test_what_is_reached_outside_is_another_when_it_is_told_otherwise():
    def key(kind, **options):
        return Found("a", kind, settings=PluginSettings("a", **options)).key

    assert key(Kind.ADDRESS, address="unix:/a") != key(Kind.ADDRESS, address="unix:/b")
    assert key(Kind.PROCESS, timeout=1) == key(Kind.PROCESS, timeout=2)
    assert key(Kind.FILE) != key(Kind.PROCESS)
