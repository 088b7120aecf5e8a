"""What the server room is told: sizes in octets, durations in seconds."""

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import Literal

from elemta.server.submission import Users
from elemta.smtp import Limits

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """Whose mail is taken, and for whom.

    Attributes:
        local_domains: Final delivery is here (A-labels, lower case).
        relay_domains: Accepted from anyone, passed on.
        trusted_networks: Clients that may relay anywhere.
        trusted_certificates: So may those whose certificate stands for one of these logins.
        postmaster_domain: Where mail to bare "postmaster" goes (RFC 5321 §4.5.1).
    """

    postmaster_domain: str
    local_domains: frozenset[str] = frozenset()
    relay_domains: frozenset[str] = frozenset()
    trusted_networks: tuple[Network, ...] = ()
    trusted_certificates: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Door:
    """What one listener asks of its clients.

    Attributes:
        kind: "mta", "lmtp", "submission" or "submissions".
        tls: How TLS begins, where it is on offer at all: "none", "starttls" or "implicit".
        requires_login: Nobody sends without AUTH (RFC 6409 §4.3).
        clear_login: AUTH is on offer in clear, too: for development on one machine.
        proxies: Who must begin with a header of the PROXY protocol; empty: nobody does.
        xclient, xforward: Who may speak for other clients by these commands.
        local: Who is at the other end of a unix socket; None where nobody knows.
        is_lmtp, is_submission: What follows from the kind.
    """

    kind: str = "mta"
    tls: Literal["none", "starttls", "implicit"] = "none"
    requires_login: bool = False
    clear_login: bool = False
    proxies: tuple[Network, ...] = ()
    xclient: tuple[Network, ...] = ()
    xforward: tuple[Network, ...] = ()
    local: Users | None = None
    is_lmtp: bool = field(init=False)
    is_submission: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_lmtp", self.kind == "lmtp")
        object.__setattr__(self, "is_submission", self.kind in {"submission", "submissions"})


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """How one session is held; a reload gives new ones to new sessions.

    Attributes:
        limits: Of the protocol machine. Sessions from trusted networks get
            `trusted_limits`, those on listeners for submission `submission_limits`, which may be
            milder about bare line ends.
        max_logins: Failed ones before 421.
        prdr: An answer for each recipient is on offer (draft-hall-prdr).
        splits: Recipients that plugins treat otherwise than the first are told to come again.
        bounces_rejected: Recipients that plugins refuse after the content are returned to senders
            that are known; without it they are kept in quarantine.
        max_hold: How long a submitted message may ask to be held (RFC 4865); 0: not at all.
        handshake_timeout: For TLS to come up.
        command_timeout: For a whole command line to arrive, however it trickles.
        data_timeout: Longest silence within a message.
        data_grace: Within a message, how long the client may be ahead of `min_data_rate`.
        min_data_rate: Octets a second that a client must keep up on average.
        max_errors: Broken commands before 421.
        max_junk_commands: Commands that move no mail before 421, counted anew after each message.
    """

    hostname: str
    limits: Limits = field(default_factory=Limits)
    trusted_limits: Limits = field(default_factory=Limits)
    submission_limits: Limits = field(default_factory=lambda: Limits(bare_newlines="normalise"))
    smtputf8: bool = True
    prdr: bool = False
    splits: bool = False
    bounces_rejected: bool = True
    max_recipients: int = 1000
    max_errors: int = 10
    max_junk_commands: int = 100
    max_logins: int = 3
    max_hold: float = 7 * 86400.0
    max_received: int = 50
    max_header_size: int = 1_000_000
    max_header_fields: int = 20_000
    handshake_timeout: float = 30.0
    command_timeout: float = 300.0
    data_timeout: float = 180.0
    data_grace: float = 60.0
    min_data_rate: float = 500.0
    session_timeout: float = 7200.0
    refuse_null_mx_senders: bool = False

    def data_deadline(self, now: float, began: float, received: int) -> float:
        """When a message must have gone on: no long silence, and no less than the minimum rate.

        Args:
            now: This instant.
            began: When the message did.
            received: Octets of it so far.
        """
        allowance = self.data_grace + received / self.min_data_rate
        return min(now + self.data_timeout, began + allowance)
