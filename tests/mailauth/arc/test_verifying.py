"""Chains are judged by each rule of RFC 8617 §5.2, at a bounded cost, and no input raises."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mailauth.arc.chains import (
    ED25519,
    MESSAGE,
    NOW,
    RSA,
    ZONE,
    A,
    B,
    C,
    Server,
    judge,
    pass_on,
    seal,
    seal_for,
)

from elemta.mailauth import ArcVerdict, AuthStatus, BodySpec
from elemta.mailauth.arc import ArcSettings, ChainVerifier, SealSettings
from elemta.mailauth.arc.sets import MAX_FIELD
from elemta.mailauth.fields import Fields
from elemta.mailauth.keys import PrivateKey
from elemta.testing import FakeResolver

NONE = ArcVerdict(AuthStatus.NONE)


async def test_no_chain():
    steps = []
    resolver = FakeResolver({})
    assert await judge(MESSAGE, resolver, steps=steps) == NONE
    assert steps == ["ARC: no chain"]
    assert resolver.questions == []
    assert ChainVerifier(Fields(MESSAGE), ArcSettings(), NOW).specs == ()


async def test_a_chain_that_passes():
    raw = await pass_on(MESSAGE, A, B, C)
    steps = []
    assert await judge(raw, steps=steps) == ArcVerdict(
        AuthStatus.PASS,
        3,
        ("a.example", "b.example", "c.example"),
        0,
        dmarc_passed="author.example",
    )
    assert steps == [
        "ARC set 1: d=a.example s=s a=rsa-sha256 cv=none",
        "ARC set 2: d=b.example s=s a=ed25519-sha256 cv=pass",
        "ARC set 3: d=c.example s=s a=rsa-sha256 cv=pass",
        "ARC: never changed",
        "ARC: pass",
    ]


async def test_one_pass_over_the_fields_for_all_checks():
    raw = await pass_on(MESSAGE, A)
    section = raw[: raw.index(b"\r\n\r\n") + 4]
    by_bytes = ChainVerifier(section, ArcSettings(), NOW)
    assert ChainVerifier(Fields(section), ArcSettings(), NOW).specs == by_bytes.specs
    assert by_bytes.specs == (BodySpec("relaxed"),)


@pytest.mark.parametrize(
    ("says", "passed"),
    [
        ("mx.example.org; spf=pass; dmarc=pass (p=none) header.from=A.Example", "a.example"),
        ("mx.example.org; dmarc=pass header.from=bücher.example", "xn--bcher-kva.example"),
        ("mx.example.org; dmarc=fail header.from=a.example", ""),
        ("mx.example.org; dmarc=pass", ""),
        ("mx.example.org; dmarc=pass header.from=a@b", ""),
        ("mx.example.org; none", ""),
        ("not results", ""),
    ],
)
async def test_what_the_first_server_says_of_the_author(says, passed):
    raw = await pass_on(MESSAGE, Server("a.example", says=says), B)
    assert (await judge(raw)).dmarc_passed == passed
    # only the first one has seen the message as its author's server sent it
    raw = await pass_on(
        MESSAGE, Server("a.example", says="x; none"), Server("b.example", ED25519, says)
    )
    assert (await judge(raw)).dmarc_passed == ""


async def test_oldest_pass():
    """RFC 8617 §5.2, step 5."""
    changed = (await pass_on(MESSAGE, A)).replace(b"Subject: A", b"Subject: [list] A")
    assert (await judge(changed)).status is AuthStatus.FAIL
    # B does not look, or trusts A for other reasons: the chain is whole by its seals
    raw = seal(changed, B, ArcVerdict(AuthStatus.PASS, 1))
    assert (await judge(raw)).oldest_pass == 2
    raw = await pass_on(raw, C)
    verdict = await judge(raw)
    assert (verdict.status, verdict.oldest_pass) == (AuthStatus.PASS, 2)
    raw = seal(raw.replace(b"Hello", b"HELLO"), A, verdict)
    assert (await judge(raw)).oldest_pass == 4


@pytest.mark.parametrize("index", range(3))
@pytest.mark.parametrize(
    "kind", [b"ARC-Seal", b"ARC-Message-Signature", b"ARC-Authentication-Results"]
)
async def test_a_flipped_octet_of_any_set_breaks_the_chain(kind, index):
    raw = await pass_on(MESSAGE, A, B, C)
    starts = [found.start() for found in re.finditer(rb"(?m)^" + kind + b":", raw)]
    end = raw.index(b"\r\n", starts[index] + len(kind) + 40)
    while raw[end + 2 : end + 3] in (b" ", b"\t"):
        end = raw.index(b"\r\n", end + 2)
    at = end - 4
    flipped = raw[:at] + (b"A" if raw[at : at + 1] != b"A" else b"B") + raw[at + 1 :]
    verdict = await judge(flipped)
    assert verdict.status is AuthStatus.FAIL, flipped[starts[index] : end]
    assert verdict.instances == 3


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Hello  there", b"Hello  where"),
        (b"Subject: A", b"Subject: B"),
        (b"From: Ann", b"From: Eve <eve@other.example>\r\nFrom: Ann"),
        (b"To: list", b"To: list, you"),
        (b"Received: from a", b"Reply-To: eve@other.example\r\nReceived: from a"),
        (b"d=author.example", b"d=other.example"),  # DKIM-Signature is signed
    ],
)
async def test_a_changed_message(old, new):
    raw = await pass_on(MESSAGE, A)
    assert (await judge(raw.replace(old, new, 1))).status is AuthStatus.FAIL


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Hello  there.\r\n", b"Hello \t there.  \r\n\r\n\r\n"),  # relaxed form of the body
        (b"Subject: A   folded\r\n\t subject", b"SUBJECT:A folded subject "),
        (b"Received: from a", b"Received: from c\r\nReceived: from a"),
        (b"Received: from a", b"Authentication-Results: x; none\r\nReceived: from a"),
    ],
)
async def test_what_may_change(old, new):
    raw = await pass_on(MESSAGE, A)
    assert old in raw
    assert (await judge(raw.replace(old, new, 1))).status is AuthStatus.PASS


SETS = rb"(?ms)^ARC-Seal: i=%d;.*?(?=^ARC-Seal|^DKIM)"


async def test_broken_structures():
    raw = await pass_on(MESSAGE, A, B, C)
    sets = {number: re.search(SETS % number, raw)[0] for number in (1, 2, 3)}
    rest = raw[raw.index(b"\r\nDKIM-Signature") + 2 :]
    assert (await judge(sets[3] + sets[2] + sets[1] + rest)).status is AuthStatus.PASS
    assert (await judge(sets[1] + sets[3] + sets[2] + rest)).status is AuthStatus.PASS
    for kept in ([2, 3], [1, 3], [3], [2], [1, 1], [1, 2, 2, 3], [1, 2, 3, 3]):
        verdict = await judge(b"".join(sets[number] for number in kept) + rest)
        assert verdict.status is AuthStatus.FAIL, kept
    # the end of a chain may go, if what is left is as it was signed: nobody can tell
    assert (await judge(sets[1] + rest)).status is AuthStatus.PASS
    assert (await judge(sets[1] + sets[2] + rest)).instances == 2


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (b"cv=none", b"cv=pass", "AS 1: cv=pass"),
        (b"cv=none", b"cv=fail", "a server before has found that it failed (cv=fail)"),
        (b"cv=none", b"cv=other", "AS 1: cv= is not known"),
        (b"cv=none; ", b"", "AS 1: cv= is missing"),
        (b"ARC-Seal: i=1", b"ARC-Seal: i=0", "AS: no number (i=)"),
        (b"ARC-Seal: i=1", b"ARC-Seal: i=51", "there is not one AS of each number"),
        (b"ARC-Seal: i=1", b"ARC-Seal: i=1; h=from", "AS 1: h= is not allowed"),
        (b"ARC-Seal: i=1", b"ARC-Seal: i=1; i=1", "AS: the tag i= stands twice"),
        (b"ARC-Seal: i=1", b"X: ", "there is not one AS of each number"),
        (b"-Results: i=1", b"-Results: i=2", "there is not one AAR of each number"),
        (b"-Results: i=1", b"-Results: (\xff) i=1", "AAR: not UTF-8"),
        (b"-Results: i=1", b"-Results: x; i=1", "AAR: no number (i=)"),
        (b"-Results: i=1;", b"-Results: i=1;" + b"x" * MAX_FIELD, "a field AAR is too long"),
        (b"Signature: i=1", b"Signature: i=2", "there is not one AMS of each number"),
        (b"Signature: i=1", b"Signature: j=1", "AMS: no number (i=)"),
        (b"h=From", b"h=ARC-Seal:From", "AMS 1: it signs seals"),
        (b"h=From", b"h=Frm", "AMS 1: a From field is not signed"),
        (b"Signature: i=1", b"Signature: i=1; l=3", "AMS 1: not the whole body is signed (l=)"),
        (b"Signature: i=1", b"Signature: i=1; x=1y", "AMS 1: x= is not a time"),
        (b"c=relaxed/relaxed", b"c=other", "AMS 1: the canonical form (c=) is not known"),
        (b"a=rsa-sha256", b"a=rsa-sha1", "AMS 1: the algorithm (a=) is not known"),
        (b"a=rsa-sha256", b"a=ed25519-sha256", "AMS 1: the key is of another algorithm"),
    ],
)  # fmt: skip
async def test_problems(old, new, problem):
    raw = await pass_on(MESSAGE, Server("a.example", settings=SealSettings(oversigned=())))
    assert old in raw
    verdict = await judge(raw.replace(old, new))
    assert (verdict.status, verdict.problem) == (AuthStatus.FAIL, problem)


async def test_comments_before_the_number_of_results():
    """RFC 8617 §4.2.1 has CFWS there; the seal is over the field as it is written."""
    raw = await pass_on(MESSAGE, A)
    verdict = await judge(raw.replace(b"-Results: i=1", b"-Results: (a (b)) i (c) =\r\n 1"))
    assert verdict.problem == "AS 1: the seal is wrong"
    assert verdict.sealers == ("a.example",)


async def test_a_version_is_ignored():
    """RFC 8617 §4.1.2."""
    raw = (await pass_on(MESSAGE, A)).replace(b"Signature: i=1", b"Signature: v=9; i=1")
    assert (await judge(raw)).problem == "AMS 1: the signature is wrong"


@pytest.mark.parametrize(
    ("key", "settings", "problem"),
    [
        ({"TXT": ["v=DKIM1; p="]}, {}, "AMS 1: the key is revoked"),
        ({"TXT": []}, {}, "AMS 1: there is no key"),
        ({"TXT": [PrivateKey.generate("rsa", 1024).record()]}, {}, "AMS 1: the signature is wrong"),
        ({"TXT": [RSA.record()]}, {"min_key_bits": 2048}, "AMS 1: the key is too short"),
        ({"TXT": [RSA.record()]}, {"max_key_bits": 512}, "AMS 1: the key is too long"),
        ({"TXT": [RSA.record()]}, {"max_keys": 0}, "AMS 1: too many keys to ask for"),
    ],
)
async def test_keys(key, settings, problem):
    raw = await pass_on(MESSAGE, A)
    verdict = await judge(raw, {"s._domainkey.a.example": key}, **settings)
    assert (verdict.status, verdict.problem) == (AuthStatus.FAIL, problem)


async def test_a_failed_look_up_is_told_apart():
    raw = await pass_on(MESSAGE, A, B)
    verdict = await judge(raw, {**ZONE, "s._domainkey.b.example": None})
    assert verdict.status is AuthStatus.TEMPERROR
    assert verdict.sealers == ("a.example", "b.example")
    assert (
        await judge(raw, {**ZONE, "s._domainkey.a.example": None})
    ).status is AuthStatus.TEMPERROR
    # what is wrong for good is not asked about
    broken = raw.replace(b"Hello", b"HELLO")
    assert (await judge(broken, {"s._domainkey.b.example": None})).status is AuthStatus.FAIL


async def test_an_older_signature_that_cannot_be_judged_is_no_failure():
    raw = await pass_on(seal_for(C, MESSAGE), B)
    assert (await judge(raw)).oldest_pass == 0
    unknown = {**ZONE, "s._domainkey.c.example": None}
    verdict = await judge(raw, unknown)
    assert (verdict.status, verdict.oldest_pass) == (AuthStatus.PASS, 2)
    verdict = await judge(raw, max_keys=2)  # the seals got them
    assert (verdict.status, verdict.oldest_pass) == (AuthStatus.PASS, 2)
    unreadable = seal_for(C, MESSAGE, b"c=other")
    assert (await judge(seal(unreadable, B, ArcVerdict(AuthStatus.PASS, 1)))).oldest_pass == 2
    first = seal_for(C, MESSAGE)
    assert (await judge(first)).status is AuthStatus.PASS
    assert (await judge(first, unknown)).status is AuthStatus.TEMPERROR


async def test_seals_that_need_too_many_keys():
    raw = await pass_on(MESSAGE, A, B, C)
    assert (await judge(raw, max_keys=3)).status is AuthStatus.PASS
    verdict = await judge(raw, max_keys=2)
    assert (verdict.status, verdict.problem) == (AuthStatus.FAIL, "AS 1: too many keys to ask for")


async def test_fifty_sets_and_no_more():
    raw = MESSAGE
    for number in range(50):
        status = AuthStatus.PASS if number else AuthStatus.NONE
        raw = seal(raw, B, ArcVerdict(status, number))
    resolver = FakeResolver(ZONE)
    begun = time.process_time()
    verdict = await judge(raw, resolver)
    assert time.process_time() - begun < 1
    assert (verdict.status, verdict.instances, verdict.oldest_pass) == (AuthStatus.PASS, 50, 0)
    assert resolver.questions == [("s._domainkey.b.example", "TXT")]
    assert (await judge(raw, max_sets=49)).problem == "more than 49 sets"
    assert (await judge(raw, max_sets=99)).status is AuthStatus.PASS
    top = re.search(SETS % 50, raw)[0]
    assert (await judge(top.replace(b"i=50", b"i=51") + raw)).problem == "more than 50 sets"


async def test_a_thousand_sets_cost_nothing():
    raw = await pass_on(MESSAGE, A)
    one = re.search(SETS % 1, raw)[0]
    many = b"".join(one.replace(b"i=1", b"i=%d" % number) for number in range(2, 1001)) + raw
    resolver = FakeResolver(ZONE)
    begun = time.process_time()
    assert (await judge(many, resolver)).problem == "more than 50 sets"
    assert time.process_time() - begun < 0.25
    assert resolver.questions == []


async def test_limits_of_older_signatures_are_no_more_hashes_of_the_body():
    raw = await pass_on(MESSAGE, A)
    one = re.search(SETS % 1, raw)[0]
    older = b"".join(
        one.replace(b"i=1", b"i=%d" % number)
        .replace(b"cv=none", b"cv=pass")
        .replace(b"c=relaxed", b"l=%d; c=relaxed" % number)
        for number in range(2, 51)
    )
    section = (older + raw).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    specs = ChainVerifier(section, ArcSettings(), NOW).specs
    assert specs == (BodySpec("relaxed", 50), BodySpec("relaxed"))


async def test_no_work_for_a_chain_that_has_failed_before():
    """RFC 8617 §5.2, step 2."""
    raw = (await pass_on(MESSAGE, A)).replace(b"Hello", b"HELLO")
    raw = await pass_on(raw, B)
    assert b"cv=fail" in raw
    resolver = FakeResolver(ZONE)
    verdict = await judge(raw, resolver)
    assert (verdict.status, verdict.instances) == (AuthStatus.FAIL, 2)
    assert resolver.questions == []
    assert ChainVerifier(raw.partition(b"\r\n\r\n")[0], ArcSettings(), NOW).specs == ()


async def test_an_expired_signature():
    raw = await pass_on(MESSAGE, A)
    signed = raw.replace(b"c=relaxed", b"x=%d; c=relaxed" % (NOW + 60))
    assert (await judge(signed, now=NOW)).problem == "AMS 1: the signature is wrong"
    assert (await judge(signed, now=NOW + 300)).problem == "AMS 1: the signature is wrong"
    assert (await judge(signed, now=NOW + 361)).problem == "AMS 1: it has expired"


LIST = b"ARC-Seal|ARC-Message-Signature|ARC-Authentication-Results|:|; |i=|1|2|cv=|none|pass|fail"
MORE = b"a=rsa-sha256|d=a.example|s=s|b=YWFh|bh=|h=from|c=relaxed/relaxed|\r\n|\r\n |l=1|x=1|(|\xff"
crumbs = st.sampled_from((LIST + b"|" + MORE).split(b"|"))
FIELDS = [
    b"ARC-Seal: i=1; a=rsa-sha256; cv=none; d=a.example; s=s; b=YWFh",
    b"ARC-Message-Signature: i=1; a=rsa-sha256; d=a.example; s=s; h=from; b=YWFh;"
    b" bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
    b"ARC-Authentication-Results: i=1; a.example; none",
]


@given(
    st.lists(crumbs, max_size=25).map(b"".join) | st.binary(max_size=60),
    st.lists(st.sampled_from(FIELDS), max_size=4),
)
async def test_no_input_raises(section, fields):
    for raw in (section, b"\r\n".join([*fields, section]), b"\r\n".join([section, *fields])):
        verdict = await judge(raw)
        assert verdict.status in (AuthStatus.NONE, AuthStatus.FAIL)
        assert verdict.problem or verdict.status is AuthStatus.NONE
        seal(raw, A, verdict)
