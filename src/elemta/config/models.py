"""The settings of Elemta: one tree, each setting with its default, its limits and a description.

The descriptions are the documentation: `elemta.config.reference` makes `docs/configuration.md`
from them. Each setting says whether a change of it applies on reload (`live`) or needs a
restart (`fixed`).
"""

import os
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from elemta.config.auth import AuthConfig, Login
from elemta.config.authentication import AuthenticationConfig
from elemta.config.dns import DnsConfig
from elemta.config.limits import LimitsConfig
from elemta.config.listeners import ListenerConfig
from elemta.config.plugins import PluginsConfig
from elemta.config.pregreet import PregreetConfig
from elemta.config.quarantine import QuarantineConfig
from elemta.config.rate_limiter import RateLimiterConfig
from elemta.config.replies import ReplyConfig
from elemta.config.sections import Section, fixed, live
from elemta.config.submission import SubmissionConfig
from elemta.config.tls import TlsConfig
from elemta.config.units import DAY, HOUR, MINUTE
from elemta.config.values import (
    Domain,
    Duration,
    Endpoint,
    Folder,
    Fraction,
    Host,
    ListenOrNone,
    Network,
    PathTemplate,
    Pattern,
    SenderPattern,
    Size,
    Switch,
    Whole,
    Workers,
    parse_endpoint,
)
from elemta.config.why import WhyConfig

PROHIBITED_NETWORKS: tuple[IPv4Network | IPv6Network, ...] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "224.0.0.0/3",
        "::/128",
        "::1/128",
        "fe80::/10",
        "ff00::/8",
    )
)
"""As `elemta.delivery.settings` has them, which takes longer to import than a setting is worth."""


class ServerConfig(Section):
    """The node as a whole."""

    hostname: Annotated[
        Domain,
        fixed(
            "The name of this server in banners, EHLO, trace headers and notifications: fully "
            "qualified, and resolvable by those it sends to."
        ),
    ] = "localhost"
    workers: Annotated[
        Workers,
        parse_endpoint,
        fixed('Processes that share the mail; "auto" is one for each core this process may use.'),
    ] = 1
    state_dir: Annotated[
        Folder, fixed("Folder of the queue and its databases. Keep it on a local disk.")
    ] = Path("./var")
    max_message_size: Annotated[
        Size, live("Largest message accepted, announced by SIZE (RFC 1870).", ge=1024, le=2**31)
    ] = 25_000_000
    max_recipients: Annotated[
        Whole,
        live("Recipients of one message; RFC 5321 §4.5.3.1.8 asks for at least 100.", ge=1),
    ] = 1000
    drain_timeout: Annotated[
        Duration,
        live("How long a stop waits for messages under way before it cuts their connections."),
    ] = 30.0

    @property
    def worker_count(self) -> int:
        """How many workers that is on this machine."""
        if isinstance(self.workers, int):
            return self.workers
        return len(os.sched_getaffinity(0))


class RelayConfig(Section):
    """Whose mail is accepted, and for whom. By default nobody may relay but this machine."""

    local_domains: Annotated[
        tuple[Domain, ...], live("Domains whose mail ends here; a route says where it goes.")
    ] = ()
    relay_domains: Annotated[
        tuple[Domain, ...],
        live("Domains whose mail is accepted from anyone and passed on, as a backup MX does."),
    ] = ()
    trusted_networks: Annotated[
        tuple[Network, ...], live("Clients that may send to any domain.")
    ] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
    trusted_certificates: Annotated[
        tuple[Login, ...],
        live(
            "Likewise, clients that show a certificate which `[tls.identities]` has one of these "
            "logins for, without AUTH (docs/tls.md)."
        ),
    ] = ()


