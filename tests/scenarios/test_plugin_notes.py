"""Notes of messages in the running server: from MAIL to the last attempt, over a restart."""

import json
import textwrap

import pytest
from servers.dialogue import Dialogue
from servers.elemta import running
from servers.next_hop import NextHop, serving

CONFIG = """
[relay]
local_domains = ["example.test"]
[[routes]]
domains = ["held.test"]
via = "hold"
[[routes]]
domains = ["*"]
via = "smtp"
host = "127.0.0.1"
port = {port}
[queue]
jitter = 0.0
[plugins]
directory = {folder}
"""
SCRIBE = '''
from elemta.plugins import *

class Scribe(Plugin[Settings]):
    """Notes something in each hook, and shows it on the way out."""

    metadata = Metadata(name="scribe")

    def _note(self, ctx):
        if ctx.sender is not None and ctx.sender.local == "quiet":
            return
        notes = ctx.message.notes
        notes["hooks"] = (notes.get("hooks", "") + " " + ctx.hook).strip()
        if ctx.sender is not None and ctx.sender.local == "greedy":
            notes["much"] = "x" * 100_000

    on_mail_from = on_rcpt_to = on_headers = on_data = on_enqueue = _note

    def on_stored(self, ctx):
        ctx.log.info(f"stored {ctx.queue_id} {dict(ctx.message.notes)}")

    def on_pre_delivery(self, ctx):
        return Result.modify(InsertHeader("X-Notes", ctx.message.notes.get("hooks", "none")))

    def on_delivered(self, ctx):
        ctx.log.info(f"delivered {ctx.queue_id} {dict(ctx.message.notes)}")
'''
MAIL = b"Subject: hello\r\n\r\nhello\r\n"
HOOKS = "on_mail_from on_rcpt_to on_headers on_data on_enqueue"


@pytest.fixture
def post(tmp_path):
    plugins = tmp_path / "plugins"
    plugins.mkdir(mode=0o755)
    (plugins / "scribe.py").write_text(textwrap.dedent(SCRIBE))
    (plugins / "scribe.py").chmod(0o644)
    with serving(hop := NextHop()):
        rest = CONFIG.format(port=hop.port, folder=json.dumps(str(plugins)))
        with running(tmp_path / "server", rest=rest) as elemta:
            yield elemta, hop
            assert not elemta.events("internal_error")


def said(elemta, what, queue_id):
    """What the plugin has logged of a message."""
    return [
        event["text"].removeprefix(f"{what} {queue_id} ")
        for event in elemta.events("plugin_logged")
        if event["text"].startswith(f"{what} {queue_id}")
    ]


def test_all_hooks_of_a_message_share_them_and_no_other_message(post):
    elemta, hop = post
    with Dialogue(elemta.port) as client:
        client.hello()
        client.say("MAIL FROM:<a@b.test>")
        client.say("RSET")
        ids = [
            client.deliver(MAIL, sender, "c@far.test").split()[-1]
            for sender in ("a@b.test", "quiet@b.test", "a@b.test")
        ]
    for queue_id in ids:
        elemta.wait_event("message_delivered", queue_id=queue_id)
    notes = str({"hooks": HOOKS})
    for what in ("stored", "delivered"):
        elemta.wait_for(lambda it=what: all(said(elemta, it, each) for each in ids), "the plugin")
        assert [said(elemta, what, each) for each in ids] == [[notes], ["{}"], [notes]]
    tops = sorted(taken.content.partition(b"\r\n")[0] for taken in hop.taken)
    assert tops == sorted([f"X-Notes: {HOOKS}".encode()] * 2 + [b"X-Notes: none"])


def test_they_outlive_the_server(post):
    elemta, hop = post
    queue_id = elemta.send("a@b.test", "c@held.test", content=MAIL)
    elemta.wait_event("message_enqueued", queue_id=queue_id)
    elemta.kill()
    (shown,) = json.loads(elemta.cli("queue", "list", "--json").stdout)
    assert shown["notes"] == {"hooks": HOOKS}
    assert f"note:       hooks = {HOOKS}" in elemta.cli("queue", "show", queue_id).stdout
    elemta.start()
    elemta.cli("queue", "release", queue_id)
    elemta.wait_event("message_delivered", queue_id=queue_id)
    assert hop.taken[0].content.startswith(f"X-Notes: {HOOKS}\r\n".encode())


def test_a_plugin_that_notes_too_much_has_failed(post):
    elemta, _ = post
    with Dialogue(elemta.port) as client:
        client.hello()
        reply = client.say("MAIL FROM:<greedy@b.test>")
    assert reply.startswith("451 4.3.0 ")
    (error,) = elemta.wait_event("plugin_error")
    assert "at most 8192 octets" in error["error"]
