"""What one client may do, and what it is told beyond."""

import pytest

from elemta.mail import events as ev
from elemta.mail.rate import Rate
from elemta.mail.reply import Reply
from elemta.server.limited import LIMITS
from elemta.server.limits.guard import MESSAGES, Refusal

IP = "192.0.2.1"
TRUSTED = "10.1.2.3"


def refused(found: object) -> str:
    """The name of the limit; "" when the client may come in."""
    return found.limit if isinstance(found, Refusal) else ""


def test_without_limits_nothing_is_counted(node):
    guard = node.guard()
    assert [guard.admit(IP) for _ in range(100)] == [()] * 100
    assert guard.message(IP) is None
    assert guard.delay(IP, 1000) == 0


def test_connections_of_one_address(node):
    guard = node.guard(connections_per_address=2)
    held = [guard.admit(IP), guard.admit(IP)]
    refusal = guard.admit(IP)
    assert str(refusal.reply).startswith("421 4.7.0 Too many connections from your address")
    assert refusal.limit == "connections_per_address"
    assert not refused(guard.admit("192.0.2.2"))
    guard.leave(held[0])
    assert not refused(guard.admit(IP))


@pytest.mark.parametrize(
    ("near", "far"),
    [
        (["192.0.2.1", "192.0.2.77"], "192.0.3.1"),
        (["2001:db8::1", "2001:db8::f:2"], "2001:db8:0:1::1"),
    ],
)
def test_connections_of_one_network(node, near, far):
    guard = node.guard(connections_per_network=2, connections_per_address=5)
    held = [guard.admit(ip) for ip in near]
    assert refused(guard.admit(near[0])) == "connections_per_network"
    assert not refused(guard.admit(far))
    guard.leave(held[1])
    assert not refused(guard.admit(near[0]))


def test_a_refused_connection_holds_nothing(node):
    guard = node.guard(connections_per_address=10, connections_per_network=1)
    guard.admit(IP)
    for _ in range(20):
        assert refused(guard.admit("192.0.2.2")) == "connections_per_network"
    assert node.counters.holds.count("mta 192.0.2.2") == 0


def test_an_ipv4_address_in_ipv6_form_is_the_same_network(node):
    assert node.scope.network("::ffff:192.0.2.9") == node.scope.network(IP)
    assert node.scope.is_exempt("::ffff:10.0.0.1")


def test_all_connections_of_a_kind_of_listener_also_those_of_trusted_networks(node):
    guard = node.guard(connections=2)
    assert not refused(guard.admit(IP))
    assert not refused(guard.admit(TRUSTED))
    assert refused(guard.admit(TRUSTED)) == "connections"
    assert not refused(node.guard(kind="submission", connections=2).admit(IP))


def test_new_connections_in_a_while(node):
    guard = node.guard(connection_rate=Rate(2, 60.0), connection_rate_per_network=Rate(3, 60.0))
    assert [refused(guard.admit(IP)) for _ in range(3)] == ["", "", "connection_rate"]
    found = [refused(guard.admit("192.0.2.2")) for _ in range(2)]
    assert found == ["", "connection_rate_per_network"]
    node.clock.advance(60)
    assert not refused(guard.admit(IP))


def test_trusted_networks_and_sockets_of_this_machine_are_exempt(node):
    guard = node.guard(
        connections_per_address=1,
        connections_per_network=1,
        connection_rate=Rate(1, 60.0),
        message_rate=Rate(1, 60.0),
        error_delay=1.0,
    )
    for ip in (TRUSTED, ""):
        assert [guard.admit(ip) for _ in range(5)] == [()] * 5
        assert [guard.message(ip) for _ in range(5)] == [None] * 5
        assert guard.delay(ip, 100) == 0


@pytest.mark.parametrize(
    ("limit", "ask", "reply"),
    [
        ("handshake_rate", "handshake", "454 4.7.0"),
        ("message_rate", "message", "450 4.7.1"),
        ("recipient_rate", "recipient", "452 4.5.3"),
        ("auth_rate", "login", "421 4.7.0"),
        ("error_rate", "error", "421 4.7.0"),
    ],
)
def test_rates_of_what_sessions_do(node, limit, ask, reply):
    guard = node.guard(**{limit: Rate(3, 60.0)})
    assert [getattr(guard, ask)(IP) for _ in range(3)] == [None] * 3
    refusal = getattr(guard, ask)(IP)
    assert str(refusal).startswith(reply)
    assert LIMITS[refusal] == limit
    assert getattr(guard, ask)("192.0.2.2") is None
    node.clock.advance(20)
    assert getattr(guard, ask)(IP) is None


def test_a_session_that_goes_on_beyond_a_limit_is_told_of_once(node):
    guard = node.guard()
    told = Reply(MESSAGES.code, MESSAGES.text, MESSAGES.enhanced, "0123abcd")
    for session in ("s1", "s1", "s2"):
        guard.tell(session, IP, "message_rate", told)
    first, second = node.told(ev.LimitReached)
    assert (first.limit, first.session_id, first.client_ip) == ("message_rate", "s1", IP)
    assert (first.reply, first.why_id) == (str(MESSAGES), "0123abcd")
    assert second.session_id == "s2"


def test_workers_share_each_limit(node):
    guards = [
        node.guard(worker, connections_per_address=4, message_rate=Rate(4, 60.0))
        for worker in range(4)
    ]
    assert [refused(guard.admit(IP)) for guard in guards * 2].count("") == 4
    assert [guard.message(IP) for guard in guards * 2].count(None) == 4
    node.counters.drop(2)
    assert [refused(guard.admit(IP)) for guard in guards * 2].count("") == 1


def test_delays_grow_with_errors_up_to_a_limit(node):
    guard = node.guard(error_delay=1.0, error_delay_after=5, max_error_delay=3.0)
    delays = [guard.delay(IP, errors) for errors in (0, 5, 6, 7, 8, 9, 1000)]
    assert delays == [0, 0, 1, 2, 3, 3, 3]
