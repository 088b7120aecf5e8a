"""`elemta bans`, where no server runs."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from elemta.cli.main import cli
from elemta.server.limits import Ledger
from elemta.server.limits.bans import Ban, Failure, Kind

NOW = 1_700_000_000.0


class Site:
    """A configuration and its database of bans."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "var"
        self.config = folder / "elemta.toml"
        self.config.write_text(f'[server]\nstate_dir = "{self.state}"\n')

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(cli, ["bans", *arguments, "-c", str(self.config)])

    def json(self, *arguments: str) -> object:
        done = self.run(*arguments, "--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)


@pytest.fixture
def site(tmp_path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def banned(site) -> Site:
    """A site where failed logins have led to a ban, and an older one is over."""
    failure = Failure(NOW, "PLAIN", "192.0.2.1", "an\x1bn", "0-1-2", "192.0.2.0/24")
    values = {"reason": "3 failed logins", "times": 2, "banned_at": NOW}
    old = Ban("0000000a", Kind.LOGIN, "bob", expires_at=NOW + 60, **values)
    new = Ban("0000000b", Kind.ADDRESS, "192.0.2.1", expires_at=NOW + 10**9, **values)
    ledger = Ledger(site.state)
    ledger.record([failure], [old, new], [], NOW)
    ledger.close()
    return site


def test_without_a_database_there_are_none_and_none_is_made(site):
    assert site.json("list") == []
    assert site.run("list").output == ""
    done = site.run("show", "192.0.2.1")
    assert (done.exit_code, done.stderr) == (1, "elemta: no ban of 192.0.2.1\n")
    assert site.run("lift", "192.0.2.1").exit_code == 1
    assert not site.state.exists()


def test_those_in_force_and_all_of_them(banned):
    assert [each["id"] for each in banned.json("list")] == ["0000000b"]
    assert {each["id"] for each in banned.json("list", "--all")} == {"0000000a", "0000000b"}
    text = banned.run("list", "--all").output
    assert "192.0.2.1" in text
    assert "over" in text


@pytest.mark.parametrize("name", ["0000000b", "192.0.2.1", " ::ffff:192.0.2.1 "])
def test_one_with_what_caused_it(banned, name):
    [ban] = banned.json("show", name)
    assert (ban["who"], ban["times"], ban["is_active"]) == ("192.0.2.1", 2, True)
    [event] = ban["evidence"]
    assert event == {
        "at": "2023-11-14T22:13:20.000Z",
        "mechanism": "PLAIN",
        "address": "192.0.2.1",
        "login": "an\x1bn",
        "session_id": "0-1-2",
    }
    text = banned.run("show", name).output
    assert "0-1-2" in text
    assert "\x1b" not in text  # what a stranger has sent does not reach the terminal


def test_lifting(banned):
    assert banned.json("lift", "192.0.2.1") == {"lifted": ["0000000b"]}
    assert banned.json("list") == []
    [ban] = banned.json("show", "0000000b")
    assert ban["lifted_at"]
    assert ban["lifted_by"]
    assert banned.run("lift", "0000000b").exit_code == 1  # it is over already
    assert banned.run("lift", "nobody").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "kind", "who"),
    [
        (["192.0.2.7"], "address", "192.0.2.7"),
        (["192.0.2.7/25"], "network", "192.0.2.0/25"),
        (["2001:DB8::/32"], "network", "2001:db8::/32"),
        (["--login", "Ann@Example.Test"], "login", "ann@example.test"),
    ],
)
def test_giving_one(site, arguments, kind, who):
    made = site.json("add", *arguments, "--reason", "a nuisance")
    assert (made["kind"], made["who"], made["reason"]) == (kind, who, "a nuisance")
    assert made["expires_at"] is None
    assert site.json("list") == [made]
    assert "until lifted" in site.run("list").output
    assert site.json("show", who) == [made]


def test_giving_one_for_a_while(site):
    made = site.json("add", "192.0.2.7", "--for", "2h")
    assert made["expires_at"] > made["banned_at"]
    assert made["reason"].startswith("ordered by ")
    assert "7199s" not in site.run("list").output


@pytest.mark.parametrize(
    "arguments", [["x"], ["0.0.0.0/0"], [""], ["192.0.2.1", "--for", "soon"], []]
)
def test_what_cannot_be_banned(site, arguments):
    done = site.run("add", *arguments)
    assert done.exit_code == 2
    assert not site.state.exists()


def test_a_database_that_cannot_be_read_is_told(site):
    site.state.mkdir()
    (site.state / "bans.db").mkdir()
    done = site.run("list")
    assert done.exit_code == 75
    assert "bans.db" in done.stderr
