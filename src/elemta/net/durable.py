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


def make_folders_durably(path: str, mode: int = 0o700) -> None:
    """Make a folder and those above it that are missing, all with `mode`; safe on return.

    Raises:
        OSError: As the system says.
    """
    above = os.path.dirname(path.rstrip("/")) or "."  # noqa: PTH120 - strings in, no Path to make
    try:
        os.mkdir(path, mode)  # noqa: PTH102 - as above
    except FileExistsError:
        return
    except FileNotFoundError:
        make_folders_durably(above, mode)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, mode)  # noqa: PTH102 - as above
    fsync_folder(above)
