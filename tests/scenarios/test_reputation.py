"""Reputations on a running server: workers share them, and they outlive a restart."""

import json

from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, Elemta, running

PLUGIN = """
from elemta.plugins import *

class Judge(Plugin[Settings]):
    metadata = Metadata(name="judge")

    def on_filter(self, ctx):
        word = ctx.headers.get("Subject")
        if word == "bad":
            return Result.reject("That is bad", note="bad")
        return None
"""
REST = """
[plugins]
directory = "{folder}/plugins"
plugins = ["reputation", "judge"]
[plugins.reputation]
trust = 1
defer_below = 40
"""


def attempt(server: Elemta, subject: str, source: str = "127.0.0.2") -> str:
    with Dialogue(server.port, source=source) as client:
        client.hello()
        content = f"Subject: {subject}\r\n\r\nhello\r\n".encode()
        reply = client.deliver(content, "a@a.test", "box@example.test")
        client.say("QUIT")
        return reply


def test_who_sends_what_is_refused_has_to_wait(tmp_path):
    folder = tmp_path / "elemta"
    (folder / "plugins").mkdir(parents=True)
    (folder / "plugins" / "judge.py").write_text(PLUGIN)
    strangers = MAILDIR.replace("[relay]", '[relay]\ntrusted_networks = ["127.0.0.200/32"]')
    with running(folder, rest=strangers + REST, workers=2) as server:
        for _ in range(8):
            assert attempt(server, "good", "127.0.1.7").startswith("250 ")
            assert attempt(server, "bad", "127.0.1.7").startswith("550 5.7.1 That is bad")

        def waits() -> bool:
            reply = attempt(server, "bad")
            assert reply.startswith(("550 5.7.1 That is bad", "451 4.7.1 Too much bad mail"))
            return reply.startswith("451 ")

        server.wait_for(waits, "a bad reputation")
        domain = ("reputation", "complain", "domain=shop.test", "--json")
        (row,) = server.wait_for(  # a busy machine may not answer in time
            lambda: json.loads(server.cli(*domain, check=False).stdout)["subjects"], "the complaint"
        )
        assert row["subject"] == "domain shop.test"
        assert row["bad"] >= 5.0
        assert row["score"] <= 17
        assert attempt(server, "good", "127.0.1.7").startswith("250 ")  # as good as bad
        assert attempt(server, "good", "127.0.0.200").startswith("250 ")
        assert server.events("plugin_error") == []
        server.stop()
        server.start()
        assert attempt(server, "good").startswith("451 4.7.1 Too much bad mail has come")
        assert server.stop() == 0
