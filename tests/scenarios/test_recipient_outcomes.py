"""One message, and another end for each of its recipients: what plugins may want, on the wire."""

import json
import textwrap

import pytest
from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, running
from servers.process import free_port

MAIL = b"Subject: hello\r\n\r\nhello\r\n"
STRANGER, FRIEND = "127.0.0.1", "127.0.0.9"
SORTER = '''
from elemta.plugins import *

class Sorter(Plugin[Settings]):
    """Treats recipients as their local parts say."""

    metadata = Metadata(name="sorter")

    def on_rcpt_to(self, ctx):
        word, _, rest = ctx.recipient.local.partition("-")
        if word == "early":
            return getattr(Result, rest)(note="at RCPT")
        return Result.under(rest) if word == "policy" else None

    def on_filter(self, ctx):
        if not ctx.headers.get("subject"):
            return Result.reject("No subject")
        if ctx.headers.get("subject") == "inject":
            return Result.modify(AddHeader("X-Seen", str(ctx.sender.local) + chr(13) + chr(10)))
        edits = []
        if ctx.headers.get("x-colour"):
            edits += [RenameHeader("X-Colour", "X-Their-Colour"), AddHeader("X-Colour", "grün")]
        for each in map(str, ctx.recipients):
            if each.startswith("aside"):
                edits.append(SettleRecipient.quarantine(each, note="odd"))
            elif each.startswith("moved"):
                edits.append(SettleRecipient.redirect(each, "new@example.test", note="left"))
            elif each.startswith("refused"):
                edits.append(SettleRecipient.reject(each, "Not for this one", note="never"))
            elif each.startswith("gone"):
                edits.append(SettleRecipient.discard(each, note="spam trap"))
        return Result.modify(*edits) if edits else None

    def on_pre_delivery(self, ctx):
        if ctx.headers.get("x-late"):
            return Result.modify(RenameHeader("X-Late", "X-Too-Late"))
'''


