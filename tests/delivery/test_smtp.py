"""Transactions with a scripted peer: what each answer, or none, means for each recipient."""

import asyncio
from dataclasses import replace

import pytest
from servers.jobs import (
    CONTENT,
    DEFERRED,
    DELIVERED,
    FAILED,
    SETTINGS,
    Pieces,
    Text,
    post,
    summary,
    to_port,
    until,
)

from elemta.delivery import DeliverySettings
from elemta.delivery.connection import Waits
from elemta.mail.errors import CorruptError, SpoolError
from elemta.mail.message import Facts
from elemta.net import steps
from elemta.testing.peer import OFFERS, Drop, Peer, Raw, Slow

NO_PIPELINING = tuple(offer for offer in OFFERS if offer != "PIPELINING")
both_ways = pytest.mark.parametrize("offers", [OFFERS, NO_PIPELINING], ids=["pipelined", "turns"])


async def deliver(peer: Peer, *recipients: str, **options):
    async with peer, post(to_port(peer.port)) as office:
        return await office.send(*recipients, **options)


class TestGood:
    @both_ways
    async def test_one_recipient(self, offers) -> None:
        peer = Peer(offers=offers)
        [outcome] = await deliver(peer)
        assert outcome.result is DELIVERED
        assert str(outcome.reply) == "250 2.0.0 taken"
        assert outcome.remote == "127.0.0.1"
        assert outcome.address == f"127.0.0.1:{peer.port}"
        assert outcome.method == "smtp"
        assert outcome.tls == ""
        [session] = peer.sessions
        assert session.commands == [
            "EHLO me.test",
            f"MAIL FROM:<ann@example.test> SIZE={len(CONTENT)}",
            "RCPT TO:<bob@example.org>",
            "DATA",
            "QUIT",
        ]
        assert session.contents == [CONTENT.replace(b"\r\n.", b"\r\n..") + b".\r\n"]
        assert not session.early

    async def test_the_envelope_leaves_in_one_piece(self) -> None:
        """With PIPELINING nothing is waited for before DATA: even a late MAIL reply."""
        late = asyncio.Event()
        peer = Peer({"mail": Slow(late, "250 ok")})
        async with peer, post(to_port(peer.port)) as office:
            sending = asyncio.ensure_future(office.send("a@b.test", "c@d.test"))
            while len(peer.commands) < 2:
                await asyncio.sleep(0)
            late.set()
            assert [outcome.result for outcome in await sending] == [DELIVERED] * 2

    @both_ways
    async def test_null_sender(self, offers) -> None:
        peer = Peer(offers=offers)
        await deliver(peer, sender=None)
        assert peer.commands[1].startswith("MAIL FROM:<> ")

    async def test_pieces_and_a_final_line_without_end(self) -> None:
        peer = Peer()
        content = Pieces([b"a\r", b"\n", b".", b"b\r\n.", b"\r\nend"])
        [outcome] = await deliver(peer, content=content)
        assert outcome.result is DELIVERED
        assert peer.contents == [b"a\r\n..b\r\n..\r\nend\r\n.\r\n"]

    async def test_large_content_in_pieces(self) -> None:
        peer = Peer()
        line = b"0123456789" * 7 + b"\r\n"
        [outcome] = await deliver(peer, content=Pieces([line * 3000] * 20))
        assert outcome.result is DELIVERED
        assert peer.contents == [line * 60000 + b".\r\n"]

    async def test_empty_content(self) -> None:
        peer = Peer()
        [outcome] = await deliver(peer, content=Text(b""))
        assert outcome.result is DELIVERED
        assert peer.contents == [b".\r\n"]

    async def test_multi_line_replies(self) -> None:
        peer = Peer({"greeting": "220-a\r\n220 b", "mail": "250-2.1.0 a\r\n250 2.1.0 b"})
        [outcome] = await deliver(peer)
        assert outcome.result is DELIVERED

    async def test_steps(self, monkeypatch) -> None:
        seen: list[str] = []
        monkeypatch.setattr(steps, "on_step", seen.append)
        await deliver(Peer())
        assert seen == ["smtp.before_dot", "smtp.after_dot", "smtp.after_reply"]


