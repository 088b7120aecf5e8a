"""Counts words of spam, and puts aside or refuses what has too many."""

import asyncio
import html
import re
from email import message_from_bytes
from typing import Annotated

from pydantic import AfterValidator, Field

from elemta.plugins import (
    AddHeader,
    MessageContext,
    Metadata,
    Plugin,
    Result,
    Settings,
    parse_domain,
)

MAX_PARTS = 50
KEYWORDS = ("viagra", "casino", "winner", "free money", "click here", "limited time", "act now")


class Spam(Settings):
    """The score of a message is that of all keywords in it together.

    Attributes:
        spam_threshold: From here on it is spam.
        quarantine: Keep spam where an operator sees it; without, it is refused.
        whitelist: Sender domains that are not looked at. They are easily forged: list few.
        blacklist_keywords: Words, each worth `keyword_score`.
        max_octets: How much of a message is looked at.
    """

    spam_threshold: float = Field(default=5.0, gt=0)
    quarantine: bool = True
    whitelist: frozenset[Annotated[str, AfterValidator(parse_domain)]] = frozenset()
    blacklist_keywords: tuple[str, ...] = (*KEYWORDS, "congratulations")
    keyword_score: float = Field(default=1.0, gt=0)
    max_octets: int = Field(default=256 * 1024, ge=1, le=10_000_000)


class SpamFilter(Plugin[Spam]):
    """Leaves `spam_score` and `is_spam` for other plugins, and a header field for the reader."""

    metadata = Metadata(
        name="spam-filter",
        version="1.0.0",
        description="Basic spam filtering by keywords",
        license="MIT",
    )
    Settings = Spam

    async def on_filter(self, ctx: MessageContext) -> Result | None:
        if ctx.sender is not None and ctx.sender.domain in self.settings.whitelist:
            return None
        raw = await ctx.read(self.settings.max_octets)
        if raw.lower().count(b"multipart/") + raw.lower().count(b"message/") > MAX_PARTS:
            return Result.reject("Message has too many parts", enhanced="5.6.0")
        text = fold(ctx.headers.get("subject") or "") + " " + await asyncio.to_thread(text_of, raw)
        found = [word for word in self.settings.blacklist_keywords if fold(word) in text]
        score = len(found) * self.settings.keyword_score
        is_spam = score >= self.settings.spam_threshold
        ctx.set_metadata("spam_score", f"{score:g}")
        ctx.set_metadata("is_spam", "true" if is_spam else "false")
        ctx.metrics.observe("score", score)
        mark = AddHeader("X-Spam-Score", f"{score:g}")
        if not is_spam:
            return Result.modify(mark)
        ctx.metrics.count("spam_messages")
        note = f"score {score:g}: {', '.join(found)}"
        if self.settings.quarantine:
            return Result.quarantine(note=note, edits=(mark,))
        return Result.reject("Message looks like spam", note=note)


def text_of(raw: bytes) -> str:
    """Give all text of a message, decoded, without HTML tags, and folded."""
    found: list[str] = []
    for part in message_from_bytes(raw).walk():
        payload = part.get_payload(decode=True)
        if part.get_content_maintype() != "text" or not isinstance(payload, bytes):
            continue
        try:
            text = payload.decode(part.get_content_charset("utf-8"), "replace")
        except (LookupError, ValueError):
            text = payload.decode("latin-1")
        if part.get_content_subtype() == "html":
            text = html.unescape(re.sub(r"<[^<>]*>", "", text))
        found.append(fold(text))
    return " ".join(found)


def fold(text: str) -> str:
    """Make texts comparable: case does not count, and any run of spaces is one space."""
    return " ".join(text.casefold().split())
