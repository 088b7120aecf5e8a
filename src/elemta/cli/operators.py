"""Who gives a command: the user of the system, whatever the environment says."""

import os
import pwd
from pathlib import Path

from elemta.cli.output import TEMPORARY, fail
from elemta.cli.queue_text import instant
from elemta.mail.errors import SpoolError
from elemta.net.clock import SystemClock
from elemta.queue import audit


def user() -> str:
    """Name who runs this; behind sudo also who has called it."""
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:  # a container has users without names
        return f"user {uid}"
    caller = os.environ.get("SUDO_USER", "")
    return f"{caller} as root" if uid == 0 and caller not in {"", "root"} else name


def record(state_dir: Path, what: str, queue_id: str = "", detail: str = "") -> None:
    """Write into the audit of the quarantine what is about to be shown or done; or end."""
    now = instant(SystemClock().now())
    try:
        audit.add(state_dir, audit.Audited(now, user(), what, queue_id, detail))
    except SpoolError as error:
        fail(str(error), TEMPORARY)
