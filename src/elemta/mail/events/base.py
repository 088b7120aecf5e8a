"""What all events have in common."""

from collections.abc import Callable
from typing import ClassVar

import msgspec


class Event(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="event_type", tag=None):
    """The root of all events."""

    LEVEL: ClassVar[str] = "info"


class SessionEvent(Event, frozen=True, omit_defaults=True):
    """The common fields of what happens in a session."""

    session_id: str
    client_ip: str
    listener: str


Emit = Callable[[Event], None]
