"""Security events of plugins: each in the name of its own, and no more than somebody can read."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from elemta.mail.events import Emit, SecurityEvent
from elemta.mail.reply import clean_text
from elemta.plugins.tools import Counters

MAX_IN_A_SECOND = 20
MAX_DETAIL = 500  # characters
MAX_NAME = 100  # likewise, of a session or an address
_KIND = re.compile("[a-z0-9_]{1,50}")


@dataclass(slots=True)
class OwnSecurity:
    """`elemta.plugins.tools.Security` of one plugin."""

    plugin: str
    emit: Emit
    figures: Counters
    monotonic: Callable[[], float]
    _since: float = 0.0
    _count: int = 0

    def report(
        self, kind: str, detail: str = "", *, session_id: str = "", client_ip: str = ""
    ) -> None:
        if _KIND.fullmatch(kind) is None:
            raise ValueError(
                f"{clean_text(kind, MAX_NAME)!r} is no kind: a-z, 0-9 and _, 50 at most"
            )
        now = self.monotonic()
        if now - self._since >= 1.0:
            self._since, self._count = now, 0
        self._count += 1
        if self._count > MAX_IN_A_SECOND:
            self.figures.count("security_events_dropped")
            return
        ids = clean_text(session_id, MAX_NAME), clean_text(client_ip, MAX_NAME)
        self.emit(SecurityEvent(kind, clean_text(detail, MAX_DETAIL), *ids, plugin=self.plugin))
