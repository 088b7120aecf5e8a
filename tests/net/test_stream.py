"""Streams over real sockets: bounded both ways, and no wait without an end."""

import asyncio
import contextlib
import fcntl
import select
import socket
import struct
import termios

import pytest

from elemta.net import lingering
from elemta.net.stream import PUT_OFF, READ_LIMIT, Stream, connect, connect_unix
from elemta.net.sweep import find_sweep


@pytest.fixture
async def pair():
    """A connected client and server stream."""
    accepted: asyncio.Future[Stream] = asyncio.get_running_loop().create_future()
    server = await asyncio.get_running_loop().create_server(
        lambda: Stream(accepted.set_result), "127.0.0.1", 0
    )
    port = server.sockets[0].getsockname()[1]
    client = await connect("127.0.0.1", port, timeout=20)
    ours = await accepted
    yield client, ours
    for stream in (client, ours):
        stream.abort()
        await stream.wait_closed()
    server.close()
    await server.wait_closed()


async def test_what_one_writes_the_other_reads(pair):
    client, ours = pair
    client.write(b"hello ")
    client.write(b"world")
    received = b""
    while len(received) < 11:
        received += await ours.read()
    assert received == b"hello world"
    assert ours.peer_ip == "127.0.0.1"
    assert client.peer == ours.local


class TestTurns:
    """What is written in a turn of the loop goes out at its end."""

    @pytest.fixture
    async def raw(self):
        """A stream, and the bare socket at its other end."""
        accepted: asyncio.Future[Stream] = asyncio.get_running_loop().create_future()
        server = await asyncio.get_running_loop().create_server(
            lambda: Stream(accepted.set_result), "127.0.0.1", 0
        )
        with socket.create_connection(server.sockets[0].getsockname()) as peer:
            ours = await accepted
            peer.setblocking(False)
            yield ours, peer
            ours.abort()
            await ours.wait_closed()
        server.close()
        await server.wait_closed()

    def recv_now(self, peer: socket.socket, size: int) -> bytes:
        """What has come, or is under way in the kernel: the loop stands still meanwhile."""
        assert select.select([peer], [], [], 20)[0]
        return peer.recv(size)

    async def test_it_goes_out_in_one_piece(self, raw):
        ours, peer = raw
        ours.write(b"250 one\r\n")
        ours.write(b"250 two\r\n")
        with pytest.raises(BlockingIOError):
            peer.recv(100)
        assert await asyncio.get_running_loop().sock_recv(peer, 100) == b"250 one\r\n250 two\r\n"

    async def test_one_that_fails_holds_up_nobody(self, raw):
        class Broken:
            def flush(self) -> None:
                raise RuntimeError("the handle is closed")

        ours, peer = raw
        told = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(str(context["exception"])))
        find_sweep().outbox.add(Broken())
        ours.write(b"250 one\r\n")
        assert await loop.sock_recv(peer, 100) == b"250 one\r\n"
        assert told == ["the handle is closed"]

    async def test_large_output_does_not_wait(self, raw):
        ours, peer = raw
        ours.write(b"first ")
        ours.write(b"x" * PUT_OFF)
        assert self.recv_now(peer, 6) == b"first "

    async def test_closing_sends_it_first(self, raw):
        ours, peer = raw
        ours.write(b"221 Bye\r\n")
        ours.close()
        assert self.recv_now(peer, 100) == b"221 Bye\r\n"
        assert await asyncio.get_running_loop().sock_recv(peer, 100) == b""

    async def test_aborting_drops_it(self, raw):
        ours, peer = raw
        ours.write(b"250 one\r\n")
        ours.abort()
        await ours.wait_closed()
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.get_running_loop().sock_recv(peer, 100) == b""


async def test_a_closed_peer_is_an_empty_read(pair):
    client, ours = pair
    client.write(b"last words")
    client.close()
    assert await ours.read() == b"last words"
    assert await ours.read() == b""
    assert await ours.read() == b""


def _under_way(client: socket.socket) -> int:
    """Octets that the kernel at the other end has not got yet."""
    (count,) = struct.unpack("i", fcntl.ioctl(client, termios.TIOCOUTQ, bytes(4)))
    return count


@pytest.mark.parametrize("words", [b"", b"E", b"EHLO me\r\n"])
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
async def test_early_input_is_known_before_it_is_read(tmp_path, family, words):
    listener = socket.socket(family)
    listener.bind(("127.0.0.1", 0) if family == socket.AF_INET else str(tmp_path / "socket"))
    listener.listen()
    loop = asyncio.get_running_loop()
    accepted: asyncio.Future[tuple[Stream, bool]] = loop.create_future()

    def accept(stream: Stream) -> None:
        accepted.set_result((stream, stream.has_early_input()))

    with socket.socket(family) as client:
        client.connect(listener.getsockname())
        client.send(words)
        while family == socket.AF_INET and _under_way(client):
            await asyncio.sleep(0)
        serve = loop.create_server if family == socket.AF_INET else loop.create_unix_server
        server = await serve(lambda: Stream(accept), sock=listener)
        stream, is_early = await accepted
        assert is_early == bool(words)
        if words:
            assert await stream.read() == words
        assert not stream.has_early_input()
        stream.abort()
        await stream.wait_closed()
        assert not stream.has_early_input()
    server.close()
    await server.wait_closed()


