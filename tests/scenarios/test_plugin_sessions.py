"""Plugins in the running server: the hooks of a session, and what each answer does to it."""

import contextlib

import pytest
from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, Elemta, running
from servers.puppet import Puppet

SESSION = (
    "on_connect",
    "on_disconnect",
    "on_command",
    "on_command_validated",
    "on_helo",
    "on_mail_from",
    "on_rcpt_to",
)
LMTP = '[[listeners]]\naddress = "unix:{path}"\nkind = "lmtp"\n'
MAIL = b"Subject: hello\r\n\r\nhello\r\n"


@contextlib.contextmanager
def puppet_server(folder, answers=None, *, rest=MAILDIR, lmtp=False, **options):
    puppet = Puppet(folder, answers or {}, **options)
    listeners = LMTP.format(path=folder / "lmtp") if lmtp else ""
    with running(folder / "server", rest=rest + puppet.config, listeners=listeners) as elemta:
        elemta.wait_for(lambda: puppet.calls("on_disconnect"), "the end of the look for a banner")
        puppet.journal.unlink()
        yield elemta, puppet


def test_the_hooks_of_a_session_come_in_order_and_once(tmp_path):
    with puppet_server(tmp_path) as (elemta, puppet):
        with Dialogue(elemta.port) as client:
            client.say("EHLO client.test")
            assert client.deliver(MAIL, "a@b.test", "c@example.test").startswith("250")
            client.say("NOSUCH thing")
            client.say("RCPT TO:<too@early.test>")
            client.say("AUTH PLAIN AGEAYg==")
            client.say("QUIT")
        elemta.wait_for(lambda: puppet.calls("on_disconnect"), "the end")
        calls = puppet.calls(*SESSION)
        told = [(call["asked"], call.get("verb", "")) for call in calls]
        assert told == [
            ("on_connect", ""),
            ("on_command", "EHLO"),
            ("on_command_validated", "EHLO"),
            ("on_helo", "EHLO"),
            ("on_command", "MAIL"),
            ("on_command_validated", "MAIL"),
            ("on_mail_from", ""),
            ("on_command", "RCPT"),
            ("on_command_validated", "RCPT"),
            ("on_rcpt_to", ""),
            ("on_command", "DATA"),
            ("on_command_validated", "DATA"),
            ("on_command", "NOSUCH"),
            ("on_command", "RCPT"),
            ("on_command", "AUTH"),
            ("on_command", "QUIT"),
            ("on_command_validated", "QUIT"),
            ("on_disconnect", ""),
        ]
        by_hook = {call["asked"]: call for call in calls}
        for call in calls:
            session = call["session"]
            assert session["session_id"] == calls[0]["session"]["session_id"]
            assert session["client_ip"] == "127.0.0.1"
            assert session["server"] == f"127.0.0.1:{elemta.port}"
            assert session["listener"] == "mta"
            assert session["is_trusted"]
        session = calls[0]["session"]
        assert session["helo"] == ""
        elemta.wait_event("connection_accepted", session_id=session["session_id"])
        assert by_hook["on_helo"]["name"] == "client.test"
        assert by_hook["on_mail_from"]["session"]["helo"] == "client.test"
        assert by_hook["on_mail_from"]["session"]["protocol"] == "ESMTP"
        assert by_hook["on_mail_from"]["sender"] == "a@b.test"
        assert by_hook["on_rcpt_to"]["recipient"] == "c@example.test"
        assert by_hook["on_rcpt_to"]["recipients"] == []
        lines = [call["line"] for call in puppet.calls("on_command")]
        assert "MAIL FROM:<a@b.test>" in lines
        assert "AUTH PLAIN" in lines  # and not what follows it


