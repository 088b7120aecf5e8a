"""Plugins in the running server: the hooks of a message, and what each answer does to it."""

import re
import textwrap

import pytest
from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, Elemta, running
from servers.puppet import Puppet

FILTERS = ("on_data", "on_validated", "on_filter", "on_enqueue")
HOOKS = ("on_headers", *FILTERS)
MAIL = b"Subject: hello\r\nX-Spam: no\r\n\r\nhello\r\n"
LARGE = b"".join(b"line %d of a large message\r\n" % number for number in range(180_000))
ANSWERS = {
    "reject": ["reject", "No", {"code": 554}],
    "defer": ["async", "defer", "Later"],
    "discard": ["discard"],
    "quarantine": ["async", "quarantine"],
    "accept": ["accept"],
    "raise": ["raise"],
    "nonsense": ["250 Ok"],
    "header": ["async", "header", "X-Seen", "yes"],
    "body": ["body", "another\r\n"],
    "add": ["add", "second@example.test"],
    "remove": ["remove", "gone@example.test"],
    "sender": ["sender", "other@b.test"],
}
STAMP = '''
from elemta.plugins import *

class Stamp(Plugin[Settings]):
    """Changes what comes from stamp.test, once it has read it all."""

    metadata = Metadata(name="stamp")

    async def on_data(self, context):
        if context.sender is None or context.sender.domain != "stamp.test":
            return None
        size = 0
        async for piece in context.chunks():
            size += len(piece)
            assert len(piece) <= 256 * 1024
        return Result.modify(
            InsertHeader("X-Top", "first"),
            AddHeader("X-Size", str(size)),
            ReplaceHeader("Subject", "gr\\u00fcn"),
            RemoveHeader("X-Spam"),
        )

    def on_filter(self, context):
        if str(context.sender) == "much@stamp.test":
            return Result.modify(AddHeader("X-Long", "words " * 200_000))

    async def on_enqueue(self, context):
        found = context.headers.get("X-Size")
        if found is None:
            return None
        size = sum([len(piece) async for piece in context.chunks()])
        return Result.modify(AddHeader("X-After", f"{size} {context.size}"))
'''


def sender(hook: str, what: str) -> str:
    """Whose mail the puppet treats like that at that hook."""
    return f"{what}@{hook.replace('_', '-')}.test"


@pytest.fixture(scope="module")
def post(tmp_path_factory):
    """One server for all: what the puppet says depends on the sender."""
    folder = tmp_path_factory.mktemp("messages")
    answers = {
        f"{hook}:{sender(hook, what)}": answer for hook in HOOKS for what, answer in ANSWERS.items()
    }
    puppet = Puppet(folder, answers)
    # nothing but what hangs runs out of time, however slow the machine is
    hangs = {f"{hook}:{sender(hook, 'hang')}": ["async", "hang"] for hook in HOOKS}
    sleeper = Puppet(folder, hangs, name="sleeper", timeout="1s")
    (puppet.folder / "stamp.py").write_text(textwrap.dedent(STAMP))
    (puppet.folder / "stamp.py").chmod(0o644)
    listeners = f'[[listeners]]\naddress = "unix:{folder / "lmtp"}"\nkind = "lmtp"\n'
    rest = MAILDIR + puppet.config + sleeper.table
    with running(folder / "server", rest=rest, listeners=listeners) as elemta:
        yield elemta, puppet, folder / "lmtp"
        assert not elemta.events("internal_error")


def deliver(server: Elemta, source: str, *recipients: str, content: bytes = MAIL) -> str:
    with Dialogue(server.port) as client:
        client.hello()
        return client.deliver(content, source, *recipients)


def deliver_in_vain(server: Elemta, source: str, *recipients: str) -> tuple[str, str]:
    """Give the refusal and its id."""
    with Dialogue(server.port) as client:
        client.hello()
        return client.deliver(MAIL, source, *recipients), client.id


def mine(server: Elemta, kind: str, source: str) -> list[dict]:
    return [event for event in server.events(kind) if event.get("mail_from") == source]


def queued(server: Elemta, *conditions: str) -> dict[str, list[str]]:
    """States of recipients by message."""
    return {
        message["queue_id"]: [each["state"] for each in message["recipients"]]
        for message in server.queued(*conditions)
    }


