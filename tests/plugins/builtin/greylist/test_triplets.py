"""What of network, sender and recipient stays the same from attempt to attempt."""

import pytest

from elemta.net.addresses import network_of
from elemta.plugins import parse_address
from elemta.plugins.builtin.greylist.triplets import steady, triplet_of


@pytest.mark.parametrize(
    ("client", "network"),
    [
        ("192.0.2.7", "192.0.2.0/24"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.0/24"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_networks(client, network):
    assert network_of(client, 24, 64) == network


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("prvs=0123abcd45=user@a.test", "user@a.test"),
        ("prvs=0123abcd45=user@a.test", "prvs=9876fedc10=user@a.test"),
        ("msprvs1=abc123=user@a.test", "user@a.test"),
        ("SRS0=abcd=XY=b.test=user@a.test", "SRS0=zzzz=QQ=c.test=other@a.test"),
        ("bounce-1234-user=b.test@a.test", "bounce-99-other=c.test@a.test"),
        ("list-bounces+user=b.test@a.test", "list-bounces+other=c.test@a.test"),
        ("0100018f2a3b4c5d-000000@a.test", "0100018faaaabbbb-000001@a.test"),
        ("m-17@a.test", "m-18@a.test"),
        ("User@A.test", "user@a.test"),
    ],
)
def test_senders_that_are_the_same(one, other):
    assert steady(parse_address(one)) == steady(parse_address(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("user@a.test", "user@b.test"),
        ("user@a.test", "other@a.test"),
        ("prvs=0123abcd45=user@a.test", "prvs=0123abcd45=other@a.test"),
        ("+user@a.test", "user@a.test"),
    ],
)
def test_senders_that_are_not(one, other):
    assert steady(parse_address(one)) != steady(parse_address(other))


def test_the_null_sender():
    assert steady(None) == ""


def test_all_three_make_a_triplet():
    a, b = parse_address("a@a.test"), parse_address("b@a.test")
    found = {
        triplet_of("192.0.2.0/24", "a@a.test", a),
        triplet_of("192.0.3.0/24", "a@a.test", a),
        triplet_of("192.0.2.0/24", "b@a.test", a),
        triplet_of("192.0.2.0/24", "a@a.test", b),
    }
    assert {len(each) for each in found} == {32}
    assert len(found) == 4
