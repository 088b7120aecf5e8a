"""Whatever a client sends, in whatever pieces: no exception, and the pieces do not matter."""

import os
from itertools import pairwise

from dialogues.transcript import split_replies
from hypothesis import given, settings
from hypothesis import strategies as st
from smtp.bare_session import BareSession

from elemta.smtp import Limits
from elemta.smtp.commands import SYNC

EXAMPLES = int(os.environ.get("ELEMTA_FUZZ_EXAMPLES", "200"))
SMALL = {"max_message_size": 60, "max_line": 30, "max_command": 60, "max_buffer": 200}

VERBS = (
    b"EHLO a.test\r\n|HELO a\r\n|LHLO a\r\n|EHLO\r\n|NOOP\r\n|RSET\r\n|HELP x\r\n|VRFY a\r\n"
    b"|EXPN b\r\n|QUIT\r\n|STARTTLS\r\n|AUTH x\r\n|FOO\r\n|GET / HTTP/1.1\r\n|\r\n|\x16\x03\x01"
    b"|MAIL FROM:<>\r\n|MAIL FROM:<a@b.test> SIZE=9 BODY=8BITMIME SMTPUTF8\r\n"
    b"|MAIL FROM:<@a,@b:x@y> SIZE=99\r\n|MAIL FROM:<\xc3\xbc@b.test>\r\n|MAIL \r\n"
    b"|RCPT TO:<user@example.test>\r\n|RCPT TO:<user@other.test>\r\n|RCPT TO:<Postmaster>\r\n"
    b"|RCPT TO:<\xc3\xbc@example.test>\r\n|RCPT TO:<\xff@example.test>\r\n"
    b"|BDAT 0\r\n|BDAT 3\r\n|BDAT 20\r\n|BDAT 70 LAST\r\n|BDAT 5 LAST\r\n|BDAT 0 LAST\r\n"
    b"|BDAT 999\r\n|BDAT x\r\n|DATA\r\n|DATA x\r\n"
).split(b"|")
CRUMBS = [b"\r\n", b"\r\n.\r\n", b".", b"\n", b"\r", b"\0", b"\xff", b"x" * 25, b"x" * 80, b" "]
OPENING = b"RSET\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<user@example.test>\r\n"
fragments = st.one_of(
    st.sampled_from(VERBS),
    st.sampled_from(CRUMBS),
    st.sampled_from([OPENING, OPENING + b"DATA\r\n", OPENING + b"BDAT 5\r\n"]),
    st.binary(max_size=8),
)
streams = st.lists(fragments, max_size=25).map(lambda parts: b"EHLO a.test\r\n" + b"".join(parts))
cuts = st.lists(st.integers(0, 1500), max_size=20).map(sorted)
dialects = st.tuples(st.booleans(), st.sampled_from(["reject", "normalise"]))


def run(session: BareSession, stream: bytes, places: list[int]) -> BareSession:
    if session.lmtp:
        stream = stream.replace(b"EHLO", b"LHLO")
    bounds = [0, *(min(place, len(stream)) for place in places), len(stream)]
    for start, end in pairwise(bounds):
        if not session.closed:
            session.feed(stream[start:end])
    return session


@settings(max_examples=EXAMPLES)
@given(streams, cuts, dialects)
def test_pieces_do_not_matter(stream, places, dialect):
    lmtp, newlines = dialect
    limits = Limits(**SMALL, strict_sync=False, bare_newlines=newlines)
    whole = run(BareSession(limits, lmtp=lmtp), stream, [])
    parts = run(BareSession(limits, lmtp=lmtp), stream, places)
    single = run(BareSession(limits, lmtp=lmtp), stream, list(range(len(stream))))
    for session in (parts, single):
        if whole.trace[-1:] == [SYNC]:  # more had come behind a refused DATA: a matter of time
            sure = len(whole.trace) - 1
            assert session.trace[:sure] == whole.trace[:sure]
        else:
            assert session.trace == whole.trace
            assert session.output == whole.output
            assert session.messages == whole.messages
            assert session.closed == whole.closed


@settings(max_examples=EXAMPLES)
@given(streams | st.binary(max_size=400), cuts, dialects)
def test_strict_sessions_stand_anything(stream, places, dialect):
    lmtp, newlines = dialect
    limits = Limits(**SMALL, bare_newlines=newlines)
    session = run(BareSession(limits, lmtp=lmtp), stream, places)
    replies, rest = split_replies(session.output)
    assert rest == b""
    assert all(reply[:1] in b"245" or reply[:3] == b"354" for reply in replies)
    for message in session.messages:
        assert message.recipients
        assert len(message.content) <= SMALL["max_message_size"]
        assert b"\0" not in message.content
        assert {13, 10}.isdisjoint(message.content.replace(b"\r\n", b""))