REFUSALS = [
    ("mail", "451 4.3.0 later", DEFERRED),
    ("mail", "550 5.7.1 no", FAILED),
    ("rcpt", "450 4.2.1 later", DEFERRED),
    ("rcpt", "550 5.1.1 no", FAILED),
    ("data", "451 4.3.0 later", DEFERRED),
    ("data", "554 5.7.1 no", FAILED),
    ("dot", "451 4.3.0 later", DEFERRED),
    ("dot", "554 5.6.0 no", FAILED),
    ("dot", "421 4.3.2 closing", DEFERRED),
]


class TestRefused:
    @both_ways
    @pytest.mark.parametrize(("stage", "reply", "result"), REFUSALS)
    async def test_at_each_stage(self, offers, stage, reply, result) -> None:
        peer = Peer({stage: reply}, offers=offers)
        if stage == "mail":
            peer.script |= {"rcpt": "503 5.5.1 no MAIL", "data": "503 5.5.1 no MAIL"}
        if stage == "rcpt":
            peer.script |= {"data": "554 5.5.1 no recipients"}
        outcomes = await deliver(peer, "bob@example.org", "eve@example.org")
        assert [outcome.result for outcome in outcomes] == [result] * 2
        assert [str(outcome.reply) for outcome in outcomes] == [reply] * 2
        assert len(peer.sessions) == 1

    @both_ways
    @pytest.mark.parametrize("stage", ["greeting", "ehlo", "mail", "rcpt", "data", "dot"])
    async def test_421_at_each_stage(self, offers, stage) -> None:
        outcomes = await deliver(
            Peer({stage: Drop("421 4.3.2 closing")}, offers=offers), "a@b.test", "c@b.test"
        )
        assert summary(outcomes) == [("deferred", "4.3.2")] * 2
        assert outcomes[0].reply.text == "closing"

    @both_ways
    @pytest.mark.parametrize("stage", ["greeting", "ehlo", "mail", "rcpt", "data", "dot"])
    async def test_drop_at_each_stage(self, offers, stage) -> None:
        outcomes = await deliver(Peer({stage: Drop()}, offers=offers), "a@b.test", "c@b.test")
        assert summary(outcomes) == [("deferred", "4.4.2")] * 2
        assert ("may have been delivered" in outcomes[0].reply.text) == (stage == "dot")

    @both_ways
    async def test_recipients_have_fates_of_their_own(self, offers) -> None:
        replies = ["250 2.1.5 ok", "550 5.1.1 no", "450 4.2.1 later", "251 2.1.5 moved"]
        peer = Peer({"rcpt": replies}, offers=offers)
        outcomes = await deliver(peer, "a@b.test", "c@b.test", "d@b.test", "e@b.test")
        assert summary(outcomes) == [
            ("delivered", "2.0.0"),
            ("failed", "5.1.1"),
            ("deferred", "4.2.1"),
            ("delivered", "2.0.0"),
        ]

    @both_ways
    async def test_a_refused_recipient_stays_refused_when_the_session_ends(self, offers) -> None:
        peer = Peer({"rcpt": ["550 5.1.1 no", "250 ok"], "data": Drop()}, offers=offers)
        outcomes = await deliver(peer, "a@b.test", "c@b.test")
        assert summary(outcomes) == [("failed", "5.1.1"), ("deferred", "4.4.2")]

    async def test_data_accepted_although_nobody_is_left(self) -> None:
        """RFC 2920 §3.1: an empty message is sent and its fate ignored; the session goes on."""
        peer = Peer({"rcpt": ["550 5.1.1 no", "250 ok"]})
        async with peer, post(to_port(peer.port)) as office:
            assert summary(await office.send()) == [("failed", "5.1.1")]
            assert summary(await office.send()) == [("delivered", "2.0.0")]
        [session] = peer.sessions
        assert session.contents[0] == b".\r\n"
        assert session.verbs().count("RSET") == 0

    async def test_mail_refused_but_the_rest_accepted(self) -> None:
        peer = Peer({"mail": "550 5.7.1 not from you"})
        assert summary(await deliver(peer, "a@b.test", "c@b.test")) == [("failed", "5.7.1")] * 2
        assert peer.contents == [b".\r\n"]

    async def test_the_reason_is_made_harmless(self) -> None:
        raw = Raw("550 5.7.1 \x1b[2Jgo\u202eaway\x85now\r\n".encode())
        [outcome] = await deliver(Peer({"dot": raw}))
        assert str(outcome.reply) == "550 5.7.1 [2Jgo away now"


