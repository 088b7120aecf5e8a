"""HTTP, TLS and the like, wherever a command may come: the connection ends."""

import pytest

from elemta.mail import events as ev
from elemta.testing.server import SmtpServer

STAGES = {
    "banner": (),
    "hello": ("EHLO x.test",),
    "transaction": ("EHLO x.test", "MAIL FROM:<a@x.test>"),
    "recipient": ("EHLO x.test", "MAIL FROM:<a@x.test>", "RCPT TO:<b@example.test>"),
    "reset": ("EHLO x.test", "MAIL FROM:<a@x.test>", "RSET"),
}
WORDS = [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"post /x HTTP/1.1\r\n\r\nMAIL FROM:<a@x.test>\r\n",
    b"CONNECT mx.example.test:25 HTTP/1.1\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"Host: mx.example.test\r\n",
    b"GET /" + b"a" * 600 + b" HTTP/1.1\r\n",  # longer than a command may be
    b"POST /" + b"a" * 20_000 + b" HTTP/1.1\r\n",  # longer than any
    b"GET / HTTP/1.0\n\n",  # without CR
    b"GET /\xff HTTP/1.1\r\n",
    b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
]


def ids(words: bytes) -> str:
    return f"{words[:8]!r}-{len(words)}"


@pytest.mark.parametrize("is_encrypted", [False, True], ids=["clear", "tls"])
@pytest.mark.parametrize("lmtp", [False, True], ids=["smtp", "lmtp"])
@pytest.mark.parametrize("stage", STAGES)
async def test_another_protocol_ends_the_session(stage, lmtp, is_encrypted):
    async with SmtpServer(lmtp=lmtp, tls=True) as server:
        for number, words in enumerate(WORDS):
            async with await server.connect(f"192.0.2.{number}") as client:
                if is_encrypted:
                    await client.say("LHLO x.test" if lmtp else "EHLO x.test")
                    assert (await client.start_tls()).startswith("220")
                for line in STAGES[stage]:
                    said = await client.say(line.replace("EHLO", "LHLO") if lmtp else line)
                    assert said.startswith("250"), line
                client.send(words)
                assert (await client.reply()).startswith("554 5.5.1 This is a mail"), ids(words)
                with pytest.raises(ConnectionError):
                    await client.reply()
        attacks = [event.kind for event in server.events if isinstance(event, ev.SecurityEvent)]
        assert attacks == ["cross_protocol"] * len(WORDS)
        assert server.messages == []


async def test_in_pieces_it_is_the_same():
    async with SmtpServer() as server, await server.connect() as client:
        for at in range(0, 20_000, 500):
            client.send((b"POST /" + b"a" * 30_000)[at : at + 500])
        assert (await client.reply()).startswith("554 5.5.1 ")


async def test_a_long_word_that_only_begins_like_one_is_none():
    async with SmtpServer() as server, await server.connect() as client:
        assert (await client.say(b"GETS " + b"a" * 600)).startswith("500 5.5.2 ")
        assert (await client.say("NOOP")).startswith("250")
