"""What keeps strangers in bounds, for one worker: made from the configuration, kept up to date."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

from elemta.app.settings import share_or_none
from elemta.config import Config
from elemta.config.limits import BrakeConfig, LimitsConfig, OverrideConfig, SheddingConfig
from elemta.mail import events as ev
from elemta.mail.clock import Clock
from elemta.mail.rate import Rate
from elemta.net.tasks import spawn
from elemta.server.limits import (
    Brake,
    BrakeSettings,
    Counters,
    Gate,
    Guard,
    Ledger,
    LimitSettings,
    Load,
    Scope,
    ScopeSettings,
    Shedding,
    SheddingSettings,
    Tarpit,
    Threshold,
)
from elemta.server.limits.pressure import Disk, Memory, read_disk
from elemta.server.limits.shedding import Figures


def scope_settings(limits: LimitsConfig, config: Config) -> ScopeSettings:
    """Who counts as one client, and who is exempt."""
    return ScopeSettings(
        ipv4_prefix=limits.ipv4_prefix,
        ipv6_prefix=limits.ipv6_prefix,
        exempt=(*config.relay.trusted_networks, *limits.exempt),
    )


def limit_settings(limits: LimitsConfig, kind: str) -> LimitSettings:
    """What clients of one kind of listener may do."""
    own = {
        key: value for each in limits.overrides if each.kind == kind for key, value in set_in(each)
    }

    def number(name: str) -> int:
        value = own.get(name, getattr(limits, name, 0))
        return value if isinstance(value, int) else 0

    def rate(name: str) -> Rate | None:
        value = own.get(name, getattr(limits, name))
        return value if isinstance(value, Rate) and value.count else None

    return LimitSettings(
        connections=number("connections"),
        connections_per_address=number("connections_per_address"),
        connections_per_network=number("connections_per_network"),
        connection_rate=rate("connection_rate"),
        connection_rate_per_network=rate("connection_rate_per_network"),
        handshake_rate=rate("handshake_rate"),
        message_rate=rate("message_rate"),
        recipient_rate=rate("recipient_rate"),
        auth_rate=rate("auth_rate"),
        error_rate=rate("error_rate"),
        error_delay=limits.error_delay,
        error_delay_after=limits.error_delay_after,
        max_error_delay=limits.max_error_delay,
    )


def set_in(override: OverrideConfig) -> Iterator[tuple[str, object]]:
    """What an override has to say."""
    for name in type(override).model_fields:
        value = getattr(override, name)
        if value is not None:
            yield name, value


def brake_settings(brake: BrakeConfig) -> BrakeSettings:
    """What failed logins lead to."""
    return BrakeSettings(
        is_enabled=brake.enabled,
        address=_on(brake.address),
        network=_on(brake.network),
        login=_on(brake.login),
        pair=_on(brake.pair),
        free_failures=brake.free_failures,
        delay=brake.delay,
        max_delay=brake.max_delay,
        ban_for=brake.ban_for,
        max_ban=brake.max_ban,
        never_ban=tuple(brake.never_ban),
    )


def _on(rate: Rate) -> Rate | None:
    return rate if rate.count else None


def shedding_settings(shedding: SheddingConfig) -> SheddingSettings:
    """When there is too much to do."""
    return SheddingSettings(
        is_enabled=shedding.enabled,
        memory=_threshold(shedding.memory_stressed, shedding.memory),
        disk_free=_threshold(shedding.disk_free_stressed, shedding.disk_free),
        inodes_free=_threshold(shedding.inodes_free_stressed, shedding.inodes_free),
        lag=_threshold(shedding.lag_stressed, shedding.lag),
        queue_age=_threshold(shedding.queue_age_stressed, shedding.queue_age),
        calm_for=shedding.calm_for,
        timeout=shedding.command_timeout,
        room=shedding.room,
    )


def _threshold(stressed: float, shedding: float) -> Threshold:
    return Threshold(stressed or None, shedding or None)


class WorkerLimits:
    """The limits of one worker."""

    def __init__(self, config: Config, counters: Counters, clock: Clock, emit: ev.Emit) -> None:
        """Begin as configured; `counters` know already which worker this is.

        Raises:
            SpoolError: The database of bans cannot be opened.
        """
        self._config = config
        self._counters = counters
        self._clock = clock
        self._emit = emit
        self._stop = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._disk: Disk | None = None
        self._scope = Scope(scope_settings(config.limits, config))
        self._ledger = Ledger(Path(config.server.state_dir))
        self._brake = Brake(
            brake_settings(config.limits.brake),
            self._scope,
            counters,
            self._ledger,
            clock,
            emit,
        )
        self.tarpit = Tarpit(0)
        self.shedding = Shedding(
            shedding_settings(config.limits.shedding), counters.worker, clock, emit
        )
        self.apply(config)

    def apply(self, config: Config) -> None:
        """Take over a changed configuration; `gate` gives what new sessions need."""
        self._config = config
        limits, workers = config.limits, config.server.worker_count
        self._scope = Scope(scope_settings(limits, config))
        self._brake.apply(brake_settings(limits.brake), self._scope)
        self.shedding.apply(shedding_settings(limits.shedding))
        worker = self._counters.worker
        self.tarpit.limit(share_or_none(limits.max_delayed, workers, worker))
        memory = limits.shedding.memory_limit
        self._memory = Memory(memory // workers if memory else 0)

    def gate(self, kind: str) -> Gate:
        """Give what stands before the listeners of a kind."""
        config = self._config
        settings = limit_settings(config.rate_limiter.shorten(config.limits), kind)
        guard = Guard(kind, settings, self._scope, self._counters, self._clock, self._emit)
        reserved = config.limits.reserved_connections
        return Gate(
            guard,
            self._brake,
            self.tarpit,
            self.shedding,
            share_or_none(reserved, config.server.worker_count, self._counters.worker),
        )

    async def start(self) -> None:
        """Learn who is banned, and keep step with the other workers from then on."""
        await self._brake.sync()
        self._running = spawn(self._brake.run(self._stop), "bans")

    async def stop(self) -> None:
        """Let nobody wait any more, and write down what is not yet written."""
        self.tarpit.close()
        self._stop.set()
        if self._running is not None:
            await self._running
        self._ledger.close()

    async def measure(self, lag: float, queue_age: float | None) -> bool:
        """Look how much there is to do, once a second; True when the state has changed."""
        if not self._config.limits.shedding.enabled and self.shedding.load is Load.NORMAL:
            return False
        memory = None
        with contextlib.suppress(OSError):  # what cannot be measured is not known
            memory = self._memory.share()
            self._disk = await asyncio.to_thread(read_disk, Path(self._config.server.state_dir))
        disk = self._disk
        return self.shedding.take(
            Figures(
                memory=memory,
                disk_free=disk.free if disk is not None else None,
                inodes_free=disk.inodes if disk is not None else None,
                lag=lag,
                queue_age=queue_age,
            )
        )
