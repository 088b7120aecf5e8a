"""The state folder: ours while the server lives, and what the supervisor says there of itself.

run/lock             held by the running server, from generation to generation
run/supervisor.json  which process it is, and what became of reloads and restarts
"""

import contextlib
import errno
import fcntl
import os
import time
from pathlib import Path

import msgspec

from elemta.mail.errors import ConfigError
from elemta.observe import prepare_metrics
from elemta.plugins.loading.listing import clear_listings

LOCK_PATIENCE = (0.05, 0.2, 0.0)  # seconds between attempts
MOVED = (
    "is not that of the server that runs: its mail would stay behind. "
    "Stop it, move the folder, and start it again"
)


class Standing(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the supervisor says of itself, for commands that give it signals.

    Attributes:
        pid: Its process.
        reloads: How many changed configurations have been judged since the server started, by
            this process and those before it.
        applied, needs_restart, reload_error: What became of the last one.
        restarts: How many restarts have ended, well or not.
        restart_error: Why the last one came to nothing.
    """

    pid: int
    reloads: int = 0
    applied: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()
    reload_error: str = ""
    restarts: int = 0
    restart_error: str = ""


def standing_path(state_dir: Path) -> Path:
    """Where the supervisor says it."""
    return state_dir / "run" / "supervisor.json"


def find_standing(state_dir: Path) -> Standing | None:
    """Read what the supervisor says; None where nothing can be read."""
    try:
        return msgspec.json.decode(standing_path(state_dir).read_bytes(), type=Standing)
    except (OSError, msgspec.MsgspecError):
        return None


def write_standing(state_dir: Path, standing: Standing) -> None:
    """Say it; where the disk is full nobody hears it."""
    path = standing_path(state_dir)
    fresh = path.with_suffix(f".{standing.pid}")
    with contextlib.suppress(OSError):
        fresh.write_bytes(msgspec.json.encode(standing))
        fresh.replace(path)


def prepare_folder(state_dir: Path, inherited: int = -1) -> int:
    """Make the state folder ours alone; the lock, to be held as long as the server lives.

    Args:
        state_dir: The folder; it is made.
        inherited: The lock of an earlier generation, which goes on with its figures and lists.

    Raises:
        ConfigError: It cannot be used, another server uses it, or the earlier generation has
            another one: its mail would stay behind.
    """
    try:
        for folder in ("run", "queue"):
            (state_dir / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        refuse_strangers(state_dir)
        path = state_dir / "run" / "lock"
        if inherited >= 0:
            if not _is_same(path, inherited):
                raise ConfigError("server.state_dir", MOVED)
            return inherited
        lock = take_lock(path)
        standing_path(state_dir).unlink(missing_ok=True)
        prepare_metrics(state_dir)
        clear_listings(state_dir)
    except BlockingIOError as error:
        raise ConfigError("server.state_dir", f"{state_dir} is in use by another server") from error
    except OSError as error:
        raise ConfigError("server.state_dir", f"cannot be used: {error}") from error
    return lock


def _is_same(path: Path, lock: int) -> bool:
    return path.exists() and os.path.samestat(path.stat(), os.fstat(lock))


def refuse_strangers(state_dir: Path) -> None:
    """Look for what is not ours to write, such as after a command that was run as root.

    Raises:
        PermissionError: There is something; a worker would not get past it.
    """
    shards = (state_dir / "queue").glob("shard-*")
    files = (path for folder in shards for path in (folder, folder / "lock", folder / "queue.db"))
    databases = (state_dir / "control.db", state_dir / "bans.db")
    for path in (state_dir / "queue", *databases, *files):
        if path.exists() and not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
            raise PermissionError(errno.EACCES, "not writable for this user", str(path))


def take_lock(path: Path) -> int:
    """Lock a file until this process ends; `elemta check` may hold it for an instant.

    Raises:
        BlockingIOError: Another server holds it.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for patience in LOCK_PATIENCE:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not patience:
                os.close(lock)
                raise
            time.sleep(patience)
        else:
            break
    return lock
