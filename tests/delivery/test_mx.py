"""Mail exchangers: order, loops, prohibited networks, and what is wrong with a domain."""

import random
from ipaddress import ip_network

import pytest

from elemta.config.models import DeliveryConfig
from elemta.delivery.mx import MAX_ADDRESSES, MAX_HOSTS, Target, targets
from elemta.delivery.settings import PROHIBITED_NETWORKS, DeliverySettings
from elemta.mail.outcome import Outcome, Result
from elemta.testing import FakeResolver

SETTINGS = DeliverySettings(hostname="mail.own.test")
OWN = {"198.51.100.7", "2001:db8:ffff::7"}


async def find(domain: str, zone, settings=SETTINGS, seed: int = 1, **more):
    rng = random.Random(seed)
    return await targets(domain, FakeResolver(zone), settings, rng, own=OWN.__contains__, **more)


async def addresses(domain: str, zone, **more) -> list[str]:
    found = await find(domain, zone, **more)
    assert isinstance(found, list), found
    return [target.address for target in found]


async def problem(domain: str, zone, **more) -> tuple[Result, int, str]:
    found = await find(domain, zone, **more)
    assert isinstance(found, Outcome)
    assert found.method == "smtp"
    return found.result, found.reply.code, found.reply.enhanced or ""


def a(*values: str):
    return {"A": list(values)}


async def test_preferences_decide() -> None:
    zone = {
        "d.test": {"MX": [(30, "c.test"), (10, "a.test"), (20, "b.test")]},
        "a.test": a("203.0.113.1"),
        "b.test": a("203.0.113.2"),
        "c.test": a("203.0.113.3"),
    }
    assert await find("d.test", zone, port=2525) == [
        Target("a.test", "203.0.113.1", 2525, 10),
        Target("b.test", "203.0.113.2", 2525, 20),
        Target("c.test", "203.0.113.3", 2525, 30),
    ]


async def test_equals_are_shuffled_within_their_preference() -> None:
    hosts = [f"h{n}.test" for n in range(4)]
    zone = {"d.test": {"MX": [(10, host) for host in hosts] + [(5, "first.test")]}}
    zone |= {host: a(f"203.0.113.{n}") for n, host in enumerate(hosts)}
    zone["first.test"] = a("203.0.113.99")
    orders = {tuple(await addresses("d.test", zone, seed=seed)) for seed in range(60)}
    assert {order[0] for order in orders} == {"203.0.113.99"}
    assert {order[1] for order in orders} == {f"203.0.113.{n}" for n in range(4)}
    assert len(orders) > 12


async def test_ipv6_and_ipv4_take_turns() -> None:
    zone = {
        "d.test": {"MX": [(1, "a.test")]},
        "a.test": {"A": ["203.0.113.1", "203.0.113.2"], "AAAA": ["2001:db8::1"]},
    }
    assert await addresses("d.test", zone) == ["2001:db8::1", "203.0.113.1", "203.0.113.2"]


async def test_ipv6_can_be_left_out() -> None:
    settings = DeliverySettings(ipv6=False)
    zone = {"d.test": {"A": ["203.0.113.1"], "AAAA": ["2001:db8::1"]}}
    resolver = FakeResolver(zone)
    found = await targets("d.test", resolver, settings, random.Random(1), own=OWN.__contains__)
    assert [target.address for target in found] == ["203.0.113.1"]
    assert ("d.test", "AAAA") not in resolver.questions


async def test_a_domain_without_mx_is_its_own_exchanger() -> None:
    assert await find("d.test", {"d.test": a("203.0.113.1")}) == [
        Target("d.test", "203.0.113.1", 25, 0)
    ]


async def test_with_mx_the_domain_itself_is_no_exchanger() -> None:
    zone = {"d.test": {"MX": [(1, "gone.test")], "A": ["203.0.113.1"]}}
    assert await problem("d.test", zone) == (Result.FAILED, 550, "5.4.4")


async def test_an_exchanger_may_be_an_alias() -> None:
    zone = {
        "d.test": {"MX": [(1, "alias.test")]},
        "alias.test": {"CNAME": ["real.test"]},
        "real.test": a("203.0.113.1"),
    }
    assert await find("d.test", zone) == [Target("alias.test", "203.0.113.1", 25, 1)]


async def test_null_mx_fails_at_once() -> None:
    zone = {"d.test": {"MX": [(0, ".")], "A": ["203.0.113.1"]}}
    assert await problem("d.test", zone) == (Result.FAILED, 556, "5.1.10")


async def test_a_domain_that_does_not_exist() -> None:
    assert await problem("d.test", {}) == (Result.FAILED, 550, "5.1.2")


async def test_a_domain_without_any_address() -> None:
    assert await problem("d.test", {"d.test": {}}) == (Result.FAILED, 550, "5.4.4")


async def test_dns_failure_of_the_domain_is_temporary() -> None:
    assert await problem("d.test", {"d.test": None}) == (Result.DEFERRED, 451, "4.4.3")


