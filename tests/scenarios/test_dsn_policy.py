"""When senders hear of a failure or a delay, and when they must not."""

import itertools
import json
import time

import pytest
from servers.elemta import Elemta, running
from servers.next_hop import NextHop, serving
from servers.report import Report

ROUTES = """
[relay]
local_domains = ["example.test"]
relay_domains = ["remote.test"]
trusted_networks = ["127.0.0.1/32"]
[[routes]]
domains = ["example.test"]
via = "maildir"
path = "{{mail}}/{{{{domain}}}}/{{{{local}}}}"
[[routes]]
domains = ["*"]
via = "smtp"
host = "127.0.0.1"
port = {port}
[queue]
jitter = 0.0
{queue}
"""
STRANGER = "127.0.0.5"  # not in a trusted network


def answer(stage: str, about: str) -> str | None:
    replies = {"nobody": "550 5.1.1 No such user here", "later": "450 4.2.1 not now"}
    return replies.get(about.partition("@")[0]) if stage == "rcpt" else None


@pytest.fixture(scope="module")
def hop():
    with serving(found := NextHop(answer)):
        yield found


def reports_to(hop: NextHop, recipient: str) -> list[bytes]:
    return [each.content for each in hop.taken if each.recipients == (recipient,)]


def test_delays_are_told_and_then_the_end(tmp_path, hop):
    # some attempts for each warning, so that none is late for the next
    queue = 'retry_schedule = ["1s"]\nmax_age = "8s"\ndelay_warnings = ["1s", "4s"]'
    with running(tmp_path, rest=ROUTES.format(port=hop.port, queue=queue)) as server:
        server.send("ann@example.test", "later@remote.test", "good@remote.test")
        # a sender elsewhere is not bothered with delays
        server.send("author@remote.test", "later@remote.test")
        server.wait_event("message_bounced", 2)
        told = [Report(raw) for raw in server.wait_mail("ann", 3)]
        told.sort(key=lambda report: report.message["Message-ID"])
        assert [report.fates()[0][1:3] for report in told] == [
            ("delayed", "4.2.1"),
            ("delayed", "4.2.1"),
            ("failed", "4.4.7"),
        ]
        assert [report.delayed() for report in told[:2]] == [{"later@remote.test"}] * 2
        assert told[2].failed() == {"later@remote.test"}
        assert told[2].fates()[0][4].endswith("the last reply was: 450 4.2.1 not now")
        assert told[0].groups[1]["Will-Retry-Until"]
        assert len(server.events("message_delayed")) == 2
        server.wait_for(lambda: reports_to(hop, "author@remote.test"), "the other report")
        [raw] = reports_to(hop, "author@remote.test")
        assert Report(raw).fates()[0][1:3] == ("failed", "4.4.7")


def fail(server: Elemta, sender: str) -> tuple[str, str]:
    """Have a stranger's message fail behind the queue: its id, and who was told, or why not."""
    queue_id = server.send(sender, "nobody@remote.test", source=STRANGER)
    [event] = server.wait_event("message_bounced", queue_id=queue_id)
    return queue_id, event["notification"]


def failed(server: Elemta) -> list[str]:
    """What waits for the operator."""
    listed = json.loads(server.cli("queue", "list", "--state", "failed", "--json").stdout)
    return [message["queue_id"] for message in listed]


def test_a_stranger_may_have_forged_the_sender(tmp_path, hop):
    queue = 'bounce_unverified = "keep"'
    with running(tmp_path, rest=ROUTES.format(port=hop.port, queue=queue)) as server:
        kept, why = fail(server, "victim@keep.test")
        assert why == "unverified sender"
        assert failed(server) == [kept]
        server.reload('bounce_unverified = "keep"', 'bounce_unverified = "discard"')
        _, why = fail(server, "victim@discard.test")
        assert why == "unverified sender"
        assert failed(server) == [kept]
        server.reload('bounce_unverified = "discard"', 'bounce_unverified = "send"')
        _, notification = fail(server, "victim@send.test")
        server.wait_event("message_delivered", queue_id=notification)
        [raw] = reports_to(hop, "victim@send.test")
        assert Report(raw).failed() == {"nobody@remote.test"}
        assert failed(server) == [kept]
        assert not reports_to(hop, "victim@keep.test") + reports_to(hop, "victim@discard.test")


def test_a_local_sender_that_a_stranger_names_is_not_told(tmp_path, hop):
    with running(tmp_path, rest=ROUTES.format(port=hop.port, queue="")) as server:
        queue_id, why = fail(server, "ann@example.test")
        assert why == "unverified sender"
        assert failed(server) == [queue_id]
        assert not server.mailbox("ann")


def test_no_domain_gets_more_than_its_share(tmp_path, hop):
    queue = 'dsn_per_domain_per_hour = 2\nbounce_unverified = "send"'
    with running(tmp_path, rest=ROUTES.format(port=hop.port, queue=queue)) as server:
        for number in itertools.count():
            domain, hour = f"flooded-{number}.test", time.time() // 3600
            told = [fail(server, f"{n}@{domain}") for n in range(4)]
            if hour == time.time() // 3600:
                break  # else they count for two hours
        assert [why for _, why in told[2:]] == ["too many notifications"] * 2
        assert failed(server)[-2:] == [queue_id for queue_id, _ in told[2:]]
        _, other = fail(server, "one@else.test")
        for notification in (*(why for _, why in told[:2]), other):
            server.wait_event("message_delivered", queue_id=notification)
        assert len([each for each in hop.taken if each.recipients[0].endswith(domain)]) == 2
