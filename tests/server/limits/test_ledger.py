"""The database of bans."""

import pytest

from elemta.mail.errors import SpoolError
from elemta.server.limits import Ledger
from elemta.server.limits import ledger as room
from elemta.server.limits.bans import MAX_EVIDENCE, Ban, BanList, Failure, Kind, parse_subject

NOW = 1_700_000_000.0


def ban(number: int = 1, **changes: object) -> Ban:
    values = {
        "id": f"{number:08x}",
        "kind": Kind.ADDRESS,
        "subject": f"192.0.2.{number}",
        "reason": "3 failed logins",
        "times": 1,
        "banned_at": NOW + number,
        "expires_at": NOW + 900.0,
    }
    return Ban(**{**values, **changes})


def failure(number: int, **changes: object) -> Failure:
    values = {
        "at": NOW + number,
        "kind": "PLAIN",
        "address": "192.0.2.1",
        "login": "ann",
        "session_id": f"s{number}",
        "network": "192.0.2.0/24",
    }
    return Failure(**{**values, **changes})


@pytest.fixture
def ledger(tmp_path):
    made = Ledger(tmp_path)
    yield made
    made.close()


def test_only_its_owner_may_read_it(ledger, tmp_path):
    assert (tmp_path / "bans.db").stat().st_mode & 0o777 == 0o600


def test_bans_are_found_by_id_and_subject(ledger):
    ledger.add(ban(1))
    ledger.add(ban(2, kind=Kind.LOGIN, subject="ann"))
    assert [each.id for each in ledger.bans()] == ["00000002", "00000001"]
    assert ledger.find("00000001") == ledger.find("192.0.2.1") == [ban(1)]
    assert ledger.find("ann")[0].kind is Kind.LOGIN
    assert ledger.find("nobody") == []


def test_a_subject_has_one_ban(ledger):
    ledger.add(ban(1))
    ledger.add(ban(1, id="again", times=2))
    assert [(each.id, each.times) for each in ledger.bans()] == [("again", 2)]


def test_news_are_what_others_have_changed(ledger, tmp_path):
    other = Ledger(tmp_path)
    try:
        assert ledger.news(-1).bans == ()
        change = ledger.news(-1).change
        assert ledger.news(change) is None
        other.add(ban(1))
        news = ledger.news(change)
        assert news.bans == (ban(1),)
        assert ledger.news(news.change) is None
        other.add(ban(2))
        other.lift("00000001", "me", NOW + 5)
        news = ledger.news(news.change)
        assert {(each.id, each.lifted_at) for each in news.bans} == {
            ("00000001", NOW + 5),
            ("00000002", None),
        }
        other.record([], [], [("root", "192.0.2.7")], NOW)
        assert ledger.news(news.change).admins == ("192.0.2.7",)
    finally:
        other.close()


@pytest.mark.parametrize(
    ("kind", "subject", "count"),
    [
        (Kind.ADDRESS, "192.0.2.1", 2),
        (Kind.NETWORK, "192.0.2.0/24", 3),
        (Kind.LOGIN, "ann", 3),
        (Kind.PAIR, "192.0.2.1 ann", 1),
    ],
)
def test_evidence_is_about_the_subject(ledger, kind, subject, count):
    failures = [
        failure(1),
        failure(2, login="bob"),
        failure(3, address="192.0.2.9"),
        failure(4, address="198.51.100.1", network="198.51.100.0/24"),
    ]
    ledger.record(failures, [ban(1, kind=kind, subject=subject)], [], NOW)
    [found] = ledger.bans()
    assert len(found.evidence) == count
    assert set(found.evidence) <= set(failures)


def test_evidence_is_bounded_and_the_latest(ledger):
    ledger.record([failure(number) for number in range(100)], [ban()], [], NOW)
    evidence = ledger.bans()[0].evidence
    assert [each.at - NOW for each in evidence] == list(range(100 - MAX_EVIDENCE, 100))


