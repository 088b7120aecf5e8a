"""The figures of plugins, from the tallies and counters of workers to `/metrics`."""

import pytest
from observe.test_metrics import Node

from elemta.plugins.asking.tally import Tally
from elemta.plugins.tooling import Figures
from elemta.plugins.tooling.figures import MAX_SERIES


@pytest.fixture
def node(tmp_path) -> Node:
    return Node(tmp_path)


class Asked:
    """A chain that has asked so often."""

    def __init__(self, calls: int) -> None:
        self.calls = calls

    def calls_of(self, _tally: Tally) -> int:
        return self.calls


def tally(calls: int = 0, plugin: str = "one", hook: str = "on_data") -> Tally:
    made = Tally(plugin, hook)
    made.follow(Asked(calls))
    return made


def test_what_plugins_were_asked_and_said_is_shown(node):
    asked = tally(48)
    asked.errors, asked.timeouts = 3, 1
    for what in ("reject", "reject", "shadow_edit"):
        asked.said(what)
    for seconds in (0.0005, 0.5, 60):
        asked.took(seconds)
    metrics = node.process()
    metrics.plugins([asked, tally(7, hook="on_connect")], {})
    metrics.close()
    labels = {"plugin": "one", "hook": "on_data"}
    assert node.value("elemta_plugin_calls_total", **labels) == 48
    assert node.value("elemta_plugin_calls_total", plugin="one", hook="on_connect") == 7
    assert node.value("elemta_plugin_errors_total", **labels) == 3
    assert node.value("elemta_plugin_timeouts_total", **labels) == 1
    assert node.value("elemta_plugin_decisions_total", **labels, decision="reject") == 2
    assert node.value("elemta_plugin_decisions_total", **labels, decision="shadow_edit") == 1
    assert node.value("elemta_plugin_seconds_count", **labels) == 3
    assert node.value("elemta_plugin_seconds_sum", **labels) == 60.5005
    assert node.value("elemta_plugin_seconds_bucket", **labels, le="0.001") == 1
    assert node.value("elemta_plugin_seconds_bucket", **labels, le="10.0") == 2
    assert node.value("elemta_plugin_seconds_bucket", **labels, le="+Inf") == 3


def test_what_a_plugin_counts_itself_is_shown(node):
    own = Figures()
    own.count("hits")
    own.count("hits", 2, zone="a.test")
    own.count("seen_total", kind="x")
    own.observe("score", 4.5, kind="spam")
    metrics = node.process()
    metrics.plugins([], {"block-list": own})
    metrics.close()
    plugin = {"plugin": "block-list"}
    assert node.value("elemta_plugin_block_list_hits_total", **plugin, zone="") == 1
    assert node.value("elemta_plugin_block_list_hits_total", **plugin, zone="a.test") == 2
    assert node.value("elemta_plugin_block_list_seen_total", **plugin, kind="x") == 1
    assert node.value("elemta_plugin_block_list_score_sum", **plugin, kind="spam") == 4.5
    bucket = {**plugin, "kind": "spam"}
    assert node.value("elemta_plugin_block_list_score_bucket", **bucket, le="1.0") == 0
    assert node.value("elemta_plugin_block_list_score_bucket", **bucket, le="5.0") == 1


def test_numbers_of_all_workers_and_of_those_before_add_up(node):
    for worker in ("worker-0", "worker-0", "worker-1"):
        own = Figures()
        own.count("hits", kind="a")
        own.observe("score", 2)
        asked = tally(10)
        asked.said("reject")
        asked.took(0.5)
        metrics = node.process(worker)
        for _ in range(3):  # totals: to be told again changes nothing
            metrics.plugins([asked], {"one": own})
            metrics.flush()
        metrics.close()
    labels = {"plugin": "one", "hook": "on_data"}
    assert node.value("elemta_plugin_calls_total", **labels) == 30
    assert node.value("elemta_plugin_decisions_total", **labels, decision="reject") == 3
    assert node.value("elemta_plugin_seconds_count", **labels) == 3
    assert node.value("elemta_plugin_one_hits_total", plugin="one", kind="a") == 3
    assert node.value("elemta_plugin_one_score_count", plugin="one") == 3
    assert node.value("elemta_plugin_one_score_sum", plugin="one") == 6


def test_what_a_worker_before_has_counted_stays_without_its_plugin(node):
    own = Figures()
    own.count("hits")
    metrics = node.process()
    metrics.plugins([tally(5)], {"gone": own})
    metrics.close()
    metrics = node.process()
    metrics.plugins([], {})
    metrics.close()
    assert node.value("elemta_plugin_calls_total", plugin="one", hook="on_data") == 5
    assert node.value("elemta_plugin_gone_hits_total", plugin="gone") == 1


def test_labels_stay_bounded_over_restarts_and_processes(node):
    for run, worker in enumerate(("worker-0", "worker-0", "worker-1")):
        own = Figures()
        for number in range(MAX_SERIES):
            own.count("mail", domain=f"d{number}.r{run}.test")
        metrics = node.process(worker)
        metrics.plugins([], {"one": own})
        metrics.close()
        node.families()
    samples = node.families()["elemta_plugin_one_mail"].samples
    assert len(samples) == MAX_SERIES + 1
    assert sum(sample.value for sample in samples) == 3 * MAX_SERIES
    other = {"plugin": "one", "domain": "other"}
    assert node.value("elemta_plugin_one_mail_total", **other) == 2 * MAX_SERIES
    assert node.value("elemta_plugin_one_mail_total", plugin="one", domain="d99.r0.test") == 1


def test_many_plugins_keep_their_names(node):
    metrics = node.process()
    metrics.plugins([tally(1, f"p{n}", hook) for n in range(60) for hook in ("a", "b", "c")], {})
    metrics.close()
    assert len(node.families()["elemta_plugin_calls"].samples) == 180


def test_names_that_come_to_the_same_share_a_family(node):
    counting, clashing, observing = Figures(), Figures(), Figures()
    counting.count("hits")
    clashing.count("b_hits", 2)
    observing.observe("c_hits", 1)
    metrics = node.process()
    counting_too = Figures()
    counting_too.count("hits")
    plugins = {"a-b": counting, "a": clashing, "x": observing, "x-c": counting_too}
    metrics.plugins([], plugins)
    metrics.close()
    assert node.value("elemta_plugin_a_b_hits_total", plugin="a-b") == 1
    assert node.value("elemta_plugin_a_b_hits_total", plugin="a") == 2
    assert node.value("elemta_plugin_x_c_hits_count", plugin="x") == 1
    assert node.value("elemta_plugin_x_c_hits_total", plugin="x-c") is None


def test_a_figure_may_become_of_another_kind(node):
    """A new version of a plugin, after a restart of its worker."""
    before, after = Figures(), Figures()
    before.count("score", 5)
    after.observe("score", 2)
    for own in (before, after):
        metrics = node.process()
        metrics.plugins([], {"one": own})
        metrics.close()
    assert node.value("elemta_plugin_one_score_sum", plugin="one") == 2


def test_a_name_is_a_counter_or_a_histogram(node):
    own = Figures()
    own.count("hits")
    own.observe("score", 1)
    with pytest.raises(ValueError, match="counter and a histogram"):
        own.observe("hits", 1)
    with pytest.raises(ValueError, match="counter and a histogram"):
        own.count("score")
