"""What limits, the brake on guessed passwords and load shedding are told."""

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from elemta.mail.rate import Rate

Networks = tuple[IPv4Network | IPv6Network, ...]


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """What clients of one kind of listener may do; None and 0: as much as they like.

    Attributes:
        connections: At one time, of all clients of these listeners.
        connections_per_address, connections_per_network: Likewise, of some.
        connection_rate, connection_rate_per_network: New connections.
        handshake_rate: TLS handshakes of one address.
        message_rate, recipient_rate: MAIL commands and recipients of one address.
        auth_rate: Logins of one address, whatever comes of them.
        error_rate: Broken and refused commands of one address.
        error_delay: By how many seconds each error makes the answer later than the one before;
            the first `error_delay_after` are free.
        max_error_delay: The longest delay.
    """

    connections: int = 0
    connections_per_address: int = 0
    connections_per_network: int = 0
    connection_rate: Rate | None = None
    connection_rate_per_network: Rate | None = None
    handshake_rate: Rate | None = None
    message_rate: Rate | None = None
    recipient_rate: Rate | None = None
    auth_rate: Rate | None = None
    error_rate: Rate | None = None
    error_delay: float = 0.0
    error_delay_after: int = 5
    max_error_delay: float = 10.0


@dataclass(frozen=True, slots=True)
class ScopeSettings:
    """Who counts as one client, and for whom nothing is counted.

    Attributes:
        ipv4_prefix, ipv6_prefix: How wide a network is.
        exempt: Networks without limits and bans, those that are trusted among them.
    """

    ipv4_prefix: int = 24
    ipv6_prefix: int = 64
    exempt: Networks = ()


@dataclass(frozen=True, slots=True)
class BrakeSettings:
    """What failed logins lead to.

    Attributes:
        address, network, login, pair: Failures before a ban of an address, of a network, of a
            login, or of a login from one address; None: never.
        free_failures: So many delay nothing.
        delay: Seconds that the next attempt waits after one failure more; doubled by each.
        max_delay: The longest of these waits.
        ban_for: Seconds of a first ban; each further one takes twice as long.
        max_ban: The longest ban.
        never_ban: Addresses and networks.
        known_for: Seconds that an address is remembered from which a login has succeeded.
    """

    is_enabled: bool = True
    address: Rate | None = field(default_factory=lambda: Rate(20, 3600.0))
    network: Rate | None = field(default_factory=lambda: Rate(100, 3600.0))
    login: Rate | None = None
    pair: Rate | None = field(default_factory=lambda: Rate(10, 3600.0))
    free_failures: int = 2
    delay: float = 1.0
    max_delay: float = 15.0
    ban_for: float = 900.0
    max_ban: float = 7 * 86400.0
    never_ban: Networks = ()
    known_for: float = 30 * 86400.0


@dataclass(frozen=True, slots=True)
class Threshold:
    """From where on a server is stressed, and from where on it sheds load; None: never."""

    stressed: float | None = None
    shedding: float | None = None


@dataclass(frozen=True, slots=True)
class SheddingSettings:
    """When there is too much to do, and what is done less then.

    Attributes:
        memory: Shares of what the memory limit allows, 0 to 1.
        disk_free: Octets free for the spool: below them.
        inodes_free: Share of inodes free, 0 to 1: below it.
        lag: Seconds that the event loop is late.
        queue_age: Age of the oldest message, seconds.
        calm_for: Seconds that a state lasts after its cause has gone.
        memory_limit: Octets that all workers together may use; 0: what the cgroup says.
        timeout: Seconds that a command may take to arrive while there is too much to do.
        room: Share of all connections that may be open then.
    """

    is_enabled: bool = True
    memory: Threshold = field(default_factory=Threshold)
    disk_free: Threshold = field(default_factory=Threshold)
    inodes_free: Threshold = field(default_factory=Threshold)
    lag: Threshold = field(default_factory=Threshold)
    queue_age: Threshold = field(default_factory=Threshold)
    calm_for: float = 10.0
    memory_limit: int = 0
    timeout: float = 30.0
    room: float = 0.75
