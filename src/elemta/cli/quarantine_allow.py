"""Senders of what is released, written into a list that rules can ask for."""

import fcntl
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from elemta.cli.operators import record, user
from elemta.cli.options import load_config
from elemta.cli.output import TEMPORARY, fail
from elemta.cli.queue_read import ask
from elemta.cli.queue_view import QueueView
from elemta.mail.address import Address
from elemta.mail.ids import QueueId
from elemta.mail.message import State
from elemta.mail.reply import clean_text
from elemta.net.clock import SystemClock
from elemta.plugins.builtin.rules.lists.entries import MAX_COMMENT, Entry, read_entries


def allow_senders(
    config_path: Path | None, ids: Sequence[QueueId], seconds: float, reason: str
) -> None:
    """Write the senders of messages in quarantine into the list of `quarantine.allow_list`.

    The command ends where there is no such list, or a sender that cannot be in it.
    """
    config = load_config(config_path)
    if not config.quarantine.allow_list:
        fail("quarantine.allow_list is not set: it names the file that senders are written into")
    path = Path(config.quarantine.allow_list)
    senders = ask(config_path, lambda view: _find_senders(view, ids))
    expires = datetime.fromtimestamp(SystemClock().now() + seconds, UTC)
    until = expires.isoformat(timespec="seconds").replace("+00:00", "Z")
    for queue_id, sender in senders.items():
        why = clean_text(f"released {queue_id}" + (f": {reason}" if reason else ""), MAX_COMMENT)
        by = "".join(user().split())
        line = f"{sender}  expires={until} by={by}  # {why}"
        entry = next(read_entries([line]), None)
        if not isinstance(entry, Entry) or entry.text != str(sender) or not entry.expires:
            fail(f"{sender} cannot be written into a list")
        record(config.server.state_dir, "allow", queue_id, f"{sender} until {until}")
        try:
            _append(path, line)
        except OSError as error:
            fail(f"{path}: {error.strerror}", TEMPORARY)
        click.echo(f"{sender} is in {path} until {until}", err=True)


async def _find_senders(view: QueueView, ids: Sequence[QueueId]) -> dict[QueueId, Address]:
    found = {}
    for queue_id in dict.fromkeys(ids):
        stored = await view.get(queue_id)
        if stored is None or all(each.state is not State.QUARANTINE for each in stored.recipients):
            fail(f"{queue_id} is not in quarantine")
        if stored.message.sender is None:
            fail(f"{queue_id} has the null sender, which cannot be allowed")
        found[queue_id] = stored.message.sender
    return found


def _append(path: Path, line: str) -> None:
    """Add a line, on a line of its own whatever comes before it; on disk when this returns."""
    fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        size = os.fstat(fd).st_size
        before = b"\n" if size and os.pread(fd, 1, size - 1) != b"\n" else b""
        os.write(fd, before + line.encode() + b"\n")
        os.fsync(fd)
    finally:
        os.close(fd)
