"""Carries out an operator's order on a node, whether its server runs or not.

A shard that nobody holds is opened here, under its lock. For the others the order goes into the
control database, and their workers answer. An order is given to both, and to give it twice does
no harm, so that a worker which starts or ends meanwhile makes no difference.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from elemta.cli.check import is_running
from elemta.cli.output import warn
from elemta.cli.queue_view import list_shards
from elemta.config import Config
from elemta.mail.clock import Clock
from elemta.mail.errors import SpoolError
from elemta.mail.events import Event, MessageCorrupt, Notice
from elemta.net.dns.order import FlushOrder
from elemta.plugins.loading.orders import PluginOrder
from elemta.queue.admin import Order, apply_order
from elemta.queue.control import Answer, AnyOrder, Control
from elemta.queue.spool.folder import ShardBusyError, shard_folder
from elemta.queue.spool.ids import IdSource
from elemta.queue.spool.spool import Spool, SpoolSettings
from elemta.queue.sqlite.store import SqliteStore

ANSWER_TIMEOUT = 20.0  # seconds for the workers to answer, who may have much to do just then
PLUGIN_TIMEOUT = 60.0  # likewise: a plugin may take its time to be set up
ALIVE_FOR = 15.0  # seconds after its last heartbeat that a worker is expected to answer
LOOK_EVERY = 0.05


@dataclass(slots=True)
class Carried:
    """What became of an order.

    Attributes:
        count: Recipients that moved or went, or plugins, or answers of the DNS.
        errors: What could not be done, and where.
        silent: Who did not answer in time; they do not begin with it any more.
        said: What a plugin has said, in each worker that was told to ask it.
    """

    count: int = 0
    errors: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def add(self, answers: Sequence[Answer]) -> None:
        """Take in what workers say."""
        for answer in answers:
            self.count += answer.count
            if answer.said:
                self.said.append(answer.said)
            if answer.error:
                self.errors.append(f"worker {answer.worker}: {answer.error}")


async def carry_out(
    config: Config, order: Order, clock: Clock, patience: float = ANSWER_TIMEOUT
) -> Carried:
    """Carry out an order on all shards of a node; workers have `patience` seconds to answer.

    Raises:
        SpoolError: The control database cannot be used, or the folder not looked into.
    """
    carried = Carried()
    state_dir = config.server.state_dir
    held, ours = [], []
    for shard in list_shards(state_dir):
        try:
            carried.count += await _apply_here(config, shard, order, clock)
            ours.append(shard)
        except ShardBusyError:
            held.append(shard)
        except SpoolError as error:
            carried.errors.append(f"shard {shard}: {error}")
    if held:
        await _ask_workers(config, order, clock.now() + patience, clock, ours, carried)
    return carried


async def order_workers(
    config: Config,
    order: PluginOrder | FlushOrder,
    clock: Clock,
    patience: float = PLUGIN_TIMEOUT,
) -> Carried:
    """Have all workers carry out an order that is not about mail.

    They have `patience` seconds to answer.

    Where no server runs there is nobody to do it, and `silent` says so at once.

    Raises:
        SpoolError: The control database cannot be used.
    """
    carried = Carried()
    if not is_running(config.server.state_dir):
        carried.silent.append("the server, which does not run,")
        return carried
    await _ask_workers(config, order, clock.now() + patience, clock, (), carried)
    return carried


async def _apply_here(config: Config, shard: int, order: Order, clock: Clock) -> int:
    """Open a shard that nobody holds, and do what is ordered."""
    settings = SpoolSettings(
        inline_size=config.queue.inline_size,
        min_free_space=config.queue.min_free_space,
        compression=config.queue.compression,
    )
    folder = shard_folder(config.server.state_dir, shard)
    store = SqliteStore(Spool(folder, settings, IdSource(shard, clock), clock), _tell)
    try:
        return await apply_order(store, order)
    finally:
        store.close()


def _tell(event: Event) -> None:
    """Show what the store has to say about itself; what it moved is counted."""
    if isinstance(event, Notice):
        warn(f"{event.subject}: {event.detail}")
    elif isinstance(event, MessageCorrupt):
        warn(f"{event.queue_id} is corrupt: {event.error}")


async def _ask_workers(
    config: Config,
    order: AnyOrder,
    answer_by: float,
    clock: Clock,
    ours: Sequence[int],
    carried: Carried,
) -> None:
    """Give the order to the workers, and wait for those that are alive.

    A worker holds the shard of its own number as long as it lives: whose shard could be opened
    here is not waited for.
    """
    control = Control(config.server.state_dir / "control.db")
    try:
        now = clock.now()
        alive = {
            beat.index
            for beat in control.heartbeats()
            if now - beat.beat_at <= ALIVE_FOR and beat.index not in ours
        }
        number = control.place(order, now, answer_by)
        answers = control.answers(number)
        while not alive or not alive <= {answer.worker for answer in answers}:
            if clock.now() >= answer_by:
                break
            await asyncio.sleep(LOOK_EVERY)
            answers = control.answers(number)
    finally:
        control.close()
    carried.add(answers)
    missing = alive - {answer.worker for answer in answers}
    carried.silent += [f"worker {index}" for index in sorted(missing)]
    if not alive and not answers:
        carried.silent.append("whoever holds the queue")
