"""Plugins in the running server: the hooks of queue and delivery, and what each answer does."""

import textwrap

import pytest
from servers.elemta import Elemta, running
from servers.next_hop import NextHop, Taken, serving
from servers.puppet import Puppet

HOOKS = ("on_dequeue", "on_pre_delivery", "on_delivered", "on_deferred", "on_bounced")
CONFIG = """
[relay]
local_domains = ["example.test"]
[[routes]]
domains = ["example.test"]
via = "maildir"
path = "{{mail}}/{{{{domain}}}}/{{{{local}}}}"
[[routes]]
domains = ["*"]
via = "smtp"
host = "127.0.0.1"
port = {port}
[queue]
jitter = 0.0
retry_schedule = ["1h"]
"""
ANSWERS = {
    "on_pre_delivery:reject@b.test": ["async", "reject", "Not this one", {"enhanced": "5.7.9"}],
    "on_pre_delivery:defer@b.test": ["defer", "Not now", {"code": 450}],
    "on_pre_delivery:discard@b.test": ["async", "discard"],
    "on_pre_delivery:quarantine@b.test": ["quarantine"],
    "on_pre_delivery:raise@b.test": ["async", "raise"],
    "on_pre_delivery:nonsense@b.test": ["250 Ok"],
    "on_pre_delivery:body@b.test": ["body", "another\r\n"],
    "on_pre_delivery:accept@b.test": ["accept"],
    "on_deferred:soon@b.test": ["async", "retry", 1],
    "on_deferred:later@b.test": ["retry", 36_000_000],
    "on_bounced:silent@b.test": ["async", "silence"],
}
HANGS = {  # in a plugin of its own: nothing else runs out of time where a machine is slow
    "on_pre_delivery:hang@b.test": ["async", "hang"],
    "on_deferred:hang@later.test": ["async", "hang"],
    "on_delivered:slow@b.test": ["async", "hang"],
}
STAMP = '''
from elemta.plugins import *

class Stamp(Plugin[Settings]):
    """Changes what comes from stamp.test, on its way out."""

    metadata = Metadata(name="stamp")

    def on_pre_delivery(self, context):
        if context.sender is None or context.sender.domain != "stamp.test":
            return None
        return Result.modify(
            InsertHeader("X-Top", context.destination),
            ReplaceHeader("Subject", "gr\\u00fcn"),
            RemoveHeader("X-Spam"),
        )
'''
MAIL = b"Subject: hello\r\nX-Spam: no\r\n\r\nhello\r\n"
LARGE = MAIL + b"".join(b"line %d of a large message\r\n" % number for number in range(180_000))


class Moody:
    """Refuses `bad` for good, `slow` for now, and `once` once."""

    def __init__(self):
        self.asked: list[str] = []

    def __call__(self, stage: str, about: str) -> str | None:
        if stage != "rcpt":
            return None
        self.asked.append(about)
        if about.startswith("bad"):
            return "550 5.1.1 nobody here"
        if about.startswith("slow") or (about.startswith("once") and self.asked.count(about) == 1):
            return "450 4.2.1 not now"
        return None


@pytest.fixture(scope="module")
def hop():
    with serving(hop := NextHop(Moody())):
        yield hop


@pytest.fixture(scope="module")
def post(tmp_path_factory, hop):
    """One server for all: what the puppet says depends on the sender."""
    folder = tmp_path_factory.mktemp("delivery")
    puppet = Puppet(folder, ANSWERS)
    sleeper = Puppet(folder, HANGS, name="sleeper", timeout="1s")
    (puppet.folder / "stamp.py").write_text(textwrap.dedent(STAMP))
    (puppet.folder / "stamp.py").chmod(0o644)
    rest = CONFIG.format(port=hop.port) + puppet.config + sleeper.table
    with running(folder / "server", rest=rest) as elemta:
        yield elemta, puppet
        assert not elemta.events("internal_error")


def calls_of(puppet: Puppet, queue_id: str) -> list[dict]:
    """What the puppet was told of the delivery of a message, in order."""
    return [call for call in puppet.calls(*HOOKS) if call["queue_id"] == queue_id]


def taken(hop: NextHop, recipient: str) -> list[Taken]:
    return [each for each in hop.taken if recipient in each.recipients]


def queued(server: Elemta, queue_id: str) -> list[dict]:
    """The recipients of a message that are still in the queue."""
    messages = server.queued()
    return [
        each
        for message in messages
        if message["queue_id"] == queue_id
        for each in message["recipients"]
    ]


