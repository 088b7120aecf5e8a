"""Whatever a peer sends, in whatever pieces, the client machine reads the same or refuses."""

import os
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from elemta.mail.errors import LocalProtocolError, RemoteProtocolError
from elemta.mail.reply import Reply, clean_text
from elemta.smtp.client import ClientMachine

EXAMPLES = int(os.environ.get("ELEMTA_FUZZ_EXAMPLES", "200"))

texts = st.one_of(
    st.binary(max_size=30),
    st.sampled_from([b"2.0.0 ok", b"5.1.1 no", b"SIZE 10", b"ok", b"", b"4.2.2", b"\xe2\x80\xa8"]),
)
lines = st.builds(
    lambda code, mark, text, end: code + mark + text + end,
    st.sampled_from([b"250", b"354", b"421", b"550", b"220", b"199", b"2x0", b"600", b""]),
    st.sampled_from([b" ", b"-", b"", b"\t"]),
    texts,
    st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b""]),
)
streams = st.one_of(st.lists(lines, max_size=12).map(b"".join), st.binary(max_size=200))
cuts = st.lists(st.integers(0, 200), max_size=12).map(sorted)


def pieces(data: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *(min(place, len(data)) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(bounds)]


def read_all(parts: list[bytes]) -> tuple[list[Reply], str]:
    """All replies of a stream to six commands, and how reading ended."""
    machine = ClientMachine()
    for _ in range(5):
        machine.reset()
    replies: list[Reply] = []
    try:
        for part in parts:
            machine.receive(part)
            while (reply := machine.next_reply()) is not None:
                replies.append(reply)
    except RemoteProtocolError as error:
        return replies, str(error)
    return replies, ""


@settings(max_examples=EXAMPLES)
@given(streams, cuts)
def test_splits_do_not_matter(data: bytes, places: list[int]) -> None:
    whole = read_all([data])
    assert read_all(pieces(data, places)) == whole
    assert read_all([data[i : i + 1] for i in range(len(data))]) == whole


@settings(max_examples=EXAMPLES)
@given(streams)
def test_replies_are_fit_to_show(data: bytes) -> None:
    replies, problem = read_all([data])
    for reply in replies:
        assert 200 <= reply.code <= 599
        assert reply.enhanced is None or int(reply.enhanced[0]) == reply.code // 100
        for line in reply.text.split("\n"):
            assert clean_text(line, 100_000) == line
        assert b"\r\n" not in str(reply).encode()
    assert clean_text(problem, 100_000) == problem


@settings(max_examples=EXAMPLES)
@given(
    st.lists(st.sampled_from([b"a", b".", b"\r\n", b"\r", b"\n", b"\0", b"\r\n.", b"xy"])).map(
        b"".join
    ),
    cuts,
)
def test_content_can_be_read_back(content: bytes, places: list[int]) -> None:
    """What leaves the machine ends at its own dot and nowhere else, or nothing ends it."""
    machine = ClientMachine()
    machine.mail(None, size=0)
    machine.data()
    machine.receive(b"220 hi\r\n250 ok\r\n354 go\r\n")
    for _ in range(3):
        assert machine.next_reply() is not None
    clean = content.replace(b"\r\n", b"")
    is_fit = not (b"\r" in clean or b"\n" in clean or b"\0" in clean)
    try:
        wire = b"".join([machine.content(part) for part in pieces(content, places)])
        wire += machine.end()
    except LocalProtocolError:
        assert not is_fit
        return
    assert is_fit
    start = b"\r\n" + wire
    assert start.index(b"\r\n.\r\n") + 5 == len(start)
    unstuffed = start[:-3].replace(b"\r\n..", b"\r\n.")[2:]
    assert unstuffed in (content, content + b"\r\n")
