"""Has SpamAssassin's spamd judge each message (the protocol of spamc, version 1.5).

Leaves behind: `spamassassin.score` and `spamassassin.tests`, or `spamassassin.error`, in the
metadata and the notes of a message.
"""

import re
from typing import ClassVar, Literal

from pydantic import BaseModel, Field

from elemta.mail.headers import iter_fields
from elemta.mail.reply import clean_text
from elemta.net import Stream
from elemta.plugins import Metadata, RemoveHeader, ReplaceHeader, ScanResult, ScanStatus
from elemta.plugins.builtin._elsewhere import Incoming, OnFailure, Trouble
from elemta.plugins.builtin._scanning import (
    Consequence,
    Finding,
    Mail,
    Servers,
    SpamScanner,
    SpamSettings,
    pour,
    told_of_servers,
)
from elemta.plugins.builtin._scanning.spam import FLAG, STATUS
from elemta.plugins.edits import Edit
from elemta.plugins.headers import decode_value

MAX_ANSWER = 4 * 1024 * 1024  # octets; with `headers` the header section comes back
MAX_TESTS = 900  # characters of their names
MAX_FIELDS = 50  # that are taken over
_STATUS_LINE = re.compile(rb"SPAMD/[0-9.]+ ([0-9]+) ?(.*)")
_SCORE = re.compile(r"(True|False|Yes|No) *; *(-?[0-9.]+) */ *(-?[0-9.]+)", re.ASCII)


class SpamassassinSettings(SpamSettings):
    """Where spamd is, and what becomes of spam."""

    servers: Servers = Field(
        default=("127.0.0.1:783",), description=told_of_servers("spamd listens")
    )
    scan_trusted: bool = Field(
        default=False,
        description="Also scan mail of clients in `relay.trusted_networks`, and of those that "
        "speak LMTP.",
    )
    scan_logged_in: bool = Field(default=False, description="Also scan mail of who has logged in.")
    max_size: int = Field(
        default=512_000,
        ge=1,
        description="Octets of a message that is shown; spamd takes long for large ones.",
    )
    on_too_big: OnFailure = Field(
        default="continue",
        description="What becomes of a message that is larger: `continue` (it is taken, and marked "
        "as not scanned), `quarantine`, `defer` or `reject`.",
    )
    command: Literal["check", "symbols", "headers"] = Field(
        default="symbols",
        description="What spamd is asked for: the score; also the names of the tests; or the "
        "header section, whose X-Spam fields are taken over.",
    )
    spam_score: float | None = Field(
        default=None,
        description="From which score on a message is spam; without, spamd says so.",
    )
    on_spam: Consequence = Field(
        default="continue",
        description="What becomes of spam: `continue` (it is marked), `quarantine`, `reject`, "
        "`defer` or `discard`.",
    )
    reject_score: float | None = Field(
        default=15.0, description="From which score on a message is refused."
    )


class Spamassassin(SpamScanner[SpamassassinSettings]):
    """Tells spam."""

    metadata = Metadata(
        name="spamassassin",
        version="1.0.0",
        description="Has SpamAssassin judge messages",
        after=("iprev", "spf", "dkim", "arc", "dmarc", "clamav"),
        network=("*",),
    )
    Settings: ClassVar[type[BaseModel]] = SpamassassinSettings

    async def scan(self, stream: Stream, mail: Mail) -> Finding:
        """Send the message, and read the score."""
        head = f"{self.settings.command.upper()} SPAMC/1.5\r\nContent-length: {mail.size}\r\n"
        user = self.user(mail)
        if user:
            head += f"User: {user}\r\n"
        stream.write(f"{head}\r\n".encode())
        await pour(mail, stream, stream.write)
        spam, body = await _read(stream)
        found = _SCORE.fullmatch(spam)
        if found is None:
            raise Trouble(f"no score is in its answer: {spam[:100]}")
        try:
            score, threshold = float(found[2]), float(found[3])
        except ValueError as error:
            raise Trouble(f"no score is in its answer: {spam[:100]}") from error
        if self.settings.spam_score is not None:
            threshold = self.settings.spam_score
            is_spam = score >= threshold
        else:
            is_spam = found[1] in {"True", "Yes"}
        return self._judge(score, threshold, body, is_spam=is_spam)

    async def ping(self, stream: Stream) -> None:
        """PING."""
        stream.write(b"PING SPAMC/1.5\r\n\r\n")
        line = await Incoming(stream, MAX_ANSWER).until(b"\r\n")
        if not line.endswith(b" 0 PONG"):
            raise Trouble(f"it says: {clean_text(line[:200].decode('utf-8', 'replace'))}")

    def _judge(self, score: float, threshold: float, body: bytes, *, is_spam: bool) -> Finding:
        settings = self.settings
        self.tools.metrics.observe("score", score)
        consequence: Consequence = settings.on_spam if is_spam else "continue"
        if settings.reject_score is not None and score >= settings.reject_score:
            consequence = "reject"
        asked = settings.command
        text = body.decode("utf-8", "replace") if asked == "symbols" else ""
        tests = clean_text(" ".join(text.split()), MAX_TESTS)
        shown = f"score={score:g} required={threshold:g}"
        shown = f"{shown} tests=[{tests}]" if tests else shown
        edits = self.mark(shown, is_spam=is_spam)
        if asked == "headers" and settings.tag:
            edits = _take_over(body) or edits
        scan = ScanResult(ScanStatus.SPAM if is_spam else ScanStatus.CLEAN, tests, score)
        return Finding(
            scan,
            consequence,
            "The message looks like spam",
            f"SpamAssassin: score {score:g} of {threshold:g}: {tests}",
            edits=edits,
            facts={
                "spamassassin.score": f"{score:g} of {threshold:g}",
                "spamassassin.tests": tests,
            },
        )


def _take_over(section: bytes) -> tuple[Edit, ...]:
    """Make edits of those fields that spamd has written."""
    edits: list[Edit] = [RemoveHeader(FLAG), RemoveHeader(STATUS)]
    for name, raw in iter_fields(section):
        if name.startswith(b"x-spam-") and len(edits) < MAX_FIELDS:
            try:
                edits.append(ReplaceHeader(name.decode("ascii").title(), decode_value(raw)))
            except ValueError:  # a name or a value that no field can have
                continue
    return tuple(edits) if len(edits) > 2 else ()


async def _read(stream: Stream) -> tuple[str, bytes]:
    """Read an answer: the value of its field Spam, and its body."""
    incoming = Incoming(stream, MAX_ANSWER)
    status = await incoming.until(b"\r\n")
    match = _STATUS_LINE.fullmatch(status)
    if match is None or match[1] != b"0":
        raise Trouble(f"it says: {clean_text(status[:200].decode('utf-8', 'replace'))}")
    fields: dict[str, str] = {}
    while line := await incoming.until(b"\r\n"):
        name, _, value = line.decode("utf-8", "replace").partition(":")
        fields[name.strip().lower()] = value.strip()
    body = await incoming.rest()
    length = fields.get("content-length", "")
    if length.isascii() and length.isdecimal() and len(body) < int(length[:12]):
        raise Trouble("it hung up in the middle of its answer")
    return fields.get("spam", ""), body
