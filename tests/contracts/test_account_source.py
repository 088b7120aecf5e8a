"""What every source of accounts does: a file, a database, one in memory, a directory."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from elemta.accounts import (
    Account,
    AccountError,
    AccountSource,
    AppPassword,
    Authenticator,
    AuthSettings,
    Claim,
    Peer,
    Record,
    Result,
    SourceDown,
)
from elemta.accounts.hashes import Argon2Settings
from elemta.accounts.passwords import Keeping, with_password
from elemta.accounts.registers import PasswdRegister, SqliteRegister
from elemta.accounts.source import Register, RegisterSource
from elemta.testing import FakeClock
from elemta.testing.accounts import FakeDirectory, MemoryRegister

ARGON2 = Argon2Settings(memory=64, passes=1)
KEEPING = Keeping(ARGON2, scram_iterations=4096)
ALICE = Account(
    "alice@example.test",
    senders=("alice@example.test", "*.example.test"),
    groups=("staff", "it"),
    act_as=("shared@example.test",),
)
APPS = (
    AppPassword("phone", "ab" * 32, "submit", (), 1000.0, None, None),
    AppPassword(
        "scanner",
        "cd" * 32,
        "submit",
        (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32")),
        2000.0,
        3000.0,
        None,
    ),
)


@dataclass
class Place:
    """A source, and how its accounts are changed and how it is broken from outside."""

    source: AccountSource
    put: Callable[[Record, str], object]
    remove: Callable[[str], object]
    break_it: Callable[[], object]
    mend_it: Callable[[], object]
    register: Register | None = None


def place_of(register: Register, break_it, mend_it) -> Place:
    return Place(
        RegisterSource(register),
        lambda record, password: register.edit(
            record.account.name,
            lambda _: with_password(record, password, KEEPING) if password else record,
        ),
        lambda login: register.edit(login, lambda _: None),
        break_it,
        mend_it,
        register,
    )


def make(kind: str, folder: Path) -> Place:
    if kind == "directory":
        far = FakeDirectory()

        def set_trouble(text: str) -> None:
            far.trouble = text

        return Place(far, far.put, far.remove, lambda: set_trouble("gone"), lambda: set_trouble(""))
    if kind == "memory":
        memory = MemoryRegister()

        def trouble(text: str) -> None:
            memory.trouble = text

        return place_of(memory, lambda: trouble("gone"), lambda: trouble(""))
    path = folder / "accounts"
    if kind == "file":
        path.touch(mode=0o600)
        return place_of(PasswdRegister(path), lambda: path.chmod(0o644), lambda: path.chmod(0o600))
    register = SqliteRegister(path)
    aside = folder / "aside"

    def break_database() -> None:
        register.close()
        path.rename(aside)
        path.mkdir()

    def mend_database() -> None:
        path.rmdir()
        aside.rename(path)

    return place_of(register, break_database, mend_database)


REGISTERS = ("file", "sqlite", "memory")


@pytest.fixture(params=[*REGISTERS, "directory"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    place = make(request.param, tmp_path)
    yield place
    await place.source.close()


@pytest.fixture(params=REGISTERS)
async def kept(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    place = make(request.param, tmp_path)
    yield place
    await place.source.close()


async def test_who_is_there_is_found_and_nobody_else(place: Place) -> None:
    place.put(Record(ALICE), "secret")
    found = await place.source.look_up("alice@example.test")
    assert found is not None
    assert found.account == ALICE
    for other in ("alice", "alice@example.tes", "ALICE@example.test", "*", "%", "' OR 1=1 --", ""):
        assert await place.source.look_up(other) is None


async def test_names_that_mean_something_to_a_back_end_are_names(place: Place) -> None:
    names = ["o'hara", "a*b", "a)(uid=*", "x;drop", "percent%40", "back\\slash", 'quo"te', "é-ß-名"]
    for name in names:
        place.put(Record(Account(name, senders=(f"{len(name)}@example.test",))), "secret")
    for name in names:
        found = await place.source.look_up(name)
        assert found is not None
        assert found.account.name == name
        assert found.account.senders == (f"{len(name)}@example.test",)


async def test_what_is_changed_shows_at_once(place: Place) -> None:
    place.put(Record(ALICE), "secret")
    assert await place.source.look_up(ALICE.name) is not None
    place.put(Record(replace(ALICE, is_locked=True)), "secret")
    found = await place.source.look_up(ALICE.name)
    assert found is not None
    assert found.account.is_locked
    place.remove(ALICE.name)
    assert await place.source.look_up(ALICE.name) is None


async def test_it_says_when_it_is_down_and_comes_back(place: Place) -> None:
    place.put(Record(ALICE), "secret")
    place.break_it()
    for name in (ALICE.name, "nobody"):
        with pytest.raises(SourceDown):
            await place.source.look_up(name)
    place.mend_it()
    assert await place.source.look_up(ALICE.name) is not None


async def test_once_closed_it_is_down(place: Place) -> None:
    await place.source.close()
    await place.source.close()
    with pytest.raises(SourceDown):
        await place.source.look_up(ALICE.name)


async def test_passwords_are_told_apart(place: Place) -> None:
    place.put(Record(ALICE), "secret")
    place.put(Record(Account("empty")), "")
    settings = AuthSettings("mx.example.test", b"k", argon2=ARGON2, scram_iterations=4096)
    authenticator = Authenticator(settings, [place.source], FakeClock(), lambda _: None)

    async def say(login: str, password: str) -> Result:
        claim = Claim("PLAIN", login, password=password)
        return (await authenticator.judge(claim, Peer("192.0.2.1"))).result

    assert await say("alice@example.test", "secret") is Result.OK
    assert await say("Alice@Example.test", "secret") is Result.OK
    assert await say("alice@example.test", "Secret") is Result.WRONG
    assert await say("alice@example.test", "secret ") is Result.WRONG
    assert await say("nobody@example.test", "secret") is Result.WRONG
    assert await say("empty", "-") is Result.WRONG
    place.break_it()
    assert await say("alice@example.test", "secret") is Result.DOWN
    assert await say("alice@example.test", "wrong") is Result.DOWN
    assert await say("nobody@example.test", "secret") is Result.DOWN
    place.mend_it()
    assert await say("alice@example.test", "secret") is Result.OK
    await authenticator.close()


async def test_all_of_a_record_is_kept(kept: Place) -> None:
    assert kept.register is not None
    record = replace(
        with_password(Record(ALICE, app_passwords=APPS), "secret", KEEPING), secret="a %,;=: b"
    )
    kept.register.edit(ALICE.name, lambda _: record)
    assert await kept.source.look_up(ALICE.name) == record
    assert list(kept.register.list_all()) == [record]


async def test_edits_see_what_is_there(kept: Place) -> None:
    register = kept.register
    assert register is not None
    seen: list[Record | None] = []

    def look(record: Record | None) -> Record | None:
        seen.append(record)
        return Record(ALICE) if record is None else None

    for _ in range(3):
        register.edit(ALICE.name, look)
    assert seen == [None, Record(ALICE), None]
    assert [each.account for each in register.list_all()] == [ALICE]


async def test_an_edit_that_fails_changes_nothing(kept: Place) -> None:
    register = kept.register
    assert register is not None
    register.edit(ALICE.name, lambda _: Record(ALICE))

    def refuse(_record: Record | None) -> Record | None:
        raise AccountError("no")

    with pytest.raises(AccountError):
        register.edit(ALICE.name, refuse)
    assert register.find(ALICE.name) == Record(ALICE)
    register.edit("bob", lambda _: Record(Account("bob")))
    assert [each.account.name for each in register.list_all()] == ["alice@example.test", "bob"]


async def test_edits_of_one_moment_do_not_undo_each_other(
    kept: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("elemta.accounts.registers.sqlite._BUSY_TIMEOUT", 60_000)
    register = kept.register
    assert register is not None
    register.edit(ALICE.name, lambda _: Record(replace(ALICE, groups=())))

    def join(group: str) -> None:
        def change(record: Record | None) -> Record | None:
            assert record is not None
            groups = tuple(sorted({*record.account.groups, group}))
            return replace(record, account=replace(record.account, groups=groups))

        register.edit(ALICE.name, change)

    await asyncio.gather(*(asyncio.to_thread(join, f"g{number}") for number in range(10)))
    found = register.find(ALICE.name)
    assert found is not None
    assert found.account.groups == tuple(f"g{number}" for number in range(10))


async def test_accounts_are_listed_by_name(kept: Place) -> None:
    assert kept.register is not None
    assert list(kept.register.list_all()) == []
    for name in ("carol", "alice", "bob"):
        kept.put(Record(Account(name)), "")
    assert [each.account.name for each in kept.register.list_all()] == ["alice", "bob", "carol"]
