"""One server that scans: where it is, and whether it has been working."""

from elemta.plugins.builtin._elsewhere import Breaker, parse_place
from elemta.plugins.tools import Tools


class Server:
    """A server.

    Args:
        name: Its place as the operator has written it.
        failures: After how many in a row it is left alone.
        pause: For how long, in seconds.
        tools: Those of the plugin.

    Attributes:
        name: As given.
        place: The same, read.
        breaker: How it has been doing.
        is_blind: It has overlooked what it should have found, and must not be asked.
    """

    def __init__(self, name: str, failures: int, pause: float, tools: Tools) -> None:
        self.name = name
        self.place = parse_place(name)
        self.breaker = Breaker(name, failures, pause, tools)
        self.is_blind = False

    @property
    def is_ready(self) -> bool:
        """Whether it may be asked now."""
        return not self.is_blind and self.breaker.is_ready