def below_trace(message: bytes) -> bytes:
    """What the sender wrote, and what plugins have made of it."""
    return re.sub(rb"Received: from client.*?\+0000\r\n", b"", message, count=1, flags=re.DOTALL)


def test_each_hook_comes_once_and_in_order(post):
    server, puppet, _ = post
    reply = deliver(server, "order@b.test", "order@example.test")
    queue_id = reply.rpartition(" ")[2]
    server.wait_for(lambda: len(of(puppet, queue_id)) > len(HOOKS), "on_stored")
    server.wait_mail("order")
    calls = of(puppet, queue_id)
    hooks = [call["asked"] for call in calls]
    assert hooks[: len(HOOKS)] == list(HOOKS)
    assert [hook for hook in hooks if hook in {*HOOKS, "on_stored"}] == [*HOOKS, "on_stored"]
    enqueued = server.wait_event("message_enqueued", queue_id=queue_id)[0]
    for call in calls[: len(HOOKS)]:
        assert call["session"]["session_id"] == enqueued["session_id"]
        assert call["session"]["helo"] == "client.example.org"
        assert call["sender"] == "order@b.test"
        assert call["recipients"] == ["order@example.test"]
        assert call["headers"] == [["subject", "hello"], ["x-spam", "no"]]
    assert [call["size"] for call in calls[: len(HOOKS)]] == [len(MAIL) - 7] + [len(MAIL)] * 4
    stored = next(call for call in calls if call["asked"] == "on_stored")
    assert (stored["state"], stored["session_id"]) == ("active", enqueued["session_id"])


def test_on_headers_comes_before_the_body(post):
    server, puppet, _ = post
    source = "early@b.test"

    def hooks() -> list[str]:
        return [call["asked"] for call in puppet.calls(*HOOKS) if call["sender"] == source]

    with Dialogue(server.port) as client:
        client.hello()
        client.envelope(source, "early@example.test")
        client.say("DATA")
        client.send(b"Subject: hello\r\nX-Spam: no\r\n")
        client.send(b"\r\n")  # nothing of the body has been sent yet
        server.wait_for(hooks, "on_headers")
        assert hooks() == ["on_headers"]
        client.send(b"hello\r\n.\r\n")
        assert client.reply().startswith("250")
    assert hooks() == list(HOOKS)


def test_what_on_stored_tells_of_survives_whatever_happens_then(tmp_path):
    answers = {"on_stored:last@b.test": ["exit"]}
    puppet = Puppet(tmp_path, answers)
    with running(tmp_path / "server", rest=MAILDIR + puppet.config) as server:
        with Dialogue(server.port) as client:
            client.hello()
            client.envelope("last@b.test", "kept@example.test")
            client.say("DATA")
            client.send(MAIL + b".\r\n")
            server.wait_event("worker_restarted")  # the plugin has ended it at once
        (arrived,) = server.wait_mail("kept")
        assert arrived.endswith(MAIL)
        (stored,) = puppet.calls("on_stored")
        (delivered,) = server.wait_event("message_delivered", queue_id=stored["queue_id"])
        assert delivered["recipient"] == "kept@example.test"


def of(puppet: Puppet, queue_id: str) -> list[dict]:
    return [call for call in puppet.calls() if call.get("queue_id") == queue_id]


@pytest.mark.parametrize("content", [MAIL, MAIL + LARGE], ids=["small", "large"])
@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize(
    ("what", "reply"), [("reject", "554 5.7.1 No"), ("defer", "451 4.7.1 Later")]
)
def test_refused(post, hook, what, reply, content):
    server, _, _ = post
    source = sender(hook, what)
    count = len(mine(server, "message_rejected", source))
    assert deliver(server, source, "refused@example.test", content=content) == reply
    server.wait_for(lambda: len(mine(server, "message_rejected", source)) > count, "the refusal")
    rejected = mine(server, "message_rejected", source)[-1]
    assert (rejected["plugin"], rejected["reason"], rejected["reply"]) == (
        "puppet",
        "puppet says so",
        reply,
    )
    assert mine(server, "message_enqueued", source) == []
    assert server.mailbox("refused") == []


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("what", ["raise", "hang", "nonsense"])
def test_a_defect_makes_the_mail_wait(post, hook, what):
    server, _, _ = post
    source = sender(hook, what)
    reply, why_id = deliver_in_vain(server, source, "defect@example.test")
    assert reply == "451 4.3.0 Internal error, try again later"
    error = server.wait_event("plugin_error", why_id=why_id)[0]
    assert (error["plugin"], error["hook"]) == ("sleeper" if what == "hang" else "puppet", hook)
    assert error["error"].startswith("no answer within 1 s") == (what == "hang")
    assert mine(server, "message_enqueued", source) == []
    assert server.mailbox("defect") == []


