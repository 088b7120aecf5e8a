"""What a plugin is lent: its log and its figures, and that each plugin has its own."""

import stat
from pathlib import Path

import pytest

from elemta.mail.errors import PluginError
from elemta.mail.events import Event, PluginLogged
from elemta.plugins.settings import PluginSettings
from elemta.plugins.tooling import Figures, LogFiles, Toolbox, check_name, figures, files, log_path
from elemta.testing import FakeClock, FakeResolver


class Workshop:
    """A toolbox, and what comes of it."""

    def __init__(self, folder: Path, **options: bool) -> None:
        self.folder = folder
        self.events: list[Event] = []
        self.clock = FakeClock()
        self.box = Toolbox(folder, self.clock, self.events.append, FakeResolver({}), **options)

    def lines(self, name: str = "one") -> list[str]:
        self.box.close()
        return log_path(self.folder, name).read_text().splitlines()


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


# ---- names


@pytest.mark.parametrize("name", ["a", "spam-filter", "a9", "a" * 64])
def test_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "../one", "a/b", "A", "a_b", "-a", "9", "a\n", "ä", "a" * 65])
def test_what_is_no_name_becomes_no_path(shop: Workshop, name: str) -> None:
    with pytest.raises(PluginError, match="cannot name a plugin"):
        shop.box.make_tools(PluginSettings(name))
    with pytest.raises(PluginError):
        log_path(shop.folder, name)


# ---- the log


def test_a_line_goes_to_the_log_of_the_server_and_to_the_plugins_own(shop: Workshop) -> None:
    log = shop.box.make_tools(PluginSettings("one")).log
    log.info("hello")
    log.error("oh\r\nno \x1b[31m")
    assert shop.events == [
        PluginLogged("one", "info", "hello"),
        PluginLogged("one", "error", "oh  no  [31m"),
    ]
    assert shop.lines() == [
        "2023-11-14T22:13:20.000Z INFO    hello",
        "2023-11-14T22:13:20.000Z ERROR   oh  no  [31m",
    ]


def test_each_plugin_has_a_level_and_a_file(shop: Workshop) -> None:
    loud = shop.box.make_tools(PluginSettings("loud", log_level="debug")).log
    quiet = shop.box.make_tools(PluginSettings("quiet", log_level="warning")).log
    for log in (loud, quiet):
        log.debug("1")
        log.info("2")
        log.warning("3")
        log.error("4")
    assert [line[-1] for line in shop.lines("loud")] == ["1", "2", "3", "4"]
    assert [line[-1] for line in shop.lines("quiet")] == ["3", "4"]
    assert len(shop.events) == 6


def test_the_environment_makes_all_of_them_talk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELEMTA_PLUGIN_DEBUG", "1")
    shop = Workshop(tmp_path)
    shop.box.make_tools(PluginSettings("one", log_level="error")).log.debug("detail")
    assert len(shop.lines()) == 1


def test_a_long_line_is_cut(shop: Workshop) -> None:
    shop.box.make_tools(PluginSettings("one")).log.info("x" * 100_000)
    assert len(shop.lines()[0]) < 2100


def test_the_file_is_for_its_owner_only(shop: Workshop) -> None:
    shop.box.make_tools(PluginSettings("one")).log.info("hello")
    shop.lines()
    path = log_path(shop.folder, "one")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_no_link_is_followed(shop: Workshop) -> None:
    path = log_path(shop.folder, "one")
    path.parent.mkdir(parents=True)
    path.symlink_to(shop.folder / "elsewhere")
    shop.box.make_tools(PluginSettings("one")).log.info("hello")
    shop.box.close()
    assert not (shop.folder / "elsewhere").exists()


def write(folder: Path, *lines: bytes, max_size: int) -> None:
    """A process writes lines, each at a time of its own."""
    for line in lines:
        writing = LogFiles(folder, max_size)
        writing.write("one", line)
        writing.close()


def test_a_file_that_is_full_is_moved_away_and_one_old_one_kept(tmp_path: Path) -> None:
    write(tmp_path, b"1" * 50 + b"\n", b"2\n", b"3" * 50 + b"\n", b"4\n", max_size=40)
    path = log_path(tmp_path, "one")
    assert path.read_bytes() == b"4\n"
    assert Path(f"{path}.1").read_bytes() == b"2\n" + b"3" * 50 + b"\n"
    assert len(list(path.parent.iterdir())) == 2


def test_others_notice_that_a_file_was_moved(tmp_path: Path) -> None:
    path = log_path(tmp_path, "one")
    one, other = (files._File(path, 40) for _ in range(2))
    for file, line in ((one, b"1" * 50), (other, b"2"), (one, b"3")):
        file.add(line + b"\n")
        file.flush()
    assert path.read_bytes() == b"2\n3\n"
    path.unlink()
    other.add(b"4\n")
    other.flush()
    assert path.read_bytes() == b"4\n"
    one.close()
    other.close()


