"""Transcripts of dialogues: see README.md beside this file."""

import re
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).parent
_ESCAPE = re.compile(rb"\\(?:([rnt0\\])|x([0-9a-fA-F]{2}))")
_ESCAPES = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"0": b"\0", b"\\": b"\\"}
_REPEAT = re.compile(rb"\{(.+?)\*(\d+)\}")
_SETTINGS = {"dialect", "bare_newlines", "max_message_size", "max_line", "strict_sync"}


@dataclass
class Step:
    """One thing to do or expect: `action` is "send", "expect", "closed" or "messages"."""

    line: int
    action: str
    data: bytes


@dataclass
class Transcript:
    """What a file says."""

    settings: dict[str, str] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)


def names() -> list[str]:
    """All transcripts, for parametrising a test."""
    return sorted(path.name for path in FOLDER.glob("*.smtp"))


def load(name: str) -> Transcript:
    """Read one; consecutive lines of the client become one send."""
    transcript = Transcript()
    for number, line in enumerate((FOLDER / name).read_bytes().split(b"\n"), 1):
        tag, _, text = line.partition(b" ")
        if not line or tag == b"#":
            continue
        if tag == b"%":
            key, _, value = text.decode().partition(" ")
            assert key in _SETTINGS, f"{name}:{number}: unknown setting {key}"
            transcript.settings[key] = value
        elif tag in (b"C:", b"C|"):
            data = _unescape(text) + (b"\r\n" if tag == b"C:" else b"")
            steps = transcript.steps
            if steps and steps[-1].action == "send":
                steps[-1].data += data
            else:
                steps.append(Step(number, "send", data))
        elif line == b"S: closed":
            transcript.steps.append(Step(number, "closed", b""))
        elif tag == b"S:":
            transcript.steps.append(Step(number, "expect", text))
        else:
            assert tag == b"M:", f"{name}:{number}: cannot read this line"
            transcript.steps.append(Step(number, "messages", text))
    return transcript


def split_replies(output: bytes) -> tuple[list[bytes], bytes]:
    """Cut what the server said into whole replies, each of one or more lines, and the rest."""
    replies: list[bytes] = []
    reply = b""
    *lines, rest = output.split(b"\r\n")
    for line in lines:
        reply += line + b"\r\n"
        if line[3:4] != b"-":
            replies.append(reply)
            reply = b""
    return replies, reply + rest


def is_reply(expected: bytes, reply: bytes) -> bool:
    """Whether a reply has the code and, where one is given, the enhanced code on every line."""
    code, _, enhanced = expected.partition(b" ")
    lines = reply.removesuffix(b"\r\n").split(b"\r\n")
    return all(
        line[:3] == code
        and line[3:4] == (b" " if number == len(lines) else b"-")
        and (not enhanced or line[4:].split(b" ")[0] == enhanced)
        for number, line in enumerate(lines, 1)
    )


def _unescape(text: bytes) -> bytes:
    text = _REPEAT.sub(lambda match: match[1] * int(match[2]), text)
    return _ESCAPE.sub(
        lambda match: bytes([int(match[2], 16)]) if match[2] else _ESCAPES[match[1]], text
    )