def test_what_nobody_needs_is_forgotten(ledger, monkeypatch):
    monkeypatch.setattr(room, "MAX_FAILURES", 10)
    monkeypatch.setattr(room, "MAX_BANS", 3)
    ledger.record([failure(number) for number in range(50)], [], [], NOW)
    for number in range(1, 5):
        ledger.add(ban(number, expires_at=NOW + 100 * number))
    ledger.add(ban(9, expires_at=None))
    ledger.prune(NOW + 60)
    assert {each.id for each in ledger.bans()} == {"00000009", "00000004", "00000003"}
    ledger.prune(NOW + 350 + room.KEEP_BANS)
    assert {each.id for each in ledger.bans()} == {"00000009", "00000004"}
    ledger.record([], [ban(1)], [], NOW)
    assert len(ledger.find("192.0.2.1")[0].evidence) == 0  # a day is over
    ledger.record([failure(number) for number in range(50)], [], [], NOW)
    ledger.prune(NOW)
    ledger.record([], [ban(1, id="b")], [], NOW)
    assert len(ledger.find("b")[0].evidence) == 10


def test_a_malformed_database_is_put_aside(tmp_path):
    (tmp_path / "bans.db").write_bytes(b"this is no database, but long enough to be one" * 100)
    ledger = Ledger(tmp_path)
    try:
        ledger.add(ban())
        assert ledger.bans() == [ban()]
    finally:
        ledger.close()
    assert (tmp_path / "bans.db.corrupt").exists()


def test_what_cannot_be_opened_is_a_spool_error(tmp_path):
    (tmp_path / "bans.db").mkdir()
    with pytest.raises(SpoolError):
        Ledger(tmp_path)


class TestSubjects:
    @pytest.mark.parametrize(
        ("text", "subject"),
        [
            ("192.0.2.1", (Kind.ADDRESS, "192.0.2.1")),
            (" 192.0.2.1/32", (Kind.ADDRESS, "192.0.2.1")),
            ("::ffff:192.0.2.1", (Kind.ADDRESS, "192.0.2.1")),
            ("192.0.2.77/24", (Kind.NETWORK, "192.0.2.0/24")),
            ("2001:DB8::1", (Kind.ADDRESS, "2001:db8::1")),
            ("2001:db8::/48", (Kind.NETWORK, "2001:db8::/48")),
        ],
    )
    def test_of_operators(self, text, subject):
        assert parse_subject(text) == subject

    @pytest.mark.parametrize("text", ["", "x", "0.0.0.0/0", "::/0", "192.0.2.0/33", "1.2.3"])
    def test_that_are_none(self, text):
        with pytest.raises(ValueError, match=r"."):
            parse_subject(text)


class TestBanList:
    def test_networks_of_any_width(self):
        bans = BanList()
        for number, subject in enumerate(("192.0.2.0/28", "198.51.0.0/16", "2001:db8::/40")):
            bans.put(ban(number, kind=Kind.NETWORK, subject=subject))
        found = [
            bans.find_address(address, NOW)
            for address in (
                "192.0.2.15",
                "192.0.2.16",
                "198.51.7.7",
                "2001:db8:ff::1",
                "2001:db9::",
            )
        ]
        assert [each is not None for each in found] == [True, False, True, True, False]

    def test_what_is_over_holds_no_more_and_is_forgotten_later(self):
        bans = BanList()
        bans.put(ban(1))
        bans.put(ban(2, expires_at=None))
        bans.put(ban(3, lifted_at=NOW + 1))
        assert bans.find_address("192.0.2.1", NOW + 899)
        assert not bans.find_address("192.0.2.1", NOW + 900)
        assert bans.find_address("192.0.2.2", NOW + 10**9)
        assert not bans.find_address("192.0.2.3", NOW + 2)
        bans.prune(NOW + 900, 10)
        assert {each.id for each in bans} == {"00000001", "00000002"}
        bans.prune(NOW + 901, 10)
        assert {each.id for each in bans} == {"00000002"}

    def test_there_is_room_for_so_many(self):
        bans = BanList()
        bans.put(ban(99, expires_at=None))
        for number in range(1, 9):
            bans.put(ban(number, expires_at=NOW + 100 - number))
        bans.prune(NOW, 3)
        assert {each.subject for each in bans} == {"192.0.2.99", "192.0.2.1", "192.0.2.2"}
