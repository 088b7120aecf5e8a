"""What a plugin has to say: to the server's log, and to a file of its own."""

import datetime
from collections.abc import Callable

from elemta.mail.clock import Clock
from elemta.mail.events import Emit, PluginLogged
from elemta.mail.reply import clean_text

LEVELS = ("debug", "info", "warning", "error")
MAX_TEXT = 2000  # characters of a line

Write = Callable[[str, bytes], None]


class Logger:
    """`elemta.plugins.tools.PluginLog` of one plugin.

    Args:
        name: Of the plugin.
        level: The least important lines that are written.
        emit: Told of each line.
        write: Given the plugin's name and the line, for its file.
        clock: Dates the lines.
    """

    def __init__(self, name: str, level: str, emit: Emit, write: Write, clock: Clock) -> None:
        self._name = name
        self._least = LEVELS.index(level)
        self._emit = emit
        self._write = write
        self._clock = clock

    def debug(self, text: str) -> None:
        """Say what only the author wants to know."""
        self._log(0, text)

    def info(self, text: str) -> None:
        """Say what happens."""
        self._log(1, text)

    def warning(self, text: str) -> None:
        """Say what an operator should know."""
        self._log(2, text)

    def error(self, text: str) -> None:
        """Say what an operator should see to."""
        self._log(3, text)

    def _log(self, level: int, text: object) -> None:
        if level < self._least:
            return
        text = clean_text(str(text), MAX_TEXT)
        name = LEVELS[level]
        self._emit(PluginLogged(self._name, name, text))
        at = datetime.datetime.fromtimestamp(self._clock.now(), datetime.UTC)
        stamp = at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"
        line = f"{stamp} {name.upper():7} {text}\n"
        self._write(self._name, line.encode("utf-8", "backslashreplace"))