class TestPump:
    async def test_what_arrives_is_handed_over_until_it_is_enough(self, pair):
        client, ours = pair
        seen = []

        def take(data: bytes) -> bool:
            seen.append(data)
            ours.write(data.upper())
            return b"".join(seen).endswith(b"!")

        pumping = asyncio.ensure_future(ours.pump(take))
        for word in (b"one ", b"two ", b"three!"):
            client.write(word)
            answer = b""
            while len(answer) < len(word):
                answer += await client.read()
            assert answer == word.upper()
        assert await pumping
        client.write(b"for the next reader")
        assert await ours.read() == b"for the next reader"
        assert b"".join(seen) == b"one two three!"

    async def test_what_came_before_is_handed_over_first(self, pair):
        client, ours = pair
        client.write(b"early ")
        while not ours.has_input:
            await asyncio.sleep(0)
        seen = []
        pumping = asyncio.ensure_future(ours.pump(lambda data: seen.append(data) or len(seen) == 2))
        client.write(b"late")
        assert await pumping
        assert seen == [b"early ", b"late"]

    async def test_it_ends_with_the_input(self, pair):
        client, ours = pair
        client.write(b"last words")
        client.close()
        seen = []
        assert await ours.pump(seen.append) is False
        assert b"".join(seen) == b"last words"

    async def test_a_fault_of_the_taker_is_the_pumper_s(self, pair):
        client, ours = pair

        def take(_data: bytes) -> bool:
            raise LookupError("not like this")

        pumping = asyncio.ensure_future(ours.pump(take))
        await asyncio.sleep(0)
        client.write(b"x")
        with pytest.raises(LookupError, match="not like this"):
            await pumping
        client.write(b"y")
        assert await ours.read() == b"y"

    async def test_it_ends_at_the_deadline_and_takes_no_more(self, pair):
        client, ours = pair
        seen = []
        ours.deadline = 0.0
        with pytest.raises(TimeoutError):
            await ours.pump(seen.append)
        client.write(b"later")
        assert await ours.read() == b"later"
        assert seen == []

    async def test_a_broken_connection_is_an_error(self, pair):
        client, ours = pair
        client._transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        pumping = asyncio.ensure_future(ours.pump(lambda _data: False))
        await asyncio.sleep(0)
        client.abort()
        with pytest.raises(ConnectionError):
            await pumping

    async def test_one_who_is_cancelled_takes_no_more(self, pair):
        client, ours = pair
        seen = []
        pumping = asyncio.ensure_future(ours.pump(seen.append))
        await asyncio.sleep(0)
        pumping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pumping
        client.write(b"for somebody else")
        assert await ours.read() == b"for somebody else"
        assert seen == []


async def test_half_closed_peers_still_get_answers(pair):
    client, ours = pair
    client._transport.write_eof()
    assert await ours.read() == b""
    ours.write(b"bye")
    assert await client.read() == b"bye"


async def test_a_wait_ends_at_the_deadline(pair):
    _client, ours = pair
    ours.deadline = 0.0
    with pytest.raises(TimeoutError):
        await ours.read()


async def test_input_is_bounded_while_nobody_reads(pair):
    client, ours = pair
    total = 40 * READ_LIMIT
    client.write(b"x" * total)
    await asyncio.sleep(0.2)
    assert ours._held < 4 * READ_LIMIT
    seen = 0
    while seen < total:
        seen += len(await ours.read())
    assert seen == total


async def test_output_is_bounded_while_the_peer_does_not_read(pair):
    client, ours = pair
    client._transport.pause_reading()
    written = 0
    while not ours.is_congested:
        ours.write(b"y" * 65536)
        written += 65536
        await asyncio.sleep(0)
        assert written < 64 * 1024 * 1024
    ours.deadline = 0.0
    with pytest.raises(TimeoutError):
        await ours.drain()


async def test_a_reset_ends_the_stream(pair):
    client, ours = pair
    raw = client._transport.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    client.abort()
    with contextlib.suppress(ConnectionError):
        while await ours.read():
            pass
    assert not ours.is_usable
    with pytest.raises(ConnectionError):
        await ours.drain()


async def test_nobody_listens():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match=r"refused|Connect"):
            await connect("127.0.0.1", probe.getsockname()[1], timeout=20)


