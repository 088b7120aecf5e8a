"""Refuses mail with certain words in its subject or text."""

import asyncio
import html
import re
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message

from pydantic import Field

from elemta.plugins import MessageContext, Metadata, Plugin, Result, Settings

MAX_PARTS = 50  # a message with more, or with more layers, is not looked into


class Words(Settings):
    """Keywords in any case, and how many octets of a message are looked at."""

    keywords: tuple[str, ...] = ()
    max_octets: int = Field(default=256 * 1024, ge=1, le=10_000_000)


class ContentFilter(Plugin[Words]):
    """Reads what a person would: encodings are undone, HTML is stripped, spaces do not count."""

    metadata = Metadata(
        name="content-filter", version="1.0.0", description="Refuses mail with certain words"
    )
    Settings = Words
    independent = True

    async def on_filter(self, ctx: MessageContext) -> Result | None:
        raw = await ctx.read(self.settings.max_octets)
        if is_too_complex(raw):
            ctx.metrics.count("rejected_messages", why="structure")
            return Result.reject("Message has too many parts", enhanced="5.6.0")
        # in a thread: the server goes on with other mail meanwhile
        text = await asyncio.to_thread(text_of, raw)
        text += " " + fold(ctx.headers.get("subject") or "")
        found = [word for word in self.settings.keywords if fold(word) in text]
        if not found:
            return None
        ctx.metrics.count("rejected_messages", why="keyword")
        return Result.reject("Message contains prohibited content", note=", ".join(found))


def is_too_complex(raw: bytes) -> bool:
    """Tell whether the parser would have to dive deep: each layer names its kind."""
    lower = raw.lower()
    return lower.count(b"multipart/") + lower.count(b"message/") > MAX_PARTS


def text_of(raw: bytes) -> str:
    """Give all text of a message, decoded and folded."""
    return " ".join(fold(text) for text in texts(message_from_bytes(raw)))


def texts(message: Message) -> Iterator[str]:
    """Find the parts that hold text; what calls itself something else is not read."""
    for part in message.walk():
        if part.get_content_maintype() != "text":
            continue
        payload = part.get_payload(decode=True)
        data = payload if isinstance(payload, bytes) else b""
        try:
            text = data.decode(part.get_content_charset("utf-8"), "replace")
        except (LookupError, ValueError):  # a character set that nobody knows
            text = data.decode("latin-1")
        if part.get_content_subtype() == "html":
            text = html.unescape(re.sub(r"<[^<>]*>", "", text))
        yield text


def fold(text: str) -> str:
    """Make texts comparable: case does not count, and any run of spaces is one space."""
    return " ".join(text.casefold().split())
