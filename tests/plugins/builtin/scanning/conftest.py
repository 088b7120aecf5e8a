"""The real scanners, started once for all tests of a file."""

import pytest
from servers.clamd import run_clamd
from servers.rspamd_filter import run_rspamd_filter
from servers.spamd import run_spamd


@pytest.fixture(scope="module")
def clamd(tmp_path_factory):
    with run_clamd(tmp_path_factory.mktemp("c")) as found:
        yield found


@pytest.fixture(scope="module")
def rspamd(tmp_path_factory):
    with run_rspamd_filter(tmp_path_factory.mktemp("r")) as found:
        yield found


@pytest.fixture(scope="module")
def spamd(tmp_path_factory):
    with run_spamd(tmp_path_factory.mktemp("s")) as found:
        yield found
