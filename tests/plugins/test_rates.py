"""Rates that plugins are lent: each has its own, all workers of a node the same."""

import os
from collections.abc import Callable

import pytest

from elemta.mail.errors import PluginError
from elemta.net.node_rates import NodeRates
from elemta.plugins import Rate
from elemta.plugins.settings import PluginSettings
from elemta.plugins.tooling import Toolbox
from elemta.plugins.tools import NoRates, Rates
from elemta.testing import FakeClock, FakeResolver

TEN = Rate(10, 60.0)


def lend(folder, node, clock, name="one") -> Rates:
    """Give a plugin of one worker its rates."""
    box = Toolbox(folder, clock, lambda _event: None, FakeResolver({}), rates=node)
    return box.make_tools(PluginSettings(name)).rates


@pytest.fixture
def node():
    table = NodeRates(1024, is_shared=True)
    yield table
    table.close()


@pytest.mark.parametrize("burst", [0, 10])
def test_plugins_do_not_use_what_others_may(tmp_path, node, burst):
    clock = FakeClock()
    one, two = (lend(tmp_path, node, clock, name) for name in ("one", "two"))
    assert one.take("a", 10, TEN, burst=burst) == 0
    assert one.take("a", 1, TEN, burst=burst) > 0
    assert two.peek("a", TEN, burst=burst) == 0
    assert two.take("a", 10, TEN, burst=burst) == 0
    one.forget("a")
    assert two.take("a", 1, TEN, burst=burst) > 0
    one.take("a", 4, TEN, burst=burst)
    one.give_back("a", 3, TEN, burst=burst)
    assert one.peek("a", TEN, burst=burst) == pytest.approx(1)
    clock.advance(200)
    assert two.peek("a", TEN, burst=burst) == 0


def test_workers_of_a_node_use_the_same(tmp_path, node):
    clock = FakeClock()
    pid = os.fork()
    if not pid:
        taken = [lend(tmp_path, node, clock).take("a", 1, TEN) for _ in range(6)]
        os._exit(any(taken))
    assert os.waitpid(pid, 0)[1] == 0
    mine = lend(tmp_path, node, clock)
    assert [bool(mine.take("a", 1, TEN)) for _ in range(6)] == [False] * 4 + [True] * 2


def test_without_a_node_a_process_has_its_own(tmp_path):
    clock = FakeClock()
    one, two = (lend(tmp_path, None, clock) for _ in range(2))
    assert one.take("a", 10, TEN) == 0
    assert two.take("a", 10, TEN) == 0


@pytest.mark.parametrize(
    "use",
    [
        lambda rates: rates.take("a", 1, TEN),
        lambda rates: rates.give_back("a", 1, TEN),
        lambda rates: rates.peek("a", TEN),
        lambda rates: rates.forget("a"),
    ],
)
def test_outside_of_the_worker_none_are_lent(use: Callable[[Rates], object]):
    with pytest.raises(PluginError, match="not lent to plugins in processes of their own"):
        use(NoRates())
