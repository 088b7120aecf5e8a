"""The shards of the queue that one worker looks after: its own, and orphans.

Worker 1 of 4 looks after the shards 1, 5, 9 and so on. New mail goes to the first of these that
nobody holds, its own from then on: shard 1, but while an earlier generation of the server still
finishes with that, shard 5. The others it adopts as soon as they are free, and delivers what
is in them. Those that no generation would begin with are let go again once they are empty.

The lock of a shard's folder is all that says whose it is, so that each has one owner at a time,
whoever starts or dies meanwhile.
"""

import asyncio
import contextlib
import os
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from elemta.app import settings as derive
from elemta.app.plugins import WorkerPlugins
from elemta.config import Config
from elemta.mail import events as ev
from elemta.mail.clock import Clock
from elemta.mail.errors import PluginError, SpoolError
from elemta.mail.job import Courier
from elemta.net.dns.order import FlushOrder
from elemta.net.tasks import spawn
from elemta.plugins.loading.orders import PluginOrder, PluginVerb
from elemta.queue.admin import Order
from elemta.queue.control import Answer, Control, Heartbeat, PlacedOrder
from elemta.queue.settings import QueueSettings
from elemta.queue.shard import Shard
from elemta.queue.spool import (
    IdSource,
    ShardBusyError,
    Spool,
    SpoolSettings,
    find_shards,
    shard_folder,
)
from elemta.queue.spool.ids import SHARDS
from elemta.queue.sqlite import SqliteStore

OPEN_PATIENCE = 60.0  # seconds for any shard to be free
OPEN_RETRY = 0.1
MOMENT = 0.5  # seconds that a command of the operator may hold a shard
DRAIN_PATIENCE = 60.0  # seconds that a predecessor may hold a shard before it is worth a word
ADOPT_EVERY = 30.0  # seconds between attempts to adopt what cannot be opened, and looks for more
NO_ROOM = "the spool's disk is full or out of reach"


@dataclass(frozen=True, slots=True)
class Opened:
    """A shard in use: what it consists of, and the task that runs it."""

    shard: Shard
    store: SqliteStore
    spool: Spool
    task: asyncio.Task[None]


@dataclass(frozen=True, slots=True)
class Figures:
    """The queue of a worker in numbers, all its shards together."""

    recipients: dict[str, int]
    oldest_at: float | None
    ready: int
    in_flight: int
    spool_free: int
    double_bounces: int
    notifications_withheld: int


