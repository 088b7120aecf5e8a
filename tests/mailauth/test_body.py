"""Bodies, hashed in one pass however they are cut."""

import hashlib
import os
import tracemalloc

import pytest
from dkim.canonicalization import Relaxed, Simple
from hypothesis import example, given, settings
from hypothesis import strategies as st

from elemta.mailauth import BodySpec
from elemta.mailauth.body import BodyHasher

EXAMPLES = int(os.environ.get("ELEMTA_FUZZ_EXAMPLES", "300"))
SIMPLE, RELAXED = BodySpec("simple"), BodySpec("relaxed")
crumbs = st.sampled_from([b"a", b" ", b"  ", b"\t", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\xff"])
bodies = st.lists(crumbs, max_size=14).map(b"".join)


def hash_pieces(pieces, *specs):
    hasher = BodyHasher(specs)
    for piece in pieces:
        hasher.update(piece)
    return hasher.finish(), hasher.sizes


def sha256(octets):
    return hashlib.sha256(octets).digest()


@pytest.mark.parametrize(
    ("body", "simple", "relaxed"),
    [
        (b"", b"\r\n", b""),
        (b"\r\n", b"\r\n", b""),
        (b"\r\n\r\n\r\n", b"\r\n", b""),
        (b" \t\r\n\r\n", b" \t\r\n", b""),
        (b" C \r\nD \t E\r\n\r\n\r\n", b" C \r\nD \t E\r\n", b" C\r\nD E\r\n"),  # RFC 6376 §3.4.5
        (b"no end", b"no end\r\n", b"no end\r\n"),
        (b"no end \t", b"no end \t\r\n", b"no end\r\n"),
        (b"bare\r", b"bare\r\r\n", b"bare\r\r\n"),
        (b"bare \r \n\r\n", b"bare \r \n\r\n", b"bare \r \n\r\n"),
        (b"a\r\n\r\n \r\nb\r\n\r", b"a\r\n\r\n \r\nb\r\n\r\r\n", b"a\r\n\r\n\r\nb\r\n\r\r\n"),
        (b"\r\n\r\na", b"\r\n\r\na\r\n", b"\r\n\r\na\r\n"),
    ],
)
def test_forms(body, simple, relaxed):
    digests, sizes = hash_pieces([body], SIMPLE, RELAXED)
    assert digests == {SIMPLE: sha256(simple), RELAXED: sha256(relaxed)}
    assert sizes == {SIMPLE: len(simple), RELAXED: len(relaxed)}


def test_lengths():
    specs = [BodySpec("relaxed", length) for length in (0, 3, 7, 8, 10**70)]
    digests, sizes = hash_pieces([b"a  b", b"c \r\n", b"de"], *specs, RELAXED)
    body = b"a bc\r\nde\r\n"
    assert [digests[spec] for spec in specs] == [
        sha256(body[: spec.length or 0]) if spec.length != 10**70 else sha256(body)
        for spec in specs
    ]
    assert set(sizes.values()) == {len(body)}


@settings(max_examples=EXAMPLES)
@given(bodies, st.lists(st.integers(1, 4), min_size=1, max_size=6))
@example(b"a \r\n \r\n\r\nb", [1])
def test_any_cut_gives_the_same(body, cuts):
    pieces = []
    at = 0
    while at < len(body):
        size = cuts[len(pieces) % len(cuts)]
        pieces.append(body[at : at + size])
        at += size
    short = [BodySpec(form, length) for form in ("simple", "relaxed") for length in (0, 2, 5)]
    specs = [SIMPLE, RELAXED, *short]
    assert hash_pieces(pieces, *specs) == hash_pieces([body], *specs)
    # dkimpy keeps space at the end of a last line that has no end
    whole = body if body.endswith(b"\r\n") else body.rstrip(b" \t")
    assert hash_pieces([body], SIMPLE, RELAXED)[0] == {
        SIMPLE: sha256(Simple.canonicalize_body(body)),
        RELAXED: sha256(Relaxed.canonicalize_body(whole)),
    }


@pytest.mark.parametrize("line", [b"x" * 998 + b"\r\n", b"\r\n", b" " * 998 + b"\r\n", b" ", b"\r"])
def test_a_large_body_takes_no_memory(line):
    piece = (line * (65536 // len(line)))[:65536]
    hasher = BodyHasher([SIMPLE, RELAXED])
    tracemalloc.start()
    try:
        for _ in range(25 * 16):
            hasher.update(piece)
        hasher.update(b"end")
        hasher.finish()
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert hasher.sizes[SIMPLE] == 25 * 16 * len(piece) + len(b"end\r\n")


@pytest.mark.parametrize("spec", [BodySpec("nowsp"), BodySpec("simple", algorithm="sha1")])
def test_what_cannot_be_hashed(spec):
    with pytest.raises(ValueError, match="no such hash"):
        BodyHasher([spec])
