"""Durable files."""

import gc
import os
import stat
from pathlib import Path

import pytest

from elemta.net import fsync_folder, make_folders_durably


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that were synced, in order."""
    paths: list[str] = []
    really = os.fsync

    def fsync(handle: int) -> None:
        paths.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        really(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    return paths


def test_a_folder_is_synced_and_closed(tmp_path, synced) -> None:
    gc.collect()  # nothing that others have left is closed meanwhile
    before = len(list(Path("/proc/self/fd").iterdir()))
    fsync_folder(tmp_path)
    assert synced == [str(tmp_path)]
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_folders_are_made_from_the_top_each_synced_in_the_one_above(tmp_path, synced) -> None:
    make_folders_durably(f"{tmp_path}/x/y/z")
    assert synced == [str(tmp_path), f"{tmp_path}/x", f"{tmp_path}/x/y"]
    for path in ("x", "x/y", "x/y/z"):
        assert stat.S_IMODE((tmp_path / path).stat().st_mode) == 0o700
    synced.clear()
    make_folders_durably(f"{tmp_path}/x/y/z/")
    assert synced == []


def test_a_file_in_the_way_is_an_error(tmp_path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(NotADirectoryError):
        make_folders_durably(f"{tmp_path}/x/y")