@pytest.fixture(scope="module")
def post(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outcomes")
    plugins = folder / "plugins"
    plugins.mkdir(mode=0o755)
    (plugins / "sorter.py").write_text(textwrap.dedent(SORTER))
    lmtp = free_port()
    rest = f"""
[smtp]
prdr = true
split = "accept"
rejected_recipients = "bounce"
[plugins]
directory = "{plugins}"
{MAILDIR.replace("[relay]", f'[relay]{chr(10)}trusted_networks = ["{FRIEND}/32"]')}"""
    listeners = f'[[listeners]]\naddress = "127.0.0.1:{lmtp}"\nkind = "lmtp"\n'
    with running(folder, rest=rest, listeners=listeners) as server:
        server.lmtp = lmtp
        yield server


def ask(client, sender, *recipients, content=MAIL, parameters=""):
    """A transaction up to the dot; answers to MAIL and RCPT, and the first behind the dot."""
    said = [client.say(f"MAIL FROM:<{sender}>{parameters}")]
    said += [client.say(f"RCPT TO:<{each}@example.test>") for each in recipients]
    assert client.say("DATA").startswith("354")
    client.send(content + b".\r\n")
    return said, client.reply()


def states(server, queue_id):
    """What is in the queue of a message: state and reason by recipient."""
    shown = server.cli("queue", "show", queue_id, "--json", check=False)
    found = json.loads(shown.stdout).get("recipients", [])
    return {each["address"]: (each["state"], each["reply"]) for each in found}


def why(server, name, *words):
    """Wait for records that say something, and have them explained."""

    def told():
        said = server.cli("why", name, check=False).stdout
        return said if all(each in said for each in words) else ""

    return server.wait_for(told, f"{words} in what is said of {name}")


def settled(server, queue_id, count):
    found = server.wait_event("recipient_settled", count, queue_id=queue_id, plugin="sorter")
    return {each["recipient"].partition("@")[0]: each["outcome"] for each in found}


def test_a_strangers_message_is_taken_and_each_recipient_treated_apart(post):
    before = post.metric('elemta_recipients_settled_total{outcome="discard"}')
    with Dialogue(post.port, source=STRANGER) as client:
        client.hello()
        locals_ = ("ann", "aside", "moved", "refused", "gone", "early-quarantine")
        _, reply = ask(client, "someone@stranger.test", *locals_)
    assert reply.startswith("250 2.0.0 Ok: queued as ")
    queue_id = reply.rpartition(" ")[2]
    assert settled(post, queue_id, 5) == {
        "aside": "quarantine",
        "moved": "redirect",
        "refused": "quarantine",  # nobody knows that it is this sender who would be told
        "gone": "discard",
        "early-quarantine": "quarantine",
    }
    delivered = post.wait_event("message_delivered", 2, queue_id=queue_id)
    assert {each["recipient"] for each in delivered} == {"ann@example.test", "new@example.test"}
    kept = "kept in quarantine by sorter"
    assert states(post, queue_id) == {
        "aside@example.test": ("quarantine", f"{kept} (odd)"),
        "refused@example.test": ("quarantine", f"{kept} (refused: Not for this one; never)"),
        "early-quarantine@example.test": ("quarantine", f"{kept} (at RCPT)"),
    }
    assert all(each["queue_id"] != queue_id for each in post.events("message_bounced"))
    why(
        post,
        queue_id,
        "accepted",
        "put into quarantine at the end of the message because the plugin sorter decided so (odd)",
        "sent elsewhere at the end of the message because the plugin sorter decided so (to new@",
        "thrown away at the end of the message because the plugin sorter decided so (spam trap)",
    )
    sample = 'elemta_recipients_settled_total{outcome="discard"}'
    post.wait_for(lambda: post.metric(sample) > before, "the figure")


def test_a_sender_who_is_known_gets_back_what_is_refused(post):
    with Dialogue(post.port, source=FRIEND) as client:
        client.hello()
        _, reply = ask(client, "boss@example.test", "bea", "refused", "moved")
    queue_id = reply.rpartition(" ")[2]
    assert settled(post, queue_id, 2) == {"refused": "bounce", "moved": "redirect"}
    (event,) = post.wait_event("message_bounced", queue_id=queue_id)
    assert event["reply"] == "550 5.7.1 Not for this one"
    (notice,) = post.wait_mail("boss")
    assert b"Final-Recipient: rfc822; refused@example.test" in notice
    assert b"Status: 5.7.1" in notice
    assert b"Not for this one" in notice
    assert b"moved@example.test" not in notice
    post.wait_event("message_delivered", 2, queue_id=queue_id)
    post.wait_for(lambda: not states(post, queue_id), "nothing is left of it")


def test_the_null_sender_is_never_sent_anything(post):
    with Dialogue(post.port, source=FRIEND) as client:
        client.hello()
        _, reply = ask(client, "", "cleo", "refused")
    queue_id = reply.rpartition(" ")[2]
    assert settled(post, queue_id, 1) == {"refused": "quarantine"}
    post.wait_event("message_delivered", queue_id=queue_id)
    assert list(states(post, queue_id)) == ["refused@example.test"]


def test_lmtp_is_told_of_each_recipient(post):
    with Dialogue(post.lmtp, source=STRANGER) as client:
        client.hello("LHLO")
        to = ("dan", "refused", "dan", "gone", "refused2")
        _, first = ask(client, "a@stranger.test", *to)
        replies, ids = [first], []
        for _ in to[1:]:
            replies.append(client.reply())
            ids.append(client.id)
        assert client.say("NOOP").startswith("250")
    ok, no = first, "550 5.7.1 Not for this one"
    assert ok.startswith("250")
    assert replies == [ok, no, ok, ok, no]
    queue_id = ok.rpartition(" ")[2]
    assert settled(post, queue_id, 3) == {
        "refused": "reject",
        "refused2": "reject",
        "gone": "discard",
    }
    assert len(post.wait_mail("dan")) == 1
    why(post, ids[0], "refused@example.test")
    why(post, ids[3], "refused2@example.test")


@pytest.mark.parametrize("to", [("refused",), ("refused", "refused2"), ("refused", "gone")])
def test_nobody_left_is_a_refusal_in_every_protocol(post, to):
    no = "550 5.7.1 Not for this one"
    for place, verb, parameters in (
        (post.port, "EHLO", ""),
        (post.port, "EHLO", " PRDR"),
        (post.lmtp, "LHLO", ""),
    ):
        with Dialogue(place, source=FRIEND) as client:
            client.hello(verb)
            _, reply = ask(client, "a@b.test", *to, parameters=parameters)
            replies = [reply]
            if verb == "LHLO":
                replies += [client.reply() for _ in to[1:]]
            elif parameters and len(to) > 1:
                assert reply.startswith("353")
                replies = [client.reply() for _ in (*to, "all")]
            assert client.id
            assert set(replies) == {no}
            assert client.say("NOOP").startswith("250")


def test_all_that_are_left_out_leave_a_message_discarded(post):
    with Dialogue(post.port) as client:
        client.hello()
        _, reply = ask(client, "a@b.test", "gone", "gone2")
    assert reply.startswith("250")
    queue_id = reply.rpartition(" ")[2]
    assert settled(post, queue_id, 2) == {"gone": "discard", "gone2": "discard"}
    post.wait_event("message_discarded", queue_id=queue_id)


def test_prdr_is_told_of_each_recipient_and_then_of_all(post):
    with Dialogue(post.port, source=STRANGER) as client:
        client.hello()
        _, first = ask(client, "a@b.test", "eve", "refused", "aside", parameters=" PRDR")
        replies = [client.reply() for _ in range(4)]
    assert first.startswith("353")
    ok = replies[-1]
    assert ok.startswith("250")
    assert replies == [ok, "550 5.7.1 Not for this one", ok, ok]
    assert settled(post, ok.rpartition(" ")[2], 2) == {"refused": "reject", "aside": "quarantine"}


def test_a_message_that_nobody_gets_is_in_quarantine_as_a_whole(post):
    queue_id = post.send("a@b.test", "aside@example.test", "refused@example.test", content=MAIL)
    (event,) = post.wait_event("message_quarantined", queue_id=queue_id)
    assert (event["plugin"], event["reason"]) == ("sorter", "odd")
    why(post, queue_id, "The message was put into quarantine", "(odd)", "(refused: Not for this")


def test_what_a_plugin_refuses_as_a_whole_is_refused_for_all(post):
    with Dialogue(post.lmtp) as client:
        client.hello("LHLO")
        _, first = ask(client, "a@b.test", "fay", "aside", "early-quarantine", content=b"X: y\r\n")
        assert {first, client.reply(), client.reply()} == {"550 5.7.1 No subject"}


def test_recipients_of_another_policy_have_to_come_again(post):
    post.reload('split = "accept"', 'split = "defer"')
    apart = "452 4.5.3 Send to this recipient in a message of its own"
    with Dialogue(post.port, source=STRANGER) as client:
        client.hello()
        to = ("policy-a", "policy-a-b", "gil", "early-quarantine", "policy-a", "early-discard")
        said, reply = ask(client, "a@b.test", *to)
        assert [each == apart for each in said[1:]] == [False, True, True, True, False, True]
        assert reply.startswith("250")
        for alone in ("policy-a-b", "gil", "early-quarantine", "early-discard"):
            said, reply = ask(client, "a@b.test", alone)
            assert apart not in said
            assert reply.startswith("250")
    post.reload('split = "defer"', 'split = "accept"')


def test_each_change_of_the_header_section_is_in_the_log_with_its_plugin(post):
    content = b"Subject: x\r\nX-Colour: red\r\n fire\r\nX-Late: 1\r\n\r\nx\r\n"
    queue_id = post.send("a@b.test", "hue@example.test", content=content)
    (arrived,) = post.wait_mail("hue")
    head = b"X-Their-Colour: red\r\n fire\r\nX-Too-Late: 1\r\nX-Colour: =?utf-8?"
    assert b"\r\nSubject: x\r\n" + head in arrived
    told = post.wait_event("message_modified", 2, queue_id=queue_id, plugin="sorter")
    assert [each["changes"] for each in told] == [
        ["rename header X-Colour to X-Their-Colour", "add header X-Colour"],
        ["rename header X-Late to X-Too-Late"],
    ]
    why(post, queue_id, "sorter", "on_filter", "edit")


def test_a_line_end_in_a_field_is_a_failure_of_the_plugin_and_not_in_the_mail(post):
    with Dialogue(post.port) as client:
        client.hello()
        _, reply = ask(client, "a@b.test", "ina", content=b"Subject: inject\r\n\r\nx\r\n")
    assert reply == "451 4.3.0 Internal error, try again later"
    assert any("HeaderError" in each["error"] for each in post.wait_event("plugin_error"))
    assert post.mailbox("ina") == []
