"""`elemta quarantine` on a queue at rest, and on one that a worker holds."""

import json

import pytest
from cli.spools import Letter, fill, worker
from click.testing import CliRunner

from elemta.cli.main import cli
from elemta.mail.message import State

WHY = "kept in quarantine by scanner (found \x1b[1mEvil.Test)"
CONTENT = b"Subject: win\r\n\r\nclick http://bad.test/ \x1b[2J now\r\n"


class Desk:
    """A state folder with mail, and the commands on it."""

    def __init__(self, folder):
        self.config = folder / "elemta.toml"
        self.config.write_text('[server]\nhostname = "mx.example.test"\nstate_dir = "var"\n')
        self.state = folder / "var"
        kept, waits = State.QUARANTINE, State.DEFERRED
        self.ids = fill(
            self.state,
            Letter([("a@one.test", kept), ("b@one.test", kept)], reply=WHY, content=CONTENT),
            Letter([("c@one.test", waits)], reply="451 4.4.1 no"),
            Letter([("d@two.test", kept)], sender="", age=90_000, reply="odd"),
        )

    def run(self, *arguments, area="quarantine"):
        return CliRunner().invoke(cli, [area, *arguments, "-c", str(self.config)])

    def json(self, *arguments, status=0, area="quarantine"):
        result = self.run(*arguments, "--json", area=area)
        assert result.exit_code == status, result.output
        return json.loads(result.stdout)

    def queue(self, number):
        return self.json("show", self.ids[number], area="queue")


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def test_list_names_plugin_and_reason(desk):
    listed = {each["queue_id"]: each for each in desk.json("list")}
    assert set(listed) == {desk.ids[0], desk.ids[2]}
    first = listed[desk.ids[0]]
    assert (first["plugin"], first["reason"]) == ("scanner", "found \x1b[1mEvil.Test")
    assert (listed[desk.ids[2]]["plugin"], listed[desk.ids[2]]["reason"]) == ("", "odd")

    text = desk.run("list").output
    assert "a@one.test and 1 more" in text
    assert "\x1b" not in text
    assert "c@one.test" not in text
    assert [each["queue_id"] for each in desk.json("list", "--older-than", "1d")] == [desk.ids[2]]


def test_show_tells_why_and_previews(desk):
    text = desk.run("show", desk.ids[0]).output
    assert "recipient:  a@one.test: scanner: found  [1mEvil.Test" in text
    assert "  Subject: win" in text
    assert "  click http[:]//bad.test/  [2J now" in text
    assert "\x1b" not in text
    assert "click" not in desk.run("show", desk.ids[0], "--preview", "0").output
    assert desk.json("show", desk.ids[0])["preview"]["text"].startswith("click http[:]")


@pytest.mark.parametrize("order", [("show",), ("release",), ("delete",)])
def test_what_is_not_in_quarantine_is_left_alone(desk, order):
    assert desk.run(*order, desk.ids[1]).exit_code == 1
    assert [each["state"] for each in desk.queue(1)["recipients"]] == ["deferred"]


def test_release_lets_go_once_and_remembers_the_plugin(desk):
    assert desk.json("release", desk.ids[0])["changed"] == 2
    shown = desk.queue(0)["recipients"]
    assert [(each["state"], each["reply"]) for each in shown] == [("active", "")] * 2
    assert desk.json("release", desk.ids[0], status=1)["changed"] == 0
    with worker(desk.state):
        assert desk.json("release", "--all")["changed"] == 1


def test_delete_is_about_quarantine_alone(desk):
    assert desk.run("delete").exit_code == 2
    assert desk.run("delete", "--sender", "*").exit_code == 2  # nobody is there to confirm
    assert desk.json("delete", "--all", "--yes")["changed"] == 3
    assert [each["queue_id"] for each in desk.json("list", area="queue")] == [desk.ids[1]]