class Shards:
    """Opens shards, runs them, and carries out the operator's orders on them.

    Attributes:
        flush_names: Forgets what the DNS said of a name, or of all; says how many answers it were.
    """

    def __init__(
        self,
        config: Config,
        index: int,
        courier: Courier,
        clock: Clock,
        emit: ev.Emit,
        plugins: WorkerPlugins,
    ) -> None:
        """Args: `plugins` are asked about attempts; orders about them come the same way."""
        self._config = config
        self._index = index
        self._courier = courier
        self._clock = clock
        self._emit = emit
        self._plugins = plugins
        self._state_dir = Path(config.server.state_dir)
        self._control = Control(self._state_dir / "control.db")
        self._opened: dict[int, Opened] = {}
        self._number = index
        self._held: dict[int, float] = {}  # by others, since when
        self._broken: set[int] = set()
        self._released: set[int] = set()
        self._look_at = 0.0
        self._sharing = 1
        self._taken: set[int] = set()
        self.flush_names = _keep_names

    @property
    def own(self) -> Shard:
        """The shard that takes new mail."""
        return self._opened[self._number].shard

    async def open(self) -> None:
        """Open a shard for new mail, and those of workers that are no more.

        Raises:
            SpoolError: None can be opened for new mail.
        """
        now = self._clock.monotonic
        begun = now()
        while True:
            try:
                self._number = self._open_first(is_patient=now() < begun + MOMENT)
            except ShardBusyError:
                if now() > begun + OPEN_PATIENCE:
                    raise
                await asyncio.sleep(OPEN_RETRY)
            else:
                break
        self._look_for_orphans()
        self._divide()

    def _open_first(self, *, is_patient: bool) -> int:
        """Open the first shard that nobody holds; its number.

        Args:
            is_patient: The worker's own number or none.

        Raises:
            ShardBusyError: There is none.
            SpoolError: It cannot be opened.
        """
        workers = self._config.server.worker_count
        candidates = range(self._index, SHARDS, workers)
        for number in candidates:
            try:
                self._open(number)
            except ShardBusyError:
                if is_patient or number == candidates[-1]:
                    raise
            else:
                return number
        raise LookupError(f"worker {self._index} has no number")

    def _look_for_orphans(self) -> None:
        """Adopt what nobody looks after and can be opened."""
        self._look_at = self._clock.monotonic() + ADOPT_EVERY
        workers = self._config.server.worker_count
        for number in find_shards(self._state_dir):
            is_ours = number % workers == self._index and number not in self._released
            if is_ours and number not in self._opened:
                self._adopt(number)

    def _adopt(self, number: int) -> None:
        try:
            self._open(number)
        except ShardBusyError as error:
            now = self._clock.monotonic()
            if now - self._held.setdefault(number, now) > DRAIN_PATIENCE:
                self._tell_broken(number, error)
        except SpoolError as error:
            self._tell_broken(number, error)
        else:
            self._held.pop(number, None)
            self._broken.discard(number)
            self._emit(ev.ShardAdopted(number, self._index))

    def _tell_broken(self, number: int, error: SpoolError) -> None:
        if number not in self._broken:
            self._emit(ev.Notice(f"shard {number} not adopted", f"{error}; it is tried again"))
        self._broken.add(number)

    async def _release_empty(self) -> None:
        """Let go of what holds no mail any more, so that a later generation finds it free."""
        workers = self._config.server.worker_count
        for number, opened in list(self._opened.items()):
            if number in {self._number, self._index} or number < workers or self._taken:
                continue
            if opened.shard.in_flight or not opened.shard.is_empty:
                continue
            stats = await opened.store.stats()
            if any(stats.recipients.values()) or self._taken:
                continue
            del self._opened[number]
            self._released.add(number)
            await opened.shard.stop(0.0)
            await asyncio.to_thread(opened.store.close)

    def _divide(self) -> None:
        """Let the shards that have mail to send share the worker's limits.

        While an order is carried out that may be any of them.
        """
        sharing = sum(
            number == self._number or bool(self._taken) or not opened.shard.is_empty
            for number, opened in self._opened.items()
        )
        if sharing != self._sharing:
            self._sharing = sharing
            self.apply(self._config)

    def _settings(self) -> QueueSettings:
        settings = derive.queue_settings(self._config, self._index)
        return derive.divided(settings, self._sharing)

    def _open(self, number: int) -> None:
        queue = self._config.queue
        spool = Spool(
            shard_folder(self._state_dir, number),
            SpoolSettings(queue.inline_size, queue.min_free_space, queue.compression),
            IdSource(number, self._clock),
            self._clock,
        )
        store = SqliteStore(spool, self._emit)
        shard = Shard(
            store,
            spool,
            self._courier,
            self._settings(),
            self._clock,
            self._emit,
            random.Random(),  # noqa: S311 - it spreads retries, it guards nothing
            self._plugins.table,
        )
        task = spawn(shard.run(), f"shard {number}")
        self._opened[number] = Opened(shard, store, spool, task)
        _ = spawn(spool.sweep(store.spooled), f"sweep of shard {number}")

    def apply(self, config: Config) -> None:
        """Take over changed settings."""
        self._config = config
        settings = self._settings()
        for opened in self._opened.values():
            opened.shard.apply_settings(settings)

    def find_dead(self) -> str:
        """Name a part that has ended and without which mail would wait for ever; "" if all live."""
        for number, opened in self._opened.items():
            if opened.task.done():
                return f"the plan of shard {number}"
            if not opened.store.is_alive:
                return f"the writer of shard {number}"
        return ""

    async def beat(self) -> None:
        """Say how this worker is, and carry out the orders that have come.

        Raises:
            SpoolError: The control database cannot be used now.
        """
        for number in sorted(self._held):  # whoever holds it may be done any moment
            self._adopt(number)
        if self._clock.monotonic() >= self._look_at:
            self._look_for_orphans()
            await self._release_empty()
        now = self._clock.now()
        has_room = self.own.has_room()
        reason = "" if has_room else NO_ROOM
        heartbeat = Heartbeat(self._index, os.getpid(), now, has_room, reason)
        # in a thread: another process may write to the control database just now
        for placed in await asyncio.to_thread(self._report, heartbeat):
            if self._is_taking_over() and isinstance(placed.order, Order):
                continue  # rather no answer than one for half of the mail
            if placed.number not in self._taken:
                self._taken.add(placed.number)
                _ = spawn(self._carry_out(placed), f"order {placed.number}")
        self._divide()

    def _is_taking_over(self) -> bool:
        """Whether a predecessor still finishes with mail that will be ours."""
        now = self._clock.monotonic()
        return any(now - since < DRAIN_PATIENCE for since in self._held.values())

    def _report(self, heartbeat: Heartbeat) -> list[PlacedOrder]:
        self._control.beat(heartbeat)
        return self._control.open_orders(heartbeat.index, heartbeat.beat_at)

    async def _carry_out(self, placed: PlacedOrder) -> None:
        count, problem, said = 0, "", ""
        try:
            if isinstance(placed.order, FlushOrder):
                count = self.flush_names(placed.order.name or None)
            elif isinstance(placed.order, PluginOrder) and placed.order.verb is PluginVerb.ASK:
                said = await self._plugins.ask(placed.order)
            elif isinstance(placed.order, PluginOrder):
                count = await self._plugins.obey(placed.order)
            else:
                for opened in list(self._opened.values()):
                    count += await opened.shard.apply_order(placed.order)
        except (SpoolError, PluginError) as error:
            problem = str(error)
        except Exception as error:  # noqa: BLE001 - else it would be tried again every second
            problem = f"internal error: {error!r}"
            self._emit(ev.InternalError(f"order {placed.number}", problem))
        try:
            answer = Answer(self._index, count, problem, said)
            await asyncio.to_thread(self._control.answer, placed.number, answer)
        except SpoolError as error:
            self._emit(ev.Notice(f"order {placed.number} not answered", str(error)))
        finally:
            self._taken.discard(placed.number)

    async def figures(self) -> Figures:
        """Count what is in the queue.

        Raises:
            SpoolError: A store cannot be read now.
        """
        recipients: Counter[str] = Counter()
        oldest: float | None = None
        for opened in self._opened.values():
            stats = await opened.store.stats()
            recipients.update({state.value: count for state, count in stats.recipients.items()})
            if stats.oldest_at is not None:
                oldest = min(oldest or stats.oldest_at, stats.oldest_at)
        try:
            disk = os.statvfs(self._state_dir)
        except OSError as error:
            raise SpoolError(f"{self._state_dir}: {error.strerror}") from error
        shards = [opened.shard for opened in self._opened.values()]
        return Figures(
            recipients=dict(recipients),
            oldest_at=oldest,
            ready=sum(shard.ready for shard in shards),
            in_flight=sum(shard.in_flight for shard in shards),
            spool_free=disk.f_bavail * disk.f_frsize,
            double_bounces=sum(shard.double_bounces for shard in shards),
            notifications_withheld=sum(shard.notifications_withheld for shard in shards),
        )

    async def stop(self, grace: float) -> None:
        """Begin no more attempts; wait `grace` seconds for those under way."""
        await asyncio.gather(*(each.shard.stop(grace) for each in self._opened.values()))

    def close(self) -> None:
        """Write what is to be written and let go of the shards."""
        for opened in self._opened.values():
            opened.store.close()
        with contextlib.suppress(SpoolError):  # a full disk: it will be missed, that is all
            self._control.forget(self._index, os.getpid())
        self._control.close()


def _keep_names(_name: str | None, /) -> int:
    return 0  # nobody has looked any up
