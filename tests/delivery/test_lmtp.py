"""LMTP: after the content one reply for each recipient (RFC 2033), on TCP and unix sockets."""

import asyncio

import pytest
from servers.dovecot import run_dovecot
from servers.jobs import CONTENT, DELIVERED, Pieces, Text, post, summary, to_port, until
from servers.smtp_sink import run_smtp_sink

from elemta.delivery import Route, Via
from elemta.testing.peer import OFFERS, Drop, Peer

NO_PIPELINING = tuple(offer for offer in OFFERS if offer != "PIPELINING")
both_ways = pytest.mark.parametrize("offers", [OFFERS, NO_PIPELINING], ids=["pipelined", "turns"])


def mailboxes(peer: Peer):
    return post(to_port(peer.port, via=Via.LMTP))


class TestScripted:
    @both_ways
    async def test_each_recipient_has_an_answer_of_its_own(self, offers) -> None:
        dots = ["250 2.0.0 a", "552 5.2.2 full", "452 4.2.2 full for now"]
        peer = Peer(
            {"rcpt": ["250 ok", "550 5.1.1 no", "250 ok"], "dot": dots}, offers=offers, lmtp=True
        )
        async with peer, mailboxes(peer) as office:
            outcomes = await office.send("a@b.test", "c@b.test", "d@b.test", "e@b.test")
        assert summary(outcomes) == [
            ("delivered", "2.0.0"),
            ("failed", "5.1.1"),
            ("failed", "5.2.2"),
            ("deferred", "4.2.2"),
        ]
        assert {outcome.method for outcome in outcomes} == {"lmtp"}
        assert peer.commands[0] == "LHLO me.test"

    async def test_one_connection_for_many_messages(self) -> None:
        async with Peer(lmtp=True) as peer, mailboxes(peer) as office:
            for _ in range(3):
                assert (
                    summary(await office.send("a@b.test", "c@b.test"))
                    == [("delivered", "2.0.0")] * 2
                )
        [session] = peer.sessions
        assert "RSET" not in session.verbs()

    async def test_lost_between_the_answers(self) -> None:
        peer = Peer({"dot": ["250 2.0.0 a", Drop()]}, lmtp=True)
        async with peer, mailboxes(peer) as office:
            outcomes = await office.send("a@b.test", "c@b.test", "d@b.test")
        assert summary(outcomes) == [("delivered", "2.0.0")] + [("deferred", "4.4.2")] * 2

    async def test_too_few_answers_and_421(self) -> None:
        peer = Peer({"dot": ["250 2.0.0 a", Drop("421 4.3.2 closing")]}, lmtp=True)
        async with peer, mailboxes(peer) as office:
            outcomes = await office.send("a@b.test", "c@b.test", "d@b.test")
        assert [outcome.result.value for outcome in outcomes] == ["delivered"] + ["deferred"] * 2

    async def test_content_wanted_although_nobody_is_left(self) -> None:
        """No reply would ever come for it (RFC 2033 §4.2): the session ends."""
        peer = Peer({"rcpt": ["550 5.1.1 no", "250 ok"]}, lmtp=True)
        async with peer, mailboxes(peer) as office:
            assert summary(await office.send()) == [("failed", "5.1.1")]
            assert summary(await office.send()) == [("delivered", "2.0.0")]
        assert len(peer.sessions) == 2

    async def test_lhlo_refused_means_no_lmtp(self) -> None:
        peer = Peer({"ehlo": "500 5.5.1 what?"}, lmtp=True)
        async with peer, mailboxes(peer) as office:
            assert summary(await office.send()) == [("deferred", "4.3.2")]
            await until(lambda: peer.commands == ["LHLO me.test", "QUIT"])

    async def test_unix_socket(self, tmp_path) -> None:
        path = tmp_path / "s"
        route = Route(("*",), Via.LMTP, path=str(path))
        async with Peer(lmtp=True, path=path) as peer, post(route) as office:
            [outcome] = await office.send()
        assert outcome.result is DELIVERED
        assert outcome.address == str(path)
        assert len(peer.contents) == 1

    async def test_no_unix_socket(self, tmp_path) -> None:
        async with post(Route(("*",), Via.LMTP, path=f"{tmp_path}/s")) as office:
            [outcome] = await office.send()
        assert summary([outcome]) == [("deferred", "4.4.1")]
        assert outcome.address == f"{tmp_path}/s"
        assert outcome.method == "lmtp"


class TestSmtpSink:
    @pytest.mark.parametrize(("via", "options"), [(Via.SMTP, ()), (Via.LMTP, ("-L",))])
    async def test_many_messages(self, tmp_path, via, options) -> None:
        with run_smtp_sink(tmp_path, *options) as port:
            async with post(to_port(port, via=via)) as office:

                async def send_some() -> None:
                    for _ in range(20):
                        outcomes = await office.send("a@b.test", "c@b.test")
                        assert [outcome.result for outcome in outcomes] == [DELIVERED] * 2

                await asyncio.gather(*(send_some() for _ in range(5)))
                assert office.delivery.pool.opened == 5

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            (("-r", "MAIL"), "deferred"),
            (("-r", "RCPT"), "deferred"),
            (("-r", "DATA"), "deferred"),
            (("-r", "."), "deferred"),
            (("-f", "MAIL"), "failed"),
            (("-f", "RCPT"), "failed"),
            (("-f", "DATA"), "failed"),
            (("-f", "."), "failed"),
            (("-q", "MAIL"), "deferred"),
            (("-q", "RCPT"), "deferred"),
            (("-q", "DATA"), "deferred"),
            (("-q", "."), "deferred"),
            (("-f", "EHLO"), "delivered"),
            (("-p",), "delivered"),
            (("-8",), "delivered"),
        ],
    )
    async def test_faults(self, tmp_path, options, expected) -> None:
        with run_smtp_sink(tmp_path, *options) as port:
            async with post(to_port(port)) as office:
                outcomes = await office.send("a@b.test", "c@b.test")
        assert [outcome.result.value for outcome in outcomes] == [expected] * 2


class TestDovecot:
    @pytest.mark.parametrize("over", ["tcp", "unix"])
    async def test_mailboxes(self, over) -> None:
        users = {"bob@example.test": "", "full@example.test": "1K"}
        big = Text(b"Subject: big\r\n\r\n" + b"x" * 70 + b"\r\n" + b"y" * 900 + b"\r\n" * 400)
        with run_dovecot(users) as server:
            route = to_port(server.port, via=Via.LMTP)
            if over == "unix":
                route = Route(("*",), Via.LMTP, path=str(server.socket))
            async with post(route) as office:
                outcomes = await office.send(
                    "bob@example.test", "nobody@example.test", "full@example.test", content=big
                )
                assert [(each.result.value, each.reply.enhanced) for each in outcomes] == [
                    ("delivered", "2.0.0"),
                    ("failed", "5.1.1"),
                    ("failed", "5.2.2"),
                ]
                content = Pieces([CONTENT[:20], CONTENT[20:]])
                assert summary(await office.send("bob@example.test", content=content)) == [
                    ("delivered", "2.0.0")
                ]
            assert office.delivery.pool.opened == 1
            kept = server.mailbox("bob@example.test")
        assert len(kept) == 2
        assert any(mail.endswith(CONTENT.replace(b"\r\n", b"\n")) for mail in kept)