def test_each_hook_comes_once_in_order_and_knows_what_it_is_about(post, hop):
    server, puppet = post
    names = ("good@far.test", "slow1@far.test", "bad1@far.test")
    queue_id = server.send("order@b.test", *names, content=MAIL)
    server.wait_event("message_bounced", queue_id=queue_id)
    server.wait_for(lambda: len(calls_of(puppet, queue_id)) >= 5, "hooks")
    calls = calls_of(puppet, queue_id)
    told = [(call["asked"], call["recipients"]) for call in calls]
    assert told == [
        ("on_dequeue", list(names)),
        ("on_pre_delivery", list(names)),
        ("on_delivered", [names[0]]),
        ("on_deferred", [names[1]]),
        ("on_bounced", [names[2]]),
    ]
    enqueued = server.wait_event("message_enqueued", queue_id=queue_id)[0]
    for call in calls:
        assert call["sender"] == "order@b.test"
        assert call["session_id"] == enqueued["session_id"]
        assert call["attempts"] == 0
        assert call["destination"] == f"smtp:127.0.0.1:{hop.port}"
        assert call["size"] > len(MAIL)
    delivered, deferred, bounced = calls[2:]
    assert (delivered["reply"], delivered["next_at"]) == ("250 2.0.0 taken", 0.0)
    assert delivered["remote"] == bounced["remote"] == "127.0.0.1"
    assert deferred["reply"] == "450 4.2.1 not now"
    event = server.wait_event("message_deferred", queue_id=queue_id)[0]
    assert deferred["next_at"] == pytest.approx(event["next_attempt_at"])
    assert bounced["reply"] == "550 5.1.1 nobody here"
    notification = server.wait_event("message_bounced", queue_id=queue_id)[0]["notification"]
    server.wait_for(lambda: len(calls_of(puppet, notification)) == 3, "the notification")
    assert [call["asked"] for call in puppet.calls("on_stored") if call["sender"] is None][-1:]
    assert [call["asked"] for call in calls_of(puppet, notification)] == [
        "on_dequeue",
        "on_pre_delivery",
        "on_delivered",
    ]


def test_reject_is_told_to_the_sender(post, hop):
    server, _ = post
    queue_id = server.send("reject@b.test", "one@far.test", content=MAIL)
    bounced = server.wait_event("message_bounced", queue_id=queue_id)[0]
    assert bounced["reply"] == "550 5.7.9 Not this one"
    assert (bounced["plugin"], bounced["reason"]) == ("puppet", "puppet says so")
    server.wait_for(lambda: taken(hop, "reject@b.test"), "the notification")
    assert b"5.7.9" in taken(hop, "reject@b.test")[0].content
    assert taken(hop, "one@far.test") == queued(server, queue_id) == []


def test_defer_waits_for_the_next_attempt(post, hop):
    server, _ = post
    queue_id = server.send("defer@b.test", "two@far.test", content=MAIL)
    deferred = server.wait_event("message_deferred", queue_id=queue_id)[0]
    assert (deferred["reply"], deferred["plugin"]) == ("450 4.7.1 Not now", "puppet")
    (recipient,) = queued(server, queue_id)
    assert (recipient["state"], recipient["attempts"]) == ("deferred", 1)
    assert taken(hop, "two@far.test") == []


@pytest.mark.parametrize("what", ["raise", "hang", "nonsense", "body"])
def test_a_defect_makes_the_mail_wait(post, hop, what):
    server, _ = post
    queue_id = server.send(f"{what}@b.test", f"{what}@far.test", content=MAIL)
    deferred = server.wait_event("message_deferred", queue_id=queue_id)[0]
    (error,) = server.wait_event("plugin_error", queue_id=queue_id)
    assert deferred["reply"].startswith("451 4.3.0 Internal error")
    assert error["why_id"] in deferred["reply"]
    plugin = "sleeper" if what == "hang" else "puppet"
    assert (error["plugin"], error["hook"]) == (plugin, "on_pre_delivery")
    assert taken(hop, f"{what}@far.test") == []


def test_discard_drops_it(post, hop):
    server, puppet = post
    queue_id = server.send("discard@b.test", "three@far.test", content=MAIL)
    gone = server.wait_event("message_discarded", queue_id=queue_id)[0]
    assert (gone["recipient"], gone["plugin"]) == ("three@far.test", "puppet")
    assert queued(server, queue_id) == taken(hop, "three@far.test") == []
    asked = [call["asked"] for call in calls_of(puppet, queue_id)]
    assert asked == ["on_dequeue", "on_pre_delivery"]


def test_quarantine_waits_for_an_operator(post, hop):
    server, puppet = post
    queue_id = server.send("quarantine@b.test", "four@far.test", content=MAIL)
    kept = server.wait_event("message_quarantined", queue_id=queue_id)[0]
    assert (kept["recipient"], kept["plugin"]) == ("four@far.test", "puppet")
    assert [each["state"] for each in queued(server, queue_id)] == ["quarantine"]
    assert taken(hop, "four@far.test") == []
    server.cli("queue", "release", queue_id)  # the plugin is asked again, and overruled
    server.wait_for(lambda: taken(hop, "four@far.test"), "the mail")
    assert len(server.wait_event("message_quarantined", queue_id=queue_id)) == 1
    asked = [call for call in calls_of(puppet, queue_id) if call["hook"] == "on_pre_delivery"]
    assert [call["attempts"] for call in asked] == [0, 1]


