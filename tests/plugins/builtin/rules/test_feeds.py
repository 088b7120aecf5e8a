"""Lists that are fetched: from a real server, which may also lie, stall or be where none may be."""

import asyncio
import contextlib
import fcntl
import re
import ssl
from ipaddress import ip_address

import pytest
import trustme

from elemta.plugins.builtin.rules import Rules
from elemta.plugins.builtin.rules.fetching import FetchError, Wanted, fetch, is_public
from elemta.testing import FakeClock, FakeResolver, PluginBench

HOST = "feeds.example.test"
HOUR = 3600.0


class Server:
    """Answers with what a test wants, and remembers the requests."""

    def __init__(self, folder):
        authority = trustme.CA()
        self.ca_file = folder / "ca.pem"
        authority.cert_pem.write_to_path(self.ca_file)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(HOST).configure_cert(self._tls)
        self.requests = []
        self.answer = b""
        self.stalls = False

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        await self._server.wait_closed()

    @property
    def url(self):
        return f"https://{HOST}:{self.port}/list.txt?all=1"

    async def _serve(self, reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
            writer.write(self.answer)
            await writer.drain()
            if self.stalls:
                await reader.read()  # until the client has had enough
        with contextlib.suppress(OSError):
            writer.close()
            await writer.wait_closed()

    def says(self, body=b"", status="200 OK", **fields):
        told = {"Content-Length": str(len(body)), "Connection": "close", **fields}
        head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in told.items())
        self.answer = f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body

    def wanted(self, **more):
        told = {"max_size": 1000, "allow_private": True, "conditions": {}, **more}
        return Wanted(url=self.url, ca_file=str(self.ca_file), **told)


@pytest.fixture
async def server(tmp_path):
    async with Server(tmp_path) as found:
        yield found


def dns(*addresses):
    kinds = {
        "A": [a for a in addresses if ":" not in a],
        "AAAA": [a for a in addresses if ":" in a],
    }
    return FakeResolver({HOST: kinds})


def bench(tmp_path, server, clock=None, **more):
    told = {"name": "feed", "kind": "address", "url": server.url, "ca_file": str(server.ca_file)}
    lists = [{**told, "allow_private": True, "use": "deny", "every": "1h", **more}]
    settings = {"watch": 3600, "lists": lists}
    return PluginBench(Rules, settings, state_dir=tmp_path, clock=clock, dns=dns("127.0.0.1"))


def errors(it):
    return [text for level, text in it.log if level == "error"]


async def test_a_list_is_fetched_kept_and_used(tmp_path, server):
    clock = FakeClock()
    server.says(b"192.0.2.0/24 # theirs\r\nnonsense\r\n192.0.3.1\r\n", ETag='"one"')
    async with bench(tmp_path, server, clock) as it:
        assert not (await it.connect("192.0.2.1")).is_refused
        await it.plugin.look()
        answer = await it.connect("192.0.2.1")
        kept = tmp_path / "rules" / "feed.list"
        assert answer.note.endswith(f"192.0.2.0/24 in list feed, {kept}:1 (theirs)")
        assert it.count("fetches", list="feed", result="new") == 1
        first = server.requests[0]
        assert first.startswith("GET /list.txt?all=1 HTTP/1.1\r\n")
        assert f"Host: {HOST}:{server.port}\r\n" in first
        assert "If-None-Match" not in first

        await it.plugin.look()
        assert len(server.requests) == 1
        server.says(b"", "304 Not Modified")
        clock.advance(1.2 * HOUR)
        await it.plugin.look()
        assert 'If-None-Match: "one"\r\n' in server.requests[1]
        assert it.count("fetches", list="feed", result="unchanged") == 1
        assert (await it.connect("192.0.2.1")).is_refused

        server.says(b"198.51.100.1\n", Last_Modified="Sat, 21 Nov 2026 10:00:00 GMT")
        clock.advance(1.2 * HOUR)
        await it.plugin.look()
        assert 'If-None-Match: "one"\r\n' in server.requests[2]
        assert (await it.connect("198.51.100.1")).is_refused
        assert not (await it.connect("192.0.2.1")).is_refused

        server.says(b"198.51.100.1\n")
        clock.set(clock.now() - 365 * 24 * HOUR)  # by an operator, say
        clock.advance(1.2 * HOUR)
        await it.plugin.look()
        assert "If-Modified-Since: Sat, 21 Nov 2026 10:00:00 GMT\r\n" in server.requests[3]
        assert errors(it) == []

    async with bench(tmp_path, server, clock) as it:  # another worker, or after a restart
        assert (await it.connect("198.51.100.1")).is_refused
        await it.plugin.look()
        assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("says", "problem"),
    [
        ({"status": "500 Oh"}, "status 500"),
        ({"status": "404 Not Found"}, "status 404"),
        ({"status": "302 Found", "Location": "http://169.254.169.254/"}, "elsewhere now"),
        ({"status": "304 Not Modified"}, "elsewhere|status 304"),
        ({"body": b""}, "come is empty"),
        ({"body": b"<!doctype html>\n<p>Log in\n192.0.2.1\n"}, "no list of this kind"),
        ({"body": b"0.0.0.0/0\n"}, "too large for a list of others"),
        ({"body": b"\xff\xfe"}, "no UTF-8"),
        ({"body": b"x" * 3000}, "larger than 2000"),
        ({"body": b"x", "Content_Length": "999999999999999999999"}, "larger than|hung up|speak"),
        ({"body": b"192.0.2.1\n", "Content_Encoding": "gzip"}, "compressed"),
        ({"body": b"192.0.2.1\n", "Content_Length": "400"}, "HTTP|hung up"),
    ],
)
async def test_what_fails_keeps_the_last_state(tmp_path, server, says, problem):
    clock = FakeClock()
    async with bench(tmp_path, server, clock, max_size=2000) as it:
        await it.start()
        if says.get("status") != "304 Not Modified":
            server.says(b"192.0.2.0/24\n")
            await it.plugin.look()
        clock.advance(2 * HOUR)
        server.says(**says)
        for _ in range(3):
            await it.plugin.look()
            clock.advance(400)
        (told,) = errors(it)
        assert told.startswith("list feed cannot be fetched; ")
        assert re.search(problem, told), told
        assert it.count("fetches", list="feed", result="failed") == 3
        if "304" not in str(says):
            assert (await it.connect("192.0.2.1")).is_refused
            assert "its last state is kept" in told


