"""Refusals in other words, on the running server: of its own rules, of plugins, of limits."""

from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, running
from servers.records import find

CONFIG = """
[plugins]
plugins = ["policy", "greylist"]
[plugins.policy]
allowed_sender_domains = ["example.org"]
[limits]
message_rate = "2/h"
[[replies]]
rule = "relay"
text = "{{recipient}}? Not for {{client_ip}} ({{rule}})"
code = 554
[[replies]]
rule = "policy"
text = "{{text}}\\nAsk postmaster@{{hostname}}"
code = 450
other_class = true
[[replies]]
rule = "limits.*"
text = "Slowly, {{helo}}"
[[replies]]
rule = "smtp.max_errors"
text = "Enough"
code = 550
other_class = true
[[replies]]
rule = "*"
text = "{{text}}!"
"""
CLOSED = MAILDIR.replace("[[routes]]", 'trusted_networks = ["127.0.0.1/32"]\n[[routes]]', 1)


def test_what_clients_are_told(tmp_path):
    with running(tmp_path, rest=CLOSED + CONFIG, server="[smtp]\nmax_errors = 2\n") as elemta:
        with Dialogue(elemta.port, source="127.0.0.7") as client:
            client.hello()
            assert client.say("MAIL FROM:<a@other.org>") == (
                "450-4.7.1 Your domain may not send here\n"
                "450 4.7.1 Ask postmaster@mail.example.test"
            )
            asked = client.id
            assert client.say("MAIL FROM:<a@example.org>").startswith("250")
            denied = "554 5.7.1 b@else.test? Not for 127.0.0.7 (relay)"
            assert client.say("RCPT TO:<b@else.test>") == denied
            relayed = client.id
            assert client.say("RCPT TO:<b@example.test>").startswith("450 4.7.1 Greylisted, try ")
            client.say("RSET")
            assert client.say("MAIL FROM:<a@example.org>") == (
                "450 4.7.1 Slowly, client.example.org"
            )
            assert client.say("FOO") == "500 5.5.1 Command not recognised!"
            # it ends the session, whatever is said of it
            assert client.say("FOO") == "421 4.7.0 Enough"
            assert client.rest() == b""
        (event,) = elemta.wait_event("message_rejected", why_id=relayed)
        assert event["reply"] == denied
        [why] = find(elemta, relayed)
        assert (why.ruling.rule, why.ruling.reply) == ("relay", denied)
        [why] = find(elemta, asked)
        assert (why.ruling.plugin, why.ruling.rule, why.ruling.outcome) == ("policy", "", "defer")
        elemta.reload("Not for {client_ip}", "Never")
        with Dialogue(elemta.port, source="127.0.0.8") as client:
            client.hello()
            client.say("MAIL FROM:<a@example.org>")
            assert client.say("RCPT TO:<b@else.test>") == "554 5.7.1 b@else.test? Never (relay)"
