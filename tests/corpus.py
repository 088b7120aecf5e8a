"""Messages of all kinds, most of them malformed: what must arrive as it was sent.

Every one has CRLF line ends only, no NUL, and lines of at most `LONGEST` octets; for the rest,
anything goes. The same seed gives the same messages.
"""

import importlib.util
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

LONGEST = 8192  # octets of a line, CRLF included
EACH = 22  # messages of a kind
INLINE = 128 * 1024  # larger messages are kept in files
CONFORMANCE = Path(__file__).parents[2] / "shared" / "conformance" / "dkim-mail-auth"

HEAD = b"From: Ann <ann@example.org>\r\nTo: bob@example.test\r\nSubject: a test\r\n"
OCTETS = bytes(octet for octet in range(1, 256) if octet not in b"\r\n")
WORDS = [
    "mail",
    "Ελλάδα",
    "to",
    "für",
    "日本",
    ".from",
    "..Dear",
    "x\u2028y",
    "\x0bvt",
    "\x0cff",
    "\x85",
    "",
]


@dataclass(frozen=True, slots=True)
class Sample:
    """One message, and where it is from."""

    name: str
    content: bytes = field(repr=False)

    @property
    def is_ended(self) -> bool:
        """DATA can carry it: it is lines."""
        return not self.content or self.content.endswith(b"\r\n")


def octets(rng: random.Random, size: int, alphabet: bytes = OCTETS) -> bytes:
    return bytes(rng.choices(alphabet, k=size))


def lines(rng: random.Random, count: int, size: int, alphabet: bytes = OCTETS) -> bytes:
    return b"".join(octets(rng, rng.randrange(size), alphabet) + b"\r\n" for _ in range(count))


def text(rng: random.Random, count: int) -> bytes:
    return "".join(" ".join(rng.choices(WORDS, k=8)) + "\r\n" for _ in range(count)).encode()


def pieces(joined: str) -> list[bytes]:
    """What stands between the bars; letters up to U+00FF stand for octets."""
    return joined.encode("latin-1").split(b"|")


def tidy(raw: bytes) -> bytes:
    """Any octets as lines."""
    return raw.replace(b"\0", b"0").replace(b"\r", b"").replace(b"\n", b"\r\n")


# ---- kinds: what is wrong with the message as a whole


def header_without_end(rng: random.Random) -> bytes:
    return HEAD + b"X-Last: %d\r\n" % rng.randrange(1000)


def header_only(rng: random.Random) -> bytes:
    return HEAD + b"X-Last: %d\r\n\r\n" % rng.randrange(1000)


def body_only(rng: random.Random) -> bytes:
    return rng.choice((b"", b"\r\n")) + text(rng, rng.randrange(1, 9))


def unfinished(rng: random.Random) -> bytes:
    return HEAD + b"\r\n" + text(rng, 3) + rng.choice((b".", b"..", b"\xff", b"end", b" "))


def tiny(rng: random.Random) -> bytes:
    return octets(rng, rng.choice((0, 1, 1, 2))) + rng.choice((b"", b"\r\n"))


def empty_lines(rng: random.Random) -> bytes:
    return rng.choice((b"", HEAD)) + b"\r\n" * rng.randrange(30)


def dots(rng: random.Random) -> bytes:
    shapes = pieces(".|..|...|. |.x| .||.\t|x.|.QUIT")
    body = b"\r\n".join(rng.choices(shapes, k=rng.randrange(1, 60)))
    return rng.choice((HEAD, b"")) + body + b"\r\n"


def dialogue(rng: random.Random) -> bytes:
    said = pieces("QUIT|.|MAIL FROM:<a@b.test>|DATA|250 ok|RSET|BDAT 9 LAST|")
    return HEAD + b"\r\n" + b"\r\n".join(rng.choices(said, k=30)) + b"\r\n"


# ---- kinds: header sections


