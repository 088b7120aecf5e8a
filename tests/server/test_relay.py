"""Relay control, decided on the parsed domain alone."""

from ipaddress import ip_network

import pytest

from elemta.mail.address import parse_path
from elemta.server import RelayPolicy, RelaySettings

POLICY = RelayPolicy(
    RelaySettings(
        postmaster_domain="us.example",
        local_domains=frozenset({"us.example", "xn--bcher-kva.example"}),
        relay_domains=frozenset({"friend.example"}),
        trusted_networks=(ip_network("127.0.0.0/8"), ip_network("2001:db8::/32")),
    )
)

ACCEPTED = [
    b"<user@us.example>",
    b"<user@US.EXAMPLE>",
    b"<user@friend.example>",
    b"<@a.example,@b.example:user@us.example>",
    b'<"user@other"@us.example>',
    b"<user%other.example@us.example>",
    b"<other.example!user@us.example>",
    b"<user@xn--bcher-kva.example>",
]
REFUSED = [
    b"<user@other.example>",
    b"<user@sub.us.example>",
    b"<user@us.example.other.example>",
    b"<user@notus.example>",
    b"<@us.example:user@other.example>",
    b"<@us.example,@friend.example:user@other.example>",
    b'<"user@us.example"@other.example>',
    b"<user%us.example@other.example>",
    b"<us.example!user@other.example>",
    b"<user@[127.0.0.1]>",
    b"<user@[IPv6:::1]>",
    b"<user@xn--us-example.example>",
]


@pytest.mark.parametrize("path", ACCEPTED)
def test_our_domains_are_accepted_from_strangers(path):
    address, _rest = parse_path(path)
    assert POLICY.refusal(address, trusted=False) is None


@pytest.mark.parametrize("path", REFUSED)
def test_all_others_are_refused_from_strangers(path):
    try:
        address, _rest = parse_path(path)
    except ValueError:
        return  # refused before policy
    refusal = POLICY.refusal(address, trusted=False)
    assert refusal.code == 550
    assert refusal.enhanced == "5.7.1"


@pytest.mark.parametrize("path", ACCEPTED + REFUSED[:4])
def test_trusted_clients_may_send_anywhere(path):
    address, _rest = parse_path(path)
    assert POLICY.refusal(address, trusted=True) is None


@pytest.mark.parametrize(
    ("ip", "trusted"),
    [
        ("127.0.0.1", True),
        ("127.255.0.9", True),
        ("::ffff:127.0.0.1", True),
        ("2001:db8::5", True),
        ("::1", False),
        ("10.0.0.1", False),
        ("192.168.1.1", False),
        ("128.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("", True),
    ],
)
def test_trust_is_by_network_and_mapped_addresses_count_as_ipv4(ip, trusted):
    assert POLICY.is_trusted(ip) is trusted


def test_postmaster_without_a_domain_has_a_home():
    assert str(POLICY.postmaster) == "postmaster@us.example"