class SmtpConfig(Section):
    """How sessions are held."""

    bare_newlines: Annotated[
        Literal["reject", "normalise"],
        live(
            'What to do with a message that has a bare CR or LF: "reject" it, or "normalise" '
            "it to CRLF for clients of trusted networks (others are always refused). Only "
            "CRLF.CRLF ever ends a message."
        ),
    ] = "reject"
    strict_sync: Annotated[
        Switch,
        live("Refuse clients that talk before they may (RFC 2920): a sign of smuggled commands."),
    ] = True
    smtputf8: Annotated[
        Switch, live("Offer SMTPUTF8: addresses and headers in UTF-8 (RFC 6531).")
    ] = True
    prdr: Annotated[
        Switch,
        live(
            "Offer PRDR (draft-hall-prdr): after the content there is an answer for each "
            "recipient, so that plugins can refuse a message for some of them alone."
        ),
    ] = False
    split: Annotated[
        Literal["accept", "defer"],
        live(
            "What a recipient is told at RCPT that plugins treat otherwise than the first one of "
            'the message: it is accepted, or ("defer") has to come in a message of its own (452).'
        ),
    ] = "accept"
    rejected_recipients: Annotated[
        Literal["bounce", "quarantine"],
        live(
            "What becomes of recipients that plugins refuse after the content, while others get "
            'it, where there is one answer for all: "bounce" returns it to senders that have '
            "logged in or are in a trusted network, and keeps it in quarantine for all others; "
            '"quarantine" always keeps it.'
        ),
    ] = "bounce"
    refuse_null_mx_senders: Annotated[
        Switch,
        live("Refuse senders whose domain says by a null MX that it has no mail (RFC 7505)."),
    ] = False
    max_line: Annotated[
        Size,
        live("Longest line of a message; RFC 5321 §4.5.3.1.6 allows 1000.", ge=1000, le=2**20),
    ] = 8192
    max_header_size: Annotated[
        Size, live("Largest header section of a message.", ge=1000, le=2**26)
    ] = 1_000_000
    max_header_fields: Annotated[Whole, live("Most header fields of a message.", ge=10)] = 20_000
    max_received: Annotated[
        Whole,
        live("Most Received fields before a message counts as looping (RFC 5321 §6.3).", ge=1),
    ] = 50
    max_errors: Annotated[
        Whole, live("Broken commands of a session before it is closed with 421.", ge=1)
    ] = 10
    max_junk_commands: Annotated[
        Whole,
        live("Commands that move no mail, such as NOOP and RSET, before 421.", ge=1),
    ] = 100
    max_connections: Annotated[
        Whole,
        live("Sessions at one time on the whole node; the workers share them.", ge=1),
    ] = 10_000
    command_timeout: Annotated[
        Duration,
        live("For a command to arrive; RFC 5321 §4.5.3.2.7 asks for five minutes.", gt=0),
    ] = 5 * MINUTE
    data_timeout: Annotated[
        Duration, live("Longest silence of the client while it sends a message.", gt=0)
    ] = 3 * MINUTE
    session_timeout: Annotated[Duration, live("Longest session.", gt=0)] = 2 * HOUR
    min_data_rate: Annotated[
        Size, live("Octets a second that a client must keep up while it sends a message.", ge=1)
    ] = 500


class RouteConfig(Section):
    """A way out; one table for each. The first that matches decides; if none does, MX records."""

    domains: Annotated[
        tuple[Pattern, ...],
        live(
            'Which recipients: "example.test", "*.example.test" (its subdomains) or "*".',
            min_length=1,
        ),
    ]
    senders: Annotated[
        tuple[SenderPattern, ...],
        live('Which senders: patterns as in `domains`, addresses, "<>"; empty: all of them.'),
    ] = ()
    via: Annotated[
        Literal["maildir", "lmtp", "smtp", "mx", "hold", "discard"],
        live(
            '"maildir" delivers into a folder, "lmtp" and "smtp" to one host, "mx" to the '
            'mail exchangers of the domain, "hold" keeps until an operator says otherwise, '
            '"discard" drops.'
        ),
    ]
    path: Annotated[
        PathTemplate | None,
        live(
            "For maildir: the folder; `{domain}` and `{local}` are filled in. For lmtp: the "
            "unix socket, instead of `host`."
        ),
    ] = None
    host: Annotated[Host | None, live("For smtp and lmtp: name or IP address of the next hop.")] = (
        None
    )
    port: Annotated[
        Whole | None,
        live("For smtp, lmtp and mx; without it 25, for lmtp 24.", ge=1, le=65535),
    ] = None
    tls: Annotated[
        Literal["none", "opportunistic", "required", "verify"],
        live(
            'For smtp, mx and lmtp. "opportunistic": where the next hop offers it; "required": or '
            'no delivery; "verify": with a valid certificate for its name, or no delivery.'
        ),
    ] = "opportunistic"
    conversion: Annotated[
        Literal["convert", "bounce"],
        live(
            "For smtp, mx and lmtp: 8-bit or binary content for a next hop that does not take it. "
            '"convert": encode those parts that may be (nothing signed or encrypted), else return '
            'the message; "bounce": return it.'
        ),
    ] = "convert"
    long_lines: Annotated[
        Literal["pass", "convert", "bounce"],
        live(
            "For smtp and mx: lines of more than 998 octets, which no standard allows. "
            '"pass": leave them to the next hop, and signatures whole; "convert": encode the parts '
            'that have them; "bounce": return the message.'
        ),
    ] = "pass"


