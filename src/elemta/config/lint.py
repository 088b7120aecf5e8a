"""What no setting shows by itself: contradictions, open relays, mail that would go in circles.

Each check looks at a whole configuration whose values are valid one by one. What keeps mail
safe is an error, and the server does not start with it; what may be meant is a warning.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_address, ip_network

from elemta.config.auth import find_faults
from elemta.config.authentication import find_authentication_faults
from elemta.config.locate import Path as KeyPath
from elemta.config.models import Config, RouteConfig
from elemta.config.plugins import PluginsConfig
from elemta.config.submission import find_submission_faults

PRIVATE = tuple(
    ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)
WIDEST = {4: 8, 6: 20}  # prefixes; a wider network is no organisation's own
GLOBAL_IPV6 = IPv6Network("2000::/3")  # all that is in use: RFC 4291 §2.4


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with the whole.

    Attributes:
        path: The setting to be changed.
        about: What else it was concluded from.
    """

    path: KeyPath
    text: str
    is_error: bool
    about: tuple[KeyPath, ...]

    def rests_on(self, broken: Sequence[KeyPath] | set[KeyPath]) -> bool:
        """Whether a value that it was concluded from is not the one in the file."""
        return any(
            wrong[: len(path)] == path or path[: len(wrong)] == wrong
            for path in (self.path, *self.about)
            for wrong in broken
        )

    def moved(self, kept: Mapping[KeyPath, list[int]]) -> "Finding":
        """The same with the indexes that items of lists had before some were taken out."""
        about = tuple(_moved(path, kept) for path in self.about)
        return replace(self, path=_moved(self.path, kept), about=about)


def _moved(path: KeyPath, kept: Mapping[KeyPath, list[int]]) -> KeyPath:
    for whole, indexes in kept.items():
        end = len(whole)
        if path[:end] == whole and len(path) > end:
            return (*whole, indexes[int(path[end])], *path[end + 1 :])
    return path


def _error(path: KeyPath, text: str, *about: KeyPath) -> Finding:
    return Finding(path, text, is_error=True, about=about)


def _warning(path: KeyPath, text: str, *about: KeyPath) -> Finding:
    return Finding(path, text, is_error=False, about=about)


def find_all(config: Config) -> Iterator[Finding]:
    """Look for everything."""
    for check in (
        _listeners,
        _trust,
        _domains,
        _auth,
        _submission,
        _tls,
        _routes,
        _reach,
        _circles,
        _shares,
        _queue,
        _dns,
        _names,
        _limits,
        _plugins,
        _authentication,
        _replies,
    ):
        yield from check(config)


def _listeners(config: Config) -> Iterator[Finding]:
    seen: set[str] = set()
    for index, listener in enumerate(config.listeners):
        path: KeyPath = ("listeners", index, "address")
        is_unix = listener.unix_path is not None
        if is_unix and listener.kind != "lmtp":
            yield _error(path, "only LMTP may use a unix socket", ("listeners", index))
        if listener.address in seen:
            yield _error(path, "another listener has this address already")
        if listener.port or is_unix:  # port 0 is any free one
            seen.add(listener.address)
    metrics = config.metrics.listen
    if metrics is None:
        return
    path = ("metrics", "listen")
    if str(metrics) in seen:
        yield _error(path, "a listener has this address already", ("listeners",))
    if not ip_address(metrics.host).is_loopback:
        yield _warning(path, "everyone who can connect sees the figures")


def _trust(config: Config) -> Iterator[Finding]:
    path: KeyPath = ("relay", "trusted_networks")
    for index, network in enumerate(config.relay.trusted_networks):
        place = (*path, index)
        if any(_is_within(network, net) for net in PRIVATE):
            text = "trusts a private network: behind NAT or a container bridge that can be anyone"
            yield _warning(place, text)
        elif 0 < network.prefixlen < WIDEST[network.version]:
            yield _warning(place, "trusts a very wide network")
    if _covers_the_world(config.relay.trusted_networks):
        widths = [network.prefixlen for network in config.relay.trusted_networks]
        text = "an open relay: everyone may send to any domain"
        yield _error((*path, widths.index(min(widths))), text)


