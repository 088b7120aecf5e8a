"""Messages that are generated, signed by others and us, and changed after that.

They stay within RFC 5322 as far as lines go: other judges take a bare LF for a line end, or drop
vertical tabs as space.
"""

import base64
import random
import re
import time
from collections.abc import Callable

import dkim
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from mailauth.dkim.signed import sign

from elemta.mailauth.dkim import SigningKey, SignSettings

NAMES = (
    *("From", "To", "Cc", "Subject", "Date", "Message-ID", "Reply-To", "Sender", "MIME-Version"),
    *("Content-Type", "Received", "List-Id", "X-Some", "References", "DKIM-Signature-X"),
)
WORDS = (
    *(b"mail", b"a", b"<x@example.org>", b"b=", b";", b":", b"=?utf-8?q?x?=", b'"quoted  pair"'),
    *("für".encode(), "日本".encode(), b"\xff\xfe", b"\x01", b"x" * 300, b"from:"),
)
SPACES = (b" ",) * 6 + (b"  ", b"\t", b" \t ", b"\r\n ", b"\r\n\t", b" \r\n  ", b"\r\n \t")
TAILS = (b"",) * 6 + (b" ", b"\t", b" \r\n\t", b"  ")
ENDS = (b"\r\n",) * 6 + (b" \r\n", b"\t \r\n", b"\r\n\r\n", b"\r\n\r\n\r\n \r\n")


def join(rng: random.Random, spaces: tuple[bytes, ...], most: int) -> bytes:
    """Words with some space between them."""
    words = rng.choices(WORDS, k=rng.randrange(most))
    return b"".join(word + rng.choice(spaces) for word in words) + rng.choice(WORDS)


def recase(rng: random.Random, name: str) -> bytes:
    return rng.choice((name, name, name.lower(), name.upper(), name.swapcase())).encode()


def field(rng: random.Random, name: str, *, is_neat: bool = False) -> bytes:
    gap = b" " if is_neat else rng.choice((b" ", b" ", b"", b"  ", b"\t", b"\r\n "))
    value = join(rng, SPACES, 8) if rng.random() < 0.95 else b""
    if name == "From" and is_neat:
        value = b'"Ann"' + rng.choice(SPACES) + b"<ann@example.org>"
    tail = rng.choice(TAILS) if value else b""
    return recase(rng, name) + b":" + (gap + value + tail if value else b"") + b"\r\n"


def body(rng: random.Random) -> bytes:
    kind = rng.random()
    if kind < 0.1:
        return rng.choice((b"", b"\r\n", b"\r\n\r\n", b" \r\n", b"x\r\n"))
    spaces = tuple(space for space in SPACES if b"\r\n" not in space)
    count = rng.randrange(1, 12) if kind < 0.95 else 300
    return b"".join(
        rng.choice((b"", b" ", b"\t")) * (rng.random() < 0.2)
        + join(rng, spaces, 9) * (rng.random() < 0.8)
        + rng.choice(ENDS)
        for _ in range(count)
    )


def message(rng: random.Random, *, is_neat: bool = False) -> bytes:
    """A message; a neat one has a From that is an address, and one space after each colon."""
    names = rng.choices(NAMES, k=rng.randrange(2, 14))
    if rng.random() < 0.95 or is_neat:
        names = ["From", *(name for name in names if name != "From")]
        rng.shuffle(names)
    head = b"".join(field(rng, name, is_neat=is_neat) for name in names)
    return head + b"\r\n" + body(rng)


def sign_here(
    rng: random.Random, plain: bytes, canonicalization: str, signing: SigningKey
) -> bytes:
    settings = SignSettings(
        canonicalization=canonicalization,
        expires_after=rng.choice((None, 86_400)),
        identity=rng.choice(("", "@example.org", "ann@post.example.org")),
        oversigned=rng.choice((SignSettings().oversigned, ("From",), ())),
        fields=tuple(sorted({"From", *rng.choices(NAMES, k=5)})),
    )
    return sign(plain, signing, settings=settings, now=time.time())


