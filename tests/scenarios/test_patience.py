"""How long the running server waits: for commands, content, readers, and whole sessions."""

import asyncio
import contextlib
import resource
import socket
import threading
import time

import pytest
from servers.crowd import Place, read_replies
from servers.dialogue import Dialogue
from servers.elemta import running
from servers.worker import peak_watch, worker_pid

CONFIG = """
[relay]
local_domains = ["example.test"]
[[routes]]
domains = ["*"]
via = "discard"
[smtp]
max_junk_commands = 1000
"""
IMPATIENT = """
command_timeout = "1s"
data_timeout = "2500ms"
min_data_rate = "1KB"
"""
LONG = 15.0  # seconds; what takes so long would take for ever


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("patience"), rest=CONFIG + IMPATIENT) as elemta:
        yield elemta


def drip(client, pieces, every):
    """Send pieces now and then until the server answers; the answer."""
    begun = time.monotonic()
    client.socket.settimeout(every)
    for piece in pieces:
        client.send(piece)
        try:
            said = client.reply()
        except TimeoutError:
            assert time.monotonic() < begun + LONG, "the server waits for ever"
        else:
            return said
    raise AssertionError("there was not enough to send")


def begin(client):
    client.hello()
    client.envelope("a@client.test", "u@example.test")
    assert client.say("DATA").startswith("354")


@pytest.mark.parametrize("greeting", [b"", b"EHLO client.test\r\n"])
def test_a_silent_client_is_sent_off(server, greeting):
    with Dialogue(server.port) as client:
        if greeting:
            client.say(greeting[:-2])
        assert client.reply().startswith("421 4.4.2")
        assert client.rest() == b""


def test_an_octet_now_and_then_prolongs_no_command(server):
    with Dialogue(server.port) as client:
        assert drip(client, [b"x"] * 200, every=0.1).startswith("421 4.4.2")


def test_silence_within_a_message_is_sent_off(server):
    with Dialogue(server.port) as client:
        begin(client)
        client.send(b"Subject: silence\r\n\r\nand then")
        assert client.reply().startswith("421 4.4.2")
        assert client.rest() == b""
    assert not [e for e in server.events("message_received") if e["message_size"] > 10_000]


@pytest.mark.parametrize("piece", [b"x", b"x\r\n"])
def test_content_that_drips_is_sent_off_though_never_silent(server, piece):
    with Dialogue(server.port) as client:
        begin(client)
        assert drip(client, [piece] * 200, every=0.1).startswith("421 4.4.2")


def test_content_that_flows_outlasts_the_grace(server):
    """At twice the least rate, for longer than a client that drips would have."""
    with Dialogue(server.port) as client:
        begin(client)
        client.socket.settimeout(0.1)
        begun = time.monotonic()
        while time.monotonic() < begun + 3.0:
            client.send(b"y" * 198 + b"\r\n")
            with pytest.raises(TimeoutError):
                client.reply()
        client.socket.settimeout(LONG)
        client.send(b".\r\n")
        assert client.reply().startswith("250")


def test_content_that_is_refused_may_take_as_long_to_come(server):
    """Its rate counts, not what is kept of it: else the sender would learn of a timeout only."""
    with Dialogue(server.port) as client:
        begin(client)
        client.socket.settimeout(0.1)
        begun = time.monotonic()
        while time.monotonic() < begun + 3.0:
            client.send(b"y" * 198 + b"\0\n")
            with pytest.raises(TimeoutError):
                client.reply()
        client.socket.settimeout(LONG)
        client.send(b"\r\n.\r\n")
        assert client.reply().startswith("554 5.6.0")


def test_a_session_ends_however_busy_it_is(tmp_path):
    with running(tmp_path, rest=CONFIG + 'session_timeout = "2s"\n') as server:
        begun = time.monotonic()
        with Dialogue(server.port) as client:
            said = client.hello()
            while not said.startswith("421"):
                said = client.say("NOOP")
                assert time.monotonic() < begun + LONG
                time.sleep(0.05)
            assert said.startswith("421 4.4.2")
            assert time.monotonic() > begun + 1.9
            assert client.rest() == b""


def test_a_client_that_never_reads_is_cut_off_and_costs_no_memory(tmp_path):
    """A reply to each of very many recipients, and nobody takes one."""
    rest = CONFIG + 'command_timeout = "1s"\n'
    with (
        running(tmp_path, rest=rest, server="max_recipients = 10000000") as server,
        Dialogue(server.port) as client,
    ):
        growth = peak_watch(worker_pid(server))
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.socket.settimeout(LONG)
        client.hello()
        assert client.say("MAIL FROM:<a@client.test>").startswith("250")
        group = b"RCPT TO:<u@example.test>\r\n" * 10_000

        def flood():
            with contextlib.suppress(OSError):
                for _ in range(1000):
                    client.send(group)

        sender = threading.Thread(target=flood)
        sender.start()
        try:
            assert server.wait_event("connection_closed", reason="timeout")
            sender.join(LONG)  # at once: no time is granted to take what is unsent
            assert not sender.is_alive()
        finally:
            with contextlib.suppress(OSError):
                client.socket.shutdown(socket.SHUT_RDWR)
            sender.join()
        assert growth() < 8_000_000
        with Dialogue(server.port) as next_one:
            assert next_one.hello().startswith("250")


SLOW = [
    b"",  # says nothing
    b"EHLO cli",  # never ends its line
    b"EHLO client.test\r\n",
    b"EHLO client.test\r\nMAIL FROM:<a@client.test>\r\nRCPT TO:<u@example.test>\r\nDATA\r\n",
]


@pytest.fixture
def roomy(tmp_path):
    """A server with the defaults, and as many open files as there may be."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    try:
        with running(tmp_path, rest=CONFIG) as server:
            yield server
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


async def test_two_thousand_slow_clients_are_in_nobodys_way(roomy):
    place, writers = Place(roomy.port), []

    async def come(number):
        reader, writer = await place.connect()
        writers.append(writer)
        await read_replies(reader, 1)
        for line in SLOW[number % len(SLOW)].splitlines(keepends=True):
            writer.write(line)
            if line.endswith(b"\n"):
                await read_replies(reader, 1)

    def deliver():
        begun = time.monotonic()
        with Dialogue(roomy.port) as client:
            client.hello()
            reply = client.deliver(b"Subject: good\r\n\r\n", "", "u@example.test")
            assert reply.startswith("250")
        return time.monotonic() - begun

    try:
        for start in range(0, 2000, 100):
            await asyncio.gather(*map(come, range(start, start + 100)))
        for _ in range(5):
            for writer in writers:
                writer.write(b"x")
            # it takes milliseconds; a server that these hold up would take minutes
            assert await asyncio.to_thread(deliver) < LONG
        assert not any(writer.transport.is_closing() for writer in writers)
    finally:
        for writer in writers:
            writer.transport.abort()