@pytest.mark.parametrize("hook", HOOKS)
def test_discarded(post, hook):
    server, _, _ = post
    source = sender(hook, "discard")
    reply = deliver(server, source, "thrown@example.test")
    assert reply.startswith("250 2.0.0 Ok: queued as ")
    queue_id = reply.rpartition(" ")[2]
    event = server.wait_event("message_discarded", queue_id=queue_id)[0]
    assert (event["plugin"], event["reason"]) == ("puppet", "puppet says so")
    assert mine(server, "message_enqueued", source) == []
    assert queued(server, "--id", queue_id) == {}
    assert server.mailbox("thrown") == []


@pytest.mark.parametrize("hook", HOOKS)
def test_quarantined_and_released(post, hook):
    server, _, _ = post
    local = f"kept-{hook}"
    to = [f"{local}@example.test", f"{local}-too@example.test"]
    reply = deliver(server, sender(hook, "quarantine"), *to)
    queue_id = reply.rpartition(" ")[2]
    event = server.wait_event("message_quarantined", queue_id=queue_id)[0]
    assert (event["plugin"], event["reason"]) == ("puppet", "puppet says so")
    assert queued(server, "--state", "quarantine")[queue_id] == ["quarantine"] * 2
    assert server.mailbox(local) == []
    server.cli("queue", "release", queue_id)
    assert below_trace(server.wait_mail(local)[0]).endswith(MAIL)
    server.wait_mail(f"{local}-too")
    server.wait_for(lambda: queued(server, "--id", queue_id) == {}, "the end of the message")


@pytest.mark.parametrize("hook", HOOKS)
def test_accepted(post, hook):
    server, _, _ = post
    local = f"accepted-{hook}"
    deliver(server, sender(hook, "accept"), f"{local}@example.test")
    assert server.wait_mail(local)[0].endswith(MAIL)


@pytest.mark.parametrize("content", [MAIL, MAIL + LARGE], ids=["small", "large"])
@pytest.mark.parametrize("hook", FILTERS)
class TestEdits:
    def edit(self, post, hook, what, content, *more: str) -> tuple[str, list[str], bytes]:
        """Where it went, what the log says of it, and what arrived below our own fields."""
        server, _, _ = post
        local = f"{what}-{hook}-{len(content)}"
        to = [f"{local}@example.test", *more]
        reply = deliver(server, sender(hook, what), *to, content=content)
        queue_id = reply.rpartition(" ")[2]
        event = server.wait_event("message_modified", queue_id=queue_id)[0]
        assert event["plugin"] == "puppet"
        (arrived,) = server.wait_mail(local)
        return queue_id, event["changes"], arrived

    def test_a_field(self, post, hook, content):
        _, changes, arrived = self.edit(post, hook, "header", content)
        assert changes == ["add header X-Seen"]
        head, _, body = content.partition(b"\r\n\r\n")
        assert arrived.endswith(b"\r\n" + head + b"\r\nX-Seen: yes\r\n\r\n" + body)

    def test_the_body(self, post, hook, content):
        _, changes, arrived = self.edit(post, hook, "body", content)
        assert changes == ["replace body by 9 octets"]
        head = content.partition(b"\r\n\r\n")[0]
        assert arrived.endswith(b"+0000\r\n" + head + b"\r\n\r\nanother\r\n")

    def test_recipients(self, post, hook, content):
        server = post[0]
        queue_id, changes, arrived = self.edit(post, hook, "add", content)
        assert changes == ["add recipient <second@example.test>"]
        assert arrived.endswith(content)
        delivered = server.wait_event("message_delivered", 2, queue_id=queue_id)
        assert "second@example.test" in {event["recipient"] for event in delivered}

        queue_id, changes, _ = self.edit(post, hook, "remove", content, "gone@example.test")
        assert changes == ["remove recipient <gone@example.test>"]
        received = server.wait_event("message_received", queue_id=queue_id)[0]
        assert received["recipient_count"] == 1
        assert server.mailbox("gone") == []

    def test_the_sender(self, post, hook, content):
        queue_id, changes, arrived = self.edit(post, hook, "sender", content)
        assert changes == ["change sender to <other@b.test>"]
        assert arrived.startswith(b"Return-Path: <other@b.test>\r\n")
        event = post[0].wait_event("message_received", queue_id=queue_id)[0]
        assert event["from_envelope"] == "other@b.test"


