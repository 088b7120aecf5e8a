"""The policy in the running server, set as in the guide for policies, with several workers."""

import itertools
import time

from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, running

CONFIG = """
[[plugins.plugin]]
name = "policy"
enabled = true

[plugins.plugin.config]
max_messages_per_minute = 60
max_recipients_per_message = 50
allowed_sender_domains = [
    "example.com",
    "trusted.org",
]
blocked_recipient_domains = [
    "blocked.com",
    "spam.org",
]
allowed_relay_domains = [
    "example.com",
    "trusted.org",
]
block_bad_reputation = true
min_reputation_score = 50
"""


def test_what_it_refuses(tmp_path):
    rest = MAILDIR.replace("[relay]\n", "[relay]\ntrusted_networks = []\n") + CONFIG
    with running(tmp_path, rest=rest) as elemta:
        with Dialogue(elemta.port) as client:
            client.hello()
            reply = client.say("MAIL FROM:<a@elsewhere.test>")
            assert reply.startswith("550 5.7.1 Your domain may not send here")
            assert client.say("MAIL FROM:<a@trusted.org>").startswith("250")
            reply = client.say("RCPT TO:<x@spam.org>")
            assert reply.startswith("550 5.7.1 We do not send to spam.org")
            assert client.say("RCPT TO:<x@example.com>").startswith("250")
            assert client.say("RCPT TO:<x@third.test>").startswith("550 5.7.1")
            replies = [client.say(f"RCPT TO:<r{number}@example.test>") for number in range(50)]
            assert {reply[:3] for reply in replies[:49]} == {"250"}
            assert replies[49].startswith("452 4.5.3 Too many recipients")
        elemta.send("a@example.com", "c@example.test", content=b"Subject: x\r\n\r\nHi\r\n")
        assert len(elemta.wait_mail("c")) == 1


def test_messages_in_a_minute_count_for_all_workers_together(tmp_path):
    with running(tmp_path, rest=MAILDIR + CONFIG, workers=2) as elemta:
        for number in itertools.count(1):
            began_at, replies = time.monotonic(), ask(elemta, f"127.0.0.{number}")
            if began_at // 60 == time.monotonic() // 60:
                break  # else it counts for two minutes
        assert replies == ["250 2.1.0"] * 60 + ["451 4.7.1"] * 20
        with Dialogue(elemta.port, source="127.0.1.1") as client:
            client.hello()
            assert client.say("MAIL FROM:<a@example.com>").startswith("250")


def ask(elemta, source: str) -> list[str]:
    """What a client is told of eighty messages, in eight sessions."""
    replies = []
    for _ in range(8):
        with Dialogue(elemta.port, source=source) as client:
            client.hello()
            for _ in range(10):
                replies.append(client.say("MAIL FROM:<a@example.com>")[:9])
                client.say("RSET")
    return replies
