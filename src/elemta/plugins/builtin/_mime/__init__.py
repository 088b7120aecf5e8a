"""What is in a message, as far as it can be told within bounds: its parts, and archives in them.

All of it computes and waits for nothing: run it in a thread. Any octets end in one of three ways:
they are read, they are `Unclear` (readers of mail would take them differently, or cannot read
them), or they are `TooMuch`; nobody may call the last two harmless.
"""

from elemta.plugins.builtin._mime.budget import Budget, Limits, TooMuch, Unclear
from elemta.plugins.builtin._mime.magic import Kind, find_kind
from elemta.plugins.builtin._mime.members import Member, find_archive, read_members
from elemta.plugins.builtin._mime.parts import BEHIND, Part, is_only_text, read_parts
from elemta.plugins.builtin._mime.reading import InspectionSettings, Reader
from elemta.plugins.builtin._mime.words import decode_text

__all__ = [
    "BEHIND",
    "Budget",
    "InspectionSettings",
    "Kind",
    "Limits",
    "Member",
    "Part",
    "Reader",
    "TooMuch",
    "Unclear",
    "decode_text",
    "find_archive",
    "find_kind",
    "is_only_text",
    "read_members",
    "read_parts",
]
