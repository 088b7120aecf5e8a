"""Mail finds its way by a real name server to hosts on loopback addresses."""

import json

import pytest
from servers.elemta import running
from servers.knot import run_knot
from servers.next_hop import Answer, NextHop, serving
from servers.process import free_port
from servers.report import Report

ZONES = {
    "hosts.test": (
        "first A 127.0.0.2\nsecond A 127.0.0.3\nbusy A 127.0.0.4\nnobody A 127.0.0.5\n"
        "rude A 127.0.0.6\ntired A 127.0.0.7\nclosing A 127.0.0.8\n"
        "many A 127.0.0.5\nmany A 127.0.0.2\n"
    ),
    "pref.test": "@ MX 20 second.hosts.test.\n@ MX 10 first.hosts.test.\n",
    "best.test": "@ MX 20 second.hosts.test.\n@ MX 10 first.hosts.test.\n",
    "equal.test": "@ MX 10 second.hosts.test.\n@ MX 10 first.hosts.test.\n",
    "down.test": "@ MX 10 nobody.hosts.test.\n@ MX 20 second.hosts.test.\n",
    "busy.test": "@ MX 10 busy.hosts.test.\n@ MX 20 second.hosts.test.\n",
    "closed.test": "@ MX 10 rude.hosts.test.\n@ MX 20 second.hosts.test.\n",
    "tired.test": "@ MX 10 tired.hosts.test.\n@ MX 20 second.hosts.test.\n",
    "closing.test": "@ MX 10 closing.hosts.test.\n@ MX 20 second.hosts.test.\n",
    "many.test": "@ MX 10 many.hosts.test.\n",
    "hostless.test": "@ MX 10 nothing.hosts.test.\n@ MX 20 second.hosts.test.\n",
    "empty.test": "@ MX 10 nothing.hosts.test.\n",
    "implicit.test": "@ A 127.0.0.3\nmail A 127.0.0.2\n",
    "null.test": "@ MX 0 .\n@ A 127.0.0.3\n",
    "alldown.test": "@ MX 10 nobody.hosts.test.\n",
    "self.test": "@ MX 10 first.hosts.test.\n@ MX 5 mail.example.test.\n",
}
CONFIG = """
[relay]
local_domains = ["example.test"]
[[routes]]
domains = ["example.test"]
via = "maildir"
path = "{{mail}}/{{{{domain}}}}/{{{{local}}}}"
[[routes]]
domains = ["*"]
via = "mx"
port = {port}
[dns]
nameservers = ["127.0.0.1:{dns}"]
timeout = "15s"
[queue]
retry_schedule = ["1h"]
[delivery]
max_messages_per_connection = 1
{delivery}
"""


def busy_at(when: str) -> Answer:
    return lambda stage, _about: "421 4.3.2 too busy" if stage == when else None


def rude(stage: str, _about: str) -> str | None:
    return "" if stage == "greeting" else None


@pytest.fixture(scope="module")
def hops():
    """Next hops by name: one port, addresses of their own."""
    port = free_port()
    named = {
        "first": NextHop(address="127.0.0.2", port=port),
        "second": NextHop(address="127.0.0.3", port=port),
        "busy": NextHop(busy_at("greeting"), address="127.0.0.4", port=port),
        "rude": NextHop(rude, address="127.0.0.6", port=port),
        "tired": NextHop(busy_at("ehlo"), address="127.0.0.7", port=port),
        "closing": NextHop(busy_at("mail"), address="127.0.0.8", port=port),
    }
    with serving(*named.values()):
        yield named


@pytest.fixture(scope="module")
def nameserver(tmp_path_factory):
    with run_knot(tmp_path_factory.mktemp("dns"), ZONES) as (_, port):
        yield port


@pytest.fixture(scope="module")
def server(tmp_path_factory, hops, nameserver):
    rest = CONFIG.format(
        port=hops["first"].port, dns=nameserver, delivery="prohibited_networks = []"
    )
    with running(tmp_path_factory.mktemp("mx"), rest=rest) as elemta:
        yield elemta
        assert not elemta.events("internal_error")


