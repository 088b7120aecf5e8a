"""Servers that plugins ask: where they are, when to leave them alone, what to do without them.

Raises:
    Trouble: From all that asks: the server cannot be reached, is late, or answers nonsense.
"""

from elemta.plugins.builtin._elsewhere.breaker import Breaker
from elemta.plugins.builtin._elsewhere.clients import key_bits, names_of
from elemta.plugins.builtin._elsewhere.failing import (
    LeftAlone,
    OnFailure,
    Trouble,
    add_to_note,
    give_up,
)
from elemta.plugins.builtin._elsewhere.idle import Idle
from elemta.plugins.builtin._elsewhere.incoming import Incoming
from elemta.plugins.builtin._elsewhere.places import Place, PlaceText, parse_place, part, reach
from elemta.plugins.builtin._elsewhere.settings import NamedServer, check_titles

__all__ = [
    "Breaker",
    "Idle",
    "Incoming",
    "LeftAlone",
    "NamedServer",
    "OnFailure",
    "Place",
    "PlaceText",
    "Trouble",
    "add_to_note",
    "check_titles",
    "give_up",
    "key_bits",
    "names_of",
    "parse_place",
    "part",
    "reach",
]
