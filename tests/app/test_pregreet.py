"""Checks of new clients in one worker: from the configuration, and kept over restarts."""

from ipaddress import ip_network

import pytest

from elemta.app.pregreet import WorkerPregreet, pregreet_settings
from elemta.config import Config
from elemta.config.listeners import ListenerConfig
from elemta.config.models import RelayConfig
from elemta.config.pregreet import PregreetConfig
from elemta.mail import events as ev
from elemta.server.limits import Counters
from elemta.server.pregreet import Action, Check, PassStore
from elemta.testing.clock import FakeClock

CLIENT = "192.0.2.1"


def config(**settings: object) -> Config:
    return Config(pregreet=PregreetConfig(**settings))


def listener(kind: str = "mta", **settings: object) -> ListenerConfig:
    return ListenerConfig(address="127.0.0.1:2525", kind=kind, **settings)


@pytest.mark.parametrize(
    ("enabled", "kind", "own", "is_checked"),
    [
        (False, "mta", None, False),
        (True, "mta", None, True),
        (True, "submission", None, False),
        (True, "submissions", None, False),
        (True, "lmtp", None, False),
        (True, "mta", False, False),
        (False, "mta", True, True),
        (False, "submission", True, True),
    ],
)
def test_which_listeners_check(enabled, kind, own, is_checked):
    found = pregreet_settings(config(enabled=enabled), listener(kind, pregreet=own))
    assert (found is not None) is is_checked


def test_without_any_check_nobody_is_looked_at():
    off = {check.value: "off" for check in Check}
    assert pregreet_settings(config(enabled=True, **off), listener()) is None


def test_what_is_set_counts():
    proxies = (ip_network("10.0.0.0/8"),)
    settings = Config(
        relay=RelayConfig(trusted_networks=(ip_network("192.0.2.0/24"),)),
        pregreet=PregreetConfig(
            enabled=True,
            early_talker="drop",
            pipelining="ignore",
            bare_newline_ttl="3h",
            wait="1s",
            teaser=False,
            exempt=(ip_network("198.51.100.0/24"),),
            ipv4_prefix=24,
        ),
    )
    found = pregreet_settings(settings, listener(xclient=proxies))
    assert found.actions[Check.EARLY_TALKER] is Action.DROP
    assert found.actions[Check.PIPELINING] is Action.IGNORE
    assert found.keep[Check.BARE_NEWLINE] == 3 * 3600.0
    assert (found.wait, found.stressed_wait, found.teases) == (1.0, 1.0, False)
    assert found.exempt == (ip_network("192.0.2.0/24"), ip_network("198.51.100.0/24"))
    assert (found.proxies, found.ipv4_prefix) == (proxies, 24)


class Node:
    def __init__(self, state):
        self.state = state
        self.clock = FakeClock()
        self.events = []
        self.counters = []

    def worker(self) -> WorkerPregreet:
        """The only worker of a node that has just started."""
        self.counters.append(Counters(1))
        return WorkerPregreet(self.state, self.counters[-1], self.clock, self.events.append)


@pytest.fixture
def node(tmp_path):
    made = Node(tmp_path / "var")
    yield made
    for counters in made.counters:
        counters.close()


async def test_who_has_passed_is_known_after_a_restart(node):
    worker = node.worker()
    screen = worker.screen(config(enabled=True), listener())
    await worker.start()
    screen.begin(CLIENT, "s1").succeed()
    await worker.close()
    worker = node.worker()
    screen = worker.screen(config(enabled=True), listener())
    assert screen.concerns(CLIENT)
    await worker.start()
    assert not screen.concerns(CLIENT)
    await worker.close()


async def test_without_checks_there_is_no_database(node):
    worker = node.worker()
    assert worker.screen(config(), listener()) is None
    await worker.start()
    worker.beat()
    await worker.close()
    assert not node.state.exists()


async def test_a_reload_can_bring_checks(node):
    worker = node.worker()
    assert worker.screen(config(), listener()) is None
    await worker.start()
    screen = worker.screen(config(enabled=True), listener())
    screen.begin(CLIENT, "s1").succeed()
    worker.beat()
    await worker.close()
    assert (node.state / "pregreet.db").exists()


async def test_without_a_database_clients_are_checked_all_the_same(node):
    node.state.mkdir()
    (node.state / "pregreet.db").mkdir()
    worker = node.worker()
    screen = worker.screen(config(enabled=True), listener())
    await worker.start()
    screen.begin(CLIENT, "s1").succeed()
    assert not screen.concerns(CLIENT)
    worker.beat()
    await worker.close()
    [notice] = [event for event in node.events if isinstance(event, ev.Notice)]
    assert notice.subject == "pregreet", "the same trouble is told once"


async def test_what_could_not_be_written_is_written_later(node):
    node.state.mkdir()
    (node.state / "pregreet.db").mkdir()
    worker = node.worker()
    screen = worker.screen(config(enabled=True), listener())
    await worker.start()
    screen.begin(CLIENT, "s1").succeed()
    await worker.start()
    (node.state / "pregreet.db").rmdir()
    await worker.close()
    worker = node.worker()
    screen = worker.screen(config(enabled=True), listener())
    await worker.start()
    assert not screen.concerns(CLIENT)
    await worker.close()


async def test_old_passes_are_forgotten(node):
    worker = node.worker()
    screen = worker.screen(config(enabled=True), listener())
    await worker.start()
    screen.begin(CLIENT, "s1").succeed()
    worker.beat()
    node.clock.advance(31 * 86400.0)
    await worker.close()
    worker = node.worker()
    worker.screen(config(enabled=True), listener())
    await worker.start()
    await worker.close()
    store = PassStore(node.state)
    assert store.read(0.0) == []
    store.close()
