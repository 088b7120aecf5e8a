"""Servers that want places and accounts of the system: they get some of their own.

They run in a mount namespace: what is put over a folder there is seen by them alone, and gone
when they are.
"""

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from servers.process import listens, start

UNPACKED = Path("/opt/elemta-tests")  # filled by .ci/install-servers
FIRST_ACCOUNT = 990
_UNSHARE = ["unshare", "--mount"]
_MOUNT = 'while [ "$1" != -- ]; do mount --bind "$1" "$2" || exit; shift 2; done; shift; exec "$@"'
_LINES = {"passwd": "{0}:x:{1}:{1}::/nonexistent:/bin/false\n", "group": "{0}:x:{1}:\n"}


def unpacked(package: str, program: str) -> Path:
    """The folder of a package; where it cannot run the test is skipped, or fails if CI is set."""
    root = UNPACKED / package
    problem = ""
    if not (root / program).is_file():
        problem = f"{package} is not in {UNPACKED} (see .ci/install-servers)"
    elif os.geteuid() != 0:
        problem = f"{package} wants root"
    elif subprocess.run(
        ["unshare", "--mount", "true"], capture_output=True, check=False
    ).returncode:
        problem = f"{package} wants a mount namespace, which this machine does not give"
    if problem and os.environ.get("CI"):
        pytest.fail(problem)
    if problem:
        pytest.skip(problem)
    return root


@contextlib.contextmanager
def home(name: str) -> Iterator[Path]:
    """A folder that other accounts may enter, and whose name is short enough for sockets.

    Pytest's own folders are for one account, and the name of a socket has 107 octets at most.
    """
    # what has been killed may be about to write a last time
    with tempfile.TemporaryDirectory(prefix=f"{name}-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@contextlib.contextmanager
def start_private(
    folder: Path,
    argv: Sequence[str | Path],
    *,
    accounts: Sequence[str],
    over: Mapping[str, Path],
    port: int,
) -> Iterator[None]:
    """Run a server where paths are what `over` says, and there are `accounts`.

    Args:
        folder: Of the server; `out.log` there is what it prints.
        argv: Its command.
        accounts: Users, each with a group of its name, by numbers from `FIRST_ACCOUNT` on.
        over: Paths of the system, and what is put over them.
        port: Where it listens when it is ready.
    """
    places = dict(over)
    numbered = list(enumerate(accounts, FIRST_ACCOUNT))
    for file, line in _LINES.items():
        places[f"/etc/{file}"] = folder / file
        added = "".join(line.format(name, number) for number, name in numbered)
        (folder / file).write_text(Path("/etc", file).read_text() + added)
    pairs = [each for path, source in places.items() for each in (source, path)]
    command = [*_UNSHARE, "sh", "-c", _MOUNT, "sh", *pairs, "--", *argv]
    namespace = 0
    try:
        with start(command, ready=listens(port), log=folder / "out.log") as process:
            namespace = _namespace(process.pid)
            yield
    finally:
        while left := [pid for pid in _processes() if namespace and _namespace(pid) == namespace]:
            for pid in left:  # what it has started to deliver mail may outlive it
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def _namespace(pid: int) -> int:
    """The mount namespace of a process; 0 where it has ended."""
    try:
        return Path(f"/proc/{pid}/ns/mnt").stat().st_ino
    except OSError:
        return 0