def test_accept_and_nothing_let_it_go(post, hop):
    server, _ = post
    server.send("accept@b.test", "five@far.test", content=MAIL)
    server.wait_for(lambda: taken(hop, "five@far.test"), "the mail")


@pytest.mark.parametrize("content", [MAIL, LARGE], ids=["small", "large"])
def test_edits_are_in_what_is_sent(post, hop, content):
    server, _ = post
    local = f"edited{len(content)}"
    queue_id = server.send(
        "a@stamp.test", f"{local}@far.test", f"{local}@example.test", content=content
    )
    server.wait_for(lambda: taken(hop, f"{local}@far.test"), "the mail")
    sent = taken(hop, f"{local}@far.test")[0].content
    (stored,) = server.wait_mail(local)
    body = content[content.index(b"\r\n\r\n") :]
    assert sent.startswith(b"X-Top: smtp:127.0.0.1:%d\r\nReceived: from client" % hop.port)
    assert b"\r\nX-Top: maildir:" in stored
    for message in (sent, stored):
        head = message[: -len(body)]
        assert message.endswith(body)
        assert b"X-Spam" not in head
        assert b"\r\nSubject: =?utf-8?" in head
        assert b"hello" not in head
    modified = server.wait_event("message_modified", 2, queue_id=queue_id)
    assert modified[0]["plugin"] == "stamp"
    assert "replace header Subject" in modified[0]["changes"]


def test_on_deferred_brings_the_next_attempt_forward(post, hop):
    server, puppet = post
    queue_id = server.send("soon@b.test", "once@far.test", content=MAIL)
    server.wait_for(lambda: taken(hop, "once@far.test"), "the second attempt")
    server.wait_for(lambda: len(calls_of(puppet, queue_id)) >= 6, "hooks")
    assert [call["asked"] for call in calls_of(puppet, queue_id)] == [
        "on_dequeue",
        "on_pre_delivery",
        "on_deferred",
        "on_dequeue",
        "on_pre_delivery",
        "on_delivered",
    ]


def test_on_deferred_cannot_outlive_the_message(post):
    server, _ = post
    queue_id = server.send("later@b.test", "slow2@far.test", content=MAIL)
    deferred = server.wait_event("message_deferred", queue_id=queue_id)[0]
    (call,) = [each for each in post[1].calls("on_deferred") if each["queue_id"] == queue_id]
    days = (deferred["next_attempt_at"] - (call["next_at"] - 3600.0)) / 86_400
    assert days == pytest.approx(5, abs=0.01)


def test_on_bounced_keeps_the_sender_from_being_told(post, hop):
    server, _ = post
    queue_id = server.send("silent@b.test", "bad2@far.test", content=MAIL)
    bounced = server.wait_event("message_bounced", queue_id=queue_id)[0]
    assert bounced["notification"] == "silenced by puppet"
    (recipient,) = queued(server, queue_id)
    assert recipient["state"] == "failed"
    server.send("accept@b.test", "after@far.test", content=MAIL)
    server.wait_for(lambda: taken(hop, "after@far.test"), "other mail")
    assert taken(hop, "silent@b.test") == []


def test_a_hanging_listener_does_not_keep_mail_in_the_queue(post, hop):
    server, _ = post
    queue_id = server.send("slow@b.test", "six@far.test", content=MAIL)
    server.wait_event("message_delivered", queue_id=queue_id)
    assert queued(server, queue_id) == []
    error = server.wait_event("plugin_error", queue_id=queue_id)[0]
    assert error["error"].startswith("no answer within 1 s")
    assert len(taken(hop, "six@far.test")) == 1


def test_a_kill_while_a_plugin_ponders_delivers_nothing_twice(tmp_path, hop):
    puppet = Puppet(tmp_path, HANGS, timeout="10m")
    rest = CONFIG.format(port=hop.port) + puppet.config
    with running(tmp_path / "server", rest=rest) as server:
        names = ("killed@far.test", "slow3@far.test")
        queue_id = server.send("hang@later.test", *names, content=MAIL)
        server.wait_for(lambda: puppet.calls("on_deferred"), "the plugin")
        server.wait_event("message_delivered", queue_id=queue_id)
        assert [each["address"] for each in queued(server, queue_id)] == [names[1]]
        server.kill()
        server.start()
        server.wait_for(lambda: len(puppet.calls("on_deferred")) == 2, "the next attempt")
        assert hop.answer.asked.count(names[1]) == 2
        assert len(taken(hop, names[0])) == 1
        server.kill()  # a stop would wait for the plugin
