"""Whether a next hop takes the content of a message, and what is sent instead where it does not.

What is converted is read twice: once to find what has to be done, once while it is sent.
"""

from collections.abc import AsyncIterator

from elemta.delivery.settings import Conversion, LongLines, Route, Via
from elemta.mail.content import Content
from elemta.mail.conversion import Converter, Hop, LineGauge, Plan, Survey
from elemta.mail.message import Facts
from elemta.mail.reply import Reply

BINARY = "BINARYMIME"

_NO_BINARY = Reply(554, "the next hop does not take binary content (RFC 3030)", "5.6.1")
_NO_8BIT = Reply(554, "the next hop does not take 8-bit content (RFC 6152)", "5.6.3")
_LONG = Reply(554, "a line has more than 998 octets (RFC 5322)", "5.6.0")


class ConvertedContent:
    """Content as a plan says: `elemta.mail.content.Content`; its size is an estimate."""

    __slots__ = ("_content", "_plan", "size")

    data: bytes | None = None

    def __init__(self, content: Content, plan: Plan):
        self._content = content
        self._plan = plan
        self.size = content.size + plan.growth

    async def chunks(self) -> AsyncIterator[bytes]:
        """Read it in pieces; as `Content.chunks`, but base64 makes four octets of three."""
        converter = Converter(self._plan.edits)
        async for chunk in self._content.chunks():
            converted = converter.add(chunk)
            if converted:
                yield converted


def is_doubtful(facts: Facts, route: Route, *, eight_bit: bool) -> bool:
    """Whether `fit` has to be asked; `eight_bit` as there."""
    return (
        (facts.has_8bit and not eight_bit)
        or facts.body == BINARY
        or (route.long_lines is not LongLines.PASS and route.via is not Via.LMTP)
    )


async def fit(content: Content, facts: Facts, route: Route, *, eight_bit: bool) -> Content | Reply:
    """Give what can be sent, or why nothing can.

    Args:
        content: Of the message.
        facts: What is known of it.
        route: Says whether it may be converted.
        eight_bit: The next hop takes octets over 127.

    Raises:
        CorruptError: It cannot be read.
    """
    is_binary = facts.body == BINARY
    must = is_binary or (facts.has_8bit and not eight_bit)
    refusal = _NO_BINARY if is_binary else _NO_8BIT
    if must and route.conversion is Conversion.BOUNCE:
        return refusal
    minds_lines = route.long_lines is not LongLines.PASS and route.via is not Via.LMTP
    if minds_lines and not await _has_long_line(content):
        minds_lines = False
    if minds_lines and route.long_lines is LongLines.BOUNCE:
        return _LONG
    if not must and not minds_lines:
        return content
    survey = Survey(Hop(eight_bit=eight_bit, long_lines=not minds_lines))
    async for chunk in content.chunks():
        survey.add(chunk)
    plan = survey.plan()
    if plan.problem:
        text = f"{refusal.text}, and it cannot be converted: {plan.problem}"
        return Reply(refusal.code, text, refusal.enhanced) if must else content
    return ConvertedContent(content, plan) if plan.edits else content


async def _has_long_line(content: Content) -> bool:
    gauge = LineGauge()
    if content.data is not None:
        gauge.add(content.data)
    else:
        async for chunk in content.chunks():
            gauge.add(chunk)
    gauge.end()
    return gauge.is_long