def test_without_a_recipient_left_it_is_discarded(post):
    server, _, _ = post
    reply = deliver(server, sender("on_data", "remove"), "gone@example.test")
    assert reply.startswith("250 ")
    event = server.wait_event("message_discarded", queue_id=reply.rpartition(" ")[2])[0]
    assert event["reason"] == "no recipient is left after edits"


def test_an_edit_beyond_the_limits_makes_the_mail_wait(post):
    server, _, _ = post
    reply, why_id = deliver_in_vain(server, "much@stamp.test", "much@example.test")
    assert reply == "451 4.3.0 Internal error, try again later"
    error = server.wait_event("plugin_error", why_id=why_id)[0]
    assert "header section too large" in error["error"]
    assert server.mailbox("much") == []


@pytest.mark.parametrize("body", [b"small\r\n", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("by_chunks", [False, True])
def test_many_edits_of_a_message(post, body, by_chunks):
    server, _, _ = post
    content = MAIL[:-7] + body
    local = f"stamp-{len(body)}-{by_chunks:d}"
    with Dialogue(server.port) as client:
        client.hello()
        if by_chunks:
            client.envelope("a@stamp.test", f"{local}@example.test")
            client.send(b"BDAT %d\r\n%b" % (20, content[:20]))
            client.send(b"BDAT %d LAST\r\n%b" % (len(content) - 20, content[20:]))
            assert client.reply().startswith("250")
            reply = client.reply()
        else:
            reply = client.deliver(content, "a@stamp.test", f"{local}@example.test")
    assert reply.startswith("250 ")
    (arrived,) = server.wait_mail(local)
    head = b"Subject: =?utf-8?B?Z3LDvG4=?=\r\nX-Size: %d\r\n" % len(content)
    after = len(head) + 2 + len(body) + len(b"X-Top: first\r\n")
    head += b"X-After: %d %d\r\n\r\n" % (after, after)
    top = arrived.index(b"X-Top: first\r\nReceived: from client.example.org")
    assert b"\r\n\r\n" not in arrived[:top]
    assert below_trace(arrived[top:]) == b"X-Top: first\r\n" + head + body
    queue_id = reply.rpartition(" ")[2]
    assert server.wait_event("message_modified", queue_id=queue_id)[0]["changes"] == [
        "insert header X-Top at 0",
        "add header X-Size",
        "replace header Subject",
        "remove header X-Spam",
        "add header X-After",
    ]
    shard = server.state / "queue" / "shard-0"
    server.wait_for(lambda: not [*shard.glob("tmp/*")], "an empty folder")


class TestLmtp:
    """The same answer for each recipient (RFC 2033 §4.2)."""

    @pytest.mark.parametrize("hook", HOOKS)
    @pytest.mark.parametrize(
        ("what", "reply"),
        [("reject", "554 5.7.1 No"), ("defer", "451 4.7.1 Later"), ("raise", "451 4.3.0 Internal")],
    )
    def test_refused(self, post, hook, what, reply):
        first, second = self.send(post, sender(hook, what), "l1@example.test", "l2@example.test")
        assert first == second
        assert first.startswith(reply)

    @pytest.mark.parametrize("hook", HOOKS)
    def test_discarded(self, post, hook):
        to = ("l1@example.test", "l2@example.test")
        first, second = self.send(post, sender(hook, "discard"), *to)
        assert first == second
        post[0].wait_event("message_discarded", queue_id=first.rpartition(" ")[2])

    def test_edited(self, post):
        to = ("lmtp@example.test", "gone@example.test")
        first, second = self.send(post, sender("on_data", "remove"), *to)
        assert first == second
        assert first.startswith("250 ")
        assert post[0].wait_mail("lmtp")[0].endswith(MAIL)

    def send(self, post, source: str, *recipients: str) -> list[str]:
        with Dialogue(post[2]) as client:
            client.hello("LHLO")
            first = client.deliver(MAIL, source, *recipients)
            return [first, *(client.reply() for _ in recipients[1:])]