class PriorityConfig(Section):
    """Which messages go before others; one table for each rule, the first that matches decides."""

    senders: Annotated[
        tuple[SenderPattern, ...],
        live('Which senders: domains, "*.example.test", addresses, "<>"; empty: all of them.'),
    ] = ()
    domains: Annotated[
        tuple[Pattern, ...], live("Which domains of recipients; empty: all of them.")
    ] = ()
    priority: Annotated[
        Literal["critical", "high", "normal", "low", "bulk"], live("What they get.")
    ]


class QueueConfig(Section):
    """How mail is kept, and when it is tried again."""

    backend: Annotated[
        Literal["sqlite"], fixed("Where the queue is: databases in `server.state_dir`.")
    ] = "sqlite"
    retry_schedule: Annotated[
        tuple[Annotated[Duration, Field(gt=0)], ...],
        live(
            "Waits before each further attempt; the last one repeats until `max_age`.",
            min_length=1,
        ),
    ] = (MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR)
    jitter: Annotated[
        Fraction,
        live("How far a wait may stray at random, as a share of it: 0.1 is ±10 %.", ge=0, le=0.5),
    ] = 0.1
    max_age: Annotated[
        Duration,
        live("After so long a message that cannot be delivered is returned to its sender.", gt=0),
    ] = 5 * DAY
    delay_warnings: Annotated[
        tuple[Annotated[Duration, Field(gt=0)], ...],
        live("Ages at which a local sender is told that a message still waits; empty: never."),
    ] = (4 * HOUR,)
    failed_retention: Annotated[
        Duration, live("How long messages that failed and cannot be returned are kept.")
    ] = 7 * DAY
    quarantine_age: Annotated[
        Duration,
        live(
            "How long messages may be in quarantine, since they came; then they are removed, and "
            "nobody is told.",
            gt=0,
        ),
    ] = 30 * DAY
    bounce_unverified: Annotated[
        Literal["keep", "send", "discard"],
        live(
            "What happens to a failed message whose sender may be forged: `keep` it as "
            "failed, `send` a notification all the same (which can hit strangers), `discard` it."
        ),
    ] = "keep"
    dsn_per_domain_per_hour: Annotated[
        Whole, live("Most notifications an hour to one domain; more are not sent.", ge=0)
    ] = 1000
    returned_size: Annotated[
        Size,
        live(
            "A failed message up to this size comes back whole where its sender asks for that "
            "(RET=FULL, RFC 3461); of others the header section does."
        ),
    ] = 1024 * 1024
    inline_size: Annotated[
        Size,
        fixed("Messages up to this size are kept in the database, larger ones in files.", le=2**24),
    ] = 128 * 1024
    compression: Annotated[Literal["none", "zlib"], fixed("How content is compressed on disk.")] = (
        "none"
    )
    min_free_space: Annotated[
        Size, fixed("Below so much free space on the disk new mail is refused for now (452).")
    ] = 100_000_000
    max_resident: Annotated[
        Whole,
        fixed("Recipients that a worker plans in memory; more wait in the database.", ge=100),
    ] = 50_000
    priorities: Annotated[
        tuple[PriorityConfig, ...], live("Rules for the order of messages that are due.")
    ] = ()


