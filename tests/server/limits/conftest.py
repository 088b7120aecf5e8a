"""What tests of limits share: a clock that stands still, counters of one node, events."""

from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from elemta.mail.events import Event
from elemta.server.limits import (
    Brake,
    BrakeSettings,
    Counters,
    Guard,
    Ledger,
    LimitSettings,
    Scope,
    ScopeSettings,
)
from elemta.testing.clock import FakeClock

TRUSTED = "10.1.2.3"


class Node:
    """The parts of one node, as many workers as a test wants."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.clock = FakeClock()
        self.counters = Counters(workers=4)
        self.scope = Scope(ScopeSettings(exempt=(ip_network("10.0.0.0/8"),)))
        self.events: list[Event] = []
        self.ledgers: list[Ledger] = []

    def guard(self, worker: int = 0, kind: str = "mta", **settings: object) -> Guard:
        self.counters.worker = worker
        chosen = LimitSettings(**settings)
        return Guard(kind, chosen, self.scope, self.counters, self.clock, self.events.append)

    async def brake(self, **settings: object) -> Brake:
        """One more worker's brake, over the same counters and the same database."""
        self.ledgers.append(Ledger(self.state_dir))
        brake = Brake(
            BrakeSettings(**settings),
            self.scope,
            self.counters,
            self.ledgers[-1],
            self.clock,
            self.events.append,
        )
        await brake.sync()
        return brake

    def told(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    def close(self) -> None:
        for ledger in self.ledgers:
            ledger.close()
        self.counters.close()


@pytest.fixture
def node(tmp_path) -> Iterator[Node]:
    made = Node(tmp_path)
    yield made
    made.close()


@pytest.fixture
def fail() -> Callable[..., None]:
    """Have logins fail."""

    def repeat(brake: Brake, times: int, ip: str = "192.0.2.1", login: str = "ann") -> None:
        for number in range(times):
            brake.failed(ip, login, f"s{number}", "PLAIN")

    return repeat
