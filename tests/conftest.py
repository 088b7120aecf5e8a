"""What all tests share: how hypothesis behaves, and a scanner that is started once.

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


@pytest.fixture(scope="session")
def clamd(tmp_path_factory):
    """A virus scanner, for all tests of this process."""
    with run_clamd(tmp_path_factory.mktemp("clamd")) as scanner:
        yield scanner
