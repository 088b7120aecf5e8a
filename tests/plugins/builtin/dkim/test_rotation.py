"""The life of keys, step by step."""

import msgspec
import pytest

from elemta.plugins.builtin.dkim.keystore import KeyEntry, KeyState
from elemta.plugins.builtin.dkim.publishing import Publication, Sighting
from elemta.plugins.builtin.dkim.rotation import DAY, activate, observe, ready, retire

OLD = KeyEntry("old", "rsa", "AAAA", 2048, KeyState.ACTIVE)
ED = KeyEntry("ed", "ed25519", "BBBB", 256, KeyState.ACTIVE)
NEW = KeyEntry("new", "rsa", "CCCC", 2048)
SEEN = Sighting(Publication.PUBLISHED, 300.0)
GONE = [Publication.ABSENT, Publication.DIFFERENT, Publication.REVOKED]


def states(entries):
    return {each.selector: str(each.state) for each in entries}


def test_a_key_signs_when_the_ttl_has_passed():
    entries = observe((OLD, ED, NEW), {"new": SEEN}, 1000.0)
    assert ready(entries, 1299.0) == set()
    entries = observe(entries, {"new": SEEN}, 1200.0)  # seen again: it does not begin anew
    assert ready(entries, 1300.0) == {"new"}
    entries = activate(entries, ready(entries, 1300.0), 1300.0)
    assert states(entries) == {"old": "retiring", "ed": "active", "new": "active"}
    assert entries[2].activated_at == entries[0].retiring_at == 1300.0


@pytest.mark.parametrize("publication", GONE)
def test_a_record_that_goes_away_begins_anew(publication):
    entries = observe((NEW,), {"new": SEEN}, 1000.0)
    entries = observe(entries, {"new": Sighting(publication, 60.0)}, 1100.0)
    assert ready(entries, 2000.0) == set()
    entries = observe(entries, {"new": SEEN}, 2000.0)
    assert ready(entries, 2100.0) == set()
    assert ready(entries, 2300.0) == {"new"}


def test_a_dns_that_is_down_changes_nothing():
    entries = observe((NEW,), {"new": SEEN}, 1000.0)
    assert observe(entries, {"new": Sighting(Publication.UNKNOWN)}, 1100.0) == entries
    assert observe(entries, {}, 1100.0) == entries
    assert ready((NEW,), 1e12) == set()


def test_nobody_waits_for_ever():
    entries = observe((NEW,), {"new": Sighting(Publication.PUBLISHED, 1e9)}, 1000.0)
    assert ready(entries, 1000.0 + DAY) == {"new"}


def test_only_pending_keys_are_looked_at():
    assert observe((OLD,), {"old": Sighting(Publication.ABSENT)}, 1.0) == (OLD,)
    assert activate((OLD,), frozenset({"old"}), 1.0) == (OLD,)


def test_of_two_new_keys_the_later_one_signs():
    later = msgspec.structs.replace(NEW, selector="later")
    entries = activate((OLD, NEW, later), frozenset({"new", "later"}), 5.0)
    assert states(entries) == {"old": "retiring", "new": "retiring", "later": "active"}


def test_an_old_key_is_kept_while_mail_is_under_way():
    entries = activate((OLD, NEW), frozenset({"new"}), 1000.0)
    assert retire(entries, 1000.0 + 7 * DAY - 1, 7 * DAY) == entries
    entries = retire(entries, 1000.0 + 7 * DAY, 7 * DAY)
    assert states(entries) == {"old": "retired", "new": "active"}
    assert entries[0].retired_at == 1000.0 + 7 * DAY
