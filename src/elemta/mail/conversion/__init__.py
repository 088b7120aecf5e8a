"""Down-conversion: a message as a next hop can take it that takes fewer kinds of content.

Two passes, both over pieces of any size and in constant memory: a `Survey` finds which parts have
to be encoded, a `Converter` carries that out. Nothing but those parts and their
Content-Transfer-Encoding is touched. What is signed or encrypted, what is no clean MIME and what
an encoding has no place for is never touched: then the plan says why there is none.
"""

from elemta.mail.conversion.converter import Converter
from elemta.mail.conversion.gauge import LineGauge
from elemta.mail.conversion.survey import Hop, Plan, Survey

__all__ = ["Converter", "Hop", "LineGauge", "Plan", "Survey"]
