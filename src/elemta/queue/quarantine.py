"""Mail that a plugin has set aside: which plugin it was, and what it means to let it go.

Why a recipient is in quarantine is in its reply: "kept in quarantine by NAME (note)". Once an
operator has let it go, that reply is forgotten, and the message remembers the plugin instead:
what this one objects to does not put the message there again. Whoever else objects is heard.
"""

import re
from collections.abc import Iterable
from dataclasses import replace

import msgspec

from elemta.mail.message import Message, Recipient, State

EXPIRED = "longer in quarantine than quarantine_age"
"""The reason in the events of what is removed because of its age."""

MAX_RELEASED = 20  # plugins that one message remembers
_KEPT = re.compile(r"kept in quarantine by ([^\s();]+)(?: \((.*)\))?", re.DOTALL)


def find_plugin(reply: str) -> str:
    """Say which plugin has set a recipient aside, the first of them; "" where none is named."""
    found = _KEPT.search(reply)
    return found[1] if found is not None else ""


def find_note(reply: str) -> str:
    """Say why a recipient was set aside: the note of the plugin, or all there is."""
    found = _KEPT.search(reply)
    return reply if found is None else found[2] or ""


def released_message(message: Message, recipients: Iterable[Recipient]) -> Message:
    """The message once these recipients are let go; they are given as they were."""
    facts = message.facts
    plugins = {
        find_plugin(recipient.reply)
        for recipient in recipients
        if recipient.state is State.QUARANTINE
    }
    new = sorted(plugins - {"", *facts.released})
    if not new:
        return message
    released = (*facts.released, *new)[-MAX_RELEASED:]
    return replace(message, facts=msgspec.structs.replace(facts, released=released))
