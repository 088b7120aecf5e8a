"""What all tests share: how hypothesis behaves, what runs when, a scanner that is started once.

Programs of other servers are asked for with `servers.process.program`, which skips a test where
one is missing, and fails it where `CI` is set.
"""

import os

import pytest
from hypothesis import HealthCheck, settings
from servers.clamd import run_clamd

# A shared machine is slow at times: that is no finding.
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("here"), derandomize=True)
settings.register_profile("fuzz", settings.get_profile("here"), max_examples=20_000)
settings.load_profile("ci" if os.environ.get("CI") else "here")

os.umask(0o022)  # plugins that a group may write to are not loaded

# Folders and files whose tests take long, the longest first.
LONG = (
    "crash/test_kill",
    "scenarios/test_tls_scans",
    "scenarios/test_restart",
    "scenarios/test_generations",
    "scenarios/test_plugin_isolation",
    "scenarios/test_why",
    "scenarios/test_dkim_signing",
    "crash/",
    "scenarios/",
    "plugins/remote/",
    "cli/",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Tests of running servers wait half of their time: more processes than processors."""
    return max(2, len(os.sched_getaffinity(0)) * 3 // 2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long: at the end no process waits for the last file of another."""

    def rank(item: pytest.Item) -> int:
        return next((n for n, part in enumerate(LONG) if f"tests/{part}" in item.nodeid), len(LONG))

    items.sort(key=rank)


@pytest.fixture(scope="session")
def clamd(tmp_path_factory):
    """A virus scanner, for all tests of this process."""
    with run_clamd(tmp_path_factory.mktemp("clamd")) as scanner:
        yield scanner
