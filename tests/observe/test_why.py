"""Records on disk: found by whatever one knows, bounded, written by several workers at once."""

import contextlib
import multiprocessing
import sqlite3
import time
from pathlib import Path

import pytest

from elemta.mail.errors import SpoolError
from elemta.mail.why import Heard, Mail, Ruling, Who, Why, pack
from elemta.observe.why import WhyStore, explain, store_path, summarise
from elemta.server.rules import RULES

NOW = 1_700_000_000.0


def record(number: int = 1, at: float = NOW, **options) -> Why:
    return Why(
        f"{number:08x}",
        at,
        options.pop("who", Who(f"0-1-{number:x}", "192.0.2.1", "mta", "client.example.org")),
        options.pop("mail", Mail("Ann@Example.org", ("bob@example.net",))),
        options.pop("ruling", Ruling("reject", "rcpt", "550 5.7.1 No", rule="relay")),
        **options,
    )


@pytest.fixture
def store(tmp_path):
    (tmp_path / "state").mkdir()
    made = WhyStore(store_path(tmp_path / "state"))
    yield made
    made.close()


def destroy(path: Path) -> None:
    """Overwrite a database that is open, once nobody remembers its pages, and its log is empty."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("CREATE TABLE other (number)")
    other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    other.close()
    with path.open("r+b") as file:
        file.write(b"garbage!" * (path.stat().st_size // 8))


def ids(found) -> list[int]:
    return [int(each.id, 16) for each in found]


class TestFinding:
    def test_all_of_a_record_comes_back(self, store):
        why = record(
            heard=(Heard("one", "on_data", "reject", "spam", 1.5),),
            notes={"score": "5"},
            authentication="spf=pass",
            count=7,
            sessions=["0-1-9"],
        )
        store.add(pack([why]))
        assert list(store.find("")) == [why]

    @pytest.mark.parametrize(
        "word",
        [
            "0000002a",
            "0000002A",
            "0-1-2a",
            "0-1-ff",
            "198.51.100.9",
            "ann@example.org",
            "EXAMPLE.org",
            "<x@y>",
            "x@y",
            "1M7ZHE7DV0000",
            "grace",
            "jürgen@example.com",
            "JÜRGEN@example.com",
        ],
    )
    def test_by_whatever_one_knows(self, store, word):
        mail = Mail("Ann@Example.org", ("jürgen@example.com",), "1M7ZHE7DV0000", "<x@y>")
        who = Who("0-1-2a", "198.51.100.9", "mta", login="grace")
        others = [record(n, mail=Mail("c@c.test", ("d@d.test",))) for n in (1, 2)]
        store.add(pack([others[0], record(42, who=who, mail=mail, sessions=["0-1-ff"]), others[1]]))
        assert ids(store.find(word)) == [42]

    def test_a_part_of_a_word_is_none(self, store):
        store.add(pack([record()]))
        for word in ("example", "ann", "0000000", "192.0.2", "xample.net"):
            assert list(store.find(word)) == []

    def test_one_among_very_many_is_found_soon(self, store):
        many = pack([record(n, who=Who(f"0-1-{n:x}", "192.0.2.1")) for n in range(2000)])
        one = record(424242, mail=Mail("ann@there.test", ("jim@here.test",)))
        store.add(pack([one]))
        for _ in range(10):
            store.add(many * 10)
        for word in ("jim@here.test", "THERE.test", "nobody@here.test", f"{one.id}"):
            began = time.thread_time()
            found = ids(store.find(word))
            assert time.thread_time() - began < 1.0  # it takes 0.04 among 200,000
            assert found == ([] if word.startswith("nobody") else [424242])

    def test_the_latest_come_first(self, store, monkeypatch):
        monkeypatch.setattr("elemta.mail.why.PACK", 1000)
        for batch in range(30):
            store.add(pack([record(batch * 10 + n, NOW + batch * 10 + n) for n in range(10)]))
        assert ids(store.find("192.0.2.1")) == list(range(299, -1, -1))
        assert ids(store.find("192.0.2.1", NOW + 290.5)) == list(range(299, 290, -1))


class TestBounds:
    def test_what_is_old_goes(self, store):
        for number in range(1000):
            store.add(pack([record(number, NOW + number)]))
        store.prune(NOW + 700, 10**9)
        assert ids(store.find("")) == list(range(999, 699, -1))

    def test_the_oldest_go_where_there_are_too_many(self, store, tmp_path):
        limit = 2**20
        notes = {"text": "x" * 5000}
        for number in range(1000):
            store.add(pack([record(number, NOW, notes=notes)]))
            if number % 100 == 99:
                store.prune(0, limit)
        left = ids(store.find(""))
        assert left == list(range(999, 999 - len(left), -1))
        assert 50 < len(left) <= limit // 5000
        assert store_path(tmp_path / "state").stat().st_size < 2 * limit

    def test_the_database_is_for_its_owner_alone(self, store, tmp_path):
        assert store_path(tmp_path / "state").stat().st_mode & 0o777 == 0o600


class TestTrouble:
    def test_what_is_malformed_is_put_aside(self, tmp_path):
        path = store_path(tmp_path)
        path.write_bytes(b"no database at all" * 100)
        store = WhyStore(path)
        store.add(pack([record()]))
        assert ids(store.find("")) == [1]
        store.close()
        assert path.with_name("why.db.corrupt").exists()

    def test_what_cannot_be_written_is_an_error_and_nothing_is_half_written(self, store, tmp_path):
        other = sqlite3.connect(store_path(tmp_path / "state"), isolation_level=None)
        other.execute("DROP TABLE batches")
        with pytest.raises(SpoolError, match=r"why\.db"):
            store.add(pack([record()]))
        other.close()

    def test_what_turns_out_to_be_malformed_is_put_aside_while_records_are_written(
        self, store, tmp_path
    ):
        path = store_path(tmp_path / "state")
        store.add(pack([record()]))
        destroy(path)
        store.add(pack([record(2)]))
        assert (ids(store.find("")), store.replaced) == ([2], 1)
        assert path.with_name("why.db.corrupt").exists()

    def test_or_while_old_ones_go(self, store, tmp_path):
        for number in range(50):
            store.add(pack([record(number)]))
        destroy(store_path(tmp_path / "state"))
        store.prune(NOW + 1, 10**9)
        store.add(pack([record(99)]))
        assert (ids(store.find("")), store.replaced) == ([99], 1)

    def test_of_several_workers_one_puts_it_aside_and_the_others_follow(self, store, tmp_path):
        path = store_path(tmp_path / "state")
        other = WhyStore(path)
        store.add(pack([record(1)]))
        other.add(pack([record(2)]))
        destroy(path)
        store.add(pack([record(3)]))
        other.add(pack([record(4)]))
        assert ids(store.find("")) == ids(other.find("")) == [4, 3]
        assert (store.replaced, other.replaced) == (1, 0)
        other.close()

    def test_a_full_disk_keeps_all_that_was_there_and_takes_more_once_there_is_room(self, store):
        store.add(pack([record()]))
        pragma = store._connection.pragma
        pragma("max_page_count", pragma("page_count"))
        many = pack([record(n, notes={"text": "x" * 2000}) for n in range(10, 60)])
        with pytest.raises(SpoolError, match="full"):
            store.add(many)
        assert ids(store.find("")) == [1]
        pragma("max_page_count", 10_000)
        store.add(many)
        assert len(ids(store.find(""))) == 51

    def test_what_is_gone_is_begun_anew(self, store, tmp_path):
        store.add(pack([record(1)]))
        for tail in ("", "-wal", "-shm"):
            Path(f"{store_path(tmp_path / 'state')}{tail}").unlink()
        store.add(pack([record(2)]))
        assert ids(store.find("")) == [2]
        assert store.replaced == 0

    def test_where_it_cannot_be_begun_anew_the_next_call_tries_again(self, store, tmp_path):
        store.add(pack([record(1)]))
        state, away = tmp_path / "state", tmp_path / "away"
        state.rename(away)
        for _ in range(2):
            with pytest.raises(SpoolError):
                store.add(pack([record(2)]))
        away.rename(state)
        store.add(pack([record(3)]))
        assert ids(store.find("")) == [3, 1]

    def test_of_a_folder_that_is_not_there(self, tmp_path):
        with pytest.raises(SpoolError):
            WhyStore(tmp_path / "gone" / "why.db")


def _write(path, worker):
    store = WhyStore(path)
    for batch in range(40):
        records = pack([record(worker * 10_000 + batch * 50 + n) for n in range(50)])
        while not _takes(store, records):
            pass  # another worker was too slow with its own: they are given again
    store.close()


def _takes(store, records) -> bool:
    try:
        store.add(records)
    except SpoolError:
        return False
    with contextlib.suppress(SpoolError):
        store.prune(0, 10**9)
    return True


def test_several_workers_write_at_once(tmp_path):
    path = store_path(tmp_path)
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_write, args=(path, number)) for number in range(4)]
    for each in workers:
        each.start()
    for each in workers:
        each.join(60)
        assert each.exitcode == 0
    store = WhyStore(path)
    assert sorted(ids(store.find(""))) == sorted(
        w * 10_000 + n for w in range(4) for n in range(2000)
    )
    store.close()


class TestWords:
    @pytest.mark.parametrize("rule", RULES)
    def test_every_rule_makes_a_sentence(self, rule):
        text = summarise(record(ruling=Ruling("reject", "rcpt", "550 No", rule=rule)))
        assert text == f"The recipient was refused for good at RCPT because {RULES[rule]}."

    @pytest.mark.parametrize(
        ("ruling", "text"),
        [
            (Ruling("accept", "message"), "accepted because nothing was against it."),
            (
                Ruling("defer", "message", "451 x", "clamav", "", "no answer within 5 s"),
                "refused for now at the end of the message because the plugin clamav decided so"
                " (no answer within 5 s).",
            ),
            (
                Ruling("quarantine", "message", "", "rules", "", "spam.toml:12"),
                "put into quarantine at the end of the message because the plugin rules decided"
                " so (spam.toml:12).",
            ),
            (Ruling("hold", "queue", note="ann: why?"), "held in the queue because ann: why?."),
        ],
    )
    def test_what_was_decided_and_by_whom(self, ruling, text):
        why = record(ruling=ruling, mail=Mail("a@a.test", (), "1M7ZHE7DV0000"))
        assert summarise(why) == f"The message was {text}"

    @pytest.mark.parametrize(
        "text",
        [
            "\x1b[2J\x1b]0;title\x07" * 20,
            "first\r\n2026-03-02T10:00:00.000Z  The message was accepted",
            "\u202eevil\u2066\u2028next\x85\x9b31m",
            "x" * 10_000,
            "\x00\x7f\\ud83d",
            "\U0001f600" * 3000,
        ],
    )
    def test_hostile_texts_stay_in_their_line_and_within_bounds(self, store, text):
        hostile = Why(
            "0000002a",
            NOW,
            Who(text, text, text, text, text, text, text),
            Mail(text, (text, text), text, text, 7),
            Ruling(text, text, text, text, text, text),
            (Heard(text, text, text, text),),
            text,
            {text: text},
            sessions=[text],
            count=2,
        )
        store.add(pack([hostile]))
        [why] = store.find("0000002a")
        lines = list(explain(why))
        facts = len(list(explain(record(heard=(Heard("a", "b", "c"),)))))
        assert len(lines) <= facts + 9
        assert all(line.isprintable() and len(line) <= 2000 for line in lines)
        assert summarise(why) == lines[0]

    def test_foreign_text_cannot_harm_a_terminal(self):
        who = Who("1", "192.0.2.1", helo="\x1b[31mred\r\n")
        note = Heard("one", "on_data", "reject", "\x1b]0;x\x07")
        lines = list(explain(record(who=who, heard=(note,), notes={"\x9b": "\n"})))
        assert all(line.isprintable() for line in lines)