class TestTooMany:
    @both_ways
    @pytest.mark.parametrize(
        "reply", ["452 4.5.3 too many", "452 too many", "552 too many", "552 5.5.3 too many"]
    )
    async def test_the_rest_goes_at_once(self, offers, reply) -> None:
        peer = Peer({"rcpt": ["250 ok", "250 ok", reply]}, offers=offers)
        outcomes = await deliver(peer, "a@b.test", "c@b.test", "d@b.test", "e@b.test")
        assert [each.result for each in outcomes] == [DELIVERED] * 2 + [DEFERRED] * 2
        assert [each.retry_at_once for each in outcomes] == [False] * 2 + [True] * 2
        assert not any(each.reply.is_permanent for each in outcomes)

    @pytest.mark.parametrize(
        ("reply", "result"),
        [("452 4.2.2 mailbox full", DEFERRED), ("552 5.2.2 mailbox full", FAILED)],
    )
    async def test_a_full_mailbox_is_not_too_many(self, reply, result) -> None:
        outcomes = await deliver(Peer({"rcpt": ["250 ok", reply]}), "a@b.test", "c@b.test")
        assert outcomes[1].result is result
        assert not outcomes[1].retry_at_once

    @pytest.mark.parametrize("script", [{"rcpt": "452 4.5.3 no"}, {"dot": "451 4.3.0 later"}])
    async def test_not_at_once_without_progress(self, script) -> None:
        peer = Peer({"rcpt": ["250 ok", "452 4.5.3 too many"]} | script)
        outcomes = await deliver(peer, "a@b.test", "c@b.test")
        assert [each.result for each in outcomes] == [DEFERRED] * 2
        assert not any(each.retry_at_once for each in outcomes)


