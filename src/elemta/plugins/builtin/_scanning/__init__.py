"""What scanners share: other servers are shown a message, and say what they think of it.

A scanner is a plugin that knows one protocol. Here is the rest: whose mail is shown, to which of
several servers, how many at a time and for how long; what becomes of mail when none of them
answers; and when that is done, while the client waits or once the message is in the queue.
"""

from elemta.plugins.builtin._scanning.finding import Consequence, Finding
from elemta.plugins.builtin._scanning.mail import Mail, pour
from elemta.plugins.builtin._scanning.probing import Check
from elemta.plugins.builtin._scanning.scanner import Scanner
from elemta.plugins.builtin._scanning.settings import (
    Listener,
    ScanningSettings,
    Servers,
    told_of_servers,
)
from elemta.plugins.builtin._scanning.spam import SpamScanner, SpamSettings

__all__ = [
    "Check",
    "Consequence",
    "Finding",
    "Listener",
    "Mail",
    "Scanner",
    "ScanningSettings",
    "Servers",
    "SpamScanner",
    "SpamSettings",
    "pour",
    "told_of_servers",
]
