"""Whatever stands where an end of data might be seen: one message at most, one transaction only.

Each variant is followed by a second transaction, and cut in two at every octet and into single
octets, by DATA, BDAT and LMTP, with bare newlines refused and mended.
"""

from collections.abc import Iterator

import pytest
from smtp.bare_session import BareSession

from elemta.mail import parse_address
from elemta.smtp import Limits, events

VARIANTS = [
    b"\n.\n",
    b"\n.\r",
    b"\r.\n",
    b"\r.\r",
    b"\n.\r\n",
    b"\r.\r\n",
    b"\r\n.\n",
    b"\r\n.\r",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\r\n.\r\r\n",
    b"\r\r\n.\r\r\n",
    b"\r\n.\n\r\n",
    b"\r\n.\n.\r\n",
    b"\r\n.\r.\r\n",
    b"\n\r\n.\n\r\n",
    b"\r\n. \r\n",
    b"\r\n..\r\n",
    b"\r\n .\r\n",
    b"\r\n.\x0b\r\n",
    b"\r\n.\x85\r\n",
    b"\r\n.\xe2\x80\xa8\r\n",
]
ENVELOPE = b"MAIL FROM:<first@client.test>\r\nRCPT TO:<user@example.test>\r\n"
SECOND = (
    b"MAIL FROM:<ceo@example.test>\r\nRCPT TO:<victim@example.test>\r\nDATA\r\n"
    b"Subject: smuggled\r\n\r\nsmuggled\r\n.\r\nQUIT\r\n"
)
NORMALISE = Limits(bare_newlines="normalise")
LENIENT = Limits(bare_newlines="normalise", strict_sync=False)


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """Every way to cut in two, and single octets."""
    yield [data]
    yield [data[at : at + 1] for at in range(len(data))]
    for at in range(1, len(data)):
        yield [data[:at], data[at:]]


def check(session: BareSession) -> None:
    mails = [event for event in session.trace if isinstance(event, events.Mail)]
    assert mails == [events.Mail(parse_address("first@client.test"))]
    assert len(session.messages) <= 1
    for message in session.messages:
        assert [str(address) for address in message.recipients] == ["user@example.test"]
        assert b"\nMAIL FROM:<ceo@example.test>\r\n" in message.content
        lines = message.content.split(b"\r\n")
        assert not any(b"\r" in line or b"\n" in line or 0 in line for line in lines)


def begin(limits: Limits, *, lmtp: bool) -> BareSession:
    session = BareSession(limits, lmtp=lmtp)
    session.feed(b"LHLO client.test\r\n" if lmtp else b"EHLO client.test\r\n")
    session.feed(ENVELOPE)
    return session


@pytest.mark.parametrize("lmtp", [False, True], ids=["smtp", "lmtp"])
@pytest.mark.parametrize("limits", [Limits(), NORMALISE, LENIENT], ids=["reject", "mend", "lax"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_by_data(variant, limits, lmtp):
    stream = b"Subject: x\r\n\r\ntext" + variant + SECOND
    outcomes = set()
    for pieces in cuts(stream):
        session = begin(limits, lmtp=lmtp)
        session.feed(b"DATA\r\n")
        for piece in pieces:
            if not session.closed:
                session.feed(piece)
        check(session)
        outcomes.add((session.output, session.closed, len(session.messages)))
        if limits.bare_newlines == "reject" and b"\0" not in variant:
            stray = variant.replace(b"\r\n", b"")
            refused = b"\r" in stray or b"\n" in stray
            assert session.closed
            assert len(session.messages) == (0 if refused else 1)
            assert (b"554 5.6.0" in session.output) == refused
    assert len(outcomes) == 1


@pytest.mark.parametrize("lmtp", [False, True], ids=["smtp", "lmtp"])
@pytest.mark.parametrize("limits", [Limits(), NORMALISE], ids=["reject", "mend"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_by_one_chunk(variant, limits, lmtp):
    content = b"Subject: x\r\n\r\ntext" + variant + SECOND
    stream = b"BDAT %d LAST\r\n" % len(content) + content + b"NOOP\r\n"
    outcomes = set()
    for pieces in cuts(stream):
        session = begin(limits, lmtp=lmtp)
        for piece in pieces:
            if not session.closed:
                session.feed(piece)
        check(session)
        outcomes.add((session.output, session.closed, len(session.messages)))
        if limits.bare_newlines == "reject":
            stray = variant.replace(b"\r\n", b"")
            refused = any(octet in stray for octet in b"\r\n\0")
            assert session.closed == refused
            assert [message.content for message in session.messages] == [content][refused:]
    assert len(outcomes) == 1


@pytest.mark.parametrize("limits", [Limits(), NORMALISE], ids=["reject", "mend"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_across_chunks(variant, limits):
    content = b"Subject: x\r\n\r\ntext" + variant + SECOND
    outcomes = set()
    for at in range(len(content) + 1):
        session = begin(limits, lmtp=False)
        session.feed(
            b"BDAT %d\r\n%bBDAT %d LAST\r\n%b" % (at, content[:at], len(content) - at, content[at:])
        )
        check(session)
        if not session.messages:
            assert b"554 5.6.0" in session.output
        outcomes.add(tuple(message.content for message in session.messages))
    assert len(outcomes) == 1


def test_the_true_end_is_seen_however_it_is_cut():
    stream = b"Subject: x\r\n\r\ntext\r\n.\r\n" + b"MAIL FROM:<>\r\n"
    for pieces in cuts(stream):
        session = begin(Limits(), lmtp=False)
        session.feed(b"DATA\r\n")
        for piece in pieces:
            session.feed(piece)
        assert [message.content for message in session.messages] == [b"Subject: x\r\n\r\ntext\r\n"]
        assert session.trace[-1] == events.Mail(None)
