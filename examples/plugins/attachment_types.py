"""Refuses attachments that can be run, by their names."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from email import message_from_string
from email.header import decode_header, make_header
from email.message import Message

from pydantic import Field

from elemta.plugins import MessageContext, Metadata, Plugin, Result, Settings

MAX_LINE = 10_000  # octets; the rest of a line is not looked at
FIELD = re.compile(rb"(content-[!-9;-~]*)[ \t]*:", re.IGNORECASE)
DANGEROUS = (
    *("exe", "bat", "cmd", "msi", "js", "vbs", "ps1"),
    *("jar", "scr", "pif", "reg", "com", "hta"),
)


class Types(Settings):
    """Extensions without the dot, and how much structure is looked at before it is too much."""

    extensions: frozenset[str] = frozenset(DANGEROUS)
    max_parts: int = Field(default=200, ge=1)
    max_header: int = Field(default=16 * 1024, ge=1)


class AttachmentTypes(Plugin[Types]):
    """Walks through the whole message line by line, and keeps what describes one part."""

    metadata = Metadata(
        name="attachment-types", version="1.0.0", description="Refuses dangerous attachments"
    )
    Settings = Types
    independent = True

    async def on_filter(self, ctx: MessageContext) -> Result | None:
        parts = 0
        boundaries: set[bytes] = set()
        section: Section | None = Section()  # None in a body
        async for line in lines(ctx.chunks()):
            if line.startswith(b"--") and line in boundaries:
                section = Section()
            elif section is not None and line:
                section.add(line)
            elif section is not None:
                parts += 1
                part = section.part()
                bad = next((name for name in names_of(part) if self.is_bad(name)), None)
                if bad is not None:
                    ctx.metrics.count("rejected_messages", why="attachment")
                    return Result.reject("Attachments of this type are not taken", note=bad)
                boundary = part.get_boundary("").encode("latin-1", "replace")
                boundaries |= {b"--" + boundary} if boundary else set()
                section = Section() if part.get_content_maintype() == "message" else None
            if parts > self.settings.max_parts or (
                section is not None and section.size > self.settings.max_header
            ):
                ctx.metrics.count("rejected_messages", why="structure")
                return Result.reject("Message has too many parts", enhanced="5.6.0")
        return None

    def is_bad(self, name: str) -> bool:
        """Judge a name by all its extensions: "invoice.exe.pdf", "a.EXE" and "a.exe. " too."""
        shown = "".join(char for char in name.casefold() if char.isprintable())
        parts = [part.strip() for part in shown.split(".")]
        return any(part in self.settings.extensions for part in parts[1:])


class Section:
    """The fields of a header section that say what a part is: those named "Content-"."""

    def __init__(self) -> None:
        self.fields: list[bytes] = []
        self.size = 0
        self.is_kept = False

    def add(self, line: bytes) -> None:
        """Take a line; one that begins with a space belongs to the field before it."""
        if line[:1].strip():
            self.is_kept = FIELD.match(line) is not None
            line = FIELD.sub(rb"\1:", line, 1)
        if self.is_kept:
            self.fields.append(line)
            self.size += len(line)

    def part(self) -> Message:
        return message_from_string(b"\r\n".join(self.fields).decode("latin-1") + "\r\n\r\n")


async def lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Cut a message into lines, without their ends and the spaces before these."""
    rest = b""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\r\n")
        rest = rest if len(rest) <= MAX_LINE else rest[:MAX_LINE] + rest[-1:]
        for line in whole:
            yield line.rstrip()
        await asyncio.sleep(0)  # others have their turn
    yield rest.rstrip()
    yield b""  # a header section may end with the message


def names_of(part: Message) -> list[str]:
    """Give the names that the file in a part may have."""
    return [*decoded(part.get_filename("")), *decoded(part.get_param("name", ""))]


def decoded(value: object) -> Iterator[str]:
    """Give a name as it is written, and as encoded words (RFC 2047) that it may hide behind."""
    text = value[2] if isinstance(value, tuple) else str(value)
    yield text
    try:
        yield str(make_header(decode_header(text)))
    except (LookupError, ValueError):
        return
