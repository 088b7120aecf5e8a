"""The server in memory: a whole dialogue, with plugins."""

import pytest
from testing.policies import Broken, Policy

from elemta.mail.message import State
from elemta.plugins import Metadata, Plugin, Result, Settings
from elemta.testing import FakeClock, SmtpServer, message


async def test_a_dialogue_goes_as_on_a_real_server():
    async with SmtpServer((Policy, {"recipients": 1})) as server:  # noqa: SIM117 - two lives
        async with await server.connect("203.0.113.9") as client:
            assert client.banner == "220 mx.example.test ESMTP Elemta"
            assert (await client.say("EHLO bad.example.test")).startswith("550 5.7.1 Not you")
            assert (await client.say("EHLO client.test")).startswith("250 mx.example.test\n")
            assert await client.say("MAIL FROM:<a@b.test>") == "250 2.1.0 Sender ok"
            assert (await client.say("RCPT TO:<x@else.test>")).startswith("550 5.7.1")
            assert await client.say("RCPT TO:<u@example.test>") == "250 2.1.5 Recipient ok"
            assert (await client.say("RCPT TO:<v@example.test>")).startswith("550 5.7.1 Too many")
            assert (await client.say("DATA")).startswith("354")
            client.send(b"Subject: hi\r\n\r\n..dot\r\n.\r\n")
            assert (await client.reply()).startswith("250 2.0.0")
            assert (await client.say("QUIT")).startswith("221")
            with pytest.raises(ConnectionError):
                await client.say("NOOP")
    (accepted,) = server.messages
    assert (accepted.sender, accepted.recipients) == ("a@b.test", ("u@example.test",))
    assert accepted.state is State.ACTIVE
    assert b"Received: from client.test ([203.0.113.9])" in accepted.content
    assert b"\r\nX-Subject: hi\r\n" in accepted.content
    assert accepted.content.endswith(b"\r\n\r\n.dot\r\n")
    assert server.error == ""


async def test_a_message_in_one_line():
    async with SmtpServer(Policy) as server:
        async with await server.connect() as client:
            assert (await client.send_mail(content="Subject: x\n\nspam\n.\n")).startswith("250")
        async with await server.connect() as client:
            assert (await client.send_mail(content=b"Subject: x\r\n\r\n.")).startswith("250")
        async with await server.connect() as client:
            assert (await client.send_mail()).startswith("451 4.7.1 Slow down")
            reply = await client.send_mail("other@b.test", "x@else.test")
            assert reply.startswith("550 5.7.1")
        async with await server.connect("127.0.0.1") as client:
            reply = await client.send_mail("", ["x@else.test", "y@example.test"])
            assert reply.startswith("250")
    first, second, third = server.messages
    assert first.state is State.QUARANTINE
    assert b"\r\nspam\r\n.\r\n" in first.content
    assert second.content.endswith(b"\r\n\r\n.\r\n")
    assert (third.sender, len(third.recipients)) == ("", 2)
    assert message().partition(b"\r\n\r\n")[2] in third.content


async def test_lmtp():
    async with SmtpServer(lmtp=True) as server, await server.connect() as client:
        assert client.banner == "220 mx.example.test LMTP Elemta"
        assert (await client.say("LHLO client.test")).startswith("250")
        assert (await client.say("EHLO client.test")).startswith("5")


async def test_plugins_have_the_clock_of_the_test():
    clock = FakeClock()
    async with SmtpServer(Policy, clock=clock) as server:
        for _ in range(2):
            async with await server.connect() as client:
                await client.send_mail()
        async with await server.connect() as client:
            assert (await client.send_mail()).startswith("451")
            clock.advance(61)
            assert (await client.send_mail()).startswith("250")


async def test_what_is_wrong_with_a_plugin_is_told():
    async with SmtpServer(Broken) as server:
        async with await server.connect() as client:
            assert client.banner.startswith("421 4.3.0 Internal error, try again later (id ")
        assert server.error.startswith("KeyError: 'oops'")


async def test_it_has_to_be_started():
    with pytest.raises(RuntimeError, match="async with"):
        await SmtpServer().connect()


class Keeper(Plugin[Settings]):
    metadata = Metadata(name="keeper")

    def on_auth_start(self, ctx):
        return Result.accept() if ctx.password == "opensesame" else None


async def test_logins():
    accounts = {"Me@example.test": "swordfish"}
    async with SmtpServer(accounts=accounts) as server, await server.connect() as client:
        assert "AUTH SCRAM-SHA-256 PLAIN LOGIN" in await client.say("EHLO client.test")
        assert (await client.log_in("me@example.test", "opensesame")).startswith("535")
        assert (await client.log_in("me@example.test", "swordfish")).startswith("235")


async def test_a_plugin_alone_decides_on_logins():
    async with SmtpServer(Keeper) as server, await server.connect() as client:
        assert "AUTH PLAIN LOGIN" in await client.say("EHLO client.test")
        assert (await client.log_in("anybody", "swordfish")).startswith("535")
        assert (await client.log_in("anybody", "opensesame")).startswith("235")


async def test_without_accounts_or_plugins_there_is_no_auth():
    async with SmtpServer() as server, await server.connect() as client:
        assert "AUTH" not in await client.say("EHLO client.test")
        assert (await client.start_tls()).startswith("502")


async def test_tls():
    async with SmtpServer(tls=True) as server:
        async with await server.connect() as client:
            assert "STARTTLS" in await client.say("EHLO client.test")
            assert (await client.start_tls()).startswith("220")
            assert (await client.send_mail()).startswith("250")
        (accepted,) = server.messages
        assert b" with ESMTPS " in accepted.content
