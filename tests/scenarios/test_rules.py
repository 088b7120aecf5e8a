"""Rules and lists in the running server: what clients are told, what is delivered, what changes."""

import json

from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, running
from servers.records import find

CONFIG = """
[smtp]
max_junk_commands = 1000000
[plugins]
plugins = ["rules", "policy"]
[plugins.policy]
blocked_recipient_domains = ["refused.test"]
[plugins.rules]
watch = 0.1
files = ["{folder}/policy/rules.toml"]
[[plugins.rules.lists]]
name = "spies"
kind = "address"
use = "deny"
entries = ["127.0.0.3"]
"""
RULES = """
[[lists]]
name = "blocked"
kind = "wildcard"
file = "blocked.txt"

[[rule]]
name = "blocked-senders"
hook = "mail"
when = 'in_list("blocked", sender)'
then = "reject"
enhanced = "5.7.1"
text = "{sender_domain} is not welcome"

[[rule]]
name = "moved"
hook = "rcpt"
when = 'recipient_local == "old"'
then = "redirect"
redirect = "new@example.test"

[[rule]]
name = "told"
hook = "rcpt"
when = "!relaying"
tag = { X-Rcpt = "{recipient}", X-Same = "yes" }

[[rule]]
name = "invoices"
hook = "data"
when = 'subject.matches("(?i)invoice") && !tls'
tag = { X-Invoice = "from {client_ip}, {size} octets" }

[[rule]]
name = "suspect"
hook = "data"
when = 'has_header("X-Suspect")'
then = "quarantine"

[[rule]]
name = "slow"
hook = "headers"
when = 'header("X-Slow") == "yes"'
then = "defer"
"""
CASES = """
[[case]]
name = "a blocked sender"
sender = "a@www.blocked.example"
expect = "reject"
rule = "blocked-senders"
"""


def policy(folder):
    place = folder / "policy"
    place.mkdir()
    (place / "rules.toml").write_text(RULES)
    (place / "blocked.txt").write_text("*.blocked.example # since spring\n")
    (place / "cases.policy.toml").write_text(CASES)
    return place


def change(path, text):
    beside = path.with_suffix(".tmp")
    beside.write_text(text)
    beside.replace(path)


def mail_from(client, sender):
    reply = client.say(f"MAIL FROM:<{sender}>")
    client.say("RSET")
    return reply


def test_what_clients_are_told_and_what_is_delivered(tmp_path):
    policy(tmp_path)
    with running(tmp_path, rest=MAILDIR + CONFIG) as elemta:
        with Dialogue(elemta.port, source="127.0.0.3") as client:
            assert client.banner.startswith("554 5.7.1 Refused by local policy")
        with Dialogue(elemta.port) as client:
            client.hello()
            reply = mail_from(client, "a@www.blocked.example")
            assert reply.startswith("550 5.7.1 www.blocked.example is not welcome")
            line = RULES.split("\n").index('name = "blocked-senders"')
            place = f"rule blocked-senders ({tmp_path}/policy/rules.toml:{line})"
            asked = client.id
            elemta.wait_for(
                lambda: place in elemta.cli("why", asked, check=False).stdout, "the record"
            )
            slow = b"X-Slow: yes\r\n\r\nHi\r\n"
            assert client.deliver(slow, "a@b.example", "c@example.test").startswith("451 4.7.1 ")
            odd = b"X-Slow: =?\xfftf-8?q?yes?=\r\n\r\nHi\r\n"  # in no character set that is one
            assert client.deliver(odd, "a@b.example", "odd@example.test").startswith("250")
        content = b"From: a@b.example\r\nSubject: Your =?utf-8?q?Invoice?=\r\n\r\nPay\r\n"
        elemta.send("a@b.example", "old@example.test", content=content)
        (message,) = elemta.wait_mail("new")
        assert b"\nX-Invoice: from 127.0.0.1, " in message
        [why] = find(elemta, "new@example.test", outcome="accept")
        assert [each.note.partition(" (")[0] for each in why.heard] == ["rule moved"]
        assert "; rule invoices (" in why.heard[0].note
        assert elemta.mailbox("old") == []
        with Dialogue(elemta.port) as client:  # the second recipient is refused behind its rule
            client.hello()
            content = b"Subject: Hi\r\n\r\nHi\r\n"
            named = "x@refused.test", "c@example.test", "old@refused.test"
            replies = client.envelope("a@b.example", *named)
            assert [each[:3] for each in replies] == ["250", "550", "250", "550"]
            client.say("DATA")
            assert client.say(content + b".").startswith("250")
        (message,) = elemta.wait_mail("c")
        assert message.count(b"\nX-Rcpt: ") == message.count(b"\nX-Rcpt: c@example.test\r\n") == 1
        assert message.count(b"\nX-Same: yes\r\n") == 1
        assert len(elemta.mailbox("new")) == 1
        held = elemta.send("a@b.example", "c@example.test", content=b"X-Suspect: 1\r\n\r\nHi\r\n")
        listed = json.loads(elemta.cli("queue", "list", "--json").stdout)
        assert held in json.dumps(listed)
        assert len(elemta.mailbox("c")) == 1