async def test_dns_failure_of_the_only_host_is_temporary() -> None:
    zone = {"d.test": {"MX": [(1, "a.test"), (2, "gone.test")]}, "a.test": None}
    assert await problem("d.test", zone) == (Result.DEFERRED, 451, "4.4.3")


async def test_dns_failure_of_one_host_leaves_the_others() -> None:
    zone = {
        "d.test": {"MX": [(1, "a.test"), (2, "b.test")]},
        "a.test": None,
        "b.test": a("203.0.113.2"),
    }
    assert await addresses("d.test", zone) == ["203.0.113.2"]


@pytest.mark.parametrize("us", ["mail.own.test", "other-name.test"], ids=["name", "address"])
async def test_only_hosts_better_than_ourselves_are_tried(us: str) -> None:
    zone = {
        "d.test": {"MX": [(10, "best.test"), (20, us), (20, "equal.test"), (30, "worse.test")]},
        "best.test": a("203.0.113.1"),
        "equal.test": a("203.0.113.2"),
        "worse.test": a("203.0.113.3"),
        "other-name.test": {"A": ["203.0.113.50"], "AAAA": ["2001:db8:ffff::7"]},
    }
    assert await addresses("d.test", zone) == ["203.0.113.1"]


@pytest.mark.parametrize(
    "zone",
    [
        {"d.test": {"MX": [(10, "mail.own.test"), (20, "b.test")]}, "b.test": a("203.0.113.2")},
        {"d.test": {"MX": [(10, "x.test")]}, "x.test": a("198.51.100.7")},
        {"d.test": a("198.51.100.7")},
        {"d.test": {"MX": [(10, "gone.test"), (20, "mail.own.test")]}},
    ],
    ids=["name", "address", "implicit", "better-one-is-gone"],
)
async def test_mail_that_would_come_back_to_us_fails(zone) -> None:
    outcome = await find("d.test", zone)
    assert isinstance(outcome, Outcome)
    assert str(outcome.reply) == "554 5.4.6 mail for d.test loops back to myself"


async def test_a_backup_waits_while_the_better_host_cannot_be_found() -> None:
    zone = {"d.test": {"MX": [(10, "a.test"), (20, "mail.own.test")]}, "a.test": None}
    assert await problem("d.test", zone) == (Result.DEFERRED, 451, "4.4.3")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.255.1.2",
        "0.0.0.0",
        "169.254.169.254",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:0.0.0.0",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "2002:7f00:1::1",
    ],
)
async def test_prohibited_addresses_are_never_tried(address: str) -> None:
    rdtype = "AAAA" if ":" in address else "A"
    zone = {"d.test": {"MX": [(1, "a.test"), (2, "b.test")]}, "a.test": {rdtype: [address]}}
    assert await problem("d.test", zone) == (Result.FAILED, 550, "5.4.4")
    zone["b.test"] = a("203.0.113.2")
    assert await addresses("d.test", zone) == ["203.0.113.2"]
    literal = f"[IPv6:{address}]" if ":" in address else f"[{address}]"
    assert await problem(literal, {}) == (Result.FAILED, 550, "5.4.4")


async def test_what_is_prohibited_is_a_setting() -> None:
    private = DeliverySettings(prohibited_networks=(ip_network("10.0.0.0/8"),))
    zone = {"d.test": a("10.1.2.3"), "loop.test": a("127.0.0.1")}
    assert await addresses("d.test", zone) == ["10.1.2.3"]
    assert await problem("d.test", zone, settings=private) == (Result.FAILED, 550, "5.4.4")
    assert await addresses("loop.test", zone, settings=private) == ["127.0.0.1"]


def test_the_configuration_prohibits_the_same_unless_told_otherwise() -> None:
    assert DeliveryConfig().prohibited_networks == PROHIBITED_NETWORKS
    assert DeliverySettings().prohibited_networks == PROHIBITED_NETWORKS


async def test_address_literals() -> None:
    assert await find("[203.0.113.5]", {}) == [Target("203.0.113.5", "203.0.113.5", 25, 0)]
    assert await addresses("[IPv6:2001:db8::5]", {}) == ["2001:db8::5"]
    assert await problem("[198.51.100.7]", {}) == (Result.FAILED, 554, "5.4.6")


async def test_a_zone_cannot_make_us_try_for_ever() -> None:
    count = 80
    zone = {"d.test": {"MX": [(n, f"h{n}.test") for n in range(count)]}}
    many = [f"203.0.113.{n}" for n in range(100)]
    zone |= {f"h{n}.test": {"A": many} for n in range(count)}
    resolver = FakeResolver(zone)
    found = await targets("d.test", resolver, SETTINGS, random.Random(1), own=OWN.__contains__)
    assert len(found) == MAX_HOSTS * MAX_ADDRESSES
    assert found[-1].host == f"h{MAX_HOSTS - 1}.test"
    assert len(resolver.questions) == 1 + 2 * MAX_HOSTS
