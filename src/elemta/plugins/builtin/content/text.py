"""Text as a person sees it: without markup, and comparable. All of it is linear in its input.

The parser of the standard library takes a time that grows with the square of some broken markup,
so tags are found here by plain searches, each of which goes on where the last one ended.
"""

import html
import re
import unicodedata

# not seen, and used to break words: soft hyphen, spaces without width, joiners, marks of direction
_UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]"
)
_SPACE = re.compile(r"\s+")
_TAG_NAME = re.compile(r"</?([A-Za-z][A-Za-z0-9]{0,20})")
_ENDS = {name: re.compile(f"</{name}", re.IGNORECASE) for name in ("script", "style")}
_INLINE = frozenset({
    "a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "code", "del", "dfn", "em", "font",
    "i", "ins", "kbd", "mark", "q", "s", "samp", "small", "span", "strike", "strong", "sub", "sup",
    "tt", "u", "var", "wbr",
})  # fmt: skip


def normalise(text: str) -> str:
    """Make one form of what looks alike: width and ligatures (NFKC), and any space one blank."""
    return _SPACE.sub(" ", unicodedata.normalize("NFKC", _UNSEEN.sub("", text))).strip()


def fold(text: str) -> str:
    """Make a text comparable with others, whatever their case."""
    return normalise(text).casefold()


def strip_html(markup: str) -> str:
    """Give the text of a page; comments, scripts and styles are none."""
    pieces: list[str] = []
    at = 0
    while (start := markup.find("<", at)) >= 0:
        pieces.append(markup[at:start])
        at, gap = _skip(markup, start)
        pieces.append(gap)
    pieces.append(markup[at:])
    return html.unescape("".join(pieces))


def _skip(markup: str, start: int) -> tuple[int, str]:
    """Give where the text goes on after a "<", and what stands for what is between."""
    if markup.startswith("<!--", start):
        end = markup.find("-->", start + 2)
        return (end + 3 if end >= 0 else len(markup)), ""
    named = _TAG_NAME.match(markup, start)
    if named is None and not markup.startswith(("<!", "<?"), start):
        return start + 1, "<"
    end = markup.find(">", start)
    if end < 0:
        return len(markup), ""
    name = named[1].lower() if named is not None else ""
    closing = _ENDS.get(name)
    if closing is None or markup.startswith("</", start):
        return end + 1, "" if name in _INLINE else " "
    closed = closing.search(markup, end)
    return (closed.start() if closed is not None else len(markup)), " "
