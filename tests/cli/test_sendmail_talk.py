"""What `sendmail -bs` says to the server, and when."""

import pytest

from elemta.cli.sendmail_talk import PIECE, Turns

ENVELOPE = ["EHLO me", "MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA"]
CONTENT = ["Subject: x", "", "hello", "..", "."]
REPLIES = [
    "220 hi",
    "250-me",
    "250 PIPELINING",
    "250 ok",
    "250 ok",
    "354 go on",
    "250 ok",
    "221 bye",
]


def talk(given: bytes, step: int = 10**9) -> tuple[list[bytes], Turns]:
    """Say everything at once, in pieces; what the server hears before each reply."""
    turns, heard = Turns(), []
    for at in range(0, len(given), step):
        turns.take(given[at : at + step])
        assert turns.release() == b""  # the banner has not come
    turns.take(b"")
    for reply in REPLIES:
        turns.hear(f"{reply}\r\n".encode())
        heard.append(turns.release())
    return heard, turns


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("step", [1, 7, 10**9])
def test_each_command_waits_for_the_reply_to_the_one_before(end, step):
    given = end.join([*ENVELOPE, *CONTENT, "QUIT", ""]).encode()
    heard, turns = talk(given, step)
    lines = [f"{line}\r\n".encode() for line in ENVELOPE]
    content = "".join(f"{line}\r\n" for line in CONTENT).encode()
    assert heard == [lines[0], b"", *lines[1:], content, b"QUIT\r\n", b""]
    assert turns.is_done


@pytest.mark.parametrize("smuggled", [b"\n.\nQUIT\r\n", b"\n.\r\nQUIT\r\n", b"\r.\r\nQUIT\r\n"])
def test_who_speaks_as_the_rfc_says_is_taken_at_his_word(smuggled):
    start = "\r\n".join([*ENVELOPE, "Subject: x", "", ""]).encode()
    heard, turns = talk(start + b"hello" + smuggled + b".\r\n")
    assert heard[5] == b"Subject: x\r\n\r\nhello" + smuggled + b".\r\n"
    assert turns.is_done


def test_chunks_are_octets():
    given = (
        b"EHLO me\nMAIL FROM:<a@b.test>\nRCPT TO:<c@d.test>\nBDAT 7 LAST\n\n.\n\r\nxyBDAT 0 LAST\n"
    )
    heard, _ = talk(given)
    assert heard[4] == b"BDAT 7 LAST\r\n\n.\n\r\nxy"
    assert heard[5] == b"BDAT 0 LAST\r\n"


def test_data_that_is_refused_has_no_content():
    turns = Turns()
    turns.take(b"DATA\nRSET\n")
    turns.hear(b"220 hi\r\n")
    assert turns.release() == b"DATA\r\n"
    turns.hear(b"503 no\r\n")
    assert turns.release() == b"RSET\r\n"


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_long_line_passes_in_parts(end):
    turns, passed = Turns(), b""
    turns.take(b"DATA" + end)
    turns.hear(b"220 hi\r\n")
    assert turns.release() == b"DATA\r\n"
    turns.hear(b"354 go on\r\n")
    long = b"x" * (3 * PIECE)
    whole = long + end + b"." + long + end + b"." + end
    for at in range(0, len(whole), 999):
        turns.take(whole[at : at + 999])
        passed += turns.release()
        assert not turns.is_full
    assert passed == whole.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def test_a_command_without_end_ends_it():
    turns = Turns()
    turns.hear(b"220 hi\r\n")
    turns.take(b"x" * (PIECE + 1))
    assert turns.release() == b""
    assert turns.is_done


def test_what_lacks_its_end_is_not_said():
    turns = Turns()
    turns.take(b"QUIT")
    turns.take(b"")
    assert not turns.is_done  # a reply is to come
    turns.hear(b"220 hi\r\n")
    assert turns.release() == b""
    assert turns.is_done
