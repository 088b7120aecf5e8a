"""A plugin that says 421 ends the session, at whatever moment (RFC 5321 §3.8, §4.2.1)."""

from base64 import b64encode

import pytest
from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, running
from servers.puppet import Puppet

BYE = ["defer", "Bye", {"code": 421, "enhanced": "4.3.2"}]
FAREWELL = "421 4.3.2 Bye"
MESSAGE_HOOKS = ("on_headers", "on_data", "on_validated", "on_filter", "on_enqueue")
MAIL = b"Subject: hello\r\n\r\nhello\r\n"
AFTER = b"RSET\r\nMAIL FROM:<after@b.test>\r\n"  # behind the 421, in the same packet
MAIL_FROM, RCPT_TO = b"MAIL FROM:<a@b.test>\r\n", b"RCPT TO:<c@example.test>\r\n"
LOGIN = b64encode(b"\0bye\0secret")
ANSWERS = {
    "on_command:NOOP first": BYE,
    "on_command:NOSUCH": BYE,
    "on_command_validated:NOOP legal": ["async", *BYE],
    "on_command:BDAT 7 LAST": BYE,
    "on_command_validated:BDAT 9": ["async", *BYE],
    "on_command:DATA bye": BYE,
    "on_helo:bye.test": BYE,
    "on_mail_from:bye@b.test": BYE,
    "on_mail_from:slow-bye@b.test": ["async", *BYE],
    "on_rcpt_to:bye@example.test": BYE,
    "on_rcpt_to:slow-bye@example.test": ["async", *BYE],
    "on_auth_start:bye": BYE,
} | {f"{hook}:{hook}@b.test": BYE for hook in MESSAGE_HOOKS}


@pytest.fixture(scope="module")
def post(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bye")
    puppet = Puppet(folder, ANSWERS)
    listeners = f'clear_auth = true\n[[listeners]]\naddress = "unix:{folder}/lmtp"\nkind = "lmtp"\n'
    with running(folder / "server", rest=MAILDIR + puppet.config, listeners=listeners) as elemta:
        yield elemta, puppet, folder / "lmtp"
        assert elemta.events("plugin_error") == elemta.events("internal_error") == []


def ends(post, client: Dialogue, *, times: int = 1) -> None:
    """See that 421 is what comes next, that nothing does after it, and that nothing was done."""
    elemta, puppet, _ = post
    assert [client.reply() for _ in range(times)] == [FAREWELL] * times
    assert client.id
    assert client.rest() == b""
    session = puppet.calls("on_connect")[-1]["session"]["session_id"]
    elemta.wait_event("connection_closed", session_id=session, reason="refused")
    calls = puppet.calls("on_command", "on_disconnect")
    told = [call for call in calls if call["session"]["session_id"] == session]
    assert told[-1]["asked"] == "on_disconnect"
    assert not {call.get("line") for call in told} & {"RSET", "MAIL FROM:<after@b.test>"}
    elemta.wait_event("message_rejected", session_id=session)


@pytest.mark.parametrize(
    "lines",
    [
        b"NOSUCH thing\r\n",
        b"MAIL FROM:<bye@b.test>\r\n",
        b"MAIL FROM:<slow-bye@b.test>\r\n",
        MAIL_FROM + b"RCPT TO:<bye@example.test>\r\n",
        MAIL_FROM + b"RCPT TO:<slow-bye@example.test>\r\n",
        MAIL_FROM + RCPT_TO + b"BDAT 7 LAST\r\n1234567",
        MAIL_FROM + RCPT_TO + b"BDAT 9\r\n123456789",
    ],
)
def test_what_is_pipelined_behind_it_is_not_carried_out(post, lines):
    with Dialogue(post[0].port) as client:
        client.hello()
        client.send(lines + AFTER)
        for _ in range(lines.count(MAIL_FROM) + lines.count(RCPT_TO)):
            assert client.reply().startswith("250")
        ends(post, client)


@pytest.mark.parametrize(
    "line", [b"NOOP first\r\n", b"NOOP legal\r\n", b"EHLO bye.test\r\n", b"DATA bye\r\n"]
)
def test_commands_that_nothing_may_follow(post, line):
    with Dialogue(post[0].port) as client:
        client.hello()
        client.send(line)
        ends(post, client)


@pytest.mark.parametrize("hook", MESSAGE_HOOKS)
@pytest.mark.parametrize("way", ["data", "bdat"])
def test_at_the_end_of_a_message(post, hook, way):
    with Dialogue(post[0].port) as client:
        client.hello()
        client.envelope(f"{hook}@b.test", "c@example.test")
        if way == "data":
            assert client.say("DATA").startswith("354")
            client.send(MAIL + b".\r\n" + AFTER)
        else:
            client.send(b"BDAT %d LAST\r\n" % len(MAIL) + MAIL + AFTER)
        ends(post, client)


def test_lmtp_says_it_for_each_recipient(post):
    with Dialogue(post[2]) as client:
        client.hello("LHLO")
        client.envelope("on_data@b.test", "c@example.test", "d@example.test")
        assert client.say("DATA").startswith("354")
        client.send(MAIL + b".\r\n" + AFTER)
        ends(post, client, times=2)


def test_lmtp_ends_at_a_command_as_well(post):
    with Dialogue(post[2]) as client:
        client.hello("LHLO")
        client.send(MAIL_FROM + b"RCPT TO:<bye@example.test>\r\n" + AFTER)
        assert client.reply().startswith("250")
        ends(post, client)


def test_at_a_login(post):
    elemta, _, _ = post
    with Dialogue(elemta.port) as client:
        client.hello()
        client.send(b"AUTH PLAIN " + LOGIN + b"\r\n")
        assert client.reply() == FAREWELL
        assert client.rest() == b""


def test_other_refusals_for_now_end_nothing(post):
    """The session goes on after 451, as it has always done."""
    elemta, _, _ = post
    with Dialogue(elemta.port) as client:
        client.hello()
        assert client.say("RCPT TO:<too@early.test>").startswith("503")
        assert client.deliver(MAIL, "a@b.test", "c@example.test").startswith("250")
