"""`elemta send` against a server that does as its script says."""

import asyncio
import json
import re
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from elemta.cli.main import cli
from elemta.testing.peer import Drop, Peer

FROM_TO = ("--from", "a@example.test", "--to", "b@example.test")


async def send(peer: Peer | None, *arguments: str, stdin: bytes | None = None) -> Result:
    server = ("--server", f"127.0.0.1:{peer.port}") if peer is not None else ()
    return await asyncio.to_thread(
        CliRunner().invoke, cli, ["send", *arguments, *server], input=stdin
    )


async def test_a_message_is_built():
    async with Peer({"dot": "250 2.0.0 Ok: queued as 0123456789ABC"}) as peer:
        result = await send(peer, *FROM_TO, "--subject", "Grüße", "--body", "one\n.two\nthree")
        assert result.exit_code == 0, result.output
        assert result.output == "250 2.0.0 Ok: queued as 0123456789ABC\n"
        (session,) = peer.sessions
    assert session.verbs() == ["EHLO", "MAIL", "RCPT", "DATA", "QUIT"]
    assert not session.early
    (content,) = session.contents
    head, _, body = content.partition(b"\r\n\r\n")
    size = len(content) - len(b".") - len(b".\r\n")  # without the doubled dot and the end
    assert session.commands[1:3] == [
        f"MAIL FROM:<a@example.test> SIZE={size}",
        "RCPT TO:<b@example.test>",
    ]
    assert body == b"one\r\n..two\r\nthree\r\n.\r\n"
    assert b"From: a@example.test\r\nTo: b@example.test\r\nSubject: =?utf-8?" in head.replace(
        b"UTF-8", b"utf-8"
    )
    assert re.search(rb"\r\nDate: [A-Z][a-z]{2}, \d\d ", head)
    assert re.search(rb"\r\nMessage-ID: <[0-9a-f]{24}@example\.test>\r\n", head)


async def test_json():
    script = {
        "rcpt": ["250 ok", "550 5.1.1 nobody"],
        "dot": "250 2.0.0 Ok: queued as 0123456789ABC",
    }
    async with Peer(script) as peer:
        result = await send(peer, *FROM_TO, "--to", "c@example.test", "--body", "x", "--json")
    assert result.exit_code == 69
    assert json.loads(result.stdout) == {
        "queue_id": "0123456789ABC",
        "reply": {"code": 250, "enhanced": "2.0.0", "text": "Ok: queued as 0123456789ABC"},
        "refused": [
            {"recipient": "c@example.test", "code": 550, "enhanced": "5.1.1", "text": "nobody"}
        ],
    }


async def test_a_message_is_passed_through(tmp_path):
    raw = b"Subject: raw\nFrom: x\n\nbody\r\nwith \xff octets"
    path = tmp_path / "message.eml"
    path.write_bytes(raw)
    async with Peer() as peer:
        for arguments, stdin in (((str(path),), None), ((), raw), (("-",), raw)):
            result = await send(peer, *FROM_TO, *arguments, stdin=stdin)
            assert result.exit_code == 0, result.output
        expected = b"Subject: raw\r\nFrom: x\r\n\r\nbody\r\nwith \xff octets\r\n.\r\n"
        assert peer.contents == [expected] * 3
        size = len(expected) - len(b"\r\n.\r\n")
        mail = f"MAIL FROM:<a@example.test> SIZE={size} BODY=8BITMIME"
        assert peer.commands.count(mail) == 3


async def test_the_null_sender_and_wide_addresses():
    async with Peer() as peer:
        result = await send(peer, "--from", "<>", "--to", "jürgen@bücher.example", "--subject", "ü")
        assert result.exit_code == 0, result.output
        assert peer.commands[1].startswith("MAIL FROM:<> SIZE=")
        assert peer.commands[1].endswith(" BODY=8BITMIME SMTPUTF8")
        assert peer.commands[2] == "RCPT TO:<jürgen@xn--bcher-kva.example>"
        assert "Subject: ü\r\n".encode() in peer.contents[0]