def sign_by_dkimpy(
    rng: random.Random, plain: bytes, canonicalization: str, signing: SigningKey
) -> bytes:
    if signing.key.kind == "rsa":
        form = (Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        secret = signing.key.key.private_bytes(*form)
    else:
        secret = base64.b64encode(signing.key.key.private_bytes_raw())
    signer = dkim.DKIM(plain)
    included = [b"from", *(name.lower().encode() for name in rng.choices(NAMES, k=4))]
    signer.should_not_sign.clear()
    return (
        signer.sign(
            signing.selector.encode(),
            signing.domain.encode(),
            secret,
            signature_algorithm=signing.key.algorithm.encode(),
            canonicalize=tuple(canonicalization.encode().split(b"/")),
            include_headers=rng.choice((None, included))
            if re.search(rb"(?mi)^from:", plain[: head_end(plain)])
            else included,
            length=rng.random() < 0.3,
        )
        + plain
    )


def head_end(octets: bytes) -> int:
    return octets.index(b"\r\n\r\n") + 4


def starts(octets: bytes) -> list[int]:
    """Where fields begin, and the empty line."""
    head = octets[: head_end(octets)]
    return [0, *(match.end() for match in re.finditer(rb"\r\n(?![ \t])", head[:-2]))]


def place(rng: random.Random, octets: bytes, pattern: bytes) -> int:
    """Where a pattern occurs, anywhere, or 0."""
    return rng.choice([match.start() for match in re.finditer(pattern, octets)] or [0])


def flip(rng: random.Random, octets: bytes) -> bytes:
    at = place(rng, octets, rb"(?<![\r\n])[!-9;-~](?=[!-~])")
    return octets[:at] + (b"x" if octets[at : at + 1] != b"x" else b"y") + octets[at + 1 :]


def respace(rng: random.Random, octets: bytes) -> bytes:
    at = place(rng, octets, rb"(?<=[!-~]) (?=[!-~])")
    return octets[:at] + rng.choice((b"  ", b"\t", b"")) + octets[at + 1 :] if at else octets


def refold(rng: random.Random, octets: bytes) -> bytes:
    at = place(rng, octets[: head_end(octets)], rb"(?<=[!-~]) (?=[!-~])")
    return octets[:at] + b"\r\n" + octets[at:] if at else octets


def unfold(rng: random.Random, octets: bytes) -> bytes:
    at = place(rng, octets[: head_end(octets)], rb"\r\n[ \t]")
    return octets[:at] + octets[at + 2 :] if at else octets


def insert_field(rng: random.Random, octets: bytes) -> bytes:
    at = rng.choice(starts(octets))
    return octets[:at] + field(rng, rng.choice(NAMES)) + octets[at:]


def repeat_field(rng: random.Random, octets: bytes) -> bytes:
    places = starts(octets)
    number = rng.randrange(len(places) - 1)
    at = rng.choice(places)
    return octets[:at] + octets[places[number] : places[number + 1]] + octets[at:]


def drop_field(rng: random.Random, octets: bytes) -> bytes:
    places = starts(octets)
    number = rng.randrange(len(places) - 1)
    return octets[: places[number]] + octets[places[number + 1] :]


def swap_fields(rng: random.Random, octets: bytes) -> bytes:
    places = starts(octets)
    if len(places) < 3:
        return octets
    number = rng.randrange(len(places) - 2)
    a, b, c = places[number : number + 3]
    return octets[:a] + octets[b:c] + octets[a:b] + octets[c:]


def recase_name(rng: random.Random, octets: bytes) -> bytes:
    places = starts(octets)
    at = places[rng.randrange(len(places) - 1)]
    colon = octets.index(b":", at)
    return octets[:at] + octets[at:colon].swapcase() + octets[colon:]


def append(rng: random.Random, octets: bytes) -> bytes:
    return octets + rng.choice((b"\r\n", b"\r\n\r\n", b" \r\n", b"more\r\n", b"\t \r\n\r\n"))


def cut(rng: random.Random, octets: bytes) -> bytes:
    lines = octets[head_end(octets) :].split(b"\r\n")
    return octets[: head_end(octets)] + b"\r\n".join(lines[: -rng.randrange(1, 3)]) + b"\r\n"


def retag(rng: random.Random, octets: bytes) -> bytes:
    """Something else in the signature."""
    before, after = rng.choice(
        (
            (b"v=1", b"v=2"),
            (b"c=relaxed/", b"c=simple/"),
            (b"/relaxed;", b"/simple;"),
            (b"d=example.org", b"d=example.com"),
            (b"d=example.org", b"d=EXAMPLE.org"),
            (b"s=rsa", b"s=ed25519"),
            (b"a=rsa-sha256", b"a=ed25519-sha256"),
            (b"; t=", b"; l=0; t="),
            (b"; t=", b"; q=dns/txt; t="),
            (b"; bh=", b"; d=example.org; bh="),
            (b"i=@", b"i=ann@"),
            (b"i=ann@post.example.org", b"i=ann@example.com"),
            (b"h=from:", b"h="),
            (b"; b=", b";\r\n b="),
            (b"; b=", b"; b=\r\n "),
        )
    )
    return octets.replace(before, after, 1)


def nothing(_rng: random.Random, octets: bytes) -> bytes:
    return octets


CHANGES: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    *(nothing, flip, respace, refold, unfold, insert_field, repeat_field, drop_field),
    *(swap_fields, recase_name, append, cut, retag),
)
