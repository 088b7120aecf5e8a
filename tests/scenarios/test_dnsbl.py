"""Lists in a real DNS: who is listed, and lists that do not work."""

import pytest
from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, Elemta, running
from servers.knot import run_knot

WORKS = "2.0.0.127 A 127.0.0.2\ntest A 127.0.1.2\n"
ZONES = {
    "bl.test": WORKS + '3.0.0.127 A 127.0.0.4\n3.0.0.127 TXT "Sent spam"\n4.0.0.127 A 127.0.0.9\n',
    "s3cret.dq.test": WORKS + "3.0.0.127 A 127.0.0.2\n4.0.0.127 A 127.0.0.2\n",
    "dbl.test": WORKS + "spammer.example A 127.0.1.2\n",
    "urls.test": WORKS + "spammer.example A 127.0.1.2\n",
    "wl.test": WORKS + "5.0.0.127 A 127.0.9.3\n",
    "wild.test": "* A 127.0.0.2\n",
    "parked.test": "* A 192.0.2.80\n",
    "refusing.test": "* A 127.255.255.254\n",
}
SETTINGS = """
[plugins]
plugins = ["dnsbl"]
[plugins.dnsbl]
reject_at = 6
defer_at = 5
limit = 30
[[plugins.dnsbl.lists]]
zone = "bl.test"
weight = 4
reason = true
codes = ["127.0.0.2-127.0.0.7"]
[[plugins.dnsbl.lists]]
zone = "dq.test"
key = "s3cret"
weight = 3
[[plugins.dnsbl.lists]]
zone = "dbl.test"
kind = "sender"
weight = 5
[[plugins.dnsbl.lists]]
zone = "urls.test"
kind = "url"
weight = 5
text = "The message leads to {{what}}"
[[plugins.dnsbl.lists]]
zone = "wl.test"
weight = -10
[[plugins.dnsbl.lists]]
zone = "wild.test"
[[plugins.dnsbl.lists]]
zone = "parked.test"
[[plugins.dnsbl.lists]]
zone = "refusing.test"
[[plugins.dnsbl.lists]]
zone = "nowhere.test"
key = "s3cret"
[dns]
nameservers = ["127.0.0.1:{port}"]
timeout = "15s"
"""
BROKEN = {"wild.test", "parked.test", "refusing.test", "nowhere.test"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dnsbl")
    strangers = MAILDIR.replace("[relay]", '[relay]\ntrusted_networks = ["127.0.0.200/32"]')
    with run_knot(folder, ZONES) as (_, port):
        settings = SETTINGS.replace("{port}", str(port))
        with running(folder / "elemta", rest=strangers + settings) as elemta:
            yield elemta
            assert elemta.events("plugin_error") == []
            assert "s3cret" not in elemta.log_file.read_text()


def attempt(
    server: Elemta, source: str, sender: str = "a@a.example", text: bytes = b"hello"
) -> str:
    with Dialogue(server.port, source=source) as client:
        client.hello()
        content = b"Subject: hello\r\n\r\n" + text + b"\r\n"
        return client.deliver(content, sender, "box@example.test")


@pytest.mark.parametrize(
    ("source", "sender", "reply"),
    [
        (
            "127.0.0.3",
            "a@a.example",
            "550 5.7.1 127.0.0.3 is listed by bl.test; Sent spam. 127.0.0.3 is listed by dq.test",
        ),
        ("127.0.0.4", "a@a.example", "250 "),
        ("127.0.0.4", "a@spammer.example", "550 5.7.1 127.0.0.4 is listed by dq.test. spammer."),
        ("127.0.0.6", "a@spammer.example", "451 4.7.1 spammer.example is listed by dbl.test"),
        ("127.0.0.5", "a@spammer.example", "250 "),
        ("127.0.0.200", "a@spammer.example", "250 "),
    ],
)
def test_who_is_listed(server, source, sender, reply):
    assert attempt(server, source, sender).startswith(reply)


@pytest.mark.parametrize(
    ("source", "reply"),
    [
        (
            "127.0.0.6",
            "451 4.7.1 spammer.example is listed by urls.test; The message leads to s",
        ),
        ("127.0.0.4", "550 5.7.1 127.0.0.4 is listed by dq.test. spammer.example is listed by u"),
        ("127.0.0.5", "250 "),
    ],
)
def test_what_messages_lead_to(server, source, reply):
    text = b"See http://www.spammer.example/ and https://good.example/"
    assert attempt(server, source, text=text).startswith(reply)


def test_lists_that_do_not_work_are_told_of(server):
    assert attempt(server, "127.0.0.6").startswith("250 ")
    told = server.wait_event("plugin_logged", len(BROKEN), plugin="dnsbl", level="warning")
    assert {event["text"].partition(" ")[0] for event in told} == BROKEN
    assert all(" is set aside: it " in event["text"] for event in told)