def test_files_that_change_count_at_once_unless_a_case_breaks(tmp_path):
    place = policy(tmp_path)
    with running(tmp_path, rest=MAILDIR + CONFIG) as elemta, Dialogue(elemta.port) as client:
        client.hello()
        assert mail_from(client, "a@worse.example").startswith("250")
        change(place / "blocked.txt", "*.blocked.example\nworse.example\n")
        elemta.wait_for(
            lambda: mail_from(client, "a@worse.example").startswith("550"), "the changed list"
        )
        change(place / "blocked.txt", "other.example\n")
        told = elemta.wait_for(
            lambda: [each for each in elemta.events() if "stay as they were" in json.dumps(each)],
            "word of the case",
        )
        assert "case 'a blocked sender': reject is expected" in json.dumps(told)
        assert mail_from(client, "a@x.blocked.example").startswith("550")
        assert mail_from(client, "a@other.example").startswith("250")
        assert elemta.cli("reload", check=False).returncode == 1
        assert mail_from(client, "a@x.blocked.example").startswith("550")
        (place / "cases.policy.toml").unlink()
        elemta.wait_for(
            lambda: mail_from(client, "a@other.example").startswith("550"), "the other list"
        )
        hits = 'elemta_plugin_rules_hits_total{plugin="rules",rule="blocked-senders"}'
        elemta.wait_for(lambda: elemta.metric(hits) >= 4, "the figures")
        show = ("rules", "show", "--json", "--list", "blocked")
        (row,) = elemta.wait_for(  # a busy machine may not answer in time
            lambda: json.loads(elemta.cli(*show, check=False).stdout)["lists"], "word of the list"
        )
        assert (row["kind"], row["entries"], row["unread"]) == ("wildcard", 1, 0)
        (entry, hits) = row["most_used"][0]
        assert (entry, row["hits"] >= hits >= 1) == ("other.example", True)
        shown = elemta.wait_for(
            lambda: elemta.cli("rules", "show", check=False).stdout, "word of the rules"
        )
        assert "blocked-senders" in shown
        assert "list-spies" in shown


def test_a_reload_may_name_other_files(tmp_path):
    place = policy(tmp_path)
    with running(tmp_path, rest=MAILDIR + CONFIG) as elemta:
        (place / "cases.policy.toml").unlink()
        (place / "rules.toml").rename(place / "others.toml")
        change(place / "blocked.txt", "other.example\n")
        elemta.reload("policy/rules.toml", "policy/others.toml")
        with Dialogue(elemta.port) as client:
            client.hello()
            assert mail_from(client, "a@other.example").startswith("550")
            assert mail_from(client, "a@x.blocked.example").startswith("250")
