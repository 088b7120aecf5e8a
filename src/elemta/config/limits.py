"""The settings of limits: what strangers may do, when they are banned, when load is shed."""

from typing import Annotated, Literal

from elemta.config.sections import Section, live
from elemta.config.units import DAY, HOUR, MINUTE, OFF
from elemta.config.values import Duration, Fraction, Network, RateLimit, Size, Switch, Whole
from elemta.mail.rate import Rate


class OverrideConfig(Section):
    """Other limits for one kind of listener; what is not set is as in `[limits]`."""

    kind: Annotated[
        Literal["mta", "submission", "submissions", "lmtp"], live("Which kind of listener.")
    ]
    connections: Annotated[
        Whole | None, live("Sessions of these listeners at one time; 0 is no limit.", ge=0)
    ] = None
    connections_per_address: Annotated[Whole | None, live("As in `[limits]`.", ge=0)] = None
    connections_per_network: Annotated[Whole | None, live("As in `[limits]`.", ge=0)] = None
    connection_rate: Annotated[RateLimit | None, live("As in `[limits]`.")] = None
    connection_rate_per_network: Annotated[RateLimit | None, live("As in `[limits]`.")] = None
    handshake_rate: Annotated[RateLimit | None, live("As in `[limits]`.")] = None
    message_rate: Annotated[RateLimit | None, live("As in `[limits]`.")] = None
    recipient_rate: Annotated[RateLimit | None, live("As in `[limits]`.")] = None
    auth_rate: Annotated[RateLimit | None, live("As in `[limits]`.")] = None
    error_rate: Annotated[RateLimit | None, live("As in `[limits]`.")] = None


class BrakeConfig(Section):
    """What failed logins lead to: first waits, then a ban (`elemta bans`)."""

    enabled: Annotated[
        Switch, live("Count failed logins. Bans that an operator gives hold without it.")
    ] = True
    address: Annotated[RateLimit, live("So many failures of one address lead to its ban.")] = Rate(
        20, HOUR
    )
    network: Annotated[RateLimit, live("Likewise, of a network.")] = Rate(100, HOUR)
    pair: Annotated[
        RateLimit, live("Likewise, of one login from one address: only that is refused then.")
    ] = Rate(10, HOUR)
    login: Annotated[
        RateLimit,
        live(
            "Likewise, of one login from anywhere: it is refused then, but where it has succeeded "
            "before. Anybody can bring this about; without it the login is only slowed down."
        ),
    ] = OFF
    free_failures: Annotated[Whole, live("So many failures delay nothing.", ge=0)] = 2
    delay: Annotated[
        Duration, live("Wait before the next login after one failure more; each doubles it.")
    ] = 1.0
    max_delay: Annotated[Duration, live("The longest of these waits.", le=120)] = 15.0
    ban_for: Annotated[
        Duration, live("A first ban; each further one of the same lasts twice as long.", gt=0)
    ] = 15 * MINUTE
    max_ban: Annotated[Duration, live("The longest ban.", gt=0)] = 7 * DAY
    never_ban: Annotated[
        tuple[Network, ...],
        live(
            "Clients that are never banned, beside trusted networks and the address that an "
            "administrator has last logged in from."
        ),
    ] = ()


class SheddingConfig(Section):
    """When there is too much to do.

    A worker is *stressed* beyond the first number of each pair, and *sheds load* beyond the
    second; 0 is never. `docs/limits.md` tells what follows.
    """

    enabled: Annotated[Switch, live("Do less when there is too much to do.")] = True
    memory_stressed: Annotated[
        Fraction, live("Share of the memory that may be used.", ge=0, le=1)
    ] = 0.85
    memory: Annotated[Fraction, live("Likewise.", ge=0, le=1)] = 0.95
    memory_limit: Annotated[
        Size,
        live("What all workers together may use; 0 is the limit of the cgroup, if it has one."),
    ] = 0
    disk_free_stressed: Annotated[
        Size,
        live(
            "Room for the spool, when it is less. Below `queue.min_free_space` no mail is taken "
            "anyway."
        ),
    ] = 0
    disk_free: Annotated[Size, live("Likewise.")] = 0
    inodes_free_stressed: Annotated[
        Fraction, live("Share of inodes that are free there, when it is less.", ge=0, le=1)
    ] = 0.05
    inodes_free: Annotated[Fraction, live("Likewise.", ge=0, le=1)] = 0.01
    lag_stressed: Annotated[
        Duration, live("Delay of the event loop, for three seconds in a row.")
    ] = 0.5
    lag: Annotated[Duration, live("Likewise.")] = 5.0
    queue_age_stressed: Annotated[Duration, live("Age of the oldest message of the queue.")] = 0.0
    queue_age: Annotated[Duration, live("Likewise.")] = 0.0
    calm_for: Annotated[Duration, live("A state lasts so long after its cause has gone.")] = 10.0
    command_timeout: Annotated[
        Duration, live("For a command to arrive while there is too much to do.", gt=0)
    ] = 30.0
    room: Annotated[
        Fraction,
        live("Share of `smtp.max_connections` that may be open then.", gt=0, le=1),
    ] = 0.75


class LimitsConfig(Section):
    """What one client may do. Trusted networks are exempt from all of it.

    A limit of 0 or "off" is none. Where all workers share a limit it holds for the node. A rate
    may be used up at once.
    """

    connections_per_address: Annotated[
        Whole, live("Sessions of one address at one time.", ge=0)
    ] = 100
    connections_per_network: Annotated[Whole, live("Likewise, of one network.", ge=0)] = 1000
    connection_rate: Annotated[RateLimit, live("New connections of one address.")] = OFF
    connection_rate_per_network: Annotated[RateLimit, live("Likewise, of one network.")] = OFF
    handshake_rate: Annotated[RateLimit, live("TLS handshakes of one address.")] = OFF
    message_rate: Annotated[RateLimit, live("Messages that one address begins.")] = OFF
    recipient_rate: Annotated[RateLimit, live("Recipients that one address names.")] = OFF
    auth_rate: Annotated[
        RateLimit, live("Logins that one address tries, whatever comes of them.")
    ] = Rate(120, MINUTE)
    error_rate: Annotated[RateLimit, live("Broken commands of one address.")] = OFF
    ipv4_prefix: Annotated[Whole, live("How wide a network is.", ge=8, le=32)] = 24
    ipv6_prefix: Annotated[Whole, live("Likewise.", ge=16, le=128)] = 64
    exempt: Annotated[
        tuple[Network, ...], live("Clients without limits, beside trusted networks.")
    ] = ()
    reserved_connections: Annotated[
        Whole,
        live(
            "Of `smtp.max_connections`, kept free for clients that are exempt; never more than a "
            "tenth.",
            ge=0,
        ),
    ] = 20
    error_delay: Annotated[
        Duration,
        live("By so much each error makes its answer later than the one before."),
    ] = 1.0
    error_delay_after: Annotated[
        Whole, live("The first errors of a session are not delayed; ten refusals are one.", ge=0)
    ] = 5
    max_error_delay: Annotated[Duration, live("The longest delay.", le=120)] = 10.0
    max_delayed: Annotated[
        Whole, live("Sessions that are delayed at one time; more are not, or refused.", ge=0)
    ] = 1000
    overrides: tuple[OverrideConfig, ...] = ()
    brake: BrakeConfig = BrakeConfig()
    shedding: SheddingConfig = SheddingConfig()
