"""`elemta submission` where no server runs."""

import json

import pytest
from click.testing import CliRunner

from elemta.cli.main import cli
from elemta.server.submission import Locks


@pytest.fixture
def site(tmp_path):
    config = tmp_path / "elemta.toml"
    config.write_text(f'[server]\nstate_dir = "{tmp_path}/var"\n')

    def run(*arguments: str):
        return CliRunner().invoke(cli, ["submission", *arguments, "-c", str(config)])

    run.locks = Locks(tmp_path / "var")
    return run


def test_nobody_is_locked(site):
    assert site("list").output == ""
    assert json.loads(site("list", "--json").output) == []
    done = site("release", "ann")
    assert (done.exit_code, done.output) == (1, "elemta: ann is not locked\n")
    done = site("release", "ann", "--json")
    assert json.loads(done.stdout) == {"error": "ann is not locked"}


def test_a_lock_and_its_end(site):
    site.locks.lock("ann\x1b[2J", "7 messages", "s1", 1000.0)
    site.locks.lock("bob", "8 messages", "s2", 2000.0)
    shown = json.loads(site("list", "--json").output)
    assert [each["login"] for each in shown] == ["bob", "ann\x1b[2J"]
    assert "\x1b" not in site("list").output
    done = site("release", "BOB", "--json")
    assert json.loads(done.output) == {"login": "bob", "released": 0, "errors": []}
    assert [lock.login for lock in site.locks.all() if lock.is_closed] == ["ann\x1b[2J"]
    assert "bob" not in site("list").output
    bob, _ann = json.loads(site("list", "--all", "--json").output)
    assert (bob["is_locked"], bob["times"], bob["released_by"] != "") == (False, 1, True)


def test_a_lock_that_cannot_be_read_is_left_out(site, tmp_path):
    site.locks.lock("ann", "7 messages", "s1", 1000.0)
    [file] = (tmp_path / "var" / "locks").glob("*.json")
    file.write_bytes(b"nonsense")
    assert json.loads(site("list", "--json").output) == []
    assert site("release", "ann").exit_code == 75
