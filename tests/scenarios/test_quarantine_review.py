"""What operators do about mail in quarantine of the running server: allow a sender, report."""

import json
import textwrap

import pytest
from servers.elemta import MAILDIR, running
from servers.redis import run_redis
from servers.rspamd_learner import run_learner

KEEPER = '''
from elemta.plugins import *

class Keeper(Plugin[Settings]):
    """Takes all for spam, here as it comes and there as it goes."""

    metadata = Metadata(name="keeper", version="1.0")

    def on_filter(self, ctx):
        if "later" not in (ctx.headers.get("subject") or ""):
            return Result.quarantine(note="spam")

    def on_pre_delivery(self, ctx):
        if "later" in (ctx.headers.get("subject") or ""):
            return Result.quarantine(note="spam")
'''
PASSWORD = "let me learn"
MAIL = b"Subject: win\r\n\r\n" + b"".join(b"word%d of spam\r\n" % each for each in range(30))


@pytest.fixture(scope="module")
def post(tmp_path_factory):
    folder = tmp_path_factory.mktemp("review")
    (folder / "plugins").mkdir(mode=0o755)
    (folder / "plugins" / "keeper.py").write_text(textwrap.dedent(KEEPER))
    allowed = folder / "allowed.txt"
    allowed.touch()
    (folder / "password").write_text(f"{PASSWORD}\n")
    with (
        run_redis(folder) as redis,
        run_learner(folder, f"127.0.0.1:{redis.port}", PASSWORD) as controller,
    ):
        rest = f"""
[submission]
socket = "{folder}/submit"
[quarantine]
allow_list = "{allowed}"
rspamd = "http://127.0.0.1:{controller}"
rspamd_password_file = "{folder}/password"
ham_address = "not-spam@example.test"
[plugins]
directory = "{folder}/plugins"
plugins = ["rules", "keeper"]
[plugins.rules]
watch = "100ms"
[[plugins.rules.lists]]
name = "released"
kind = "mail"
file = "{allowed}"
[[plugins.rules.rule]]
name = "released-senders"
hook = "data"
when = 'in_list("released", sender) || sender == "" || listener == "submission"'
spare = ["keeper"]
[[plugins.rules.rule]]
name = "careful-readers"
hook = "data"
when = 'sender == "mixed@else.test"'
then = "quarantine"
only = ["*@careful.test"]
[[plugins.rules.rule]]
name = "others"
hook = "data"
when = 'sender == "mixed@else.test"'
spare = ["keeper"]
{MAILDIR.replace('["example.test"]', '["example.test", "careful.test"]')}"""
        with running(folder, rest=rest) as server:
            server.allowed = allowed
            yield server


def kept(server, sender, to, content=MAIL):
    queue_id = server.send(sender, f"{to}@example.test", content=content)
    server.wait_event("message_quarantined", queue_id=queue_id, plugin="keeper")
    return queue_id


def test_who_was_right_once_is_spared_from_then_on(post):
    queue_id = kept(post, "friend@else.test", "ann")
    said = post.cli(
        "quarantine", "release", queue_id, "--allow-sender", "--reason", "a friend", "--json"
    )
    assert json.loads(said.stdout)["changed"] == 1
    assert "friend@else.test is in" in said.stderr
    post.wait_mail("ann")

    ends = {"message_delivered", "message_quarantined"}

    def end_of(queue_id):
        return [
            each["event_type"]
            for each in post.events()
            if each["event_type"] in ends and each["queue_id"] == queue_id
        ]

    def is_spared():
        queue_id = post.send("friend@else.test", "dan@example.test", content=MAIL)
        end = post.wait_for(lambda: end_of(queue_id), "what becomes of it")
        return end == ["message_delivered"]

    post.wait_for(is_spared, "the list is read")
    post.send("friend@else.test", "bea@example.test", content=b"Subject: later\r\n\r\nx\r\n")
    post.wait_mail("bea")
    kept(post, "stranger@else.test", "ann")
    kept(post, "stranger@else.test", "ann", b"Subject: later\r\n\r\nx\r\n")


def test_rspamd_learns_and_a_mailbox_gets_what_was_misjudged(post):
    queue_id = kept(post, "writer@else.test", "cleo")
    first = post.cli("quarantine", "report", queue_id, "--as", "ham").stdout
    assert first.splitlines() == ["rspamd: learned", "not-spam@example.test: sent"]
    (sent,) = post.wait_mail("not-spam")
    assert b"Content-Type: message/rfc822\r\n" in sent
    assert MAIL in sent
    assert b"Return-Path: <writer" not in sent
    again = post.cli("quarantine", "report", queue_id, "--as", "ham", "--json")
    assert json.loads(again.stdout)["told"]["rspamd"] == "it knows that already"
    shown = json.loads(post.cli("queue", "show", queue_id, "--json").stdout)
    assert shown["recipients"][0]["state"] == "quarantine"
    what = [line.split()[2] for line in post.cli("quarantine", "audit").stdout.splitlines()]
    assert what.count("report") == 2


def test_a_rule_is_about_some_recipients_of_a_message(post):
    to = ("fay@example.test", "gil@careful.test")
    queue_id = post.send("mixed@else.test", *to, content=MAIL)
    (event,) = post.wait_event("message_delivered", queue_id=queue_id)
    assert event["recipient"] == "fay@example.test"
    listed = json.loads(post.cli("quarantine", "list", "--id", queue_id, "--json").stdout)
    assert [each["address"] for each in listed[0]["recipients"]] == ["gil@careful.test"]
    assert (listed[0]["plugin"], listed[0]["reason"][:20]) == ("rules", "rule careful-readers")
