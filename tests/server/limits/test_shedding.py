"""When there is too much to do."""

import pytest

from elemta.mail import events as ev
from elemta.server.limits import Load, Shedding, SheddingSettings, Threshold
from elemta.server.limits.pressure import Memory, read_disk, resident
from elemta.server.limits.shedding import Figures

SETTINGS = SheddingSettings(
    memory=Threshold(0.8, 0.9),
    disk_free=Threshold(200, 100),
    inodes_free=Threshold(0.05, 0.01),
    lag=Threshold(0.5, 5.0),
    queue_age=Threshold(60, 600),
    calm_for=10.0,
    timeout=30.0,
    room=0.75,
)


@pytest.fixture
def shedding(node):
    return Shedding(SETTINGS, 3, node.clock, node.events.append)


@pytest.mark.parametrize(
    ("figures", "load"),
    [
        (Figures(), Load.NORMAL),
        (Figures(0.79, 200, 0.05, 100.0, 59), Load.NORMAL),  # one late second is no overload
        (Figures(memory=0.8), Load.STRESSED),
        (Figures(memory=0.9), Load.SHEDDING),
        (Figures(disk_free=199), Load.STRESSED),
        (Figures(disk_free=0), Load.SHEDDING),
        (Figures(inodes_free=0.02), Load.STRESSED),
        (Figures(inodes_free=0.009), Load.SHEDDING),
        (Figures(queue_age=60), Load.STRESSED),
        (Figures(queue_age=600), Load.SHEDDING),
        (Figures(memory=0.8, queue_age=600), Load.SHEDDING),
    ],
)
def test_thresholds(shedding, figures, load):
    assert shedding.take(figures) is (load is not Load.NORMAL)
    assert shedding.load is load


def test_the_loop_has_to_be_late_for_a_while(shedding):
    lags = [9.0, 9.0, 0.1, 0.6, 0.6, 0.6, 9.0, 9.0, 9.0]
    loads = []
    for lag in lags:
        shedding.take(Figures(lag=lag))
        loads.append(shedding.load)
    assert loads == [Load.NORMAL] * 5 + [Load.STRESSED] * 3 + [Load.SHEDDING]


def test_it_gets_worse_at_once_and_better_after_a_while(node, shedding):
    def load_after(seconds: float, memory: float) -> Load:
        node.clock.advance(seconds)
        shedding.take(Figures(memory=memory))
        return shedding.load

    assert load_after(0, 0.95) is Load.SHEDDING
    assert load_after(9, 0.1) is Load.SHEDDING
    assert load_after(0, 0.95) is Load.SHEDDING  # not over yet
    assert load_after(9, 0.85) is Load.SHEDDING
    assert load_after(1, 0.85) is Load.STRESSED
    assert load_after(9, 0.1) is Load.STRESSED
    assert load_after(1, 0.1) is Load.NORMAL
    changes = [(each.before, each.after, each.reason) for each in node.told(ev.LoadChanged)]
    assert changes == [
        ("normal", "shedding", "memory: 0.95"),
        ("shedding", "stressed", "memory: 0.85"),
        ("stressed", "normal", "calm"),
    ]
    assert {each.worker for each in node.told(ev.LoadChanged)} == {3}


def test_what_follows(shedding):
    assert (shedding.room(1000), shedding.timeout(300.0)) == (1000, 300.0)
    shedding.take(Figures(memory=0.8))
    assert (shedding.room(1000), shedding.timeout(300.0), shedding.timeout(5.0)) == (750, 30.0, 5.0)
    assert shedding.room(1) == 1


def test_thresholds_that_are_not_set_are_never_passed(node):
    shedding = Shedding(SheddingSettings(), 0, node.clock, node.events.append)
    assert not shedding.take(Figures(1.0, 0, 0.0, 1e9, 1e9))
    shedding.apply(SheddingSettings(memory=Threshold(0.5)))
    assert shedding.take(Figures(memory=1.0))
    assert shedding.load is Load.STRESSED


# ---- figures


def write_group(folder, limit, used, cached):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\ninactive_file {cached}\nactive_file 7\n")


def test_memory_counts_without_cache_against_the_tightest_limit(tmp_path, monkeypatch):
    write_group(tmp_path / "a" / "b", 1000, 700, 200)
    write_group(tmp_path / "a", 1000, 900, 100)
    write_group(tmp_path, "max", 5000, 0)
    monkeypatch.setattr("elemta.server.limits.pressure.own_group", lambda: "a/b")
    memory = Memory(root=tmp_path)
    assert memory.share() == pytest.approx(0.8)
    write_group(tmp_path / "a", "max", 900, 100)
    assert memory.share() == pytest.approx(0.5)


def test_memory_of_this_process_against_a_limit_of_its_own():
    assert Memory(limit=resident() * 2).share() == pytest.approx(0.5, rel=0.2)


def test_memory_without_any_limit_is_not_known(tmp_path):
    assert Memory(root=tmp_path).share() is None


def test_the_disk(tmp_path):
    disk = read_disk(tmp_path)
    assert disk.free > 0
    assert 0 < disk.inodes <= 1
    with pytest.raises(OSError, match="missing"):
        read_disk(tmp_path / "missing")
