"""Checks of clients that have not been here before: do they speak SMTP as a mail server does?"""

from elemta.server.pregreet.breaches import find_breach
from elemta.server.pregreet.checks import DROPPED, REFUSED, Action, Check
from elemta.server.pregreet.passes import Passes, Register
from elemta.server.pregreet.screen import Screen, Screening
from elemta.server.pregreet.settings import PregreetSettings
from elemta.server.pregreet.store import PassStore

__all__ = [
    "DROPPED",
    "REFUSED",
    "Action",
    "Check",
    "PassStore",
    "Passes",
    "PregreetSettings",
    "Register",
    "Screen",
    "Screening",
    "find_breach",
]