@pytest.mark.parametrize(
    ("script", "status", "said"),
    [
        ({"greeting": "554 5.3.2 no"}, 69, "554 5.3.2 no"),
        ({"greeting": "421 4.3.2 later"}, 75, "421 4.3.2 later"),
        ({"ehlo": "550 5.7.1 who?"}, 69, "550 5.7.1 who?"),
        ({"mail": "451 4.3.0 later"}, 75, "451 4.3.0 later"),
        ({"rcpt": "550 5.7.1 Relaying denied"}, 69, "550 5.7.1 Relaying denied"),
        ({"rcpt": "452 4.2.2 full"}, 75, "452 4.2.2 full"),
        ({"data": "554 5.0.0 no"}, 69, "554 5.0.0 no"),
        ({"dot": "552 5.3.4 too big"}, 69, "552 5.3.4 too big"),
        ({"dot": "452 4.3.1 full"}, 75, "452 4.3.1 full"),
        ({"dot": Drop()}, 75, "the server closed the connection"),
        ({"mail": "what?"}, 75, "not a reply"),
        ({"quit": Drop()}, 0, "250 2.0.0 taken"),
    ],
)
async def test_exit_codes(script, status, said):
    async with Peer(script) as peer:
        result = await send(peer, *FROM_TO, "--body", "x")
    assert said in result.output
    assert result.exit_code == status


async def test_what_the_peer_does_not_offer():
    async with Peer(offers=()) as peer:
        result = await send(peer, *FROM_TO, "--body", "ü")
        assert result.exit_code == 69
        assert "does not offer" in result.output
        result = await send(peer, *FROM_TO, stdin=b"Subject: x\n\n\0")
        assert result.exit_code == 69
        assert peer.contents == []


async def test_terminal_controls_of_the_server_are_not_shown():
    async with Peer({"dot": "250 2.0.0 \x1b]0;owned\x07"}) as peer:
        result = await send(peer, *FROM_TO, "--body", "x")
    assert result.exit_code == 0
    assert "owned" in result.output
    assert "\x1b" not in result.output


async def test_nobody_answers():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        result = await send(None, *FROM_TO, "--body", "x", "--server", f"127.0.0.1:{port}")
    assert result.exit_code == 75
    assert f"127.0.0.1:{port}: " in result.output
    result = await send(None, *FROM_TO, "--body", "x", "--server", "unix:/no/such")
    assert result.exit_code == 75


async def test_the_listener_of_the_configuration_is_asked(tmp_path):
    async with Peer() as peer:
        path = tmp_path / "elemta.toml"
        path.write_text(f'[[listeners]]\naddress = "0.0.0.0:{peer.port}"\n')
        result = await send(None, *FROM_TO, "--body", "x", "-c", str(path))
        assert result.exit_code == 0, result.output
        assert len(peer.contents) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("--from", "a@@b", "--to", "b@example.test", "--body", "x"),
        ("--from", "a@example.test", "--to", "<>", "--body", "x"),
        ("--from", "a@example.test", "--body", "x"),
        (*FROM_TO, "--body", "x", "--server", "nonsense"),
        (*FROM_TO, "--body", "x", "--server", "host:70000"),
        (*FROM_TO, "--body", "x", "file.eml"),
    ],
)
async def test_wrong_usage(arguments):
    result = await send(None, *arguments)
    assert result.exit_code == 2


async def test_input_that_cannot_be_used():
    result = await send(None, *FROM_TO, "--server", "127.0.0.1:1", "/no/such/file")
    assert result.exit_code == 66
    result = await send(None, *FROM_TO, "--server", "127.0.0.1:1", "--subject", "a\nBcc: x@y.test")
    assert result.exit_code == 65
    assert not Path("/no/such/file").exists()
