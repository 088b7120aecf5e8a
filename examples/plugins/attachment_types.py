"""Refuses attachments that can be run, by their names."""

import re
from collections.abc import AsyncIterator, Iterator
from email import message_from_string
from email.header import decode_header, make_header

from pydantic import Field

from elemta.plugins import MessageContext, Metadata, Plugin, Result, Settings

MAX_LINE = 10_000  # octets; the rest of a line is not looked at
FIELD = re.compile(
    rb"([!-9;-~]+)[ \t]*:|[ \t]"
)  # the beginning of a field, or more of the last one
DANGEROUS = (
    *("exe", "bat", "cmd", "msi", "js", "vbs", "ps1"),
    *("jar", "scr", "pif", "reg", "com", "hta"),
)


class Types(Settings):
    """Extensions without the dot, and how much structure is looked at before it is too much."""

    extensions: frozenset[str] = frozenset(DANGEROUS)
    max_parts: int = Field(default=200, ge=1)
    max_header: int = Field(default=64 * 1024, ge=1)


class AttachmentTypes(Plugin[Types]):
    """Walks through the whole message line by line, and keeps no more than one header section."""

    metadata = Metadata(
        name="attachment-types", version="1.0.0", description="Refuses dangerous attachments"
    )
    Settings = Types
    independent = True

    async def on_filter(self, ctx: MessageContext) -> Result | None:
        parts = 0
        boundaries: set[bytes] = set()
        section: list[bytes] | None = []  # the header section we are in, None in a body
        size = 0
        async for line in lines(ctx.chunks()):
            if section is None or line.startswith(b"--"):
                if line.startswith(b"--") and line in boundaries:
                    section, size = [], 0
            elif line:
                section.append(line)
                size += len(line)
            else:
                parts += 1
                names, boundary, is_message = describe(section)
                bad = next((name for name in names if self.is_bad(name)), None)
                if bad is not None:
                    ctx.metrics.count("rejected_messages", why="attachment")
                    return Result.reject("Attachments of this type are not taken", note=bad)
                boundaries |= {b"--" + boundary} if boundary else set()
                section, size = [] if is_message else None, 0
            if parts > self.settings.max_parts or size > self.settings.max_header:
                ctx.metrics.count("rejected_messages", why="structure")
                return Result.reject("Message has too many parts", enhanced="5.6.0")
        return None

    def is_bad(self, name: str) -> bool:
        """Judge a name by all its extensions: "invoice.exe.pdf", "a.EXE" and "a.exe. " too."""
        shown = "".join(char for char in name.casefold() if char.isprintable())
        parts = [part.strip() for part in shown.split(".")]
        return any(part in self.settings.extensions for part in parts[1:])


async def lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Cut a message into lines, without their ends and the spaces before these."""
    rest = b""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\r\n")
        rest = rest if len(rest) <= MAX_LINE else rest[:MAX_LINE] + rest[-1:]
        for line in whole:
            yield line.rstrip()
    yield rest.rstrip()
    yield b""  # a header section may end with the message


def describe(section: list[bytes]) -> tuple[list[str], bytes, bool]:
    """Read a header section: names of files, the boundary of parts, whether a message follows.

    Lines that are no fields are left out: the parser would take the first for the end of them all.
    """
    fields = [
        FIELD.sub(rb"\1:", line, 1) if line[:1].strip() else line
        for line in section
        if FIELD.match(line)
    ]
    part = message_from_string(b"\r\n".join(fields).decode("latin-1") + "\r\n\r\n")
    boundary = part.get_boundary("").encode("latin-1", "replace")
    found = [part.get_filename(""), part.get_param("name", "")]
    names = [name for value in found for name in decoded(value)]
    return names, boundary, part.get_content_maintype() == "message"


def decoded(value: object) -> Iterator[str]:
    """Give a name as it is written, and as encoded words (RFC 2047) that it may hide behind."""
    text = value[2] if isinstance(value, tuple) else str(value)
    yield text
    try:
        yield str(make_header(decode_header(text)))
    except (LookupError, ValueError):
        return
