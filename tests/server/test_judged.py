"""What plugins are shown of a session's command lines."""

import pytest

from elemta.server.judged import without_secret


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"AUTH PLAIN AGEAYg==", b"AUTH PLAIN"),
        (b"auth plain AGEAYg== more", b"auth plain"),
        (b"AUTH  PLAIN  AGEAYg==", b"AUTH PLAIN"),
        (b"AUTH PLAIN\tAGEAYg==", b"AUTH PLAIN"),
        (b"AUTH\tPLAIN AGEAYg==", b"AUTH PLAIN"),
        (b" AUTH PLAIN AGEAYg==", b"AUTH PLAIN"),
        (b"AUTH=PLAIN AGEAYg==", b"AUTH=PLAIN"),
        (b"AUTH LOGIN", b"AUTH LOGIN"),
        (b"AUTH", b"AUTH"),
        (b"MAIL FROM:<a@b.test> AUTH=<>", b"MAIL FROM:<a@b.test> AUTH=<>"),
        (b"", b""),
        (b" \t", b" \t"),
    ],
)
def test_nobody_sees_what_follows_the_mechanism(line, shown):
    assert without_secret(line) == shown
