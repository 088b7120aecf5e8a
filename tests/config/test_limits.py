"""Limits that do not fit together."""

import pytest

from elemta.config import read

GOOD = '[server]\nhostname = "mx.example.test"\n'


@pytest.fixture
def found(tmp_path):
    def find(text: str) -> list[tuple[bool, str]]:
        path = tmp_path / "elemta.toml"
        path.write_text(GOOD + text)
        return [(each.is_error, each.setting) for each in read(path, {}).problems]

    return find


def test_one_table_for_each_kind_of_listener(found):
    table = '[[limits.overrides]]\nkind = "mta"\nmessage_rate = "5/m"\n'
    assert found(table) == []
    assert found(table + table.replace("mta", "lmtp")) == []
    assert found(table + table) == [(True, "[[limits.overrides]] kind")]


@pytest.mark.parametrize("section", ["limits]\nexempt", "limits.brake]\nnever_ban"])
def test_nobody_is_kept_in_bounds(found, section):
    name = section.split("\n")
    [(is_error, setting)] = found(f'[{section} = ["0.0.0.0/0"]\n')
    assert not is_error
    assert setting == f"[{name[0]} {name[1]}"
    assert found(f'[{section} = ["198.51.100.0/24"]\n') == []


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("memory = 0.5\nmemory_stressed = 0.9", "memory_stressed"),
        ('lag = "1s"\nlag_stressed = "2s"', "lag_stressed"),
        ("disk_free = 1000\ndisk_free_stressed = 500", "disk_free_stressed"),
        ("inodes_free = 0.5", "inodes_free_stressed"),
        ('queue_age = "1h"\nqueue_age_stressed = "1h"', None),
        ("memory = 0.5\nmemory_stressed = 0", None),
        ("disk_free = 500\ndisk_free_stressed = 1000", None),
    ],
)
def test_a_threshold_behind_the_other(found, text, setting):
    expected = [(False, f"[limits.shedding] {setting}")] if setting else []
    assert found(f"[limits.shedding]\n{text}\n") == expected


@pytest.mark.parametrize(
    "text",
    [
        '[limits]\nmessage_rate = "0/m"',
        "[limits]\nipv4_prefix = 33",
        "[limits]\nmax_error_delay = 3600",
        "[limits.brake]\nban_for = 0",
        '[[limits.overrides]]\nkind = "x"',
        '[limits]\nmessages = "5/m"',
    ],
)
def test_what_cannot_be(found, text):
    assert [is_error for is_error, _ in found(text)] == [True]