def test_lines_that_are_lost_are_counted(tmp_path: Path) -> None:
    path = log_path(tmp_path, "one")
    file = files._File(path, 1_000_000_000)
    line = b"x" * 1023 + b"\n"
    for _ in range(files.BACKLOG // len(line) + 3):
        file.add(line)
    file.flush()
    assert path.read_bytes().endswith(b"\n(3 lines were lost)\n")
    path.unlink()
    path.mkdir()
    file.add(line)
    file.flush()
    path.rmdir()
    file.add(b"again\n")
    file.flush()
    assert path.read_bytes() == b"again\n(1 lines were lost)\n"
    file.close()


# ---- figures


def test_counters_add_up_by_their_labels() -> None:
    own = Figures()
    own.count("hits")
    own.count("hits", 2.5)
    own.count("hits", kind="a", zone="b")
    own.count("hits", zone="b", kind="a")
    assert own.counters == {"hits": {(): 3.5, ("kind", "a", "zone", "b"): 2}}


def test_a_label_may_be_called_name() -> None:
    own = Figures()
    own.count("hits", name="x")
    own.observe("score", 1, name="x")
    assert list(own.counters["hits"]) == list(own.histograms["score"]) == [("name", "x")]


def test_histograms_have_a_sum_and_buckets() -> None:
    own = Figures()
    for value in (0.0005, 0.001, 7, 5_000_000):
        own.observe("score", value)
    total, *counts = own.histograms["score"][()]
    assert total == pytest.approx(5_000_007.0015)
    assert len(counts) == len(figures.BUCKETS) + 1
    assert (counts[0], counts[figures.BUCKETS.index(10)], counts[-1]) == (2, 1, 1)


def test_labels_without_end_are_counted_as_other() -> None:
    own = Figures()
    for n in range(1000):
        own.count("mail", domain=f"d{n}.test")
        own.observe("size", 1, domain=f"d{n}.test")
    assert len(own.counters["mail"]) == len(own.histograms["size"]) == figures.MAX_SERIES + 1
    assert own.counters["mail"]["domain", "other"] == 900
    for n in range(1000):
        own.count("mail", **{f"name{n}": "x"})
    assert len(own.counters["mail"]) <= figures.MAX_SERIES + 2
    assert sum(own.counters["mail"].values()) == 2000


def test_names_without_end_are_counted_as_other() -> None:
    own = Figures()
    for n in range(100):
        own.count(f"n{n}")
    assert len(own.counters) == figures.MAX_FIGURES + 1
    assert own.counters["other"][()] == 50


def test_values_of_labels_are_made_printable() -> None:
    own = Figures()
    own.count("mail", domain="a\nb\ud800" + "c" * 1000)
    ((_, value),) = own.counters["mail"]
    assert value.isprintable()
    assert len(value) <= figures.MAX_VALUE


@pytest.mark.parametrize("name", ["", "Hits", "9", "a-b", "a b", "a" * 61, 'x"}'])
def test_what_names_no_figure_and_no_label_is_refused(name: str) -> None:
    own = Figures()
    with pytest.raises(ValueError, match="name of a figure"):
        own.count(name)
    with pytest.raises(ValueError, match="name of a figure"):
        own.observe(name, 1)
    with pytest.raises(ValueError, match="name of a label"):
        own.count("hits", **{name: "x"})
    assert own.counters.get("hits", {}) == {}


def test_what_cannot_be_counted_is_refused() -> None:
    own = Figures()
    for amount in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="only grows"):
            own.count("hits", amount)
    with pytest.raises(ValueError, match="not a value"):
        own.observe("score", float("nan"))
    with pytest.raises(ValueError, match="name of a label"):
        own.count("hits", plugin="another")
    with pytest.raises(ValueError, match="more than"):
        own.count("hits", **{f"n{n}": "" for n in range(9)})


# ---- all together


async def test_another_version_of_a_plugin_goes_on_with_figures_and_values(shop: Workshop) -> None:
    first = shop.box.make_tools(PluginSettings("one"))
    first.metrics.count("hits")
    await first.kv.set("key", b"value")
    first.cache.set("key", "value", 10)
    second = shop.box.make_tools(PluginSettings("one"))
    second.metrics.count("hits")
    assert shop.box.figures["one"].counters == {"hits": {(): 2}}
    assert await second.kv.get("key") == b"value"
    assert second.cache.get("key") is None
    assert second.clock is shop.clock
    shop.box.close()


def test_nothing_is_written_for_plugins_that_say_nothing(shop: Workshop) -> None:
    shop.box.make_tools(PluginSettings("one"))
    shop.box.close()
    assert list(shop.folder.iterdir()) == []
