"""No message and no zone makes DKIM raise, and what it says can be shown to people."""

import contextlib
import os

from hypothesis import given, settings
from hypothesis import strategies as st
from mailauth.dkim.signed import NOW, hash_body, judge, key, sign, zone

from elemta.mailauth.dkim import DkimSettings, SignSettings, Verifier
from elemta.mailauth.keys import KeyRecordError, PublicKey, parse_key_record
from elemta.mailauth.tags import TagError, parse_tags
from elemta.testing import FakeResolver

EXAMPLES = int(os.environ.get("ELEMTA_FUZZ_EXAMPLES", "200"))
ED25519 = key("ed25519")
ZONE = zone(ED25519)
RECORD = ED25519.key.record().encode()
TAGS = (
    *(
        b"v=1",
        b"a=ed25519-sha256",
        b"a=rsa-sha256",
        b"a=rsa-sha1",
        b"d=example.org",
        b"d=b\xc3\xbc.x",
    ),
    *(b"s=ed25519", b"h=from", b"h=from:to", b"bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="),
    *(b"b=AAAA", b"b=", b"l=0", b"l=1", b"t=1", b"x=1", b"i=@example.org", b"i=", b"q=dns/txt"),
    *(b"c=relaxed/relaxed", b"c=simple", b"c=/", b"v=DKIM1", b"k=rsa", b"k=ed25519", b"h=sha256"),
    *(b"p=", b"p=AAAA", RECORD.partition(b"; p")[2], b"t=y:s", b"s=*", b"g="),
)
crumbs = st.sampled_from(TAGS) | st.sampled_from(
    (
        b"; ",
        b";",
        b"=",
        b":",
        b" ",
        b"\t",
        b"\r\n ",
        b"\r\n",
        b"\r",
        b"\n",
        b"\0",
        b"\xff",
        b"\xe2\x80\xae",
    )
)
texts = st.lists(crumbs, max_size=16).map(b"".join) | st.lists(
    st.sampled_from(TAGS), max_size=14, unique=True
).map(b"; ".join)
lines = st.sampled_from(
    (b"From: x", b"From : y", b"To:", b"Subject: \xff", b"garbage", b" more", b"")
)


@settings(max_examples=EXAMPLES)
@given(texts)
def test_tags_and_keys(text):
    with contextlib.suppress(TagError):
        parse_tags(text)
    with contextlib.suppress(KeyRecordError):
        assert isinstance(parse_key_record(text), PublicKey)


@settings(max_examples=EXAMPLES)
@given(st.lists(texts, max_size=3), st.lists(lines, max_size=4), st.lists(texts, max_size=2))
async def test_messages(signatures, head, records):
    fields = b"".join(b"DKIM-Signature: " + text + b"\r\n" for text in signatures)
    message = fields + b"\r\n".join(head)
    resolver = FakeResolver({"ed25519._domainkey.example.org": {"TXT": records}})
    steps: list[str] = []
    verifier = Verifier(message, DkimSettings(), NOW)
    digests, sizes = hash_body(b"", verifier.specs)
    verdicts = await verifier.judge(digests, sizes, resolver, steps)
    assert verdicts
    for verdict in verdicts:
        assert verdict.status != "pass"
        for text in (verdict.domain, verdict.selector, verdict.identity, verdict.tag):
            assert text.isprintable()
            assert not set(" \r\n") & set(text)
        assert (verdict.algorithm + verdict.problem).isprintable()
    assert all(step.isprintable() for step in steps)


@settings(max_examples=EXAMPLES)
@given(
    st.binary(max_size=80) | st.lists(lines, max_size=6).map(b"\r\n".join),
    st.binary(max_size=40),
    st.sampled_from(("simple/simple", "relaxed/relaxed")),
)
async def test_whatever_is_signed_verifies(head, body, canonicalization):
    section = b"From: x\r\n" + head.replace(b"\r\n\r\n", b"\r\n").strip(b"\r\n") + b"\r\n\r\n"
    signing = SignSettings(canonicalization=canonicalization)
    (verdict,) = await judge(sign(section + body, ED25519, settings=signing), ZONE)
    assert verdict.status == "pass"
