"""The figures of look-ups: summed over processes, and carried on by those that follow."""

import pytest
from observe.test_metrics import Node

from elemta.net import DnsResolver, DnsSettings
from elemta.net.dns.figures import Verdict
from elemta.testing import FakeClock


@pytest.fixture
def node(tmp_path) -> Node:
    return Node(tmp_path)


def worked() -> DnsResolver:
    """A resolver that has been asked."""
    resolver = DnsResolver(DnsSettings(), FakeClock())
    cache, figures = resolver.cache, resolver.figures
    cache.hits, cache.misses, cache.stale, cache.evicted = 5, 4, 3, 2
    figures.count("MX", Verdict.ANSWER, 0.002)
    figures.count("MX", Verdict.ANSWER, 0.3)
    figures.count("TXT", Verdict.BOGUS, 0.004)
    figures.count("TXT", Verdict.TIMEOUT, 60.0)
    return resolver


def test_all_that_is_counted_is_shown(node):
    for number in range(2):
        metrics = node.process(f"worker-{number}")
        resolver = worked()
        for _ in range(3):  # totals: to take them again changes nothing
            metrics.resolver(resolver)
        metrics.flush()
    for name, count in (("hits", 10), ("misses", 8), ("stale", 6), ("evictions", 4)):
        assert node.value(f"elemta_resolver_cache_{name}_total") == count
    assert node.value("elemta_resolver_cache_entries") == 0
    questions = "elemta_resolver_questions_total"
    assert node.value(questions, rdtype="MX", result="answer") == 4
    assert node.value(questions, rdtype="TXT", result="bogus") == 2
    assert node.value(questions, rdtype="TXT", result="timeout") == 2
    assert node.value("elemta_resolver_seconds_count") == 8
    assert node.value("elemta_resolver_seconds_sum") == pytest.approx(120.612)
    assert node.value("elemta_resolver_seconds_bucket", le="0.005") == 4
    assert node.value("elemta_resolver_seconds_bucket", le="10.0") == 6


def test_the_next_process_of_the_name_goes_on_counting(node):
    for _ in range(2):
        metrics = node.process()
        metrics.resolver(worked())
        metrics.close()
    assert node.value("elemta_resolver_cache_hits_total") == 10
    assert node.value("elemta_resolver_questions_total", rdtype="MX", result="answer") == 4
    assert node.value("elemta_resolver_seconds_count") == 8
