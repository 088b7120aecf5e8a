"""The file of accounts: what may be in it, who may read it, and how it is changed."""

import os
import stat
from dataclasses import replace

import pytest
from accounts.desk import KEEPING
from hypothesis import assume, given
from hypothesis import strategies as st

from elemta.accounts import Account, AccountError, Record, SourceDown
from elemta.accounts.passwords import with_password
from elemta.accounts.registers import PasswdRegister
from elemta.accounts.registers.lines import Line, LineError, parse_line

HASH = (
    "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJu"
    "esI68u4OTLiBFdcbYEdFCoEOfaS35inz1"
)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "accounts"
    path.touch(mode=0o600)
    return path


@pytest.fixture
def register(path):
    return PasswdRegister(path)


def test_a_file_of_dovecot(register, path):
    path.write_text(
        "# people\n"
        "\n"
        f"alice@example.test:{{SHA512-CRYPT}}{HASH}:1000:1000:Alice:/home/alice::userdb_quota=1G\n"
        f"bob:{HASH}\r\n"
        "carol:\n"
    )
    assert [record.account.name for record in register.list_all()] == [
        "alice@example.test",
        "bob",
        "carol",
    ]
    assert register.find("bob").password_hash == HASH
    assert register.find("carol").password_hash == ""


def test_an_edit_leaves_all_else_as_it_was(register, path):
    line = f"alice:{{SHA512-CRYPT}}{HASH}:1000:1000:Alice:/home/alice:: userdb_quota=1G x\n"
    path.write_text(f"# people\n\n{line}  # more\nbob:{HASH}\n\n# the end")
    register.edit(
        "alice", lambda record: replace(record, account=replace(record.account, is_locked=True))
    )
    text = path.read_text()
    assert text.replace("locked=yes ", "").replace(":: userdb", "::userdb") == (
        f"# people\n\n{line}  # more\nbob:{HASH}\n\n# the end".replace(":: userdb", "::userdb")
    )
    assert register.find("alice").account.is_locked
    register.edit("carol", lambda _: Record(Account("carol")))
    assert path.read_text() == f"{text}\ncarol:\n"
    register.edit("carol", lambda _: None)
    register.edit("nobody", lambda _: None)
    assert path.read_text() == f"{text}\n"


def test_keys(register, path):
    path.write_text(
        "me::::::: senders=Me@Example.Test,*.example.test groups=staff,a%2Cb act_as=You locked\n"
    )
    assert register.find("me").account == Account(
        "me", ("me@example.test", "*.example.test"), ("staff", "a,b"), ("you",), is_locked=True
    )


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("me", "a login and a hash are expected"),
        (":x", "the name is empty"),
        ("a b:", "has spaces in it"),
        ("me:secret", "no hash that Elemta can verify"),
        ("me:{PLAIN}secret", "no hash that Elemta can verify"),
        ("me:::::::scram=1,2", "a value that cannot be read"),
        ("me:::::::app=x", "a value that cannot be read"),
        ("me:::::::app=x,y,submit,0,,192.0.2.0/99", "a value that cannot be read"),
        ("me:\nME:", "line 4: this login was there before"),
        ("me:" + "x" * 70_000, "too long"),
    ],
)
def test_a_line_that_is_wrong_closes_the_file(register, path, line, says):
    path.write_text(f"# first\ngood:{HASH}\n{line}\n")
    for _ in range(2):
        with pytest.raises(SourceDown, match=says) as caught:
            register.find("good")
        assert "line " in str(caught.value)
        assert "secret" not in str(caught.value)
    path.write_text(f"good:{HASH}\n")
    assert register.find("good") is not None


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o620, 0o660, 0o666, 0o644, 0o610])
def test_what_others_can_read_or_write_is_refused(register, path, mode):
    path.write_text(f"me:{HASH}\n")
    assert register.find("me") is not None
    path.chmod(mode)
    with pytest.raises(SourceDown, match="others can read or write it"):
        register.find("me")
    with pytest.raises(SourceDown, match="others can read or write it"):
        register.edit("me", lambda _: None)
    path.chmod(0o640)
    assert register.find("me") is not None


def test_of_another_user(register, path):
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    os.chown(path, 12345, -1)
    with pytest.raises(SourceDown, match="belongs to another user"):
        register.find("me")


def test_what_is_no_file(tmp_path):
    with pytest.raises(SourceDown, match="No such file"):
        PasswdRegister(tmp_path / "missing").find("me")
    with pytest.raises(SourceDown, match=r"directory|not a file"):
        PasswdRegister(tmp_path).find("me")


def test_not_utf8(register, path):
    path.write_bytes(b"m\xff:")
    with pytest.raises(SourceDown, match="not UTF-8"):
        register.find("me")


def test_it_is_made_for_its_owner_alone(tmp_path):
    register = PasswdRegister(tmp_path / "accounts")
    register.edit("me", lambda _: Record(Account("me")))
    assert stat.S_IMODE(register.path.stat().st_mode) == 0o600
    assert register.find("me") == Record(Account("me"))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["accounts", "accounts.lock"]


def test_mode_and_link_stay(tmp_path, path):
    path.chmod(0o640)
    link = tmp_path / "link"
    link.symlink_to(path)
    PasswdRegister(link).edit("me", lambda _: Record(Account("me")))
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert PasswdRegister(link).find("me") is not None


def test_nothing_is_left_behind_when_it_cannot_be_replaced(register, path, monkeypatch):
    path.write_text("# empty\n")

    def full(_handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(SourceDown, match="No space left"):
        register.edit("me", lambda _: Record(Account("me")))
    assert path.read_text() == "# empty\n"
    assert sorted(each.name for each in path.parent.iterdir()) == ["accounts", "accounts.lock"]


@pytest.mark.parametrize("login", ["a:b", "#me"])
def test_logins_that_no_line_can_have(register, login):
    with pytest.raises(AccountError):
        register.edit(login, lambda _: Record(Account(login)))


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(names, names, names)
def test_lines_are_read_as_they_were_written(sender, group, secret):
    assume(sender.lower() == sender.lower().lower())
    record = replace(
        with_password(Record(Account("me", (sender.lower(),), (group,))), "pw", KEEPING),
        secret=secret,
    )
    text = str(Line(record))
    assert "\n" not in text
    assert parse_line(text).record == record


@given(st.text(max_size=60))
def test_any_line_is_read_or_refused(text):
    try:
        line = parse_line(text)
    except LineError:
        return
    assert parse_line(str(line)).record == line.record
