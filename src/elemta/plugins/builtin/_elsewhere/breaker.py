"""Watches a server, and leaves it alone for a while when it fails again and again."""

from elemta.plugins.builtin._elsewhere.failing import LeftAlone
from elemta.plugins.tools import Tools


class Breaker:
    """How one server has been doing.

    A few failures in a row, and it is left alone for a while; then one question tries it, and all
    others go on to leave it alone until that one has an answer.

    Args:
        name: Of the server, for log and figures.
        failures: How many are a few; 0 never leaves it alone.
        pause: How long a while is, in seconds.
        tools: The clock, the log and the figures of the plugin.
        kind: What the log calls it beside its name: "policy server". The last word is its label in
            the figures; "" is "server" there.
    """

    def __init__(
        self, name: str, failures: int, pause: float, tools: Tools, *, kind: str = ""
    ) -> None:
        self._name = name
        self._called = f"{kind} {name}".lstrip()
        self._label = kind.rpartition(" ")[2] or "server"
        self._most = failures
        self._pause = pause
        self._tools = tools
        self._count = 0
        self._until: float | None = None

    @property
    def is_ready(self) -> bool:
        """Whether it may be asked now."""
        return self._until is None or self._tools.clock.monotonic() >= self._until

    def begin(self) -> None:
        """Note that it is being asked."""
        if self._until is not None:
            self._until = self._tools.clock.monotonic() + self._pause

    def check(self) -> None:
        """Note that it is being asked, if it may be.

        Raises:
            LeftAlone: Not now.
        """
        if self._until is not None:
            left = self._until - self._tools.clock.monotonic()
            if left > 0:
                raise LeftAlone(f"left alone for {left:.0f} s after {self._count} failures")
            self.begin()

    def complain(self, problem: object) -> None:
        """Say what is the matter with it, in log and figures."""
        self._tools.metrics.count("failures", 1, **{self._label: self._name})
        text = f"{self._called}: {problem}"
        self._tools.log.warning(text)

    def failed(self, problem: object) -> None:
        """Note that it has not answered, and say why."""
        self.complain(problem)
        self._count += 1
        if not self._most or self._count < self._most:
            return
        is_first = self._until is None
        self._until = self._tools.clock.monotonic() + self._pause
        if is_first:
            text = f"{self._called} is left alone for {self._pause:g} s: "
            text += f"{self._count} failures in a row"
            self._tools.log.error(text)

    def succeeded(self) -> None:
        """Note that it has answered."""
        self._count = 0
        if self._until is not None:
            self._until = None
            text = f"{self._called} answers again"
            self._tools.log.info(text)
