"""What all sessions of a listener share."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from elemta.accounts import Authenticator
from elemta.mail.clock import Clock
from elemta.mail.events import Emit
from elemta.net.tls.server import ServerTls
from elemta.plugins.asking.table import NO_HOOKS, HookTable
from elemta.server.intake import Intake
from elemta.server.journal import Journal
from elemta.server.limits.gate import Gate
from elemta.server.pregreet import Screen
from elemta.server.relay import RelayPolicy
from elemta.server.settings import Door, SessionSettings
from elemta.server.submission import Desk

FRONT_DOOR = Door()
IsNullMx = Callable[[str], Awaitable[bool]]


@dataclass(slots=True)
class Surroundings:
    """Replaced as a whole when settings change.

    Attributes:
        tls: What handshakes are made with; None where there is no TLS.
        accounts: Who may log in; None where nobody can.
        tells_commands: Somebody wants an event for each accepted MAIL and RCPT.
        hooks: The plugins of new sessions.
        gate: What keeps strangers in bounds; None where nothing does.
        desk: What those who submit mail have to do with; None where nobody does.
        pregreet: What checks clients that are new here; None where nothing does.
        journal: Where all decisions are written down; None where nobody wants to know.
    """

    settings: SessionSettings
    policy: RelayPolicy
    intake: Intake[Any]
    is_null_mx: IsNullMx
    clock: Clock
    emit: Emit
    door: Door = FRONT_DOOR
    tls: ServerTls | None = None
    accounts: Authenticator | None = None
    tells_commands: bool = False
    hooks: HookTable = NO_HOOKS
    gate: Gate | None = None
    desk: Desk | None = None
    pregreet: Screen | None = None
    journal: Journal | None = None

    @property
    def listener(self) -> str:
        """What the log calls it."""
        return self.door.kind
