"""A shard on a real store, a courier that does as it is told, and time that stands still."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from elemta.mail import events as ev
from elemta.mail.address import Address, parse_address
from elemta.mail.job import Destination, Job
from elemta.mail.message import Facts, Message, Recipient, State
from elemta.mail.outcome import Outcome, Result
from elemta.mail.reply import Reply
from elemta.plugins.asking.table import NO_HOOKS, HookTable
from elemta.queue.settings import QueueSettings
from elemta.queue.shard import Shard
from elemta.queue.spool import IdSource, Spool, SpoolSettings
from elemta.queue.sqlite.store import SqliteStore
from elemta.queue.store import Filter, Stored
from elemta.testing import FakeClock

PATIENCE = 30.0
ANN = parse_address("ann@local.test")
VERIFIED = Facts(verified=True, message_id="<1@local.test>")
CONTENT = b"From: ann@local.test\r\nSubject: hello\r\n\r\nHello.\r\n"

DELIVERED = Outcome(Result.DELIVERED, Reply(250, "ok", "2.0.0"), "mx.test", "192.0.2.1:25", "smtp")
DEFERRED = Outcome(Result.DEFERRED, Reply(452, "later", "4.2.2"), "mx.test", "192.0.2.1:25", "smtp")
FAILED = Outcome(Result.FAILED, Reply(550, "nobody", "5.1.1"), "mx.test", "192.0.2.1:25", "smtp")
SILENT = Outcome(Result.DEFERRED, Reply(451, "cannot connect", "4.4.1"), method="smtp")
TOO_MANY = replace(DEFERRED, reply=Reply(452, "too many", "4.5.3"), retry_at_once=True)

SETTINGS = QueueSettings(
    hostname="mail.local.test",
    local_domains=frozenset({"local.test"}),
    retry_schedule=(60.0, 600.0, 3600.0),
    jitter=0.0,
)

Answer = Outcome | Sequence[Outcome] | Exception


class ScriptedCourier:
    """Delivers by a script: what each recipient's local part says, or else `answer`.

    Attributes:
        answer: What becomes of those whose local part is in no script: an outcome, a function
            of the job, or an exception to raise.
        by_local: Outcomes by local part; a list gives one after the other.
        held_domains: Domains whose route says "hold".
        gate: While it is not set, attempts wait.
        jobs: All attempts so far; `under_way`, `most` and `most_by_key` count those at once.
    """

    def __init__(self) -> None:
        self.answer: Outcome | Exception | Callable[[Job], Sequence[Outcome]] = DELIVERED
        self.by_local: dict[str, list[Outcome]] = {}
        self.held_domains: set[str] = set()
        self.gate = asyncio.Event()
        self.gate.set()
        self.jobs: list[Job] = []
        self.contents: list[bytes] = []
        self.under_way: Counter[str] = Counter()
        self.most = 0
        self.most_by_key: Counter[str] = Counter()

    def destination(
        self, recipient: Address, sender: Address | None, *, is_new: bool = True
    ) -> Destination:
        held = is_new and recipient.domain in self.held_domains
        state = State.HOLD if held else State.ACTIVE
        return Destination(f"to:{recipient.domain}", None, state)

    async def deliver(self, job: Job) -> Sequence[Outcome]:
        key = job.destination.key
        self.jobs.append(job)
        self.under_way[key] += 1
        self.most = max(self.most, self.under_way.total())
        self.most_by_key[key] = max(self.most_by_key[key], self.under_way[key])
        try:
            await self.gate.wait()
            self.contents.append(b"".join([chunk async for chunk in job.content.chunks()]))
            return self._outcomes(job)
        finally:
            self.under_way[key] -= 1

    def _outcomes(self, job: Job) -> Sequence[Outcome]:
        if isinstance(self.answer, Exception):
            raise self.answer
        if callable(self.answer):
            return self.answer(job)
        outcomes = []
        for recipient in job.recipients:
            script = self.by_local.get(recipient.address.local)
            if not script:
                outcomes.append(self.answer)
            else:
                outcomes.append(script.pop(0) if len(script) > 1 else script[0])
        return outcomes

    @property
    def tried(self) -> list[str]:
        """Addresses in the order of attempts."""
        return [str(each.address) for job in self.jobs for each in job.recipients]


async def until(condition: Callable[[], object], what: str = "") -> None:
    """Wait for something that happens in another thread or task."""
    loop = asyncio.get_running_loop()
    patience = loop.time() + PATIENCE
    while not condition():
        assert loop.time() < patience, f"waited in vain: {what}"
        await asyncio.sleep(0.001)


@dataclass
class Station:
    """A shard and everything around it; `start` and `stop` it, several times if you like."""

    folder: Path
    settings: QueueSettings = SETTINGS
    spool_settings: SpoolSettings = field(default_factory=SpoolSettings)
    clock: FakeClock = field(default_factory=FakeClock)
    events: list[ev.Event] = field(default_factory=list)
    make_store: Callable[[Spool, ev.Emit], SqliteStore] = SqliteStore
    hooks: HookTable = NO_HOOKS

    async def start(self) -> None:
        self.courier = ScriptedCourier()
        ids = IdSource(0, self.clock)
        self.spool = Spool(self.folder, self.spool_settings, ids, self.clock)
        self.store = self.make_store(self.spool, self.events.append)
        self.shard = Shard(
            self.store,
            self.spool,
            self.courier,
            self.settings,
            self.clock,
            self.events.append,
            random.Random(1),
            lambda: self.hooks,
        )
        self.clock.watch(self.shard.wake)
        self.loop_task = asyncio.ensure_future(self.shard.run())

    async def stop(self, timeout: float = 5.0) -> None:
        await self.shard.stop(timeout)
        await self.loop_task
        self.store.close()

    async def __aenter__(self) -> "Station":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.courier.gate.set()
        await self.stop()

    async def submit(
        self,
        *recipients: str,
        sender: Address | None = ANN,
        facts: Facts = VERIFIED,
        content: bytes = CONTENT,
    ) -> Message:
        draft = self.shard.draft()
        if draft.add(content):
            await draft.flush()
        addresses = [parse_address(recipient) for recipient in recipients]
        return await self.shard.submit(draft, sender, addresses, facts)

    async def states(self, message: Message) -> dict[int, State]:
        stored = await self.store.get(message.queue_id)
        return {} if stored is None else {each.index: each.state for each in stored.recipients}

    async def recipient(self, message: Message, index: int = 0) -> Recipient:
        stored = await self.store.get(message.queue_id)
        assert stored is not None
        return next(each for each in stored.recipients if each.index == index)

    async def all(self, *states: State) -> list[Stored]:
        return await self.store.find(Filter(states=states), None, 100_000)

    async def calm(self) -> None:
        """Wait until nothing is going on; what must not happen would have happened."""
        scheduler = self.shard._scheduler
        for _ in range(3):
            await self.store.stats()
            await self.store.settle(self.spool.ids.next(), ())  # a turn of the writer
            await until(lambda: not scheduler._is_kicked, "a dispatch")
            if self.courier.gate.is_set():
                await until(lambda: not scheduler._tasks, "attempts")

    async def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await self.calm()

    def of(self, kind: type[ev.Event]) -> list:
        return [event for event in self.events if type(event) is kind]

    async def empty(self) -> None:
        """Wait until the store has nothing."""
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while (await self.store.stats()).messages:
            assert asyncio.get_running_loop().time() < deadline, "mail is left"
            await asyncio.sleep(0.001)
        await self.calm()
