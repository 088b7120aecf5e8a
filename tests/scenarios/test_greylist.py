"""Strangers wait once, however many workers and servers they try: on running servers."""

import contextlib

import pytest
from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, Elemta, running
from servers.redis import run_redis

GREYLIST = """
[plugins]
plugins = ["greylist"]
[plugins.greylist]
delay = "1s"
auto_allow = {passes}
{more}
"""
SHARED = 'store = "valkey"\nvalkey = {{ url = "%s", timeout = 10 }}'
WAITS = "450 4.7.1 Greylisted, try again in 1 seconds"
CONTENT = b"Subject: hello\r\n\r\nhello\r\n"


def rest(more: str = "", passes: int = 5) -> str:
    strangers = MAILDIR.replace("[relay]", '[relay]\ntrusted_networks = ["127.0.0.200/32"]')
    return strangers + GREYLIST.replace("{passes}", str(passes)).replace("{more}", more)


def attempt(server: Elemta, sender: str = "a@a.test", source: str = "127.0.0.2") -> str:
    """Try to send a message; the last reply."""
    with Dialogue(server.port, source=source) as client:
        client.hello()
        return client.deliver(CONTENT, sender, "box@example.test")


def passes(server: Elemta, sender: str = "a@a.test") -> bool:
    reply = attempt(server, sender)
    assert reply.startswith(("250 ", WAITS)), reply
    return reply.startswith("250 ")


def test_workers_share_what_they_know(tmp_path):
    with running(tmp_path / "a", rest=rest(), workers=2) as server:
        assert attempt(server) == WAITS
        server.wait_for(lambda: passes(server), "a pass")
        for _ in range(10):  # whichever worker is asked
            assert passes(server)
        assert len(server.wait_mail("box", 11)) == 11
        assert server.events("plugin_error") == []


def test_notifications_wait_after_the_message_and_call_outs_do_not(tmp_path):
    with running(tmp_path / "a", rest=rest()) as server:
        with Dialogue(server.port, source="127.0.0.2") as client:
            client.hello()
            assert [reply[:3] for reply in client.envelope("", "box@example.test")] == ["250"] * 2
            assert client.say("QUIT").startswith("221")
        assert attempt(server, "") == WAITS
        server.wait_for(lambda: passes(server, ""), "a pass")


@pytest.fixture
def shared(tmp_path):
    """Two servers and the store they share."""
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(run_redis(tmp_path))
        settings = rest(SHARED % redis.url, passes=2)
        servers = [stack.enter_context(running(tmp_path / name, rest=settings)) for name in "ab"]
        yield redis, servers


def test_two_servers_are_one(shared):
    _, (one, other) = shared
    for sender in ("a@a.test", "b@a.test"):
        assert attempt(one, sender) == WAITS
        other.wait_for(lambda sender=sender: passes(other, sender), "a pass")
        assert passes(one, sender)
    assert passes(one, "c@c.test")  # two of this network have come back, at the other server
    assert attempt(one, "c@c.test", source="127.0.1.2") == WAITS


def test_the_store_is_killed_and_comes_back(shared):
    redis, (one, other) = shared
    assert attempt(one) == WAITS
    redis.kill()
    for server in (one, other):
        for number in range(4):
            assert passes(server, f"a@{number}.test")
    told = one.wait_event("plugin_logged", plugin="greylist", level="warning")
    assert "the store fails" in told[0]["text"]
    redis.start()
    one.wait_for(lambda: not passes(one, "z@z.test"), "the store")
    other.wait_for(lambda: not passes(other, "y@y.test"), "the store")
    assert one.events("plugin_error") == []
    other.wait_for(lambda: passes(other, "z@z.test"), "a pass")


def test_a_rule_that_accepts_comes_first(tmp_path):
    settings = rest().replace('["greylist"]', '["greylist", "rules"]')
    settings += """
[[plugins.rules.rule]]
name = "friends"
hook = "rcpt"
when = 'sender == "a@a.test"'
then = "accept"
"""
    with running(tmp_path / "a", rest=settings) as server:
        assert attempt(server, "a@a.test").startswith("250 ")
        assert attempt(server, "b@a.test") == WAITS
