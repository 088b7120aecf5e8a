"""A message as text that is safe to look at: decoded, without controls, its links dead.

Nothing is fetched, opened or run. What is read of a message is bounded, by size, by the number of
parts and by how deep they nest, and so is what is shown; attachments are named, not shown.
"""

import contextlib
import re
from dataclasses import dataclass, field
from email import policy
from email.errors import MessageError
from email.header import decode_header, make_header
from email.message import Message
from email.parser import BytesParser
from html.parser import HTMLParser

from elemta.mail.reply import clean_text

MAX_READ = 4 * 1024 * 1024  # octets of a message that are looked at
MAX_PARTS = 200
MAX_BOUNDARIES = 1000  # lines that may end a part; nothing after them is looked at
MAX_DEPTH = 20
MAX_PART = 1024 * 1024  # octets of one part that are decoded
MAX_LINE = 500  # letters
MAX_HEADERS = 200  # fields
_SCHEME = re.compile(r"(?i)\b(https?|ftp|mailto|javascript|data|tel|file):")
_WWW = re.compile(r"(?i)\bwww\.")
_LINE_ENDS = re.compile("\r\n|[\r\n\x0b\x0c\x85\u2028\u2029]")
_NO_TEXT = frozenset({"script", "style", "head", "title", "template", "svg", "object"})
_BREAKS = frozenset({"p", "div", "br", "tr", "li", "h1", "h2", "h3", "h4", "table", "hr"})


@dataclass(slots=True)
class Attachment:
    """A part that is not shown: what it calls itself, and how large it is, in octets."""

    name: str
    type: str
    size: int


@dataclass(slots=True)
class Preview:
    """What can be shown of a message.

    Attributes:
        header: Its header fields, a line each, encoded words decoded.
        text: Its text, cleaned.
        is_cut: There is more text than this.
        attachments: What else there is.
    """

    header: list[str] = field(default_factory=list)
    text: str = ""
    is_cut: bool = False
    attachments: list[Attachment] = field(default_factory=list)


def make_preview(raw: bytes, limit: int) -> Preview:
    """Look at a message; at most `limit` letters of its text are shown."""
    read = _bounded(raw)
    preview = Preview(is_cut=len(read) < len(raw))
    try:
        message = BytesParser(policy=policy.compat32).parsebytes(read)
        texts = _look(message, preview)
    except (MessageError, ValueError, LookupError, RecursionError):  # it is hostile, or damaged
        preview.text, preview.is_cut = _safe(read[:limit].decode("utf-8", "replace")), True
        return preview
    for name, value in message.items()[:MAX_HEADERS]:
        preview.header.append(f"{clean_text(name, 100)}: {_without_links(_readable(value))}")
    text = "\n\n".join(texts)
    preview.is_cut = preview.is_cut or len(text) > limit
    preview.text = text[:limit]
    return preview


def _bounded(raw: bytes) -> bytes:
    """The part of a message that is looked at."""
    raw = raw[:MAX_READ]
    if raw.count(b"\n--") <= MAX_BOUNDARIES:
        return raw
    at = 0
    for _ in range(MAX_BOUNDARIES):
        at = raw.index(b"\n--", at) + 1
    return raw[:at]


def _look(message: Message, preview: Preview) -> list[str]:
    """Gather texts, and name what is no text."""
    texts: list[str] = []
    waiting: list[tuple[Message, int]] = [(message, 0)]
    for _ in range(MAX_PARTS):
        if not waiting:
            return texts
        part, depth = waiting.pop()
        children = part.get_payload() if part.is_multipart() else None
        if isinstance(children, list):
            if depth == MAX_DEPTH:
                preview.is_cut = True
                continue
            if part.get_content_maintype() == "message":
                preview.attachments.append(_describe(part))
            waiting += [
                (each, depth + 1) for each in reversed(children) if not isinstance(each, str)
            ]
        elif _is_text(part):
            texts.append(_text_of(part, preview))
        else:
            preview.attachments.append(_describe(part))
    preview.is_cut = preview.is_cut or bool(waiting)
    return texts


def _is_text(part: Message) -> bool:
    is_attached = part.get_content_disposition() == "attachment" or part.get_filename() is not None
    return part.get_content_type() in {"text/plain", "text/html"} and not is_attached


def _text_of(part: Message, preview: Preview) -> str:
    raw = _decoded(part)
    if len(raw) > MAX_PART:
        preview.is_cut = True
    charset = part.get_content_charset("utf-8")
    try:
        text = raw[:MAX_PART].decode(charset, "replace")
    except (LookupError, ValueError):  # nobody knows it
        text = raw[:MAX_PART].decode("utf-8", "replace")
    if part.get_content_type() == "text/html":
        text = _html_to_text(text)
    return _safe(text)


def _decoded(part: Message) -> bytes:
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _describe(part: Message) -> Attachment:
    size = 0 if part.is_multipart() else len(_decoded(part))
    name = clean_text(_readable(part.get_filename() or ""), 200)
    return Attachment(name, clean_text(part.get_content_type(), 100), size)


def _readable(value: object) -> str:
    """A header value on one line, its encoded words decoded where that is possible."""
    text = str(value)
    with contextlib.suppress(MessageError, LookupError, ValueError):
        text = str(make_header(decode_header(text)))
    return clean_text(" ".join(_LINE_ENDS.sub(" ", text).split()), MAX_LINE)


class _Words(HTMLParser):
    """The words of a page, and where its links lead."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self._hidden = ""
        self._depth = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._hidden:
            self._depth += tag == self._hidden
        elif tag in _NO_TEXT:
            self._hidden, self._depth = tag, 1
        elif tag in _BREAKS:
            self.pieces.append("\n")
        elif tag == "a":
            target = next((value for name, value in attrs if name == "href" and value), None)
            if target:
                self.pieces.append(f"[{target[:MAX_LINE]}] ")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._hidden:
            self._depth -= 1
            if not self._depth:
                self._hidden = ""

    def parse_marked_section(self, i: int, report: bool = True) -> int:  # noqa: FBT001, FBT002, ARG002 - as in the library
        """Pass over "<![...>", as browsers do; the library raises where it does not know one."""
        return self.rawdata.find(">", i) + 1 or -1

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.pieces.append(data)


def _html_to_text(text: str) -> str:
    words = _Words()
    words.feed(text)
    words.close()
    return re.sub(r"\n\s*\n+", "\n\n", "".join(words.pieces)).strip()


def _safe(text: str) -> str:
    """Text without controls and links, in lines of a bounded length."""
    lines = (clean_text(line, MAX_LINE) for line in _LINE_ENDS.split(text))
    return _without_links("\n".join(line.rstrip() for line in lines).strip())


def _without_links(text: str) -> str:
    """Write addresses of the web so that neither a terminal nor a page makes links of them."""
    text = _SCHEME.sub(r"\1[:]", text)
    return _WWW.sub("www[.]", text)