def test_the_hooks_of_lmtp(tmp_path):
    with puppet_server(tmp_path, lmtp=True) as (elemta, puppet):
        with Dialogue(tmp_path / "lmtp") as client:
            client.hello("LHLO")
            assert client.deliver(MAIL, "a@b.test", "c@example.test").startswith("250")
        elemta.wait_for(lambda: puppet.calls("on_disconnect"), "the end")
        session = puppet.calls("on_rcpt_to")[0]["session"]
        assert (session["client_ip"], session["listener"]) == ("", "lmtp")
        assert session["protocol"] == "LMTP"


@pytest.mark.parametrize("said", [b"", b"EHLO a.test\r\n", b"QUIT\r\n", b"DATA", b"content"])
def test_the_end_of_a_connection_is_told_once_however_it_comes(tmp_path, said):
    with puppet_server(tmp_path) as (elemta, puppet):
        with Dialogue(elemta.port) as client:
            if said == b"content":
                client.hello()
                client.envelope("a@b.test", "c@example.test")
                assert client.say("DATA").startswith("354")
            client.send(said)
        with Dialogue(elemta.port) as other:
            other.say("EHLO other.test")
            other.say("QUIT")
        elemta.wait_for(lambda: len(puppet.calls("on_disconnect")) >= 2, "both ends")
        begun = [call["session"]["session_id"] for call in puppet.calls("on_connect")]
        ended = [call["session"]["session_id"] for call in puppet.calls("on_disconnect")]
        assert len(set(begun)) == 2
        assert sorted(ended) == sorted(begun)
        elemta.wait_event("connection_closed", session_id=begun[0])


def test_the_end_of_a_refused_connection_is_told_too(tmp_path):
    answers = {"on_connect:127.0.0.5": ["reject", "No"]}
    with puppet_server(tmp_path, answers) as (elemta, puppet):
        with Dialogue(elemta.port, source="127.0.0.5") as client:
            assert client.banner == "554 5.7.1 No"
        elemta.wait_for(lambda: puppet.calls("on_disconnect"), "the end")
        hooks = [(call["asked"], call["session"]["client_ip"]) for call in puppet.calls()]
        assert hooks == [("on_connect", "127.0.0.5"), ("on_disconnect", "127.0.0.5")]


@contextlib.contextmanager
def refusing_server(folder, answers):
    """A server that may refuse everybody: its banner is not waited for."""
    puppet = Puppet(folder, answers)
    elemta = Elemta(folder / "server", rest=MAILDIR + puppet.config)
    try:
        elemta.spawn()
        elemta.wait_event("worker_started")
        yield elemta
    finally:
        elemta.kill()


class TestConnect:
    @pytest.mark.parametrize(
        ("answer", "banner"),
        [
            (["reject", "Go away"], "554 5.7.1 Go away"),
            (["reject", "Go away", {"code": 521, "enhanced": "5.3.2"}], "521 5.3.2 Go away"),
            (["defer", "Not now"], "421 4.7.1 Not now"),
            (["async", "reject", "Go away"], "554 5.7.1 Go away"),
            (["raise"], "421 4.3.0 Internal error, try again later"),
            (["550 no\r\n250 yes"], "421 4.3.0 Internal error"),
            (["reject", "a\r\n250 b"], "554 5.7.1 a  250 b"),
        ],
    )
    def test_refused(self, tmp_path, answer, banner):
        with refusing_server(tmp_path, {"on_connect": answer}) as elemta:
            with Dialogue(elemta.port) as client:
                assert client.banner.startswith(banner)
                assert client.id
                assert client.line() == ""  # closed, and nothing else was said
            if answer[0] in {"reject", "defer"}:
                rejected = elemta.wait_event("message_rejected", stage="connect")[0]
                assert (rejected["plugin"], rejected["reason"]) == ("puppet", "puppet says so")