@pytest.mark.parametrize(
    "answer",
    [
        b"220 mail.example.test ESMTP\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"5\r\naaaaa\r\n" * 5000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 3,
        b"",
        b"\0" * 100,
    ],
)
async def test_servers_that_speak_nonsense(server, answer):
    server.answer = answer
    with pytest.raises(FetchError):
        await fetch(server.wanted(), dns("127.0.0.1"))


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"])
async def test_servers_that_stall(server, answer):
    server.answer, server.stalls = answer, True
    with pytest.raises(FetchError, match=r"it has taken longer than 0\.5 s"):
        await fetch(server.wanted(limit=0.5), dns("127.0.0.1"))


async def test_chunks(server):
    server.answer = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n1\r\nf\r\n0\r\n\r\n"
    )
    assert (await fetch(server.wanted(), dns("127.0.0.1"))).content == b"abcdef"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.1.2.3",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "fe80::1",
        "fd00::1",
        "fec0::1",
        "ff02::1",
    ],
)
async def test_addresses_that_are_not_connected_to(server, address):
    assert not is_public(ip_address(address))
    server.says(b"192.0.2.1\n")
    with pytest.raises(FetchError, match="has no public address"):
        await fetch(server.wanted(allow_private=False), dns(address))
    assert server.requests == []


def test_public_addresses():
    for address in ("1.1.1.1", "2606:4700::1111", "64:ff9b::101:101", "::ffff:1.1.1.1"):
        assert is_public(ip_address(address))


async def test_names_that_cannot_be_looked_up(server):
    for zone in ({}, {HOST: None}, {HOST: {"A": []}}):
        with pytest.raises(FetchError, match="cannot be looked up"):
            await fetch(server.wanted(), FakeResolver(zone))


async def test_the_certificate_counts(server, tmp_path):
    server.says(b"192.0.2.1\n")
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    wanted = server.wanted()
    for ca_file in (str(other), ""):
        strange = Wanted(wanted.url, 1000, True, ca_file, {})
        with pytest.raises(FetchError, match="cannot be connected to"):
            await fetch(strange, dns("127.0.0.1"))
    wrong = Wanted(f"https://127.0.0.1:{server.port}/", 1000, True, str(server.ca_file), {})
    with pytest.raises(FetchError, match="cannot be connected to"):
        await fetch(wrong, dns())
    assert server.requests == []


async def test_one_address_of_several_answers(server):
    server.says(b"192.0.2.1\n")
    assert (await fetch(server.wanted(), dns("127.0.0.3", "127.0.0.1"))).content == b"192.0.2.1\n"


async def test_one_worker_fetches(tmp_path, server):
    server.says(b"192.0.2.0/24\n")
    (tmp_path / "rules").mkdir()
    clock = FakeClock()
    with (tmp_path / "rules" / "feed.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        async with bench(tmp_path, server, clock) as it:
            await it.start()
            await it.plugin.look()
            assert server.requests == []
            (tmp_path / "rules" / "feed.list").write_text("192.0.2.0/24\n")
            await it.plugin.look()
            assert (await it.connect("192.0.2.1")).is_refused
            fcntl.flock(other, fcntl.LOCK_UN)
            clock.advance(HOUR)
            await it.plugin.look()
            assert len(server.requests) == 1


async def test_what_is_known_of_another_url_does_not_count(tmp_path, server):
    server.says(b"192.0.2.0/24\n", ETag='"one"')
    async with bench(tmp_path, server) as it:
        await it.start()
        await it.plugin.look()
    known = tmp_path / "rules" / "feed.json"
    for broken in (b"[]", b"{", b'{"url": 1}', known.read_bytes().replace(b"list.txt", b"x")):
        known.write_bytes(broken)
        server.requests.clear()
        async with bench(tmp_path, server) as it:
            await it.start()
            await it.plugin.look()
            assert "If-None-Match" not in server.requests[0]