def _is_within(network: IPv4Network | IPv6Network, other: IPv4Network | IPv6Network) -> bool:
    if isinstance(network, IPv4Network):
        return isinstance(other, IPv4Network) and network.subnet_of(other)
    return isinstance(other, IPv6Network) and network.subnet_of(other)


def _covers_the_world(networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    ipv4 = collapse_addresses(net for net in networks if isinstance(net, IPv4Network))
    ipv6 = collapse_addresses(net for net in networks if isinstance(net, IPv6Network))
    return any(net.prefixlen == 0 for net in ipv4) or any(
        GLOBAL_IPV6.subnet_of(net) for net in ipv6
    )


def _domains(config: Config) -> Iterator[Finding]:
    local = set(config.relay.local_domains)
    for index, domain in enumerate(config.relay.relay_domains):
        if domain in local:
            path = ("relay", "relay_domains", index)
            yield _error(path, "is in local_domains too", ("relay", "local_domains"))
    for index, domain in enumerate(config.relay.local_domains):
        if not any(_matches(route, domain) for route in config.routes):
            yield _warning(
                ("relay", "local_domains", index),
                "no route says where its mail goes; by its MX records it may come back here",
                ("routes",),
            )


def _submission(config: Config) -> Iterator[Finding]:
    sockets = {listener.unix_path for listener in config.listeners}
    for path, text, is_error in find_submission_faults(config.submission, sockets):
        yield (_error if is_error else _warning)(path, text, ("listeners",))


def _tls(config: Config) -> Iterator[Finding]:
    tls = config.tls
    about: tuple[KeyPath, ...] = (("tls", "certificate"), ("listeners",))
    uses = [
        (index, listener)
        for index, listener in enumerate(config.listeners)
        if listener.tls in {"starttls", "implicit"}
        or (listener.tls is None and listener.kind == "submissions")
        or (listener.tls is None and tls.certificate and listener.kind != "lmtp")
    ]
    for index, listener in enumerate(config.listeners):
        if listener.unix_path is not None and listener.tls in {"starttls", "implicit"}:
            text = "a unix socket needs no TLS, and has none"
            yield _error(("listeners", index, "tls"), text, ("listeners", index))
    for index, listener in uses:
        if not tls.certificate:
            text = "there is no certificate: set [tls] certificate and key"
            yield _error(("listeners", index, "tls"), text, *about)
        wanted = listener.client_certificates or tls.client_certificates
        if wanted == "require" and not tls.client_ca:
            text = "is needed: it says who can vouch for client certificates"
            yield _error(("tls", "client_ca"), text, ("tls", "client_certificates"), *about)
    asks = any((each.client_certificates or tls.client_certificates) != "none" for _, each in uses)
    yield from _trusted_certificates(config, asks=asks)
    if tls.certificates and not tls.certificate and any(x.tls is None for x in config.listeners):
        text = "nobody is shown these: [tls] certificate is not set"
        yield _warning(("tls", "certificates"), text, *about)
    if tls.key and not tls.certificate:
        yield _warning(("tls", "key"), "is a key without [tls] certificate", *about)


def _trusted_certificates(config: Config, *, asks: bool) -> Iterator[Finding]:
    logins = set(config.tls.identities.values())
    for index, login in enumerate(config.relay.trusted_certificates):
        path: KeyPath = ("relay", "trusted_certificates", index)
        if login not in logins:
            yield _error(
                path, "no certificate in [tls.identities] stands for it", ("tls", "identities")
            )
        elif not asks:
            text = "has no effect: no listener asks for certificates ([tls] client_certificates)"
            yield _warning(path, text, ("tls", "client_certificates"))


def _auth(config: Config) -> Iterator[Finding]:
    kinds = {listener.kind for listener in config.listeners}
    plugins = config.plugins
    faults = find_faults(
        config.auth,
        set(kinds),
        has_plugins=_has_plugins(plugins),
        knows_countries="geoip" in plugins.named,
    )
    for path, text, is_error in faults:
        yield Finding(path, text, is_error, about=(("auth",), ("listeners",)))


def _authentication(config: Config) -> Iterator[Finding]:
    for path, text, is_error in find_authentication_faults(config.authentication, config.plugins):
        yield (_error if is_error else _warning)(path, text, ("authentication",), ("plugins",))


def _replies(config: Config) -> Iterator[Finding]:
    if config.replies and not config.why.enabled:
        text = "without `why.enabled` nobody knows which refusals these are"
        yield _error(("replies",), text, ("why", "enabled"))


def _has_plugins(plugins: PluginsConfig) -> bool:
    """Whether any may be asked: named ones, or what lies in their folder."""
    if not plugins.enabled:
        return False
    is_any_named = plugins.plugins or plugins.plugin or plugins.tables
    return bool(is_any_named) or (plugins.auto_load and plugins.directory.is_dir())


def _matches(route: RouteConfig, domain: str) -> bool:
    return any(_covers(pattern, domain) for pattern in route.domains)


def _covers(pattern: str, other: str) -> bool:
    """Whether all that `other`, a domain or pattern, stands for is in `pattern`."""
    if pattern in {"*", other}:
        return True
    return pattern.startswith("*.") and other.endswith(pattern[1:])


def _routes(config: Config) -> Iterator[Finding]:
    for index, route in enumerate(config.routes):
        path = ("routes", index)
        for name in _needed(route):
            yield _error((*path, name), f'via = "{route.via}" needs it', path)
        for name in _useless(route):
            yield _error((*path, name), f'means nothing with via = "{route.via}"', path)


def _needed(route: RouteConfig) -> Iterator[str]:
    if route.via == "maildir" and route.path is None:
        yield "path"
    if route.via == "smtp" and route.host is None:
        yield "host"
    if route.via == "lmtp" and route.host is None and route.path is None:
        yield "host"


_MEANING = {
    "maildir": {"path"},
    "smtp": {"host", "port", "tls", "conversion", "long_lines"},
    "mx": {"port", "tls", "conversion", "long_lines"},
    "hold": set[str](),
    "discard": set[str](),
}


def _useless(route: RouteConfig) -> Iterator[str]:
    if route.via == "lmtp":
        meaning = {"path"} if route.path is not None else {"host", "port"}
        meaning |= {"tls", "conversion"}
    else:
        meaning = _MEANING[route.via]
    for name in ("path", "host", "port", "tls", "conversion", "long_lines"):
        if name in route.model_fields_set and name not in meaning:
            yield name


def _reach(config: Config) -> Iterator[Finding]:
    """Find routes that an earlier one leaves nothing for."""
    for index, route in enumerate(config.routes):
        for before in config.routes[:index]:
            if (not before.senders or before.senders == route.senders) and all(
                any(_covers(wide, pattern) for wide in before.domains) for pattern in route.domains
            ):
                text = "is never used: an earlier route matches all that it does"
                yield _warning(("routes", index), text, ("routes",))
                break


def _circles(config: Config) -> Iterator[Finding]:
    """Find routes that lead back to a listener of this node."""
    for index, route in enumerate(config.routes):
        if route.via not in {"smtp", "lmtp"} or route.host is None:
            continue
        port = route.port or (25 if route.via == "smtp" else 24)
        for listener in config.listeners:
            if listener.port == port and _is_here(route.host, listener.host):
                text = "mail would go in a circle: that is a listener of this server"
                yield _error(("routes", index, "host"), text, ("listeners",), ("routes", index))
                break


def _is_here(host: str, listening: str) -> bool:
    if host == listening:
        return True
    is_loopback = host in {"localhost", "::1"} or host.startswith("127.")
    heard = ip_address(listening)
    return is_loopback and (heard.is_unspecified or heard.is_loopback)


def _shares(config: Config) -> Iterator[Finding]:
    """Check that what is divided among the workers leaves something for each."""
    workers = config.server.worker_count
    for table, name in (
        ("smtp", "max_connections"),
        ("delivery", "max_connections"),
        ("delivery", "max_connections_per_destination"),
    ):
        if getattr(getattr(config, table), name) < workers:
            text = f"must be at least the number of workers ({workers}), which share it"
            yield _error((table, name), text, ("server", "workers"))
    delivery = config.delivery
    if delivery.max_connections_per_destination > delivery.max_connections:
        yield _error(
            ("delivery", "max_connections_per_destination"),
            "is more than max_connections",
            ("delivery", "max_connections"),
        )


def _queue(config: Config) -> Iterator[Finding]:
    queue = config.queue
    if queue.inline_size > config.server.max_message_size and (
        "inline_size" in queue.model_fields_set
    ):
        text = "is more than [server] max_message_size"
        yield _error(("queue", "inline_size"), text, ("server", "max_message_size"))
    age: KeyPath = ("queue", "max_age")
    if queue.retry_schedule[0] > queue.max_age:
        text = "is less than the first wait of retry_schedule: nothing is tried twice"
        yield _warning(age, text, ("queue", "retry_schedule"))
    for index, warning in enumerate(queue.delay_warnings):
        if warning >= queue.max_age:
            text = "is never sent: max_age is not longer"
            yield _warning(("queue", "delay_warnings", index), text, age)
    if queue.bounce_unverified == "send":
        text = "notifications to forged senders hit strangers (backscatter)"
        yield _warning(("queue", "bounce_unverified"), text)


def _dns(config: Config) -> Iterator[Finding]:
    dns = config.dns
    if dns.min_ttl > dns.max_ttl:
        yield _error(("dns", "min_ttl"), "is more than max_ttl", ("dns", "max_ttl"))
    if dns.trust_ad != "always":
        return
    for index, server in enumerate(dns.nameservers):
        if not ip_address(server.host).is_loopback:
            text = f"whoever is on the way to {server.host} can make forged answers look secure"
            yield _warning(("dns", "trust_ad"), text, ("dns", "nameservers", index))


def _names(config: Config) -> Iterator[Finding]:
    hostname = config.server.hostname
    if "." not in hostname:
        text = "is not fully qualified: other servers will refuse it"
        yield _warning(("server", "hostname"), text)


def _limits(config: Config) -> Iterator[Finding]:
    limits = config.limits
    kinds = [override.kind for override in limits.overrides]
    for index, kind in enumerate(kinds):
        if kind in kinds[:index]:
            text = "another table is about this kind of listener already"
            yield _error(("limits", "overrides", index, "kind"), text, ("limits", "overrides"))
    for name, networks in (("exempt", limits.exempt), ("never_ban", limits.brake.never_ban)):
        if _covers_the_world(networks):
            path: KeyPath = ("limits", name) if name == "exempt" else ("limits", "brake", name)
            yield _warning(path, "covers everyone: nobody is kept in bounds")
    shedding = limits.shedding
    for name in ("memory", "lag", "queue_age", "disk_free", "inodes_free"):
        stressed, worse = getattr(shedding, f"{name}_stressed"), getattr(shedding, name)
        first, last = (worse, stressed) if name.endswith("_free") else (stressed, worse)
        if stressed and worse and first > last:
            path = ("limits", "shedding", f"{name}_stressed")
            text = f"has no effect: {name} is passed before"
            yield _warning(path, text, ("limits", "shedding", name))


def _plugins(config: Config) -> Iterator[Finding]:
    plugins = config.plugins
    known: set[str] = set()
    for index, plugin in enumerate(plugins.plugin):
        path: KeyPath = ("plugins", "plugin", index)
        if plugin.name in known:
            yield _error((*path, "name"), "is there twice", ("plugins", "plugin"))
        known.add(plugin.name)
        places = [name for name in ("module", "library", "address") if getattr(plugin, name)]
        for name in places[1:]:
            yield _error((*path, name), f"{places[0]} says already where it is", path)
    for table in plugins.tables:
        if (name := table.replace("_", "-")) != table and name in plugins.tables:
            yield _error(("plugins", table), f"is there twice: [plugins.{name}]", ("plugins", name))
