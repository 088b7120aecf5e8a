"""Servers that plugins ask: how answers are read, places written, and when they are left alone."""

import asyncio
import contextlib

import pytest

from elemta.net import connect
from elemta.plugins import Metadata, Plugin, Settings
from elemta.plugins.builtin._elsewhere import (
    Breaker,
    Incoming,
    LeftAlone,
    Place,
    Trouble,
    add_to_note,
    key_bits,
    parse_place,
    reach,
)
from elemta.testing import PluginBench


class Asker(Plugin[Settings]):
    metadata = Metadata(name="asker")


@contextlib.asynccontextmanager
async def saying(*pieces: bytes, limit: float = 1_000_000):
    """What comes from a server that sends these pieces one by one, and hangs up."""

    async def serve(_reader, writer):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1")
    async with server:
        stream = await connect(*server.sockets[0].getsockname()[:2], timeout=20)
        try:
            yield Incoming(stream, limit)
        finally:
            stream.abort()


async def test_answers_are_read_however_they_come():
    octets = b"one\r\n\r\ntwo\r\n\0\0\0\1xrest"
    async with saying(*(octets[at : at + 1] for at in range(len(octets)))) as incoming:
        assert await incoming.until(b"\r\n\r\n") == b"one"
        assert await incoming.until(b"\r\n", 3) == b"two"
        assert await incoming.exactly(5) == b"\0\0\0\1x"
        assert await incoming.rest() == b"rest"
        assert incoming.is_empty
        with pytest.raises(Trouble, match="hung up"):
            await incoming.exactly(1)


@pytest.mark.parametrize("said", [b"x" * 100 + b"\n", b"x" * 100])
async def test_a_line_has_an_end_or_comes_to_nothing(said):
    async with saying(said) as incoming:
        with pytest.raises(Trouble, match="too long"):
            await incoming.until(b"\n", 99)


async def test_there_is_no_more_than_is_allowed():
    async with saying(b"x" * 100, limit=99) as incoming:
        with pytest.raises(Trouble, match="too long"):
            await incoming.rest()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("/run/a.sock", Place(path="/run/a.sock")),
        ("unix:/run/a.sock", Place(path="/run/a.sock")),
        ("local:/run/a.sock", Place(path="/run/a.sock")),
        ("mx.example.test:25", Place(host="mx.example.test", port=25)),
        ("[2001:db8::1]:25", Place(host="2001:db8::1", port=25)),
        ("inet:8891@127.0.0.1", Place(host="127.0.0.1", port=8891)),
        ("inet:127.0.0.1:8891", Place(host="127.0.0.1", port=8891)),
        ("inet6:8891@2001:db8::1", Place(host="2001:db8::1", port=8891)),
    ],
)
def test_places(text, place):
    assert parse_place(text) == place


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nowhere",
        "a:0",
        "a:65536",
        "a:b",
        "a:\u0665",
        ":25",
        "2001:db8::1:25",
        "unix:run",
        "a b:1",
    ],
)
def test_places_that_are_none(text):
    with pytest.raises(ValueError, match=r"expected|port|path|brackets"):
        parse_place(text)


async def test_nobody_there(tmp_path):
    with pytest.raises(Trouble, match="no connection: No such file"):
        await reach(Place(path=str(tmp_path / "none")), 5)


async def test_a_server_that_fails_is_left_alone_and_tried_by_one():
    async with PluginBench(Asker) as it:
        breaker = Breaker("there", 2, 10, it.plugin.tools)
        breaker.check()
        breaker.failed("gone")
        breaker.check()
        breaker.failed("gone")
        assert not breaker.is_ready
        with pytest.raises(LeftAlone, match="for 10 s after 2 failures"):
            breaker.check()
        it.clock.advance(10)
        breaker.check()
        with pytest.raises(LeftAlone):
            breaker.check()
        breaker.succeeded()
        breaker.check()
        assert [text for _, text in it.log] == [
            "there: gone",
            "there: gone",
            "there is left alone for 10 s: 2 failures in a row",
            "there answers again",
        ]
        assert it.count("failures", server="there") == 2


async def test_a_server_may_never_be_left_alone():
    async with PluginBench(Asker) as it:
        breaker = Breaker("there", 0, 10, it.plugin.tools)
        for _ in range(100):
            breaker.check()
            breaker.failed("gone")
        assert breaker.is_ready


def test_notes_do_not_grow_without_end():
    notes = {"a": "one"}
    for word in ("one", "two", *map(str, range(100))):
        add_to_note(notes, "a", word)
    assert notes["a"].split()[:3] == ["one", "two", "0"]
    assert len(notes["a"].split()) == 16


@pytest.mark.parametrize(
    ("cipher", "bits"),
    [
        ("TLS_AES_256_GCM_SHA384", "256"),
        ("TLS_CHACHA20_POLY1305_SHA256", "256"),
        ("ECDHE-ECDSA-AES128-SHA", "128"),
        ("ECDHE-ARIA256-GCM-SHA384", "256"),
        ("NULL-SHA256", ""),
        ("", ""),
    ],
)
def test_how_long_keys_are(cipher, bits):
    assert key_bits(cipher) == bits
