"""What could not be delivered is tried again: by the clock, by order, after a restart."""

import time
from datetime import datetime

import pytest
from servers.elemta import Elemta, running
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
retry_schedule = ["{wait}"]
"""


class Moody:
    """Refuses each recipient for now, so many times as the number in its name."""

    def __init__(self):
        self.asked: dict[str, int] = {}

    def __call__(self, stage: str, about: str) -> str | None:
        if stage == "dot" and about.startswith("refused@"):
            return "451 4.3.0 not this time"
        if stage != "rcpt":
            return None
        self.asked[about] = self.asked.get(about, 0) + 1
        times = int("".join(filter(str.isdigit, about)) or 0)
        return "450 4.2.1 not now" if self.asked[about] <= times else None


def asked(hop: NextHop) -> dict[str, int]:
    """How often each recipient has been offered."""
    return hop.answer.asked


@pytest.fixture(scope="module")
def hop():
    with serving(hop := NextHop(Moody())):
        yield hop


@pytest.fixture
def server(tmp_path, hop, request):
    """With the wait between attempts that a test asks for."""
    rest = CONFIG.format(port=hop.port, wait=getattr(request, "param", "1h"))
    with running(tmp_path, rest=rest) as elemta:
        yield elemta
        hop.release()
        assert not elemta.events("internal_error")


def rows(server: Elemta, *options: str) -> list[dict]:
    """The recipients in the queue, with the id of their message."""
    return [
        {"queue_id": message["queue_id"], **recipient}
        for message in server.queued(*options)
        for recipient in message["recipients"]
    ]


def instant(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize("server", ["1s"], indirect=True)
def test_again_after_a_while_until_it_is_delivered(server, hop):
    queue_id = server.send("a@example.test", "clock2@remote.test", "clock0@remote.test")
    [first, last] = server.wait_event("message_delivered", 2, queue_id=queue_id)
    assert first["recipient"] == "clock0@remote.test"
    assert last["recipient"] == "clock2@remote.test"
    assert last["retry_count"] == 2
    deferred = server.events("message_deferred")
    [enqueued] = server.wait_event("message_enqueued", queue_id=queue_id)
    assert [event.get("retry_count", 0) for event in deferred] == [0, 1]
    assert {event["reply"] for event in deferred} == {"450 4.2.1 not now"}
    attempts = [enqueued, *deferred, last]
    for before, earlier, later in zip(attempts, deferred, attempts[2:], strict=False):
        assert earlier["next_attempt_at"] >= instant(before["time"]) + 1.0 - 0.002
        assert earlier["next_attempt_at"] <= instant(earlier["time"]) + 1.0 + 0.002
        assert instant(later["time"]) >= earlier["next_attempt_at"] - 0.002
    assert hop.recipients().count("clock0@remote.test") == 1
    assert rows(server) == []


def test_again_by_order(server, hop):
    queue_id = server.send("a@example.test", "order2@remote.test")
    other = server.send("a@example.test", "other1@remote.test")
    server.wait_event("message_deferred", 2)
    for attempts in (1, 2):
        server.wait_event("message_deferred", attempts, queue_id=queue_id)
        [row] = rows(server, "--id", queue_id)
        assert (row["state"], row["attempts"]) == ("deferred", attempts)
        assert row["reply"] == "450 4.2.1 not now"
        server.cli("queue", "retry", queue_id)
        server.wait_for(lambda n=attempts: asked(hop)["order2@remote.test"] == n + 1, "it")
    [event] = server.wait_event("message_delivered", queue_id=queue_id)
    assert event["retry_count"] == 2
    assert [row["queue_id"] for row in rows(server)] == [other]


def test_hold_release_and_delete(server, hop):
    ids = {name: server.send("a@example.test", f"{name}1@remote.test") for name in ("keep", "drop")}
    server.wait_event("message_deferred", 2)
    server.cli("queue", "hold", "--domain", "remote.test")
    assert [row["state"] for row in rows(server)] == ["hold", "hold"]
    server.cli("queue", "retry", "--all")  # is not for what is held
    server.cli("queue", "delete", ids["drop"])
    assert [row["queue_id"] for row in rows(server)] == [ids["keep"]]
    server.cli("queue", "release", "--all")
    server.wait_event("message_delivered", queue_id=ids["keep"])
    assert rows(server) == []
    assert "drop1@remote.test" not in hop.recipients()
    assert asked(hop)["keep1@remote.test"] == 2
    assert asked(hop)["drop1@remote.test"] == 1
    moves = [
        (event["recipient"][:4], event["before"], event["after"])
        for event in server.events("state_changed")
    ]
    assert ("keep", "deferred", "hold") in moves
    assert ("keep", "hold", "active") in moves


def test_an_order_meets_an_attempt_under_way(server, hop):
    """The attempt goes on; what it leaves to be tried again is held."""
    hop.hold()
    taken = server.send("a@example.test", "under-way@remote.test")
    left = server.send("a@example.test", "refused@remote.test")
    server.wait_for(
        lambda: {"under-way@remote.test", "refused@remote.test"} <= set(asked(hop)), "both"
    )
    server.cli("queue", "hold", taken, left)
    hop.release()
    server.wait_event("message_delivered", queue_id=taken)
    server.wait_event("message_deferred", queue_id=left)
    [row] = rows(server)
    assert (row["queue_id"], row["state"]) == (left, "hold")
    assert "refused@remote.test" not in hop.recipients()


@pytest.mark.parametrize("server", ["8s"], indirect=True)
def test_a_restart_keeps_the_plan(server, hop):
    queue_id = server.send("a@example.test", "restart1@remote.test")
    [event] = server.wait_event("message_deferred", queue_id=queue_id)
    [before] = rows(server)
    server.stop()
    server.start()
    # where the start has taken so long that it is time for the attempt, only that is to be seen
    assert rows(server) == [before] or time.time() >= event["next_attempt_at"]
    assert instant(before["next_attempt_at"]) == pytest.approx(event["next_attempt_at"], abs=0.001)
    [delivered] = server.wait_event("message_delivered", queue_id=queue_id)
    assert instant(delivered["time"]) >= event["next_attempt_at"] - 0.002
    assert delivered["retry_count"] == 1
    assert asked(hop)["restart1@remote.test"] == 2


def test_a_kill_keeps_the_plan(server, hop):
    """Also of what waits for an attempt or is under way: that is made again at once."""
    hop.hold()
    late = server.send("a@example.test", "late1@remote.test")
    server.wait_event("message_deferred", queue_id=late)
    now = server.send("a@example.test", "now@remote.test")
    server.wait_for(lambda: "now@remote.test" in asked(hop), "the attempt")
    [before] = rows(server, "--id", late)
    server.kill()
    hop.release()
    server.start()
    server.wait_event("message_delivered", queue_id=now)
    assert rows(server) == [before]
