"""The database of accounts: who may read it, and what happens when it is not ours."""

import stat

import apsw
import pytest

from elemta.accounts import Account, Record, SourceDown
from elemta.accounts.registers import SqliteRegister

ME = Record(Account("me"))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "accounts.db"


@pytest.fixture
def register(path):
    register = SqliteRegister(path)
    yield register
    register.close()


def test_all_its_files_are_for_the_owner_alone(register, path):
    register.edit("me", lambda _: ME)
    assert register.find("me") == ME
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o602])
def test_what_others_can_read_or_write_is_refused(register, path, mode):
    register.edit("me", lambda _: ME)
    register.close()
    path.chmod(mode)
    with pytest.raises(SourceDown, match="others can read or write it"):
        register.find("me")
    path.chmod(0o600)
    assert register.find("me") == ME


def test_of_another_release(register, path):
    register.edit("me", lambda _: ME)
    register.close()
    connection = apsw.Connection(str(path))
    connection.pragma("user_version", 99)
    connection.close()
    with pytest.raises(SourceDown, match="another release"):
        register.find("me")


def test_what_is_no_database(register, path):
    path.parent.mkdir()
    path.write_bytes(b"no database at all" * 1000)
    path.chmod(0o600)
    for _ in range(2):
        with pytest.raises(SourceDown, match="not a database"):
            register.find("me")


def test_what_another_process_changes_shows_at_once(register, path):
    register.edit("me", lambda _: ME)
    assert register.find("me") == ME
    other = SqliteRegister(path)
    other.edit("me", lambda _: None)
    other.close()
    assert register.find("me") is None


def test_readers_are_not_held_up_by_a_writer(register, path):
    register.edit("me", lambda _: ME)

    def look_meanwhile(record):
        assert register.find("me") == ME
        assert record == ME

    register.edit("me", look_meanwhile)
    assert register.find("me") is None


def test_a_writer_that_stays_is_not_waited_for_forever(register, path, monkeypatch):
    monkeypatch.setattr("elemta.accounts.registers.sqlite._BUSY_TIMEOUT", 20)
    other = SqliteRegister(path)
    other.edit("me", lambda _: ME)

    def meanwhile(record):
        with pytest.raises(SourceDown, match="locked"):
            register.edit("me", lambda _: None)
        return record

    other.edit("me", meanwhile)
    other.close()
    assert register.find("me") == ME


@pytest.mark.parametrize("column", ["senders", "groups", "act_as"])
def test_a_row_that_makes_no_sense_is_not_guessed_at(register, path, column):
    register.edit("me", lambda _: ME)
    connection = apsw.Connection(str(path))
    connection.execute(f"UPDATE accounts SET {column} = 'nonsense'")
    connection.close()
    with pytest.raises(SourceDown):
        register.find("me")
