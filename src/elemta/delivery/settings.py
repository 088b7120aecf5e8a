"""What delivery is told: the routing table and the limits of outgoing connections.

Durations are seconds.
"""

import enum
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

SMTP_PORT = 25
LMTP_PORT = 24

PROHIBITED_NETWORKS: tuple[IPv4Network | IPv6Network, ...] = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",  # "this host": connects to loopback
            "127.0.0.0/8",
            "169.254.0.0/16",  # link-local, and where clouds keep their metadata
            "224.0.0.0/3",  # multicast, reserved, broadcast
            "::/128",
            "::1/128",
            "fe80::/10",
            "ff00::/8",
        ),
    )
)
"""Where no mail exchanger on the Internet is, but services of this machine may be."""


class Via(enum.StrEnum):
    """The ways out."""

    SMTP = "smtp"
    """One fixed next hop."""
    MX = "mx"
    """The mail exchangers of the recipient's domain."""
    LMTP = "lmtp"
    """A mailbox server over TCP or a unix socket (RFC 2033)."""
    MAILDIR = "maildir"
    """A folder on this machine."""
    HOLD = "hold"
    """Nowhere: it waits until an operator releases it."""
    DISCARD = "discard"
    """Nowhere: it counts as delivered."""


class TlsPolicy(enum.StrEnum):
    """What a next hop must offer before mail is given to it (RFC 3207)."""

    NONE = "none"
    """In clear, even where TLS is offered."""
    OPPORTUNISTIC = "opportunistic"
    """TLS where it works, no matter whose certificate; else in clear."""
    REQUIRED = "required"
    """TLS or no delivery, no matter whose certificate."""
    VERIFY = "verify"
    """TLS with a certificate that a known authority gave to this very host, or no delivery."""


class Conversion(enum.StrEnum):
    """What happens to content that the next hop does not take."""

    CONVERT = "convert"
    """It is encoded where that changes nothing but its form; else it is returned."""
    BOUNCE = "bounce"
    """The message is returned."""


class LongLines(enum.StrEnum):
    """What happens to lines of more than 998 octets."""

    PASS = "pass"  # noqa: S105 - no password
    """They are passed on, as the next hop may well take them."""
    CONVERT = "convert"
    """The parts that have them are encoded."""
    BOUNCE = "bounce"
    """The message is returned."""


@dataclass(frozen=True, slots=True)
class Route:
    """One line of the routing table; the first that matches decides.

    Attributes:
        domains: Patterns of the recipient's domain: "*", "example.test", "*.example.test"
            (subdomains only).
        senders: Patterns of the sender: as `domains`, or a whole address, or "<>" for the null
            sender; empty matches any.
        path: The socket of an LMTP server, or the folder of a maildir with `{domain}` and
            `{local}` to be filled in.
        host: Name or IP address of the next hop.
        port: 0 means the port of the protocol.
        conversion: Of content that the next hop does not take.
        long_lines: By SMTP; mailboxes have no limit.
    """

    domains: tuple[str, ...]
    via: Via
    senders: tuple[str, ...] = ()
    path: str = ""
    host: str = ""
    port: int = 0
    tls: TlsPolicy = TlsPolicy.OPPORTUNISTIC
    conversion: Conversion = Conversion.CONVERT
    long_lines: LongLines = LongLines.PASS


MX_ROUTE = Route(domains=("*",), via=Via.MX)
"""The way out where no route matches."""


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """Limits and manners of outgoing connections.

    Attributes:
        hostname: What we call ourselves in EHLO and LHLO.
        timeout: How long a reply to a greeting, MAIL or RCPT may take. The other waits of
            RFC 5321 §4.5.3.2 keep their proportion to it: DATA two fifths, a block of content
            three fifths, the final dot twice as long.
        max_connections: Of one worker, those kept idle included.
        max_connections_per_destination: Likewise.
        max_messages_per_connection: After so many a connection is not used again.
        idle_timeout: How long a connection waits for another message.
        recipients_per_transaction: More are sent in further transactions (RFC 5321
            §4.5.3.1.8 has everyone accept 100).
        prohibited_networks: Addresses that no mail exchanger may have, be they wrapped into
            IPv6 or not; fixed next hops are not subject to it.
        ipv6: Connect to IPv6 addresses.
    """

    hostname: str = "localhost"
    connect_timeout: float = 30.0
    timeout: float = 300.0
    max_connections: int = 200
    max_connections_per_destination: int = 20
    max_messages_per_connection: int = 100
    idle_timeout: float = 5.0
    recipients_per_transaction: int = 100
    prohibited_networks: tuple[IPv4Network | IPv6Network, ...] = PROHIBITED_NETWORKS
    ipv6: bool = True
