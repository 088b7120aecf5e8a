"""From the configuration of the node to what each room of one worker is told.

Limits that hold for the whole node are divided among the workers, never multiplied.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from elemta import __version__
from elemta.app.dkim import NAME as DKIM
from elemta.app.dkim import dkim_domains
from elemta.config import Config
from elemta.config.plugins import PluginConfig, PluginLimitsConfig
from elemta.delivery.settings import (
    Conversion,
    DeliverySettings,
    LongLines,
    Route,
    TlsPolicy,
    Via,
)
from elemta.mail.message import Priority
from elemta.net import DnsSettings
from elemta.plugins.settings import Isolation, Mode, OnError, PluginSettings, PluginsSettings
from elemta.plugins.settings import Limits as PluginLimits
from elemta.queue.settings import BounceUnverified, PriorityRule, QueueSettings
from elemta.server import RelaySettings, SessionSettings
from elemta.smtp import Limits

DATA_GRACE = 60.0  # seconds before the minimum rate holds, where silence may last so long


def share(total: int, workers: int, index: int) -> int:
    """One worker's part of a limit of the node, at least 1; the first ones get the rest."""
    return max(1, total // workers + (index < total % workers))


def dns_settings(config: Config) -> DnsSettings:
    """How names are looked up."""
    dns = config.dns
    return DnsSettings(
        nameservers=tuple((each.host, each.port) for each in dns.nameservers),
        timeout=dns.timeout,
        cache_size=dns.cache_size,
        min_ttl=dns.min_ttl,
        max_ttl=dns.max_ttl,
        trust_ad=dns.trust_ad,
    )


def relay_settings(config: Config) -> RelaySettings:
    """Relay control, for the server room."""
    relay, hostname = config.relay, config.server.hostname
    postmaster = hostname
    if relay.local_domains and hostname not in relay.local_domains:
        postmaster = relay.local_domains[0]
    return RelaySettings(
        postmaster_domain=postmaster,
        local_domains=frozenset(relay.local_domains),
        relay_domains=frozenset(relay.relay_domains),
        trusted_networks=tuple(relay.trusted_networks),
        trusted_certificates=frozenset(relay.trusted_certificates),
    )


def session_settings(config: Config) -> SessionSettings:
    """How sessions are held, for the server room."""
    smtp, server = config.smtp, config.server
    limits = Limits(
        max_message_size=server.max_message_size,
        max_line=smtp.max_line,
        strict_sync=smtp.strict_sync,
    )
    return SessionSettings(
        hostname=server.hostname,
        limits=limits,
        trusted_limits=replace(limits, bare_newlines=smtp.bare_newlines),
        submission_limits=replace(
            limits,
            bare_newlines="normalise" if config.submission.bare_newlines == "fix" else "reject",
        ),
        smtputf8=smtp.smtputf8,
        prdr=smtp.prdr,
        splits=smtp.split == "defer",
        bounces_rejected=smtp.rejected_recipients == "bounce",
        max_hold=config.submission.future_release,
        max_recipients=server.max_recipients,
        max_errors=smtp.max_errors,
        max_junk_commands=smtp.max_junk_commands,
        max_received=smtp.max_received,
        max_header_size=smtp.max_header_size,
        max_header_fields=smtp.max_header_fields,
        command_timeout=smtp.command_timeout,
        data_timeout=smtp.data_timeout,
        data_grace=min(DATA_GRACE, smtp.data_timeout),
        min_data_rate=smtp.min_data_rate,
        session_timeout=smtp.session_timeout,
        refuse_null_mx_senders=smtp.refuse_null_mx_senders,
    )


def queue_settings(config: Config, index: int) -> QueueSettings:
    """How a shard of worker `index` plans its mail."""
    queue, delivery, workers = config.queue, config.delivery, config.server.worker_count
    return QueueSettings(
        hostname=config.server.hostname,
        local_domains=frozenset(config.relay.local_domains),
        retry_schedule=tuple(queue.retry_schedule),
        jitter=queue.jitter,
        max_age=queue.max_age,
        delay_warnings=tuple(queue.delay_warnings),
        failed_retention=queue.failed_retention,
        quarantine_age=queue.quarantine_age,
        bounce_unverified=BounceUnverified(queue.bounce_unverified),
        dsn_per_domain_per_hour=share_or_none(queue.dsn_per_domain_per_hour, workers, index),
        returned_size=queue.returned_size,
        max_resident=queue.max_resident,
        max_concurrency=share(delivery.max_connections, workers, index),
        max_per_destination=share(delivery.max_connections_per_destination, workers, index),
        recipients_per_job=delivery.recipients_per_transaction,
        priorities=tuple(
            PriorityRule(Priority[rule.priority.upper()], tuple(rule.senders), tuple(rule.domains))
            for rule in queue.priorities
        ),
    )


def divided(settings: QueueSettings, shards: int) -> QueueSettings:
    """The part of one of several shards that a worker has mail in."""
    if shards == 1:
        return settings
    dsn = settings.dsn_per_domain_per_hour
    return replace(
        settings,
        max_concurrency=share(settings.max_concurrency, shards, shards),
        max_per_destination=share(settings.max_per_destination, shards, shards),
        dsn_per_domain_per_hour=share_or_none(dsn, shards, shards),
    )


def share_or_none(total: int, workers: int, index: int) -> int:
    """As `share`, where 0 means none at all."""
    return share(total, workers, index) if total else 0


def delivery_settings(config: Config, index: int) -> DeliverySettings:
    """Outgoing connections of worker `index`."""
    delivery, workers = config.delivery, config.server.worker_count
    return DeliverySettings(
        hostname=config.server.hostname,
        connect_timeout=delivery.connect_timeout,
        timeout=delivery.timeout,
        max_connections=share(delivery.max_connections, workers, index),
        max_connections_per_destination=share(
            delivery.max_connections_per_destination, workers, index
        ),
        max_messages_per_connection=delivery.max_messages_per_connection,
        idle_timeout=delivery.idle_timeout,
        recipients_per_transaction=delivery.recipients_per_transaction,
        prohibited_networks=tuple(delivery.prohibited_networks),
        ipv6=delivery.ipv6,
    )


def routes(config: Config) -> tuple[Route, ...]:
    """The routing table."""
    return tuple(
        Route(
            domains=tuple(route.domains),
            via=Via(route.via),
            senders=tuple(route.senders),
            path=str(route.path or ""),
            host=str(route.host or ""),
            port=route.port or 0,
            tls=TlsPolicy(route.tls),
            conversion=Conversion(route.conversion),
            long_lines=LongLines(route.long_lines),
        )
        for route in config.routes
    )


Where = Callable[[tuple[str | int, ...]], str]
"""Tells file and line, or the variable, that a setting comes from."""


def plugins_settings(config: Config, index: int, where: Where) -> PluginsSettings:
    """Plugins, for worker `index`."""
    plugins, server = config.plugins, config.server
    brought = _brought(config)
    only = None if isinstance(plugins.enabled, bool) else plugins.enabled
    places = {name: where(("plugins", "plugins", at)) for at, name in enumerate(plugins.plugins)}
    if only is not None:
        places |= {name: where(("plugins", "enabled", at)) for at, name in enumerate(only)}
    tables = {each.name: each for each in plugins.plugin}
    places |= {name: where(("plugins", "plugin", at)) for at, name in enumerate(tables)}
    places = {
        name: where((section,)) for section, asked in _sections(config) for name in asked
    } | places
    names = dict.fromkeys((*brought, *(only or ()), *plugins.plugins, *tables))
    return PluginsSettings(
        enabled=plugins.enabled is not False,
        directory=plugins.directory,
        auto_load=plugins.auto_load and only is None,
        hot_reload=plugins.hot_reload,
        plugins=tuple(
            _plugin(
                tables.get(name) or PluginConfig(name=name),
                places[name],
                {**brought.get(name, {}), **(dkim_domains(config) if name == DKIM else {})},
                is_asked=only is None or name in only or name in brought,
            )
            for name in names
        ),
        tables=plugins.tables,
        places={name: where(("plugins", name)) for name in plugins.tables},
        state_dir=server.state_dir,
        hostname=server.hostname,
        version=__version__,
        worker=index,
        max_message_size=server.max_message_size,
    )


def _brought(config: Config) -> dict[str, dict[str, Any]]:
    """Plugins of sections of their own, with what is said there and not in their tables."""
    tables = {name.replace("_", "-"): table for name, table in config.plugins.tables.items()}
    return {
        name: {key: value for key, value in told.items() if key not in tables.get(name, {})}
        for _, asked in _sections(config)
        for name, told in asked.items()
    }


def _sections(config: Config) -> tuple[tuple[str, Mapping[str, Mapping[str, Any]]], ...]:
    """Sections that enable plugins, in the order in which these are asked."""
    return (
        ("rate_limiter", config.rate_limiter.plugins),
        ("authentication", config.authentication.plugins),
    )


def _plugin(
    plugin: PluginConfig, where: str, told: Mapping[str, Any], *, is_asked: bool
) -> PluginSettings:
    return PluginSettings(
        name=plugin.name,
        enabled=plugin.enabled and is_asked,
        module=plugin.module,
        library=plugin.library,
        address=plugin.address,
        config={**told, **plugin.config},
        timeout=plugin.timeout,
        on_error=OnError(plugin.on_error),
        isolation=Isolation(plugin.isolation),
        priority=plugin.priority,
        mode=Mode(plugin.mode),
        shadow_hooks=frozenset(plugin.shadow_hooks),
        listeners=plugin.listeners,
        authenticated=plugin.authenticated,
        when=plugin.when,
        log_level=plugin.log_level,
        limits=_plugin_limits(plugin.limits),
        where=where,
    )


def _plugin_limits(limits: PluginLimitsConfig) -> PluginLimits:
    return PluginLimits(
        memory=limits.memory,
        cpu=math.ceil(limits.cpu),
        files=limits.files,
        file_size=limits.file_size,
        reply_size=limits.reply_size,
        calls=limits.calls,
    )