class DeliveryConfig(Section):
    """Connections to next hops."""

    max_connections: Annotated[
        Whole, live("Outgoing connections of the whole node; the workers share them.", ge=1)
    ] = 200
    max_connections_per_destination: Annotated[
        Whole, live("Likewise, to one destination.", ge=1)
    ] = 20
    max_messages_per_connection: Annotated[
        Whole, live("After so many messages a connection is closed.", ge=1)
    ] = 100
    recipients_per_transaction: Annotated[
        Whole, live("Recipients of one message that are sent at once.", ge=1)
    ] = 100
    connect_timeout: Annotated[Duration, live("For a connection to come up.", gt=0)] = 30.0
    timeout: Annotated[
        Duration,
        live(
            "For the reply to a command. The other waits of RFC 5321 §4.5.3.2 keep their "
            "proportion to it: to the final dot twice as long.",
            gt=0,
        ),
    ] = 5 * MINUTE
    idle_timeout: Annotated[
        Duration, live("How long a connection is kept for another message.")
    ] = 5.0
    prohibited_networks: Annotated[
        tuple[Network, ...],
        live(
            "Addresses that no MX may have; next hops that a route names are not subject to it. "
            "Add private networks where a stranger's MX must not lead into them."
        ),
    ] = PROHIBITED_NETWORKS
    ipv6: Annotated[Switch, live("Connect to IPv6 addresses.")] = True


class MetricsConfig(Section):
    """Figures and health over HTTP: `/metrics`, `/health`, `/health/live`, `/health/ready`."""

    listen: Annotated[
        ListenOrNone, fixed('Address and port; "" for none. There is no password: keep it private.')
    ] = Endpoint("127.0.0.1", 8080)


class LoggingConfig(Section):
    """What is logged, to standard output."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], live("The least important level shown.")
    ] = "info"
    format: Annotated[
        Literal["json", "console"],
        fixed('"json" is one object a line, "console" is for people.'),
    ] = "json"


class Config(Section):
    """The whole configuration."""

    server: ServerConfig = ServerConfig()
    listeners: Annotated[tuple[ListenerConfig, ...], Field(min_length=1)] = (
        ListenerConfig(address="127.0.0.1:2525"),
    )
    relay: RelayConfig = RelayConfig()
    tls: TlsConfig = TlsConfig()
    auth: AuthConfig = AuthConfig()
    smtp: SmtpConfig = SmtpConfig()
    submission: SubmissionConfig = SubmissionConfig()
    pregreet: PregreetConfig = PregreetConfig()
    limits: LimitsConfig = LimitsConfig()
    rate_limiter: RateLimiterConfig = RateLimiterConfig()
    routes: tuple[RouteConfig, ...] = ()
    queue: QueueConfig = QueueConfig()
    quarantine: QuarantineConfig = QuarantineConfig()
    delivery: DeliveryConfig = DeliveryConfig()
    dns: DnsConfig = DnsConfig()
    authentication: AuthenticationConfig = AuthenticationConfig()
    plugins: PluginsConfig = PluginsConfig()
    metrics: MetricsConfig = MetricsConfig()
    logging: LoggingConfig = LoggingConfig()
    why: WhyConfig = WhyConfig()
    replies: tuple[ReplyConfig, ...] = ()

    @property
    def doors(self) -> tuple[ListenerConfig, ...]:
        """All listeners, the socket for users of this machine among them."""
        if not self.submission.socket:
            return self.listeners
        address = f"unix:{self.submission.socket}"
        return (*self.listeners, ListenerConfig(address=address, kind="submission"))

    @property
    def pickup(self) -> Path | None:
        """Where users of this machine leave mail; None where they cannot submit any."""
        if not self.submission.socket:
            return None
        return Path(self.submission.pickup or self.server.state_dir / "pickup")

    @property
    def worker_count(self) -> int:
        """How many workers there are on this machine."""
        return self.server.worker_count
