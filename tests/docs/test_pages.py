"""The pages tell the truth: those made from code are fresh, and what they name exists."""

import importlib.util
import re
from pathlib import Path

import msgspec
import pytest

from elemta.mail import events
from elemta.observe.catalogue import CATALOGUE
from elemta.observe.pages import FIELDS, event_types

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "src").glob("**/README.md")]
)


def text_of(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def blocks(name: str, language: str = "") -> list[str]:
    """The fenced blocks of a page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text_of(name), re.DOTALL | re.MULTILINE)


def ids(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


class TestGenerated:
    @pytest.fixture
    def generator(self):
        spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def test_pages_made_from_code_are_fresh(self, generator):
        assert generator.stale_pages() == [], "run `make docs`"

    def test_a_stale_page_is_noticed(self, generator, tmp_path):
        (tmp_path / "plugins").mkdir()
        for name in generator.PAGES:
            (tmp_path / name).write_text((ROOT / "docs" / name).read_text("utf-8"), "utf-8")
        assert generator.stale_pages(tmp_path) == []
        (tmp_path / "log.md").write_text("old", "utf-8")
        (tmp_path / "metrics.md").unlink()
        assert generator.stale_pages(tmp_path) == ["log.md", "metrics.md"]


class TestLog:
    def test_every_field_of_every_event_is_explained_and_nothing_else(self):
        fields = {field.name for kind in event_types() for field in msgspec.structs.fields(kind)}
        assert set(FIELDS) == fields

    def test_every_event_is_described(self):
        described = set(re.findall(r"^## (\w+)$", text_of("docs/log.md"), re.MULTILINE))
        written = {
            kind.__struct_config__.tag
            for kind in vars(events).values()
            if isinstance(kind, type)
            and issubclass(kind, events.Event)
            and not kind.__subclasses__()
        }
        assert described == written | {"log_lines_dropped"}


class TestMetrics:
    @pytest.mark.parametrize("page", ["docs/operating.md", "README.md", "docs/design.md"])
    def test_names_in_other_pages_exist(self, page):
        known = {metric.name for metric in CATALOGUE}
        named = set(re.findall(r"\belemta_\w+", text_of(page)))
        assert {re.sub(r"_(total|bucket|sum|count|info)$", "", name) for name in named} <= known

    @pytest.mark.parametrize("metric", CATALOGUE, ids=[metric.name for metric in CATALOGUE])
    def test_names_follow_openmetrics(self, metric):
        assert re.fullmatch(r"elemta(_[a-z]+)+", metric.name)
        assert not re.search(r"_(total|count|sum|bucket|info|created)$", metric.name)
        assert metric.name.endswith("_" + metric.unit if metric.unit else "")
        assert metric.text.endswith(".")
        assert list(metric.buckets) == sorted(metric.buckets)


class TestReadme:
    def test_it_opens_with_what_it_is_and_two_commands(self):
        lines = text_of("README.md").split("\n")
        assert lines[0] == "# Elemta"
        assert lines[2].startswith("Elemta is a mail transfer agent")
        assert blocks("README.md", "sh")[0] == "make run\nmake test\n"
        assert text_of("README.md").index("```sh") < 400

    def test_all_pages_are_pointed_at(self):
        for page in (ROOT / "docs").glob("*.md"):
            assert f"(docs/{page.name})" in text_of("README.md")

    def test_make_targets_that_are_named_exist(self):
        targets = set(re.findall(r"^([a-z]+):", text_of("Makefile"), re.MULTILINE))
        for page in ("README.md", "CONTRIBUTING.md", "docs/benchmark.md"):
            named = set(re.findall(r"`make (?:[A-Z]\S+ )?([a-z]+)", text_of(page)))
            assert named
            assert named <= targets


class TestEveryPage:
    @pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
    def test_links_within_the_project_lead_somewhere(self, page):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text("utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), target

    def test_rooms_have_a_short_readme(self):
        rooms = [
            folder
            for folder in (ROOT / "src/elemta").iterdir()
            if folder.is_dir() and folder.name != "__pycache__"
        ]
        for room in rooms:
            assert (room / "README.md").is_file(), room
            lines = (room / "README.md").read_text("utf-8").split("\n")
            assert len(lines) <= 41, room

    def test_contributing_is_two_pages_at_most(self):
        assert len(text_of("CONTRIBUTING.md").split()) < 900