async def test_unix_sockets_work_alike(tmp_path):
    accepted: asyncio.Future[Stream] = asyncio.get_running_loop().create_future()
    path = str(tmp_path / "s")
    server = await asyncio.get_running_loop().create_unix_server(
        lambda: Stream(accepted.set_result), path
    )
    client = await connect_unix(path, timeout=20)
    ours = await accepted
    client.write(b"ping")
    assert await ours.read() == b"ping"
    assert (ours.peer, ours.peer_ip) == ("unix", "")
    client.close()
    assert await ours.read() == b""
    ours.close()
    await ours.wait_closed()
    server.close()
    await server.wait_closed()


async def test_what_a_server_says_before_it_hangs_up_is_read():
    said = b"552 too much\r\n"
    listener = socket.create_server(("127.0.0.1", 0))
    loop = asyncio.get_running_loop()
    client = await connect(*listener.getsockname(), timeout=20)
    listener.setblocking(False)
    peer, _ = await loop.sock_accept(listener)
    client.write(b"x" * 100_000)
    await loop.sock_sendall(peer, said)
    peer.close()  # with input that nobody has read: a reset
    received = b""
    with contextlib.suppress(ConnectionError):
        while True:
            client.write(b"x" * 100_000)  # fails at some point, before anything has been read
            if data := await client.read():
                received += data
            else:
                break
    assert received == said
    client.abort()
    listener.close()


class TestLingering:
    """A peer that still sends when we close reads what we said."""

    WORDS = b"421 4.7.0 Too many errors\r\n" * 1000
    CROWD = 3

    @pytest.fixture
    async def meet(self):
        """A function that gives a stream, and the bare socket at its other end, which takes little.

        It has sent more than has been read.
        """
        loop = asyncio.get_running_loop()
        accepted: asyncio.Queue[Stream] = asyncio.Queue()
        server = await loop.create_server(lambda: Stream(accepted.put_nowait), "127.0.0.1", 0)
        peers = []

        async def make(size: int) -> tuple[Stream, socket.socket]:
            peer = socket.socket()
            peers.append(peer)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            peer.setblocking(False)
            await loop.sock_connect(peer, server.sockets[0].getsockname())
            ours = await accepted.get()
            await loop.sock_sendall(peer, b"x" * size)
            return ours, peer

        yield make
        for peer in peers:
            peer.close()
        while find_sweep().lingering:
            await asyncio.sleep(0)
        server.close()
        await server.wait_closed()

    async def rest(self, peer: socket.socket) -> bytes:
        said = b""
        while piece := await asyncio.get_running_loop().sock_recv(peer, 65536):
            said += piece
        return said

    async def part(self, ours: Stream) -> None:
        """Say something and close, once there is input that nobody has read."""
        while not ours.has_input:
            await asyncio.sleep(0)
        ours.write(self.WORDS)
        ours.linger()
        await ours.wait_closed()

    async def test_it_reads_all(self, meet):
        ours, peer = await meet(300_000)
        await self.part(ours)
        await asyncio.get_running_loop().sock_sendall(peer, b"y" * 300_000)
        assert await self.rest(peer) == self.WORDS
        assert not ours.is_usable

    async def test_a_peer_that_closes_ends_it(self, meet):
        ours, peer = await meet(300_000)
        await self.part(ours)
        assert find_sweep().lingering == 1
        peer.close()
        async with asyncio.timeout(20):
            while find_sweep().lingering:
                await asyncio.sleep(0)

    async def test_much_input_ends_it(self, meet):
        ours, peer = await meet(300_000)
        await self.part(ours)
        with pytest.raises(ConnectionError):
            await asyncio.get_running_loop().sock_sendall(peer, b"y" * lingering.LINGER_SIZE * 10)

    async def test_time_ends_it(self, meet, monkeypatch):
        monkeypatch.setattr(lingering, "LINGER_TIME", 0.0)
        ours, peer = await meet(300_000)
        await self.part(ours)
        async with asyncio.timeout(20):
            while find_sweep().lingering:
                await asyncio.sleep(0)
        said = b""
        with contextlib.suppress(ConnectionError):  # reset, where we had not read all by then
            said = await self.rest(peer)
        assert self.WORDS.startswith(said)

    async def test_in_a_crowd_it_is_cut_short(self, meet, monkeypatch):
        monkeypatch.setattr(lingering, "MAX_LINGERING", self.CROWD)
        for _ in range(self.CROWD + 1):
            ours, peer = await meet(300_000)
            await self.part(ours)
        assert find_sweep().lingering == self.CROWD
        with pytest.raises(ConnectionError):
            await self.rest(peer)

    async def test_a_peer_that_has_closed_is_not_waited_for(self, meet):
        ours, peer = await meet(0)
        peer.shutdown(socket.SHUT_WR)
        assert await ours.read() == b""
        ours.write(b"421 Bye\r\n")
        ours.linger()
        assert await self.rest(peer) == b"421 Bye\r\n"
        assert find_sweep().lingering == 0
