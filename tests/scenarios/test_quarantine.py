"""Quarantine in the running server: set aside, looked at, let go once, removed, counted."""

import json

import pytest
from servers.elemta import running
from servers.next_hop import NextHop, serving

CONFIG = """
[relay]
local_domains = ["example.test"]
[[routes]]
domains = ["*"]
via = "smtp"
host = "127.0.0.1"
port = {port}
[queue]
jitter = 0.0
[plugins]
directory = {folder}
[[plugins.plugin]]
name = "watch"
module = "watch.py"
[[plugins.plugin]]
name = "guard"
module = "guard.py"
"""
WATCH = '''
from elemta.plugins import *

class Watch(Plugin[Settings]):
    """Sets mail aside: here as it comes, there as it goes, each time it sees it."""

    metadata = Metadata(name="watch")

    async def on_filter(self, ctx: MessageContext) -> Result | None:
        if ctx.headers.get("subject") == "come":
            return Result.quarantine(note="as it comes")

    async def on_pre_delivery(self, ctx: DeliveryContext) -> Result:
        return Result.quarantine(note="as it goes")
'''
GUARD = '''
from elemta.plugins import *

class Guard(Plugin[Settings]):
    """Has an opinion of its own."""

    metadata = Metadata(name="guard")

    async def on_pre_delivery(self, ctx: DeliveryContext) -> Result | None:
        if ctx.headers.get("subject") == "guarded":
            return Result.quarantine(note="no, really")
'''


@pytest.fixture
def post(tmp_path):
    plugins = tmp_path / "plugins"
    plugins.mkdir(mode=0o755)
    for name, text in (("watch", WATCH), ("guard", GUARD)):
        (plugins / f"{name}.py").write_text(text)
        (plugins / f"{name}.py").chmod(0o644)
    with serving(hop := NextHop()):
        rest = CONFIG.format(port=hop.port, folder=json.dumps(str(plugins)))
        with running(tmp_path / "server", rest=rest) as elemta:
            yield elemta
            assert not elemta.events("internal_error")
            assert not elemta.events("plugin_error")


def order(elemta, *arguments):
    return json.loads(elemta.cli("quarantine", *arguments, "--json").stdout)


@pytest.mark.parametrize("subject", ["come", "go"])
def test_what_an_operator_lets_go_is_not_put_back_by_the_same_plugin(post, subject):
    content = f"Subject: {subject}\r\n\r\nhello\r\n".encode()
    queue_id = post.send("a@b.test", "c@far.test", content=content)
    post.wait_event("message_quarantined", queue_id=queue_id)
    post.wait_for(lambda: order(post, "list"), "it to be listed")
    (listed,) = order(post, "list")
    assert listed["queue_id"] == queue_id
    assert (listed["plugin"], listed["reason"]) == (
        "watch",
        "as it comes" if subject == "come" else "as it goes",
    )
    assert order(post, "show", queue_id)["preview"]["text"] == "hello"

    assert order(post, "release", queue_id, "--reason", "harmless")["changed"] == 1
    post.wait_event("message_delivered", queue_id=queue_id)
    (moved,) = post.wait_event("state_changed", queue_id=queue_id, after="active")
    assert moved["reason"].startswith("ordered by ")
    assert moved["reason"].endswith(": harmless")
    assert len(post.events("message_quarantined")) == 1
    assert order(post, "list") == []


def test_what_another_plugin_objects_to_is_heard(post):
    content = b"Subject: guarded\r\n\r\nhello\r\n"
    queue_id = post.send("a@b.test", "c@far.test", content=content)
    for number, (plugin, note) in enumerate(
        (("watch", "as it goes"), ("guard", "no, really")), start=1
    ):
        post.wait_event("message_quarantined", count=number, queue_id=queue_id)
        post.wait_for(lambda: order(post, "list"), "it to be listed")
        (listed,) = order(post, "list")
        assert (listed["plugin"], listed["reason"]) == (plugin, note)
        assert order(post, "release", queue_id)["changed"] == 1
    post.wait_event("message_delivered", queue_id=queue_id)


def test_what_is_deleted_reaches_nobody_and_all_is_counted(post):
    queue_id = post.send("a@b.test", "c@far.test", content=b"Subject: come\r\n\r\nhello\r\n")
    post.wait_event("message_quarantined", queue_id=queue_id)
    assert order(post, "delete", queue_id)["changed"] == 1
    post.wait_event("state_changed", queue_id=queue_id, after="deleted")
    counted = 'elemta_quarantine_left_total{how="deleted"}'
    post.wait_for(lambda: post.metric(counted) == 1, "the metrics")
    assert post.metric('elemta_quarantined_total{plugin="watch"}') == 1
    assert not post.events("message_delivered")
