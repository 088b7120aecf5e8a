"""What clamd says to INSTREAM, and what the one that stands in for it says."""

import asyncio
import base64
import struct

import pytest
from servers.clamd import EICAR, STREAM_LIMIT, VIRUS

from tests.examples.outside import stand_in

CLEAN = b"Subject: x\r\n\r\nclean\r\n"
FOUND = f"stream: {VIRUS} FOUND\0".encode()
LIMIT = b"INSTREAM size limit exceeded. ERROR\0"


@pytest.fixture(params=["clamd", "stand-in"])
async def scanner(request, tmp_path):
    """The path of a scanner's socket."""
    if request.param == "clamd":
        yield request.getfixturevalue("clamd").socket
    else:
        async with stand_in(tmp_path / "socket", limit=STREAM_LIMIT) as made:
            yield made.place


async def say(path, command: bytes, *pieces: bytes) -> bytes:
    """Send a command and pieces, each with its length before it; all that is said until the end."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(command)
        for piece in pieces:
            writer.write(struct.pack(">I", len(piece)) + piece)
        await writer.drain()
        return await reader.read()
    finally:
        writer.close()


async def test_clean(scanner):
    assert await say(scanner, b"zINSTREAM\0", CLEAN, b"") == b"stream: OK\0"


async def test_nothing_is_clean(scanner):
    assert await say(scanner, b"zINSTREAM\0", b"") == b"stream: OK\0"


async def test_infected(scanner):
    assert await say(scanner, b"zINSTREAM\0", CLEAN + EICAR, b"") == FOUND


async def test_pieces_are_put_together(scanner):
    pieces = (CLEAN, EICAR[:30], EICAR[30:], b"\r\n", b"")
    assert await say(scanner, b"zINSTREAM\0", *pieces) == FOUND


async def test_up_to_the_limit(scanner):
    assert await say(scanner, b"zINSTREAM\0", b"x" * STREAM_LIMIT, b"") == b"stream: OK\0"


async def test_beyond_the_limit_it_answers_and_closes_before_the_end(scanner):
    assert await say(scanner, b"zINSTREAM\0", b"x" * STREAM_LIMIT, b"x") == LIMIT


async def test_what_it_does_not_know(scanner):
    assert await say(scanner, b"zNONSENSE\0") == b"UNKNOWN COMMAND\0"


async def test_it_sees_through_an_attachment(clamd):
    """This only the real one does."""
    head = b"Subject: x\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    assert await say(clamd.socket, b"zINSTREAM\0", head, base64.encodebytes(EICAR), b"") == FOUND
