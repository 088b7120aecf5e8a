"""Addresses of this machine and of prohibited networks."""

import socket
from ipaddress import ip_network

import pytest

from elemta.net.addresses import is_own, is_within


def _outward_address() -> str:
    """An address of this machine that is not loopback, as the kernel would choose it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("203.0.113.1", 9))
        except OSError:
            pytest.skip("this machine has no network")
        address: str = probe.getsockname()[0]
        return address


def test_addresses_of_this_machine_are_known() -> None:
    address = _outward_address()
    assert is_own(address)
    assert is_own(f"::ffff:{address}")


@pytest.mark.parametrize("address", ["203.0.113.1", "2001:db8:1::1"])
def test_addresses_of_others_are_not(address: str) -> None:
    assert not is_own(address)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::", "224.0.0.1"])
def test_loopback_is_not_taken_for_the_machine(address: str) -> None:
    assert not is_own(address)


def test_networks_hold_what_is_wrapped_into_ipv6() -> None:
    networks = (ip_network("10.0.0.0/8"), ip_network("fc00::/7"))
    inside = ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203", "2002:a01:203::", "fd00::1"]
    assert all(is_within(address, networks) for address in inside)
    assert not any(is_within(each, networks) for each in ["11.0.0.1", "::ffff:11.0.0.1", "::1"])


def test_a_text_that_is_no_address_is_an_error() -> None:
    with pytest.raises(ValueError, match="not-an-address"):
        is_within("not-an-address", ())
