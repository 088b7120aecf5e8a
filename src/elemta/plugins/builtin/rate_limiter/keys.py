"""Whose a limit is: the parts of its key, from what a hook is told."""

from collections.abc import Callable, Mapping
from typing import Any

from elemta.net.addresses import network_of
from elemta.plugins import Address, SessionInfo
from elemta.plugins.builtin._known import asn_of, country_of, tenant_of
from elemta.plugins.builtin.rate_limiter.settings import Part

Read = Callable[[Any], str]
"""Gives a part of the key, "" where it is not known; of any context that knows it."""


def readers(ipv4_prefix: int, ipv6_prefix: int) -> Mapping[Part, Read]:
    """Give what reads each part but those of recipients, of which a message has many.

    Args:
        ipv4_prefix: How wide a network is, in bits.
        ipv6_prefix: Likewise.
    """

    def network(context: Any) -> str:  # noqa: ANN401 - any of a session
        address = context.session.client_ip
        return network_of(address, ipv4_prefix, ipv6_prefix) if address else ""

    return {
        "listener": lambda context: context.session.listener,
        "address": lambda context: context.session.client_ip,
        "network": network,
        "asn": lambda context: str(asn_of(context.session) or ""),
        "country": lambda context: country_of(context.session),
        "login": _login,
        "tenant": lambda context: tenant_of(context.session, getattr(context, "username", "")),
        "helo": _helo,
        "sender": lambda context: write(context.sender),
        "sender_domain": lambda context: context.sender.domain if context.sender else "",
    }


def _login(context: Any) -> str:  # noqa: ANN401 - as above
    session: SessionInfo = context.session
    return session.username or getattr(context, "username", "")


def _helo(context: Any) -> str:  # noqa: ANN401 - as above
    session: SessionInfo = context.session
    name: str = getattr(context, "name", "") or session.helo
    return name.lower()


def write(address: Address | None) -> str:
    """Write an address as it is counted, whatever its case; "" for the null path."""
    return str(address).lower() if address is not None else ""
