"""`elemta queue` on queues at rest, and on those that workers hold."""

import base64
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from cli.spools import Letter, fill, worker
from click.testing import CliRunner, Result

from elemta.cli import orders
from elemta.cli.main import cli
from elemta.mail.message import State

ACTIVE, DEFERRED, HOLD, FAILED = State.ACTIVE, State.DEFERRED, State.HOLD, State.FAILED


class Node:
    """A state folder, and the commands on it."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "elemta.toml"
        self.state = folder / "var"
        self.config.write_text('[server]\nhostname = "mx.example.test"\nstate_dir = "var"\n')

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(cli, ["queue", *arguments, "-c", str(self.config)])

    def json(self, *arguments: str, status: int = 0):
        result = self.run(*arguments, "--json")
        assert result.exit_code == status, result.output
        return json.loads(result.stdout)

    def states(self, *arguments: str) -> list[tuple[str, str]]:
        return [
            (recipient["address"], recipient["state"])
            for message in self.json("list", *arguments)
            for recipient in message["recipients"]
        ]


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)


@pytest.fixture
def filled(node):
    """Four messages in two shards."""
    node.ids = [
        *fill(
            node.state,
            Letter(
                [("a@one.test", DEFERRED), ("b@two.test", HOLD)], age=7200, reply="451 4.4.1 no"
            ),
        ),
        *fill(node.state, Letter([("c@one.test", ACTIVE)], sender="", age=60), shard=1),
        *fill(
            node.state,
            Letter(
                [("d@one.test", FAILED)], "x@else.test", 5, attempts=3, reply="550 5.1.1 \x1b[1m"
            ),
            Letter([("e@three.test", HOLD)], content=b"Subject: big\r\n\r\n" + b"x" * 30_000),
        ),
    ]
    return node


class TestList:
    def test_an_empty_queue(self, node):
        assert node.json("list") == []
        result = node.run("list")
        assert (result.exit_code, result.output) == (0, "")
        assert not node.state.exists()

    def test_everything_in_order_of_age(self, filled):
        listed = filled.json("list")
        assert [message["queue_id"] for message in listed] == filled.ids
        first = listed[0]
        assert first["sender"] == "sender@example.test"
        assert first["message_id"] == "<x@example.test>"
        assert first["received_at"].endswith("Z")
        assert [(each["address"], each["state"]) for each in first["recipients"]] == [
            ("a@one.test", "deferred"),
            ("b@two.test", "hold"),
        ]
        assert first["recipients"][0]["reply"] == "451 4.4.1 no"
        assert first["recipients"][0]["next_attempt_at"] is not None
        assert first["recipients"][1]["next_attempt_at"] is None
        assert listed[1]["sender"] == ""

    def test_as_a_table(self, filled):
        result = filled.run("list")
        lines = result.output.rstrip("\n").split("\n")
        assert lines[0].split() == [
            *("ID", "STATE", "AGE", "SIZE", "SENDER", "RECIPIENT", "TRIES", "NEXT", "REPLY")
        ]
        assert len(lines) == 6
        assert lines[1].split()[:3] == [filled.ids[0], "deferred", "2h"]
        assert " in 9m " in lines[1]
        assert " <> " in lines[3]
        assert "30.0KB" in lines[5]
        assert "\x1b" not in result.output

    @pytest.mark.parametrize(
        ("arguments", "found"),
        [
            (["--state", "hold"], "be"),
            (["--state", "hold", "--state", "failed"], "bde"),
            (["--sender", "sender@*"], "abe"),
            (["--sender", "<>"], "c"),
            (["--sender", "X@ELSE.test"], "d"),
            (["--recipient", "*@one.test"], "acd"),
            (["--domain", "ONE.test."], "acd"),
            (["--older-than", "50s"], "abc"),
            (["--older-than", "1h"], "ab"),
            (["--younger-than", "1h"], "cde"),
            (["--younger-than", "1h", "--state", "active"], "c"),
            (["--limit", "2"], "abc"),
            (["--domain", "no.test"], ""),
        ],
    )
    def test_conditions(self, filled, arguments, found):
        assert "".join(address[0] for address, _ in filled.states(*arguments)) == found

    def test_by_id(self, filled):
        ids = filled.ids
        assert filled.states("--id", ids[3].lower(), "--id", ids[1]) == [
            ("c@one.test", "active"),
            ("e@three.test", "hold"),
        ]

    @pytest.mark.parametrize(
        "arguments",
        [
            ["--state", "lost"],
            ["--older-than", "soon"],
            ["--domain", "-"],
            ["--id", "../../etc/passwd"],
            ["--id", "0123456789AB\x1b"],
            ["--sender", "x" * 600],
            ["--limit", "0"],
        ],
    )
    def test_wrong_usage(self, node, arguments):
        result = node.run("list", *arguments)
        assert result.exit_code == 2
        assert "\x1b" not in result.output

    def test_a_queue_that_cannot_be_read(self, filled):
        (filled.state / "queue" / "shard-0" / "queue.db").write_bytes(b"nonsense" * 1000)
        result = filled.run("list")
        assert result.exit_code == 75
        assert "queue.db" in result.output

    def test_more_than_a_page(self, node):
        fill(node.state, *(Letter([("a@one.test", HOLD)], content=b"\r\n") for _ in range(30)))
        fill(node.state, Letter([(f"r{n}@one.test", HOLD) for n in range(1500)]), shard=3)
        fill(node.state, Letter([("z@one.test", HOLD)]), shard=1)
        states = node.states()
        assert len(states) == 1531
        assert states[0] == ("a@one.test", "hold")
        assert states[-1] == ("z@one.test", "hold")
        assert len(node.run("list").output.rstrip("\n").split("\n")) == 1532


class TestShow:
    def test_facts(self, filled):
        result = filled.run("show", filled.ids[0])
        assert result.exit_code == 0
        for text in ("sender@example.test", "192.0.2.1", "a@one.test", "451 4.4.1 no", "hold"):
            assert text in result.output
        assert filled.json("show", filled.ids[2])["recipients"][0]["attempts"] == 3

    def test_header(self, filled):
        result = filled.run("show", filled.ids[0], "--header")
        assert "Subject: test\nX-Odd:  [31m\n" in result.output
        assert "body" not in result.output
        assert "\x1b" not in result.output
        assert filled.json("show", filled.ids[3], "--header")["header"] == ("Subject: big\r\n\r\n")

    def test_content(self, filled):
        result = filled.run("show", filled.ids[0], "--content")
        assert result.stdout_bytes == Letter([]).content
        whole = filled.json("show", filled.ids[3], "--content")["content_base64"]
        assert len(base64.b64decode(whole)) == 30_016

    def test_what_is_not_there(self, filled):
        result = filled.run("show", "0000000000001")
        assert result.exit_code == 1
        assert "0000000000001 is not in the queue" in result.output
        assert filled.json("show", "0000000000001", status=1) == {
            "error": "0000000000001 is not in the queue"
        }

    def test_content_that_is_gone(self, filled):
        (file,) = (filled.state / "queue" / "shard-0" / "spool").iterdir()
        file.unlink()
        assert filled.run("show", filled.ids[3], "--content").exit_code == 1
        assert filled.run("show", filled.ids[3]).exit_code == 0


class TestStats:
    def test_figures(self, filled):
        stats = filled.json("stats")
        assert stats["messages"] == 4
        assert stats["recipients"] == {"active": 1, "deferred": 1, "failed": 1, "hold": 2}
        assert stats["size"] > 30_000
        assert stats["oldest_at"].endswith("Z")
        output = filled.run("stats").output
        assert "messages    4\n" in output
        assert "oldest      2h ago\n" in output
        assert "hold        2\n" in output

    def test_nothing(self, node):
        assert node.json("stats") == {
            "messages": 0,
            "size": 0,
            "oldest_at": None,
            "recipients": {},
        }
        assert node.run("stats").output == "messages    0\nsize        0B\n"

    def test_by_domain_and_age(self, filled):
        tally = filled.json("stats", "--by", "domain")
        assert (tally["messages"], tally["recipients"]) == (4, 5)
        assert [(group["domain"], group["recipients"]) for group in tally["groups"]] == [
            ("one.test", 3),
            ("three.test", 1),
            ("two.test", 1),
        ]
        assert tally["groups"][0]["ages"]["<5m"] == 2
        assert tally["groups"][0]["ages"]["80-160m"] == 1
        lines = filled.run("stats", "--by", "domain", "--top", "1").output.split("\n")
        assert lines[0].split()[:3] == ["DOMAIN", "TOTAL", "<5m"]
        assert lines[1].split()[:3] == ["one.test", "3", "2"]
        assert lines[2].split()[:3] == ["all", "5", "3"]

    def test_by_other_things(self, filled):
        groups = {
            by: {
                group[by]: group["recipients"]
                for group in filled.json("stats", "--by", by)["groups"]
            }
            for by in ("reply", "sender", "state")
        }
        assert groups["reply"] == {"451 4.4.1": 2, "550 5.1.1": 1, "none yet": 2}
        assert groups["sender"] == {"sender@example.test": 3, "<>": 1, "x@else.test": 1}
        assert groups["state"]["hold"] == 2

    def test_of_a_selection(self, filled):
        tally = filled.json("stats", "--domain", "one.test")
        assert {group["state"]: group["recipients"] for group in tally["groups"]} == {
            "active": 1,
            "deferred": 1,
            "failed": 1,
        }
        assert filled.run("stats", "--domain", "no.test").output == ""


class TestOrders:
    def test_hold_and_release(self, filled):
        assert filled.json("hold", "--domain", "one.test", "--reason", "trouble") == {
            "order": "hold",
            "matched": {"messages": 2, "recipients": 2},
            "changed": 2,
            "errors": [],
            "unanswered": [],
        }
        assert filled.states("--domain", "one.test") == [
            ("a@one.test", "hold"),
            ("c@one.test", "hold"),
            ("d@one.test", "failed"),
        ]
        result = filled.run("release", filled.ids[1])
        assert (result.exit_code, result.output) == (0, "1 recipient released\n")
        assert filled.states("--id", filled.ids[1]) == [("c@one.test", "active")]

    def test_retry(self, filled):
        result = filled.run("retry", "--all")
        assert (result.exit_code, result.output) == (0, "2 recipients tried now\n")
        assert filled.states("--state", "active") == [
            ("a@one.test", "active"),
            ("c@one.test", "active"),
            ("d@one.test", "active"),
        ]

    def test_delete(self, filled):
        result = filled.run("delete", "--state", "hold")
        assert result.exit_code == 2
        assert "this would delete 2 recipients of 2 messages: confirm with --yes" in result.output
        assert len(filled.states()) == 5
        result = filled.run("delete", "--state", "hold", "--yes")
        assert (result.exit_code, result.output) == (0, "2 recipients deleted\n")
        result = filled.run("delete", filled.ids[0], filled.ids[1])
        assert (result.exit_code, result.output) == (0, "2 recipients deleted\n")
        assert filled.states() == [("d@one.test", "failed")]
        assert not list((filled.state / "queue" / "shard-0" / "spool").iterdir())

    def test_a_limit(self, filled):
        assert filled.json("delete", "--all", "--limit", "1", "--yes")["changed"] == 2
        assert len(filled.states()) == 3

    def test_a_dry_run(self, filled):
        result = filled.run("delete", "--all", "--dry-run")
        assert result.exit_code == 0
        assert result.output == "5 recipients of 4 messages would be deleted\n"
        assert filled.json("hold", "--all", "--dry-run")["matched"] == {
            "messages": 2,
            "recipients": 2,
        }
        assert len(filled.states()) == 5

    @pytest.mark.parametrize("verb", ["retry", "hold", "release", "delete"])
    def test_nothing_is_meant_by_nothing(self, filled, verb):
        for arguments in ((), ("--limit", "3"), ("--yes",) if verb == "delete" else ()):
            result = filled.run(verb, *arguments)
            assert result.exit_code == 2
            assert "give ids, conditions, or --all" in result.output

    def test_nothing_matches(self, filled, tmp_path):
        result = filled.run("delete", "--domain", "no.test", "--yes")
        assert (result.exit_code, result.output) == (0, "0 recipients of 0 messages deleted\n")
        assert filled.run("delete", "0000000000001").exit_code == 1
        assert filled.run("release", filled.ids[1]).exit_code == 1  # it is not held

    def test_a_deletion_is_confirmed_on_a_terminal(self, filled):
        command = [sys.executable, "-m", "elemta", "queue", "delete", "--state", "hold"]
        for answer, status, left in ((b"n\n", 1, 5), (b"y\n", 0, 3)):
            ours, theirs = pty.openpty()
            process = subprocess.Popen(
                [*command, "-c", str(filled.config)],
                stdin=theirs,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            os.write(ours, answer)
            _output, told = process.communicate(timeout=30)
            os.close(ours)
            os.close(theirs)
            assert b"Delete 2 recipients of 2 messages?" in told
            assert process.returncode == status
            assert len(filled.states()) == left

    def test_a_queue_that_is_broken(self, filled):
        database = filled.state / "queue" / "shard-1" / "queue.db"
        database.write_bytes(b"")
        assert filled.run("hold", "--all").exit_code == 75
        assert filled.run("list").exit_code == 75

    def test_a_folder_that_cannot_be_looked_into(self, node):
        node.state.mkdir()
        (node.state / "queue").write_text("")
        for arguments in (("list",), ("stats",), ("hold", "--all"), ("show", "0000000000001")):
            result = node.run(*arguments)
            assert result.exit_code == 75
            assert "Not a directory" in result.output


class TestOrdersToWorkers:
    def test_are_carried_out_by_them(self, filled):
        with worker(filled.state, 0), worker(filled.state, 1):
            assert filled.json("hold", "--domain", "one.test")["changed"] == 2
            result = filled.run("delete", "--state", "hold", "--yes")
            assert (result.exit_code, result.output) == (0, "4 recipients deleted\n")
            assert filled.states() == [("d@one.test", "failed")]

    def test_and_here_where_no_worker_is(self, filled):
        with worker(filled.state, 1):
            assert filled.json("hold", "--domain", "one.test")["changed"] == 2
        assert len(filled.states("--state", "hold")) == 4

    def test_one_that_is_gone_is_not_waited_for(self, filled):
        with worker(filled.state, 0):
            pass
        with worker(filled.state, 1):
            found = filled.json("hold", "--domain", "one.test")
            assert (found["changed"], found["unanswered"]) == (2, [])

    def test_one_that_cannot(self, filled):
        with worker(filled.state, 0, error="disk full"), worker(filled.state, 1):
            found = filled.json("hold", "--domain", "one.test", status=1)
        assert (found["changed"], found["errors"]) == (1, ["worker 0: disk full"])

    def test_one_that_does_not_answer(self, filled, monkeypatch):
        monkeypatch.setattr(orders.carry_out, "__defaults__", (2.0,))
        with worker(filled.state, 0, is_deaf=True), worker(filled.state, 1):
            result = filled.run("hold", "--domain", "one.test")
            assert result.exit_code == 75
            assert "1 recipient held" in result.output
            assert "worker 0 did not answer" in result.output
