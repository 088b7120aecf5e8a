"""Limits of size, number and errors, on the running server: each at its edge."""

import pytest
from servers.dialogue import Dialogue
from servers.elemta import running

CONFIG = """
[relay]
local_domains = ["example.test"]
trusted_networks = []
[[routes]]
domains = ["*"]
via = "discard"
[smtp]
max_header_size = 2000
max_header_fields = 60
max_errors = 3
max_junk_commands = 5
"""
SERVER = "max_message_size = 20000\nmax_recipients = 5"
TINY = b"Subject: tiny\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("limits"), rest=CONFIG, server=SERVER) as elemta:
        yield elemta


@pytest.fixture
def client(server):
    with Dialogue(server.port) as dialogue:
        dialogue.hello()
        yield dialogue


def deliver(client, content):
    return client.deliver(content, "a@client.test", "u@example.test")


def check_usable(client):
    """The session goes on."""
    assert deliver(client, TINY).startswith("250 2.0.0")


# ---- one message


def test_the_size_is_announced_and_a_declared_one_is_held_to_it(server, client):
    assert "250-SIZE 20000\n" in client.hello()
    assert client.say("MAIL FROM:<> SIZE=20001").startswith("552 5.3.4")
    assert client.say("MAIL FROM:<> SIZE=20000").startswith("250")
    client.say("RSET")
    check_usable(client)


def test_the_size_is_counted_while_content_streams_whatever_was_declared(client):
    fits = TINY + b"x" * 98 + b"\r\n"
    fits += b"y" * (20000 - len(fits) - 2 - 12000) + b"\r\n" + b"line 10 ..\r\n" * 1000
    assert len(fits) == 20000
    assert deliver(client, fits).startswith("250")
    assert client.say("MAIL FROM:<> SIZE=100").startswith("250")
    client.say("RCPT TO:<u@example.test>")
    client.say("DATA")
    client.send(b"z" + fits + b".\r\n")
    assert client.reply().startswith("552 5.3.4")
    check_usable(client)


def test_chunks_together_are_held_to_the_size(client):
    client.envelope("", "u@example.test")
    client.send(b"BDAT 15000\r\n" + b"line 10 ..\r\n" * 1250)
    assert client.reply().startswith("250")
    client.send(b"BDAT 6000 LAST\r\n" + b"line 10 ..\r\n" * 500)
    assert client.reply().startswith("552 5.3.4")
    check_usable(client)


def test_recipients_beyond_the_limit_are_for_another_transaction(server, client):
    many = [f"u{number}@example.test" for number in range(8)]
    replies = client.envelope("a@client.test", *many)
    assert [reply[:9] for reply in replies[1:]] == ["250 2.1.5"] * 5 + ["452 4.5.3"] * 3
    assert client.say("DATA").startswith("354")
    client.send(TINY + b".\r\n")
    queue_id = client.reply().rpartition(" ")[2]
    [event] = server.wait_event("message_received", queue_id=queue_id)
    assert event["to_envelope"] == many[:5]
    assert [reply[:3] for reply in client.envelope("a@client.test", *many[5:])] == ["250"] * 4


def test_recipients_beyond_the_limit_do_not_end_the_session_too_soon(server, client):
    """A client may send all its recipients at once; those accepted are to get the message."""
    client.say("MAIL FROM:<a@client.test>")
    for _ in range(10):
        client.send(b"RCPT TO:<u@example.test>\r\n" * 60)
    replies = [client.reply()[:3] for _ in range(600)]
    assert replies == ["250"] * 5 + ["452"] * 595
    assert client.say("DATA").startswith("354")
    client.send(TINY + b".\r\n")
    assert client.reply().startswith("250")


@pytest.mark.parametrize(
    ("header", "reply"),
    [
        (b"X: " + b"x" * 1993 + b"\r\n", "250 2.0.0"),  # 2000 octets with the empty line
        (b"X: " + b"x" * 1994 + b"\r\n", "552 5.3.4"),
        (b"X: y\r\n" * 60, "250 2.0.0"),
        (b"X: y\r\n" * 61, "552 5.3.4"),
        (b"X: y\r\n\tz\r\n" * 60, "250 2.0.0"),  # folds are no fields
        (b"Received: x\r\n" * 50, "250 2.0.0"),
        (b"Received: x\r\n" * 51, "554 5.4.6"),
        (b"rEcEiVeD: x\r\n" * 51, "554 5.4.6"),
        (b"Received : x\r\n" * 51, "554 5.4.6"),
        (b"Received: x\r\n" * 50 + b"X-Received: x\r\n", "250 2.0.0"),
        (b"X: \r\n" + b" Received: x\r\n" * 51, "250 2.0.0"),
    ],
)
def test_header_sections(client, header, reply):
    assert deliver(client, header + b"\r\nbody\r\n").startswith(reply)
    check_usable(client)


def test_received_lines_of_the_body_do_not_count(client):
    assert deliver(client, TINY + b"Received: x\r\n" * 60).startswith("250")


# ---- one session


def test_errors_are_answered_until_it_is_enough(server, client):
    assert client.say("MAIL TO:<x>").startswith("501")
    assert client.say("WHAT").startswith("500")
    check_usable(client)  # mail in between is no pardon
    assert client.say("RCPT TO:<x>").startswith("421 4.7.0")
    assert client.rest() == b""


def test_refused_recipients_are_cheaper_than_errors(client):
    client.say("MAIL FROM:<a@client.test>")
    for _ in range(29):
        assert client.say("RCPT TO:<u@other.test>").startswith("550 5.7.1")
    assert client.say("RCPT TO:<u@other.test>").startswith("421 4.7.0")
    assert client.rest() == b""


@pytest.mark.parametrize("command", ["NOOP", "RSET", "VRFY x", "EXPN x", "HELP", "EHLO c.test"])
def test_commands_that_move_no_mail_are_answered_until_it_is_enough(server, command):
    with Dialogue(server.port) as client:
        for _ in range(5):
            assert client.say(command)[:3] in {"250", "252", "502", "214"}
        assert client.say(command).startswith("421 4.7.0")
        assert client.rest() == b""


def test_a_message_makes_good_for_commands_that_move_no_mail(client):
    for _ in range(4):
        for _ in range(4):
            assert client.say("NOOP").startswith("250")
        check_usable(client)


# ---- all sessions


def test_connections_beyond_the_limit_are_told_to_come_again(tmp_path):
    config = CONFIG + "max_connections = 3\n"
    with running(tmp_path, rest=config) as server:
        server.wait_event("connection_closed")  # the look for the banner
        clients = [Dialogue(server.port) for _ in range(3)]
        try:
            with Dialogue(server.port) as fourth:
                assert fourth.banner.startswith("421 4.3.2")
                assert fourth.rest() == b""
            assert server.wait_event("connection_refused", reason="connections")
            clients.pop().close()

            def come_in():
                clients.append(Dialogue(server.port))
                return clients[-1].banner.startswith("220") or clients.pop().close()

            server.wait_for(come_in, "a free place")
            assert clients[-1].hello().startswith("250")
        finally:
            for each in clients:
                each.close()


def test_workers_share_the_limit_of_connections(tmp_path):
    config = CONFIG + "max_connections = 4\n"
    with running(tmp_path, rest=config, workers=2) as server:
        server.wait_event("worker_started", 2)
        server.wait_event("connection_closed")
        clients = [Dialogue(server.port) for _ in range(40)]
        banners = [client.banner[:3] for client in clients]
        for client in clients:
            client.close()
        assert banners.count("220") == 4
        assert banners.count("421") == 36
