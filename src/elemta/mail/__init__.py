"""The nouns of mail, without any I/O: addresses, replies, messages, outcomes, events.

Everything above speaks in these values. What is needed in few places is imported from its
module (`elemta.mail.headers`, `errors`, `ids`, `content`, `job`, `clock`).
"""

from elemta.mail.address import Address, parse_address, parse_path
from elemta.mail.errors import AddressError, ElemtaError
from elemta.mail.events import Event
from elemta.mail.message import Facts, Message, Priority, Recipient, State
from elemta.mail.outcome import Outcome, Result
from elemta.mail.reply import Reply, clean_text

__all__ = [
    "Address",
    "AddressError",
    "ElemtaError",
    "Event",
    "Facts",
    "Message",
    "Outcome",
    "Priority",
    "Recipient",
    "Reply",
    "Result",
    "State",
    "clean_text",
    "parse_address",
    "parse_path",
]