def folded_garbage(rng: random.Random) -> bytes:
    shapes = pieces(" |\t| \t x|\tfolded|  : | From: x|   |Subject:\r\n \r\n\t")
    return rng.choice((HEAD, b"")) + b"\r\n".join(rng.choices(shapes, k=12)) + b"\r\n\r\nbody\r\n"


def duplicates(rng: random.Random) -> bytes:
    names = pieces("From|FROM|Subject|Message-ID|Date|To|Return-Path|Received")
    fields = [b"%b: %d\r\n" % (rng.choice(names), n) for n in range(40)]
    return b"".join(fields) + b"\r\n" + text(rng, 2)


def odd_fields(rng: random.Random) -> bytes:
    shapes = pieces(": no name|no colon|Name : x|X\xe9: y|A:|=?q?=: z|\x7f: \x01|From x")
    return b"\r\n".join(rng.choices(shapes, k=10)) + b"\r\n\r\n" + text(rng, 2)


def many_fields(rng: random.Random) -> bytes:
    return b"".join(b"X-%d: %d\r\n" % (n, n) for n in range(rng.randrange(100, 800))) + b"\r\nb\r\n"


def encoded_words(rng: random.Random) -> bytes:
    shapes = pieces("=?utf-8?B?w7w=?=|=?utf-8?Q?=FF?=|=?x?Z?y?=|=?utf-8?B?!!!?=|=?|?=|\xfc")
    return HEAD + b"X-Words: " + b" ".join(rng.choices(shapes, k=15)) + b"\r\n\r\nx\r\n"


# ---- kinds: bodies


def broken_multipart(rng: random.Random) -> bytes:
    shapes = pieces(
        "--b|--b--|--B|-- b|preamble|--|--bb|--b \r\nContent-Type: text/plain\r\n"
        "|--b\r\nContent-Type: multipart/mixed; boundary=b\r\n"
    )
    kind = rng.choice(pieces('; boundary="b"|; boundary=b; boundary=c||; boundary=|; boundary="b'))
    head = HEAD + b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed" + kind + b"\r\n\r\n"
    return head + b"\r\n".join(rng.choices(shapes, k=rng.randrange(1, 20))) + b"\r\n"


def nested(rng: random.Random) -> bytes:
    inner = HEAD + b"\r\n" + text(rng, 1)
    for _ in range(rng.randrange(1, 60)):
        inner = HEAD + b"Content-Type: message/rfc822\r\n\r\n" + inner
    return inner


def base64_garbage(rng: random.Random) -> bytes:
    alphabet = b"ABCDabcd0123+/==== -_*\xff"
    return HEAD + b"Content-Transfer-Encoding: base64\r\n\r\n" + lines(rng, 20, 80, alphabet)


def quoted_garbage(rng: random.Random) -> bytes:
    alphabet = b"=3D=\t a=ZZ=0"
    head = HEAD + b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
    return head + lines(rng, 20, 80, alphabet)


def long_lines(rng: random.Random) -> bytes:
    sizes = (996, 997, 998, 999, 1000, 1001, 2048, 4096, 8189, LONGEST - 2)
    body = [rng.choice((b".", b"x", b" ")) + octets(rng, rng.choice(sizes) - 1) for _ in range(6)]
    head = HEAD + b"X-Long: " + b"y" * rng.choice(sizes[:7]) + b"\r\n\r\n"
    return head + b"\r\n".join(body) + b"\r\n"


def any_octets(rng: random.Random) -> bytes:
    return rng.choice((b"", HEAD + b"\r\n")) + lines(rng, rng.randrange(1, 40), 300)


def controls(rng: random.Random) -> bytes:
    alphabet = bytes(octet for octet in OCTETS if octet < 32 or octet >= 127)
    return HEAD + b"\r\n" + lines(rng, 20, 60, alphabet)


