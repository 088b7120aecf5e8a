"""Content that a next hop cannot take as it is: converted, returned or passed on all the same."""

import base64
import email
from dataclasses import dataclass, field

import pytest
from servers.jobs import Pieces, Text, post, summary, to_port

from elemta.delivery.settings import Conversion, LongLines
from elemta.mail.message import Facts
from elemta.testing.peer import OFFERS, Peer

OLD = ("PIPELINING", "SIZE 50000000")
BODY = "Grüße aus Köln\r\n.\r\n".encode() + b"and many words that are plain\r\n" * 9
WIDE = b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + BODY
SIGNED = b"Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\n" + BODY + b"\r\n--b--\r\n"
LONG = b"Subject: x\r\n\r\n" + b"word " * 300 + b"\r\n"
EIGHT_BIT = Facts(body="8BITMIME", has_8bit=True)
BINARY = Facts(body="BINARYMIME", has_8bit=True)


@dataclass
class Sent:
    """What came of a delivery."""

    outcomes: list
    peer: Peer = field(repr=False)

    @property
    def summary(self) -> tuple[str, str | None]:
        [one] = summary(self.outcomes)
        return one

    @property
    def taken(self) -> bytes:
        [content] = self.peer.contents
        return content.removesuffix(b".\r\n").replace(b"\r\n..", b"\r\n.")

    @property
    def mail(self) -> str:
        [line] = [each for each in self.peer.commands if each.startswith("MAIL")]
        return line


async def send(content, facts: Facts, offers=OLD, **options) -> Sent:
    lmtp = options.pop("lmtp", False)
    peer = Peer(offers=offers, lmtp=lmtp)
    async with peer, post(to_port(peer.port, **options)) as office:
        return Sent(await office.send(content=content, facts=facts), peer)


@pytest.mark.parametrize(
    "content", [Text(WIDE), Pieces([WIDE[:100], WIDE[100:101], WIDE[101:]])], ids=["text", "pieces"]
)
async def test_8_bit_for_a_host_that_takes_7(content):
    sent = await send(content, EIGHT_BIT)
    assert sent.summary == ("delivered", "2.0.0")
    assert sent.taken.isascii()
    message = email.message_from_bytes(sent.taken)
    assert message.get_payload(decode=True) == BODY
    assert message["Content-Transfer-Encoding"] == "quoted-printable"
    assert "BODY" not in sent.mail
    declared = int(sent.mail.rpartition("SIZE=")[2])
    assert abs(declared - len(sent.taken)) < 50


async def test_nothing_is_touched_where_it_need_not_be():
    for facts, content in ((EIGHT_BIT, WIDE), (Facts(), LONG), (EIGHT_BIT, SIGNED)):
        sent = await send(Text(content), facts, OFFERS)
        assert sent.summary == ("delivered", "2.0.0")
        assert sent.taken == content


@pytest.mark.parametrize(("facts", "code"), [(EIGHT_BIT, "5.6.3"), (BINARY, "5.6.1")])
async def test_what_cannot_be_converted_is_returned(facts, code):
    for content, options in ((SIGNED, {}), (WIDE, {"conversion": Conversion.BOUNCE})):
        sent = await send(Text(content), facts, **options)
        assert sent.summary == ("failed", code)
        assert sent.peer.sessions[0].verbs() == ["EHLO", "QUIT"]
    text = sent.outcomes[0].reply.text
    assert "the next hop does not take" in text


async def test_binary():
    body = bytes(range(256)) * 4
    head = (
        b"MIME-Version: 1.0\r\nContent-Type: image/x\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    )
    sent = await send(Text(head + body), BINARY, OFFERS)
    assert sent.summary == ("delivered", "2.0.0")
    head, _, encoded = sent.taken.partition(b"\r\n\r\n")
    assert head.endswith(b"Content-Transfer-Encoding: base64")
    assert base64.b64decode(encoded) == body
    assert sent.mail.endswith(" BODY=8BITMIME")


async def test_long_lines_are_the_route_s_business():
    for content in (Text(LONG), Pieces([LONG[:500], LONG[500:]])):
        sent = await send(content, Facts(), OFFERS, long_lines=LongLines.CONVERT)
        assert sent.summary == ("delivered", "2.0.0")
        assert max(map(len, sent.taken.split(b"\r\n"))) <= 76
        assert (
            email.message_from_bytes(sent.taken).get_payload(decode=True)
            == (LONG.partition(b"\r\n\r\n")[2])
        )
        sent = await send(content, Facts(), OFFERS, long_lines=LongLines.BOUNCE)
        assert sent.summary == ("failed", "5.6.0")
    for limit in (LongLines.CONVERT, LongLines.BOUNCE):
        sent = await send(Text(WIDE), EIGHT_BIT, OFFERS, long_lines=limit)
        assert sent.taken == WIDE


async def test_a_signature_outweighs_long_lines():
    signed = SIGNED.replace(BODY, b"x" * 1200)
    sent = await send(Text(signed), Facts(), OFFERS, long_lines=LongLines.CONVERT)
    assert sent.taken == signed
