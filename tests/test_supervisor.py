"""What the supervisor says of a process that ended."""

import signal

import pytest

from elemta.supervisor import describe_status


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (0, "exit status 0"),
        (3 << 8, "exit status 3"),
        (signal.SIGKILL, "SIGKILL"),
        (41, "signal 41"),
    ],
)
def test_every_end_has_a_description(status, text):
    assert describe_status(status) == text