def utf8(rng: random.Random) -> bytes:
    return "From: Jürgen <j@example.org>\r\nSubject: Καλημέρα\r\n\r\n".encode() + text(rng, 10)


def mailbox_marks(rng: random.Random) -> bytes:
    shapes = pieces("From ann@example.org Mon Jan  1 00:00:00 2024|>From x|>>From|\x0c|\x1a|")
    return rng.choice((b"", HEAD + b"\r\n")) + b"\r\n".join(rng.choices(shapes, k=12)) + b"\r\n"


def mutated(rng: random.Random) -> bytes:
    """A good message with a few octets changed, moved or lost."""
    raw = bytearray(HEAD.replace(b"\r", b"") + b"\n" + text(rng, 10).replace(b"\r", b""))
    for _ in range(rng.randrange(1, 20)):
        at, end = sorted((rng.randrange(len(raw)), rng.randrange(len(raw))))
        change = rng.randrange(3)
        if change == 0:
            raw[at] = rng.randrange(256)
        elif change == 1:
            raw[at:at] = raw[end : end + 9]
        elif end - at < 9:
            del raw[at:end]
    return tidy(bytes(raw))


KINDS: tuple[Callable[[random.Random], bytes], ...] = (
    header_without_end, header_only, body_only, unfinished, tiny, empty_lines, dots, dialogue,
    folded_garbage, duplicates, odd_fields, many_fields, encoded_words,
    broken_multipart, nested, base64_garbage, quoted_garbage, long_lines, any_octets, controls,
    utf8, mailbox_marks, mutated, mutated,
)  # fmt: skip


def large(rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """At the edges of what is kept in the database, and far over them."""
    yield (
        "10,000 fields",
        b"".join(b"X-%d: \xff%d\r\n" % (n, n) for n in range(10_000)) + b"\r\nx\r\n",
    )
    yield "10,000 folds", HEAD + b"X-Folds:" + b"\r\n .%s" % (b"y" * 20) * 10_000 + b"\r\n\r\nx\r\n"
    yield "10,000 fields and no end", b"".join(b".%d: x\r\n" % n for n in range(10_000))
    for size in (INLINE - 300, INLINE - 1, INLINE, INLINE + 1, 65_536, 262_144):
        yield (
            f"{size} octets",
            (HEAD + b"\r\n" + lines(rng, size // 60, 200))[:size].rstrip(b"\r") + b"\r\n",
        )
    for _ in range(3):
        yield "1 MB", HEAD + b"\r\n" + lines(rng, 20_000, 100) + b"."
    yield "1 MB of dots", HEAD + b"\r\n" + b".\r\n..\r\n" * 150_000
    # no more: without an empty line it counts as a header section, which has a limit
    yield "long lines and no header", (b"." + b"z" * (LONGEST - 3) + b"\r\n") * 120


def generated(seed: int) -> list[Sample]:
    """Messages of every kind."""
    samples = []
    for place, kind in enumerate(KINDS):
        rng = random.Random(f"{seed} {place}")
        samples += [Sample(f"{kind.__name__} {n}", kind(rng)) for n in range(EACH)]
    rng = random.Random(seed)
    return samples + [Sample(name, content) for name, content in large(rng)]


def public() -> list[Sample]:
    """Messages that others collected for tests: Python's, and signed ones."""
    samples = [Sample(f"python {path.name}", tidy(path.read_bytes())) for path in _of_python()]
    for path in sorted(CONFORMANCE.glob("*.txt")):
        message = path.read_bytes().partition(b"\n\n")[2]
        samples.append(Sample(f"mail-auth {path.name}", tidy(message)))
    return samples


def _of_python() -> list[Path]:
    """Test data of the email package; not every distribution of Python has them."""
    try:
        found = importlib.util.find_spec("test.test_email")
    except ModuleNotFoundError:
        return []
    folder = Path(found.origin).parent / "data"
    return sorted(path for path in folder.glob("*") if path.suffix in {".txt", ".eml"})
