"""What logins have sent lately."""

from elemta.server.limits import Quotas
from elemta.server.limits.quota import DAY, HOUR, Usage


def test_messages_recipients_and_octets_by_hour_and_day(node):
    node.clock.advance(DAY - node.clock.monotonic())  # windows begin now
    quotas = Quotas(node.counters, node.clock)
    quotas.tried("ann", "", "192.0.2.1", ["a@x.test", "b@x.test"], 1000)
    node.clock.advance(2 * HOUR)
    usage = quotas.tried("ann", "", "192.0.2.1", ["a@x.test"], 500)
    assert usage == Usage((1, 2), (1, 3), (500, 1500), new_recipients=2, addresses=1)
    assert quotas.usage("bob", "") == Usage((0, 0), (0, 0), (0, 0), 0, 0)


def test_what_was_tried_and_what_was_taken_are_two_things(node):
    quotas = Quotas(node.counters, node.clock)
    quotas.tried("ann", "", "192.0.2.1", ["a@x.test"], 10)
    quotas.tried("ann", "", "192.0.2.1", ["a@x.test"], 10)
    quotas.sent("ann", "", 1, 10)
    assert quotas.usage("ann", "").messages == (1, 1)
    assert quotas.usage("ann", "", "t").octets == (20, 20)


def test_a_new_beginning(node):
    quotas = Quotas(node.counters, node.clock)
    quotas.tried("ann", "", "192.0.2.1", ["a@x.test"], 10)
    usage = quotas.tried("ann", "1700000000.0", "192.0.2.1", ["a@x.test"], 10)
    assert usage == Usage((1, 1), (1, 1), (10, 10), new_recipients=0, addresses=1)


def test_addresses_of_a_day(node):
    quotas = Quotas(node.counters, node.clock)
    assert [quotas.used("ann", "", f"192.0.2.{n}") for n in (1, 2, 1, 3, 3)] == [1, 2, 2, 3, 3]
    for _ in range(10):  # in use for days: one address all the time
        node.clock.advance(DAY / 2)
        quotas.used("ann", "", "192.0.2.9")
    assert 1 <= quotas.usage("ann", "").addresses <= 2


def test_recipients_are_new_once_a_month(node):
    quotas = Quotas(node.counters, node.clock)
    quotas.tried("ann", "", "192.0.2.1", ["a@x.test"], 1)
    node.clock.advance(29 * DAY)
    assert quotas.tried("ann", "", "192.0.2.1", ["a@x.test"], 1).new_recipients == 0
    node.clock.advance(31 * DAY)
    assert quotas.tried("ann", "", "192.0.2.1", ["a@x.test"], 1).new_recipients == 1


def test_workers_count_together(node):
    first, second = (Quotas(node.counters, node.clock) for _ in range(2))
    first.tried("ann", "", "192.0.2.1", ["a@x.test"], 1)
    assert second.tried("ann", "", "192.0.2.1", ["a@x.test"], 1).messages == (2, 2)
