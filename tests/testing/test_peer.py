"""The scripted next hop for tests."""

import asyncio

from elemta.testing.peer import Peer


async def test_what_a_client_says_last_is_heard():
    """It has left by the time that the test ends; nobody waits for what it said on its way."""
    async with Peer() as peer:
        reader, writer = await asyncio.open_connection("127.0.0.1", peer.port)
        await reader.readline()
        writer.write(b"QUIT\r\n")
        writer.close()
    assert peer.commands == ["QUIT"]


async def test_who_stays_is_cut_off():
    async with asyncio.timeout(20):
        async with Peer() as peer:
            reader, writer = await asyncio.open_connection("127.0.0.1", peer.port)
            await reader.readline()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    assert peer.commands == []
