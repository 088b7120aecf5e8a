"""Connections under TLS, both ends ours, over loopback."""

import asyncio
import ctypes
import hashlib
import ssl

import pytest
import trustme

from elemta.net.stream import READ_SIZE, Stream, connect
from elemta.net.tls import openssl

LARGE = bytes(range(256)) * 8192  # two million octets: many records, more than any buffer
WITH_ANSWER = 1  # SSL_KEY_UPDATE_REQUESTED


@pytest.fixture(scope="module")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("mx.example.test").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


@pytest.fixture
async def pair():
    arrived: asyncio.Queue[Stream] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: Stream(arrived.put_nowait), "127.0.0.1", 0)
    client = await connect(*listening.sockets[0].getsockname(), timeout=20)
    server = await arrived.get()
    yield server, client
    for stream in (server, client):
        stream.abort()
        await stream.wait_closed()
    listening.close()
    await listening.wait_closed()


async def shake_hands(pair, contexts) -> None:
    server, client = pair
    inbound, outbound = contexts
    await asyncio.gather(
        server.start_tls(inbound, server_side=True),
        client.start_tls(outbound, server_hostname="mx.example.test"),
    )


async def read_all(stream: Stream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += await stream.read()
    return data


async def test_what_one_writes_the_other_reads(pair, contexts):
    server, client = pair
    await shake_hands(pair, contexts)
    assert server.tls_version == client.tls_version == "TLSv1.3"
    assert server.tls is not None
    assert client.tls is not None
    assert server.tls.cipher == client.tls.cipher
    assert client.tls.certificate.startswith(b"\x30")
    assert not server.tls.certificate
    server.write(b"220 hello\r\n")
    assert await client.read() == b"220 hello\r\n"
    client.write(b"EHLO there\r\n")
    assert await server.read() == b"EHLO there\r\n"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_much_passes_whole(pair, contexts, version):
    server, client = pair
    contexts[1].maximum_version = version
    try:
        await shake_hands(pair, contexts)
    finally:
        contexts[1].maximum_version = ssl.TLSVersion.MAXIMUM_SUPPORTED

    async def send() -> None:
        for start in range(0, len(LARGE), 50_000):
            client.write(LARGE[start : start + 50_000])
            await client.drain()

    sending = asyncio.create_task(send())
    assert await read_all(server, len(LARGE)) == LARGE
    await sending


async def test_what_follows_the_handshake_at_once_is_not_lost(pair, contexts):
    server, client = pair
    shaking = asyncio.create_task(server.start_tls(contexts[0], server_side=True))
    await client.start_tls(contexts[1], server_hostname="mx.example.test")
    client.write(b"EHLO there\r\n")
    await shaking
    assert await server.read() == b"EHLO there\r\n"


async def test_the_word_that_no_more_comes_is_an_end(pair, contexts):
    server, client = pair
    await shake_hands(pair, contexts)
    client.write(b"QUIT\r\n")
    client.close()
    assert await server.read() == b"QUIT\r\n"
    assert await server.read() == b""
    server.write(b"221 Bye\r\n")  # nobody is there any more: no harm


async def test_nothing_is_kept_that_comes_behind_the_end(pair, contexts):
    server, client = pair
    await shake_hands(pair, contexts)
    client._transport.write(client._tls.end())
    client._tls = None
    for _ in range(20):
        client.write(bytes(50_000))
        await client.drain()
    assert await server.read() == b""
    client.close()
    await client.wait_closed()
    await server.wait_closed()
    assert server._tls._incoming.pending <= READ_SIZE


@pytest.mark.skipif(not openssl.is_reachable(), reason="Python cannot ask for new keys")
async def test_a_peer_that_wants_new_keys_without_end_is_cut_off(pair, contexts):
    server, client = pair
    await shake_hands(pair, contexts)
    library, connection = openssl._library(), openssl._pointer_to(client._tls._object)
    library.SSL_key_update.argtypes = (ctypes.c_void_p, ctypes.c_int)
    client.write(b"NOOP\r\n")
    assert await server.read() == b"NOOP\r\n"
    reading = asyncio.create_task(server.read())
    for _ in range(10_000):
        library.SSL_key_update(connection, WITH_ANSWER)
        client._tls._object.do_handshake()
        client._transport.write(client._tls.waiting())
    with pytest.raises(ConnectionError, match="records without data"):
        await reading


async def test_plaintext_that_waits_is_refused(pair, contexts):
    server, client = pair
    client.write(b"MAIL FROM:<mallory@example.test>\r\n")
    while not server.has_input:
        await asyncio.sleep(0)
    with pytest.raises(ConnectionAbortedError, match="plaintext"):
        await server.start_tls(contexts[0], server_side=True)


async def test_garbage_instead_of_a_handshake_fails(pair, contexts):
    server, client = pair
    shaking = asyncio.create_task(server.start_tls(contexts[0], server_side=True))
    client.write(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(ssl.SSLError):
        await shaking
    assert server.tls is None
    await server.wait_closed()
    with pytest.raises(ConnectionError):
        await server.drain()


async def test_garbage_after_the_handshake_breaks_the_connection(pair, contexts):
    server, client = pair
    await shake_hands(pair, contexts)
    client._tls = None
    client.write(b"in clear again\r\n")
    with pytest.raises(ConnectionError):
        await server.read()


async def test_what_comes_before_garbage_counts(pair, contexts):
    server, client = pair
    await shake_hands(pair, contexts)
    server._transport.write(server._tls.encrypt(b"250 Ok\r\n") + b"in clear again\r\n")
    assert await client.read() == b"250 Ok\r\n"
    with pytest.raises(ConnectionError):
        await client.read()


async def test_a_peer_that_leaves_in_the_handshake(pair, contexts):
    server, client = pair
    client.close()
    with pytest.raises(ConnectionError):
        await server.start_tls(contexts[0], server_side=True)


async def test_a_handshake_ends_at_the_deadline(pair, contexts):
    server, _client = pair
    server.deadline = 0.0
    with pytest.raises(TimeoutError):
        await server.start_tls(contexts[0], server_side=True)


async def test_a_certificate_that_nobody_trusts_ends_both_sides(pair, contexts):
    server, client = pair
    shaking = asyncio.create_task(server.start_tls(contexts[0], server_side=True))
    with pytest.raises(ssl.SSLCertVerificationError):
        await client.start_tls(ssl.create_default_context(), server_hostname="mx.example.test")
    with pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
        await shaking


async def test_a_handshake_that_has_begun_before_we_look(pair, contexts):
    server, client = pair
    inbound, outbound = contexts
    begun = asyncio.create_task(client.start_tls(outbound, server_hostname="mx.example.test"))
    while not server.has_input:
        await asyncio.sleep(0)
    await server.start_tls(inbound, server_side=True, is_first=True)
    await begun
    client.write(b"EHLO there\r\n")
    assert await server.read() == b"EHLO there\r\n"


async def test_both_ends_can_tie_a_login_to_the_connection(pair, contexts):
    server, client = pair
    await shake_hands(pair, contexts)
    ours, end_point = server.channel_bindings()
    theirs, _ = client.channel_bindings()
    assert ours is not None
    assert ours == theirs
    assert len(ours) == 32
    assert client.tls is not None
    assert end_point == hashlib.sha256(client.tls.certificate).digest()


async def test_nothing_ties_a_login_to_a_connection_in_clear(pair):
    assert pair[0].channel_bindings() == (None, None)


async def test_another_program_exports_the_same_keys(contexts):
    arrived: asyncio.Queue[Stream] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: Stream(arrived.put_nowait), "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    openssl = await asyncio.create_subprocess_exec(
        *("openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_3"),
        *("-keymatexport", "EXPORTER-Channel-Binding", "-keymatexportlen", "32"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    server = await arrived.get()
    await server.start_tls(contexts[0], server_side=True)
    ours, _ = server.channel_bindings()
    assert ours is not None
    server.close()
    said, _ = await openssl.communicate()
    assert f"Keying material: {ours.hex().upper()}".encode() in said
    await server.wait_closed()
    listening.close()
    await listening.wait_closed()