def outcome(server, kind: str, recipient: str) -> dict:
    server.send("ann@example.test", recipient)
    return server.wait_event(kind, recipient=recipient)[0]


@pytest.mark.parametrize(
    ("recipient", "host"),
    [
        ("a@pref.test", "first.hosts.test"),
        ("a@down.test", "second.hosts.test"),
        ("a@busy.test", "second.hosts.test"),
        ("a@closed.test", "second.hosts.test"),
        ("a@tired.test", "second.hosts.test"),
        ("a@closing.test", "second.hosts.test"),
        ("a@many.test", "many.hosts.test"),
        ("a@hostless.test", "second.hosts.test"),
        ("a@implicit.test", "implicit.test"),
        ("a@mail.implicit.test", "mail.implicit.test"),
        ("a@[127.0.0.3]", "127.0.0.3"),
    ],
)
def test_who_gets_the_mail(server, hops, recipient, host):
    event = outcome(server, "message_delivered", recipient)
    assert event["delivery_host"] == host
    taken = [name for name, hop in hops.items() if recipient in hop.recipients()]
    assert len(taken) == 1
    assert event["delivery_address"] == f"{hops[taken[0]].address}:{hops['first'].port}"


def counts(hops, domain: str) -> dict[str, int]:
    return {
        name: count
        for name, hop in hops.items()
        if (count := sum(each.endswith(f"@{domain}") for each in hop.recipients()))
    }


def send_many(server, hops, domain: str, number: int) -> dict[str, int]:
    """Send to a domain, over a connection each; who got how many."""
    for place in range(number):
        server.send("ann@example.test", f"{place}@{domain}")
    server.wait_for(lambda: sum(counts(hops, domain).values()) >= number, "all of them")
    return counts(hops, domain)


def test_the_best_gets_all(server, hops):
    assert send_many(server, hops, "best.test", 10) == {"first": 10}


def test_equals_share(server, hops):
    """In random order (RFC 5321 §5.1): one of two hosts gets nothing once in 8 million times."""
    found = send_many(server, hops, "equal.test", 24)
    assert found.keys() == {"first", "second"}
    assert sum(found.values()) == 24


@pytest.mark.parametrize(
    ("recipient", "status"),
    [
        ("a@null.test", "5.1.10"),
        ("a@nowhere.implicit.test", "5.1.2"),
        ("a@empty.test", "5.4.4"),
        ("a@self.test", "5.4.6"),
    ],
)
def test_a_domain_without_a_way(server, recipient, status):
    local = f"of-{status}"
    server.send(f"{local}@example.test", recipient)
    [raw] = server.wait_mail(local)
    report = Report(raw)
    assert report.failed() == {recipient}
    [fate] = report.fates()
    assert fate[2] == status
    assert fate[3] == "None"  # no host has said anything


@pytest.mark.parametrize(
    ("recipient", "status"), [("a@alldown.test", "4.4.1"), ("a@refused.invalid", "4.4.3")]
)
def test_what_may_pass_is_waited_for(server, recipient, status):
    event = outcome(server, "message_deferred", recipient)
    assert event["reply"].split(" ")[1] == status
    [row] = json.loads(server.cli("queue", "list", "--recipient", recipient, "--json").stdout)
    assert [each["state"] for each in row["recipients"]] == ["deferred"]


def test_loopback_is_prohibited_by_default(tmp_path, hops, nameserver):
    rest = CONFIG.format(port=hops["first"].port, dns=nameserver, delivery="")
    with running(tmp_path, rest=rest) as server:
        for recipient in ("b@pref.test", "b@implicit.test", "b@[127.0.0.3]"):
            event = outcome(server, "message_bounced", recipient)
            assert event["reply"].startswith("550 5.4.4")
        assert not any("b@" in each for hop in hops.values() for each in hop.recipients())
