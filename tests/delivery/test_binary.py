"""Content of any octets, for hosts that take it by BDAT (RFC 3030)."""

import pytest
from servers.jobs import Pieces, Text, post, summary, to_port
from servers.next_hop import OFFERS, NextHop

from elemta.delivery import Via
from elemta.mail.errors import CorruptError
from elemta.mail.message import Facts

BODY = bytes(range(256)) * 5 + b"\r\n.\r\n"
SIGNED = b"Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\n" + BODY + b"\r\n--b--"
BINARY = Facts(body="BINARYMIME", has_8bit=True)
ABLE = (*OFFERS, "CHUNKING", "BINARYMIME")
TO = ("a@b.test", "c@b.test")


async def deliver(hop: NextHop, content=None, **options):
    async with hop, post(to_port(hop.port, **options)) as office:
        content = content or Pieces([SIGNED[:100], SIGNED[100:]])
        return await office.send(*TO, content=content, facts=BINARY)


@pytest.mark.parametrize("offers", [ABLE, ABLE[1:]], ids=["pipelined", "turns"])
@pytest.mark.parametrize("content", [Text(SIGNED), Pieces([SIGNED[:99], SIGNED[99:]])])
async def test_it_arrives_as_it_is(offers, content):
    hop = NextHop(offers=offers)
    assert summary(await deliver(hop, content)) == [("delivered", "2.0.0")] * 2
    [taken] = hop.taken
    assert taken.content == SIGNED
    assert taken.recipients == TO
    assert taken.parameters.endswith("BODY=BINARYMIME")


async def test_each_mailbox_answers():
    def answer(stage: str, about: str) -> str | None:
        return "552 5.2.2 full" if (stage, about) == ("dot", TO[1]) else None

    hop = NextHop(answer, lmtp=True, offers=ABLE)
    outcomes = await deliver(hop, via=Via.LMTP)
    assert summary(outcomes) == [("delivered", "2.0.0"), ("failed", "5.2.2")]


@pytest.mark.parametrize(
    ("stage", "reply", "result"),
    [
        ("mail", "550 5.7.1 no", "failed"),
        ("rcpt", "550 5.7.1 no", "failed"),
        ("chunk", "554 5.7.1 no", "failed"),
        ("chunk", "452 4.3.1 full", "deferred"),
        ("chunk", "421 4.3.2 closing", "deferred"),
        ("chunk", "354 what?", "deferred"),
        ("dot", "554 5.6.0 no", "failed"),
    ],
)
async def test_refused(stage, reply, result):
    hop = NextHop(lambda at, _: reply if at == stage else None, offers=ABLE)
    outcomes = await deliver(hop)
    assert [outcome.result.value for outcome in outcomes] == [result] * 2
    assert hop.taken == []


async def test_a_refusal_in_the_middle_leaves_the_connection_usable():
    replies = iter(["554 5.7.1 no"])

    def answer(stage: str, _: str) -> str | None:
        return next(replies, None) if stage == "chunk" else None

    hop = NextHop(answer, offers=ABLE)
    async with hop, post(to_port(hop.port)) as office:
        for expected in ("failed", "delivered"):
            [outcome] = await office.send(content=Text(SIGNED), facts=BINARY)
            assert outcome.result.value == expected
    assert hop.sessions == 1
    assert "RSET" in hop.commands


async def test_content_that_cannot_be_read_is_not_ended():
    hop = NextHop(offers=ABLE)
    async with hop, post(to_port(hop.port)) as office:
        with pytest.raises(CorruptError):
            await office.send(content=Pieces([SIGNED], broken=True), facts=BINARY)
    assert hop.taken == []


@pytest.mark.parametrize("offer", ["CHUNKING", "BINARYMIME"])
async def test_one_of_the_two_offers_is_not_enough(offer):
    hop = NextHop(offers=(*OFFERS, offer))
    assert summary(await deliver(hop)) == [("failed", "5.6.1")] * 2
