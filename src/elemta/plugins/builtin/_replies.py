"""Replies of SMTP that other programs want a client to get, made safe to repeat."""

import re

from elemta.mail.reply import clean_text
from elemta.plugins import Result
from elemta.plugins.builtin._elsewhere import Trouble

_MOST = 32  # lines of a reply
_LINE = re.compile(r"([45][0-9]{2})(?:[ -](.*))?", re.ASCII | re.DOTALL)
_ENHANCED = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:\s+(.*))?", re.ASCII | re.DOTALL)


def read_reply(octets: bytes, note: str) -> Result:
    """Read a reply of SMTP, of one or several lines, and make it safe to repeat.

    Raises:
        Trouble: Its code is not 4xx or 5xx.
    """
    lines = re.split("\r\n|\r|\n", octets[:16384].decode("utf-8", "replace").rstrip("\r\n"))
    code, enhanced, texts = 0, "", []
    for line in lines[:_MOST]:
        found = _LINE.fullmatch(line)
        if found is None or (code and int(found[1]) != code):
            raise Trouble(f"not a reply: {clean_text(line, 60)!r}")
        code, text = int(found[1]), found[2] or ""
        status = _ENHANCED.fullmatch(text)
        if status is not None:
            enhanced, text = status[1], status[2] or ""
        texts.append(text.replace("%%", "%").strip())  # Sendmail wants it doubled
    digit = str(code // 100)
    if not enhanced.startswith(digit):
        enhanced = f"{digit}.7.1"
    words = clean_text(" ".join(filter(None, texts))).strip()
    if digit == "5":
        return Result.reject(
            words or "Refused by local policy", code=code, enhanced=enhanced, note=note
        )
    return Result.defer(words or "Try again later", code=code, enhanced=enhanced, note=note)
