"""Files that are still there after a power cut: what is synced, and in which order.

A file's bytes are safe after `os.fsync` on it; its name is safe only after the folder that
holds the name is synced too. These calls block: run them in a thread.
"""

import contextlib
import os


def fsync_folder(path: str | os.PathLike[str]) -> None:
    """Make the names in a folder safe.

    Raises:
        OSError: As the system says.
    """
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_durably(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Give a synced file its final name, in one step that is safe on return.

    Whoever looks finds either what was there before or the whole new file. Only the folder of
    `target` is synced: should the old name survive a power cut, it names the same file.

    Raises:
        OSError: As the system says.
    """
    os.replace(source, target)  # noqa: PTH105 - as below
    fsync_folder(os.path.dirname(target) or ".")  # noqa: PTH120 - strings in, no Path to make


def make_folders_durably(path: str, mode: int = 0o700) -> None:
    """Make a folder and those above it that are missing, all with `mode`; safe on return.

    Raises:
        OSError: As the system says.
    """
    above = os.path.dirname(path.rstrip("/")) or "."  # noqa: PTH120 - as above
    try:
        os.mkdir(path, mode)  # noqa: PTH102 - as above
    except FileExistsError:
        return
    except FileNotFoundError:
        make_folders_durably(above, mode)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, mode)  # noqa: PTH102 - as above
    fsync_folder(above)