class TestCommands:
    @pytest.mark.parametrize("hook", ["on_command", "on_command_validated"])
    @pytest.mark.parametrize("answer", [["reject", "Not here"], ["async", "reject", "Not here"]])
    def test_one_command_is_refused(self, tmp_path, hook, answer):
        answers = {f"{hook}:NOOP": answer, f"{hook}:RCPT": answer}
        with puppet_server(tmp_path, answers) as (elemta, _), Dialogue(elemta.port) as client:
            client.hello()
            assert client.say("NOOP") == "550 5.7.1 Not here"
            assert client.say("MAIL FROM:<a@b.test>").startswith("250")
            assert client.say("RCPT TO:<c@example.test>") == "550 5.7.1 Not here"
            assert client.say("DATA").startswith(("503", "554"))
            assert client.say("QUIT").startswith("221")

    def test_pipelined_commands_are_answered_in_order(self, tmp_path):
        answers = {
            "on_command:RCPT": ["async"],
            "on_rcpt_to:two@example.test": ["async", "defer", "Later"],
            "on_rcpt_to:three@example.test": ["reject", "Never"],
        }
        with puppet_server(tmp_path, answers) as (elemta, _), Dialogue(elemta.port) as client:
            client.hello()
            names = ("one", "two", "three", "four")
            rcpts = "".join(f"RCPT TO:<{name}@example.test>\r\n" for name in names)
            client.send(f"MAIL FROM:<a@b.test>\r\n{rcpts}DATA\r\n".encode())
            replies = [client.reply() for _ in range(6)]
            assert [reply[:3] for reply in replies] == ["250", "250", "451", "550", "250", "354"]
            client.send(MAIL + b".\r\n")
            assert client.reply().startswith("250")
            elemta.wait_mail("four")
            assert elemta.mailbox("two") == elemta.mailbox("three") == []

    @pytest.mark.parametrize("size", [5, 300_000])
    @pytest.mark.parametrize("is_last", [True, False])
    def test_bdat_is_refused_after_its_octets(self, tmp_path, size, is_last):
        answers = {"on_command:BDAT": ["async", "reject", "No chunks"]}
        with puppet_server(tmp_path, answers) as (elemta, puppet), Dialogue(elemta.port) as client:
            client.hello()
            client.say("MAIL FROM:<a@b.test>")
            client.say("RCPT TO:<c@example.test>")
            body = (b"x" * 70 + b"\r\n") * (size // 72) + b"y" * (size % 72)
            client.send(b"BDAT %d%s\r\n" % (size, b" LAST" if is_last else b"") + body)
            assert client.reply() == "550 5.7.1 No chunks"
            assert client.say("RSET").startswith("250")
            assert len(puppet.calls("on_command")) == 5
            assert elemta.events("message_received") == []

    def test_a_helo_is_refused(self, tmp_path):
        answers = {"on_helo": ["reject", "A name please", {"code": 550}]}
        with puppet_server(tmp_path, answers) as (elemta, _), Dialogue(elemta.port) as client:
            assert client.say("EHLO client.test") == "550 5.7.1 A name please"
            assert client.say("MAIL FROM:<a@b.test>").startswith("503")

    def test_a_hanging_plugin_makes_the_mail_wait_and_nobody_else(self, tmp_path):
        answers = {"on_mail_from:slow@b.test": ["async", "hang"]}
        with puppet_server(tmp_path, answers, timeout="1s") as (elemta, _):
            with Dialogue(elemta.port) as slow, Dialogue(elemta.port) as client:
                slow.hello()
                slow.send(b"MAIL FROM:<slow@b.test>\r\n")
                client.hello()
                assert client.deliver(MAIL, "a@b.test", "c@example.test").startswith("250")
                assert slow.reply().startswith("451 4.3.0 Internal error")
            error = elemta.wait_event("plugin_error", plugin="puppet", hook="on_mail_from")[0]
            assert error["error"].startswith("no answer within 1 s")


class TestTransactions:
    @pytest.mark.parametrize(
        ("hook", "answer", "code"),
        [
            ("on_mail_from", ["reject", "No"], "550"),
            ("on_mail_from", ["defer", "Wait"], "451"),
            ("on_mail_from", ["raise"], "451"),
            ("on_rcpt_to", ["reject", "No"], "550"),
            ("on_rcpt_to", ["defer", "Wait"], "451"),
            ("on_rcpt_to", ["async", "raise"], "451"),
        ],
    )
    def test_refused(self, tmp_path, hook, answer, code):
        with puppet_server(tmp_path, {hook: answer}) as (elemta, _):
            with Dialogue(elemta.port) as client:
                client.hello()
                replies = [client.say("MAIL FROM:<a@b.test>")]
                replies.append(client.say("RCPT TO:<c@example.test>"))
                assert replies[hook == "on_rcpt_to"].startswith(code)
            stage = {"on_mail_from": "mail", "on_rcpt_to": "rcpt"}[hook]
            rejected = elemta.wait_event("message_rejected", stage=stage)[0]
            assert rejected["plugin"] == "puppet"
            assert rejected["mail_from"] == "a@b.test"

    def test_on_error_continue_lets_the_mail_pass(self, tmp_path):
        answers = {"on_rcpt_to": ["raise"]}
        with puppet_server(tmp_path, answers, on_error="continue") as (elemta, _):
            elemta.send("a@b.test", "c@example.test")
            elemta.wait_mail("c")
            assert elemta.wait_event("plugin_error")

    @pytest.mark.parametrize("hook", ["on_connect", "on_helo", "on_mail_from"])
    @pytest.mark.parametrize("action", ["discard", "quarantine"])
    def test_a_mark_holds_for_the_messages_that_follow(self, tmp_path, hook, action):
        with puppet_server(tmp_path, {hook: [action]}) as (elemta, _):
            elemta.send("a@b.test", "c@example.test")
            states = queue_states(elemta)
            assert states == ([] if action == "discard" else ["quarantine"])
            assert elemta.mailbox("c") == []

    def test_one_recipient_is_thrown_away(self, tmp_path):
        answers = {"on_rcpt_to:gone@example.test": ["discard"]}
        with puppet_server(tmp_path, answers) as (elemta, _):
            elemta.send("a@b.test", "gone@example.test", "here@example.test")
            elemta.wait_mail("here")
            elemta.wait_for(lambda: queue_states(elemta) == [], "the end of the message")
            assert elemta.mailbox("gone") == []
            elemta.send("a@b.test", "gone@example.test")
            assert queue_states(elemta) == []

    def test_relaying_takes_a_vote(self, tmp_path):
        answers = {
            "on_rcpt_to:friend@far.test": ["accept"],
            "on_rcpt_to:ours@example.test": ["accept"],
        }
        rest = MAILDIR.replace("[relay]", "[relay]\ntrusted_networks = []")
        with puppet_server(tmp_path, answers, rest=rest) as (elemta, puppet):
            with Dialogue(elemta.port) as client:
                client.hello()
                client.say("MAIL FROM:<a@b.test>")
                assert client.say("RCPT TO:<friend@far.test>").startswith("250")
                assert client.say("RCPT TO:<other@far.test>").startswith("550 5.7.1 Relaying")
                assert client.say("RCPT TO:<ours@example.test>").startswith("250")
                assert client.say("RCPT TO:<postmaster>").startswith("250")
            asked = [call["is_relaying"] for call in puppet.calls("on_rcpt_to")]
            assert asked == [True, True, False, False]


def test_a_shadow_changes_nothing_and_is_seen(tmp_path):
    answers = {"on_rcpt_to": ["reject", "No"]}
    with puppet_server(tmp_path, answers, mode="shadow") as (elemta, _):
        elemta.send("a@b.test", "c@example.test")
        elemta.wait_mail("c")
        shadow = elemta.wait_event("plugin_shadow")[0]
        assert (shadow["plugin"], shadow["hook"], shadow["action"]) == (
            "puppet",
            "on_rcpt_to",
            "reject",
        )
        assert shadow["reply"] == "550 5.7.1 No"


def queue_states(elemta) -> list[str]:
    """The states of all recipients in the queue."""
    messages = elemta.queued()
    return [recipient["state"] for message in messages for recipient in message["recipients"]]