class TestBrokenPeer:
    @pytest.mark.parametrize("stage", ["greeting", "ehlo", "mail", "rcpt", "data", "dot"])
    @pytest.mark.parametrize(
        "raw",
        [
            b"HTTP/1.1 400 Bad\r\n",
            b"250-a\r\n251 b\r\n",
            b"250 " + b"x" * 5000,
            b"\r\n",
            b"2\0\r\n",
        ],
    )
    async def test_malformed_replies(self, stage, raw) -> None:
        [outcome] = await deliver(Peer({stage: Raw(raw)}))
        assert outcome.result is DEFERRED
        assert outcome.reply.enhanced == "4.5.0"

    @both_ways
    @pytest.mark.parametrize("stage", ["mail", "rcpt", "dot"])
    async def test_an_answer_of_the_wrong_kind(self, offers, stage) -> None:
        assert summary(await deliver(Peer({stage: "354 go ahead"}, offers=offers))) == [
            ("deferred", "4.5.0")
        ]

    async def test_250_to_data(self) -> None:
        peer = Peer({"data": "250 ok"})
        assert summary(await deliver(peer)) == [("deferred", "4.5.0")]
        assert peer.contents == []

    async def test_an_answer_before_the_content(self) -> None:
        """A 250 that comes with the 354 must not pass for the answer to the content."""
        peer = Peer({"data": Raw(b"354 go ahead\r\n250 2.0.0 taken\r\n")})
        assert summary(await deliver(peer)) == [("deferred", "4.5.0")]
        assert peer.contents == []

    async def test_a_refusal_before_the_content(self) -> None:
        peer = Peer({"data": Raw(b"354 go ahead\r\n554 5.7.1 never mind\r\n")})
        assert summary(await deliver(peer)) == [("failed", "5.7.1")]
        assert peer.contents == []

    @pytest.mark.parametrize(
        ("last", "expected"),
        [
            ("552 5.3.4 enough", ("failed", "5.3.4")),
            ("421 4.3.2 closing", ("deferred", "4.3.2")),
            ("", ("deferred", "4.4.2")),
        ],
    )
    async def test_an_end_in_the_middle_of_the_content(self, last, expected) -> None:
        peer = Peer({"content": Drop(last)})
        content = Pieces([b"a line of text\r\n" * 16384] * 40)
        assert summary(await deliver(peer, content=content)) == [expected]
        assert peer.contents == []

    async def test_a_refusal_in_the_middle_of_the_content(self) -> None:
        """The peer goes on reading, but the content is never ended: its answer is known."""
        peer = Peer({"content": ["552 5.3.4 enough", ""]})
        content = Pieces([b"a line of text\r\n" * 16384] * 40)
        async with peer, post(to_port(peer.port)) as office:
            assert summary(await office.send(content=content)) == [("failed", "5.3.4")]
            await until(lambda: not peer._tasks)
        assert peer.contents == []

    async def test_an_extra_reply_after_the_end(self) -> None:
        """The message counts as delivered; the connection is not trusted any more."""
        peer = Peer({"dot": Raw(b"250 2.0.0 ok\r\n250 2.0.0 ok\r\n")})
        async with peer, post(to_port(peer.port)) as office:
            for _ in range(2):
                assert summary(await office.send()) == [("delivered", "2.0.0")]
        assert len(peer.sessions) == 2

    async def test_silence(self) -> None:
        forever = asyncio.Event()
        impatient = DeliverySettings(hostname="me.test", timeout=0.05)
        for stage in ("greeting", "mail", "dot"):
            peer = Peer({stage: Slow(forever, "250 ok")})
            async with peer, post(to_port(peer.port), impatient) as office:
                [outcome] = await office.send()
            assert outcome.result is DEFERRED
            assert outcome.reply.enhanced == "4.4.2"
            assert "timed out" in outcome.reply.text

    async def test_a_reply_that_never_ends(self) -> None:
        """Each octet is news, and yet the wait is for the whole reply."""
        impatient = DeliverySettings(hostname="me.test", timeout=0.1)
        gone = asyncio.Event()

        async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while not writer.is_closing():
                    writer.write(b"220-x\r\n")
                    await writer.drain()
                    await asyncio.sleep(0.05)
            except OSError:
                pass
            finally:
                writer.close()
                gone.set()

        server = await asyncio.start_server(drip, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with asyncio.timeout(30), server, post(to_port(port), impatient) as office:
            assert summary(await office.send()) == [("deferred", "4.4.2")]
            await gone.wait()  # the server has seen that we have gone

    async def test_replies_that_are_each_just_in_time(self) -> None:
        """Together they must not take for ever."""

        def late(_command: str) -> Slow:
            come = asyncio.Event()
            asyncio.get_running_loop().call_later(0.25, come.set)
            return Slow(come, "250 2.1.5 ok")

        patient = DeliverySettings(hostname="me.test", timeout=1.0)
        peer = Peer({"rcpt": late}, offers=())
        everyone = [f"u{number}@b.test" for number in range(100)]
        async with peer, post(to_port(peer.port), patient) as office:
            outcomes = await office.send(*everyone)
        assert summary(outcomes) == [("deferred", "4.4.2")] * 100
        assert peer.contents == []
        assert len(peer.sessions[0].commands) < 50

    async def test_a_peer_that_does_not_read(self) -> None:
        # of this wait a part is for content; all that comes before it must be in time
        impatient = DeliverySettings(hostname="me.test", timeout=1.5)
        forever = asyncio.Event()
        peer = Peer({"content": Slow(forever, "")})
        async with peer, post(to_port(peer.port), impatient) as office:
            [outcome] = await office.send(content=Pieces([b"x" * 70 + b"\r\n"] * 300_000))
        assert summary([outcome]) == [("deferred", "4.4.2")]
        assert "while the content was sent" in outcome.reply.text


class TestContent:
    @pytest.mark.parametrize(
        "pieces",
        [
            [b"a\r\n", b".\n", b"MAIL FROM:<x@y.test>\r\n"],
            [b"a\n", b".\r\nMAIL FROM:<x@y.test>\r\n"],
            [b"a\r\n\0.\r\n"],
            [b"a\r\n\r"],
            [b"a\r", b".\r\n"],
        ],
    )
    @pytest.mark.parametrize("at_hand", [True, False])
    async def test_what_could_smuggle_is_never_ended(self, pieces, at_hand) -> None:
        peer = Peer()
        content = Text(b"".join(pieces)) if at_hand else Pieces(pieces)
        async with peer, post(to_port(peer.port)) as office:
            assert summary(await office.send(content=content)) == [("failed", "5.6.0")]
            assert office.delivery.pool.idle == 0
        assert peer.contents == []
        assert "QUIT" not in peer.commands

    async def test_corrupt_content_is_never_ended(self) -> None:
        peer = Peer()
        async with peer, post(to_port(peer.port)) as office:
            with pytest.raises(CorruptError):
                await office.send(content=Pieces([CONTENT], broken=True))
            assert office.delivery.pool.in_use == 0
        assert peer.contents == []

    @pytest.mark.parametrize("error", [CorruptError, SpoolError])
    async def test_content_that_goes_after_some_have_it(self, error: type[SpoolError]) -> None:
        """They must not get it again: the others wait, and the next attempt tells."""

        class Rotting(Pieces):
            is_gone = False

            async def chunks(self):
                if self.is_gone:
                    raise error("it cannot be read")
                async for chunk in super().chunks():
                    yield chunk
                self.is_gone = True

        peer = Peer()
        settings = replace(SETTINGS, recipients_per_transaction=2)
        async with peer, post(to_port(peer.port), settings) as office:
            outcomes = await office.send(
                *(f"u{n}@b.test" for n in range(5)), content=Rotting([CONTENT])
            )
        assert summary(outcomes) == [("delivered", "2.0.0")] * 2 + [("deferred", "4.3.0")] * 3
        assert len(peer.contents) == 1

    async def test_too_large_for_the_next_hop(self) -> None:
        peer = Peer(offers=("PIPELINING", "SIZE 20"))
        async with peer, post(to_port(peer.port)) as office:
            assert summary(await office.send()) == [("failed", "5.3.4")]
            assert summary(await office.send(content=Text(b"small\r\n"))) == [
                ("delivered", "2.0.0")
            ]
        assert peer.sessions[0].verbs() == ["EHLO", "MAIL", "RCPT", "DATA", "QUIT"]


class TestWidth:
    async def test_8bit_content(self) -> None:
        peer = Peer()
        await deliver(peer, facts=Facts(has_8bit=True))
        assert peer.commands[1].endswith(" BODY=8BITMIME")

    async def test_8bit_content_without_8bitmime(self) -> None:
        """In a header field it cannot be converted."""
        peer = Peer(offers=("PIPELINING", "SMTPUTF8"))
        content = Text("Subject: Grüße\r\n\r\nplain\r\n".encode())
        outcomes = await deliver(peer, content=content, facts=Facts(has_8bit=True))
        assert summary(outcomes) == [("failed", "5.6.3")]
        assert "MAIL" not in [command[:4] for command in peer.commands]

    async def test_declared_8bit_but_is_not(self) -> None:
        peer = Peer(offers=("PIPELINING",))
        assert summary(await deliver(peer, facts=Facts(body="8BITMIME"))) == [
            ("delivered", "2.0.0")
        ]
        assert "BODY" not in peer.commands[1]

    @pytest.mark.parametrize(
        ("sender", "recipient", "facts"),
        [
            ("grün@example.test", "bob@example.org", Facts(smtputf8=True)),
            ("ann@example.test", "grün@example.org", Facts(smtputf8=True)),
            ("ann@example.test", "bob@example.org", Facts(smtputf8=True, has_8bit=True)),
        ],
    )
    async def test_smtputf8(self, sender, recipient, facts) -> None:
        peer = Peer()
        await deliver(peer, recipient, sender=sender, facts=facts)
        assert peer.commands[1].endswith(" SMTPUTF8")
        peer = Peer(offers=("PIPELINING", "8BITMIME"))
        outcomes = await deliver(peer, recipient, sender=sender, facts=facts)
        assert summary(outcomes) == [("failed", "5.6.7")]
        assert peer.contents == []

    async def test_smtputf8_declared_but_not_needed(self) -> None:
        peer = Peer(offers=("PIPELINING",))
        outcomes = await deliver(peer, facts=Facts(smtputf8=True))
        assert summary(outcomes) == [("delivered", "2.0.0")]
        assert "SMTPUTF8" not in peer.commands[1]

    async def test_only_some_recipients_need_smtputf8(self) -> None:
        peer = Peer(offers=("PIPELINING",))
        outcomes = await deliver(peer, "a@b.test", "grün@b.test", "c@b.test")
        assert summary(outcomes) == [
            ("delivered", "2.0.0"),
            ("failed", "5.6.7"),
            ("delivered", "2.0.0"),
        ]
        assert [line for line in peer.commands if line.startswith("RCPT")] == [
            "RCPT TO:<a@b.test>",
            "RCPT TO:<c@b.test>",
        ]


class TestManyRecipients:
    async def test_batches(self) -> None:
        peer = Peer()
        settings = DeliverySettings(hostname="me.test", recipients_per_transaction=3)
        names = [f"u{n}@b.test" for n in range(8)]
        async with peer, post(to_port(peer.port), settings) as office:
            outcomes = await office.send(*names)
        assert [outcome.result for outcome in outcomes] == [DELIVERED] * 8
        assert len(peer.contents) == 3
        assert len(peer.sessions) == 1
        told = [line for line in peer.commands if line.startswith("RCPT")]
        assert told == [f"RCPT TO:<{name}>" for name in names]

    async def test_nobody_there_is_found_out_once(self) -> None:
        peer = Peer({"greeting": "421 4.3.2 not now"})
        settings = DeliverySettings(hostname="me.test", recipients_per_transaction=2)
        async with peer, post(to_port(peer.port), settings) as office:
            outcomes = await office.send(*(f"u{n}@b.test" for n in range(7)))
        assert summary(outcomes) == [("deferred", "4.3.2")] * 7
        assert len(peer.sessions) == 1

    async def test_a_hundred(self) -> None:
        peer = Peer({"rcpt": lambda line: "550 5.1.1 no" if "7@" in line else "250 ok"})
        outcomes = await deliver(peer, *(f"u{n}@b.test" for n in range(100)))
        for number, outcome in enumerate(outcomes):
            assert outcome.result is (FAILED if number % 10 == 7 else DELIVERED)


def test_waits_keep_the_proportion_of_the_rfc() -> None:
    assert Waits.scaled(300) == Waits(command=300, data=120, block=180, dot=600)
