"""Lists that others keep: fetched now and then, and the last good one kept on disk.

One worker fetches, whichever is first; the others read the file that it leaves. What cannot be
fetched, or is no list, changes nothing but what is said in the log and in the figures.
"""

import asyncio
import contextlib
import fcntl
import json
import math
import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from elemta.mail.errors import PluginError
from elemta.net import fsync_folder, make_folders_durably
from elemta.plugins.builtin.rules.fetching import Fetched, Wanted, fetch
from elemta.plugins.builtin.rules.lists.named import NamedList, decode_lines
from elemta.plugins.builtin.rules.loading import feed_path
from elemta.plugins.builtin.rules.settings import ListSettings
from elemta.plugins.tools import Tools

RETRY = 5 * 60.0  # seconds after which a fetch that has failed is tried again
_CONDITIONS = {"etag": "If-None-Match", "last_modified": "If-Modified-Since"}
JITTER = 0.1  # part of the time between two fetches by which it varies


class Feeds:
    """Fetches lists.

    Args:
        tools: Those of the plugin.
    """

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._random = random.Random()  # noqa: S311 - so that not all ask at the same instant
        self._due: dict[str, float] = {}  # by the monotonic clock: the other may be set back
        self._troubles: dict[str, str] = {}

    async def fetch_due(self, lists: Sequence[ListSettings]) -> None:
        """Fetch those whose time has come."""
        for told in lists:
            if self._tools.clock.monotonic() >= self._due.get(told.name, -math.inf):
                await self._fetch(told)

    async def _fetch(self, told: ListSettings) -> None:
        path = feed_path(self._tools.state_dir, told.name)
        wait, trouble, what = told.every, "", "busy"
        try:
            await asyncio.to_thread(make_folders_durably, str(path.parent))
            with _locked(path) as is_ours:
                if is_ours:
                    wait, what = await self._renew(told, path)
        except (PluginError, OSError) as error:
            trouble, wait, what = str(error), min(told.every, RETRY), "failed"
        if what == "busy":  # another worker is at it
            wait = RETRY
        vary = 1 + JITTER * (2 * self._random.random() - 1)
        self._due[told.name] = self._tools.clock.monotonic() + wait * vary
        if what not in {"busy", "fresh"}:
            self._tools.metrics.count("fetches", list=told.name, result=what)
        if trouble and trouble != self._troubles.get(told.name):
            kept = "its last state is kept" if path.exists() else "it is empty until then"
            tell = self._tools.log.error
            tell(f"list {told.name} cannot be fetched; {kept}: {trouble}")
        self._troubles[told.name] = trouble

    async def _renew(self, told: ListSettings, path: Path) -> tuple[float, str]:
        """Fetch a list unless it is new enough; seconds until the next time, and what came of it.

        Raises:
            PluginError: It cannot be fetched, or is no list.
            OSError: It cannot be kept.
        """
        known = _read_known(path, told.url)
        now = self._tools.clock.now()
        age = now - float(known.get("checked_at", 0.0))
        if 0 <= age < told.every * (1 - JITTER):
            return told.every - age, "fresh"
        conditions = {
            field: str(known[name]) for name, field in _CONDITIONS.items() if known.get(name)
        }
        wanted = Wanted(told.url, told.max_size, told.allow_private, told.ca_file, conditions)
        fetched = await fetch(wanted, self._tools.dns)
        if fetched.content is not None:
            await asyncio.to_thread(_judge, told, fetched.content)
        else:
            fetched = Fetched(
                None,
                fetched.etag or str(known.get("etag", "")),
                fetched.last_modified or str(known.get("last_modified", "")),
            )
        await asyncio.to_thread(_keep, path, told.url, fetched, now)
        return told.every, "new" if fetched.content is not None else "unchanged"


def _judge(told: ListSettings, content: bytes) -> None:
    """Refuse what is no list: nothing at all, or more that cannot be read than what can.

    Raises:
        PluginError: It is none.
    """
    if not content.strip():
        raise PluginError("what has come is empty")
    found = NamedList(told.name, told.kind, told.url)
    found.fill(decode_lines(content), is_foreign=True)
    if len(found.problems) >= max(found.size, 1):
        line, problem = found.problems[0]
        raise PluginError(f"what has come is no list of this kind: line {line}: {problem}")


def _keep(path: Path, url: str, fetched: Fetched, now: float) -> None:
    if fetched.content is not None:
        _write(path, fetched.content)
    known = {
        "url": url,
        "etag": fetched.etag,
        "last_modified": fetched.last_modified,
        "checked_at": now,
    }
    _write(path.with_suffix(".json"), json.dumps(known).encode())


def _write(path: Path, content: bytes) -> None:
    """Put a file in the place of another, whole or not at all, also in a power cut."""
    beside = path.with_name(f"{path.name}.new")
    with beside.open("wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
    beside.replace(path)
    fsync_folder(path.parent)


def _read_known(path: Path, url: str) -> dict[str, Any]:
    """Read what is known of the last fetch; nothing where that was from elsewhere."""
    try:
        known = json.loads(path.with_suffix(".json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    is_known = isinstance(known, dict) and known.get("url") == url and path.exists()
    return known if is_known and isinstance(known.get("checked_at"), int | float) else {}


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Whether nobody else fetches the list at the same time."""
    handle = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)
