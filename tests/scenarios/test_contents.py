"""Attachments and text on the running server: refused, removed, kept and tagged, and bombs."""

import pytest
from plugins.builtin.mime.bombs import forty_two, many_parts, nested_messages
from plugins.builtin.mime.letters import attached
from servers.dialogue import Dialogue
from servers.elemta import Elemta, running
from servers.worker import peak_watch, worker_pid

MIB = 1024 * 1024
REST = """
[relay]
local_domains = ["example.test"]
[[routes]]
domains = ["example.test"]
via = "maildir"
path = "{{mail}}/{{{{domain}}}}/{{{{local}}}}"
[plugins]
plugins = ["attachments", "content", "rules"]
[plugins.attachments]
{attachments}
[[plugins.content.rules]]
id = "secret"
keywords = ["the secret plan"]
headers = ["Subject"]
action = "reject"
[[plugins.content.rules]]
id = "greeting"
keywords = ["dear friend"]
action = "tag"
[[plugins.content.rules]]
id = "weighty"
keywords = ["five points"]
score = 5
[[plugins.rules.rule]]
name = "found"
hook = "filter"
when = 'score("content.score") >= 5 || metadata("attachments.found").startsWith("disguised")'
then = "reject"
text = "found"
"""
EXE = attached(b"MZ and so on", 'filename="a.exe"')


def server(folder, attachments=""):
    return running(folder / "server", rest=REST.format(attachments=attachments))


def deliver(elemta: Elemta, content: bytes) -> str:
    with Dialogue(elemta.port) as client:
        client.socket.settimeout(60)
        client.hello()
        return client.deliver(content, "a@example.org", "b@example.test")


@pytest.fixture(scope="module")
def post(tmp_path_factory):
    with server(tmp_path_factory.mktemp("contents")) as elemta:
        yield elemta
        assert elemta.events("plugin_error") == []


def test_a_program_is_refused_and_the_log_says_why(post):
    assert deliver(post, EXE) == "550 5.7.1 Attachments of this type are not taken"
    (event,) = post.wait_event("message_rejected", plugin="attachments")
    assert event["reason"] == "executable: extension exe"


def test_what_was_found_is_forgotten_with_the_next_message(post):
    disguised = attached(b"hello", 'filename="a.exe.txt"')
    with Dialogue(post.port) as client:
        client.hello()
        for content in (attached(b"five points", type_="text/plain"), disguised):
            assert client.deliver(content, "a@example.org", "b@example.test") == "550 5.7.1 found"
            reply = client.deliver(b"Subject: x\r\n\r\nhi\r\n", "a@example.org", "c@example.test")
            assert reply.startswith("250")


def test_text_is_refused_and_the_log_has_only_the_rule(post):
    content = attached(b"the <b>sec</b>ret plan", type_="text/html")
    assert deliver(post, content) == "550 5.7.1 The message is not taken for its content"
    (event,) = post.wait_event("message_rejected", plugin="content")
    assert event["reason"] == "rules: secret; score 0"
    assert "secret plan" not in post.log_file.read_text()


@pytest.mark.parametrize("bomb", [attached(forty_two()), many_parts(10_000), nested_messages(1000)])
def test_bombs_are_kept_for_an_operator(post, bomb):
    growth = peak_watch(worker_pid(post))
    before = len(post.events("message_quarantined"))
    assert deliver(post, bomb).startswith("250 ")
    event = post.wait_event("message_quarantined", before + 1)[-1]
    assert event["plugin"] == "attachments"
    assert growth() < 200 * MIB


def test_ordinary_mail_is_delivered_and_tagged(post):
    assert deliver(post, attached(b"\x89PNG\r\n\x1a\n", 'filename="a.png"')).startswith("250 ")
    assert deliver(post, b"Subject: x\r\n\r\nDear  friend,\r\n").startswith("250 ")
    found = b"".join(post.wait_mail("b", 2))
    assert found.count(b"X-Content-Rules: greeting\r\n") == 1
    assert b"X-Attachment-Status" not in found


def test_an_attachment_is_removed(tmp_path):
    with server(tmp_path, 'on_executable = "strip"') as elemta:
        assert deliver(elemta, EXE).startswith("250 ")
        (found,) = elemta.wait_mail("b")
        assert b"An attachment was removed here: a.exe." in found
        assert b"X-Attachment-Status: removed: executable\r\n" in found
        assert b"See the attachment." in found
        assert found.endswith(b"--frontier--\r\n")
        assert b"TVogYW5k" not in found
        assert elemta.events("plugin_error") == []
