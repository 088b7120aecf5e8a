"""What in a session shows that a client does not speak SMTP as a mail server does."""

import re

from elemta.server.pregreet.checks import Check
from elemta.smtp import commands
from elemta.smtp import events as smtp

_FIELD = re.compile(rb"[!-9;-~]+:").match  # a header field: content that nobody waits for

_FAULTS = {
    commands.SYNC.reply: Check.PIPELINING,
    commands.BARE_NEWLINE.reply: Check.BARE_NEWLINE,
    commands.CROSS_PROTOCOL.reply: Check.NON_SMTP_COMMAND,
}


def find_breach(event: smtp.Event, line: bytes | None, *, is_unsynced: bool) -> Check | None:
    """Say which check a client fails by a command.

    Args:
        event: What the machine has made of it.
        line: The command, where it is one.
        is_unsynced: More came behind it before its answer, and it may not have more behind it.
    """
    if type(event) is smtp.Fault:
        if event.reply is commands.UNKNOWN.reply:
            return Check.NON_SMTP_COMMAND if _FIELD(line or b"") else None
        found = _FAULTS.get(event.reply)
        if found is not None:
            return found
    elif type(event) is smtp.BodyEnd and event.kind == Check.BARE_NEWLINE.value:
        return Check.BARE_NEWLINE
    return Check.PIPELINING if is_unsynced else None
