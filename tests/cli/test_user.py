"""`elemta user`: accounts in a database and in a file, with a server beside it or without."""

import json
import os
import pty
import re
import subprocess
import sys
import threading

import pytest
from click.testing import CliRunner, Result

from elemta.accounts import Claim, Peer
from elemta.accounts import Result as Outcome
from elemta.app.accounts import make_authenticator, registers
from elemta.cli.main import cli
from elemta.config import load
from elemta.net import SystemClock

CANARY = "canary-7h3-p455w0rd"
CHEAP = '[auth]\nscram_iterations = 4096\n[auth.argon2]\nmemory = "8MiB"\npasses = 1\n'
SOURCES = {
    "sqlite": '[[auth.sources]]\ntype = "sqlite"\n',
    "file": '[[auth.sources]]\ntype = "file"\npath = "accounts"\n',
}


class Node:
    """A state folder, and the commands on it."""

    def __init__(self, folder, sources: str) -> None:
        self.folder = folder
        self.path = folder / "elemta.toml"
        self.path.write_text(
            f'[server]\nhostname = "mx.example.test"\nstate_dir = "var"\n{CHEAP}{sources}'
        )

    def run(self, *arguments: str, say: str | None = None) -> Result:
        return CliRunner().invoke(cli, ["user", *arguments, "-c", str(self.path)], input=say)

    def do(self, *arguments: str, say: str | None = None) -> str:
        result = self.run(*arguments, say=say)
        assert result.exit_code == 0, result.output
        return result.output

    def json(self, *arguments: str, say: str | None = None):
        return json.loads(self.do(*arguments, "--json", say=say))

    def fail(self, *arguments: str, status: int = 1, say: str | None = None) -> str:
        result = self.run(*arguments, say=say)
        assert result.exit_code == status, result.output
        return result.output

    def add(self, login: str, password: str = CANARY, *more: str) -> None:
        self.do("add", login, "--password-stdin", *more, say=f"{password}\n")

    @property
    def config(self):
        return load(self.path, {})


@pytest.fixture(params=SOURCES)
def node(request, tmp_path):
    return Node(tmp_path, SOURCES[request.param])


@pytest.fixture
async def server(node):
    """Whoever says who may log in, as a server beside the commands does."""
    authenticator = make_authenticator(node.config, SystemClock(), lambda _: None)

    async def say(login: str, password: str = CANARY) -> Outcome:
        claim = Claim("PLAIN", login, password=password)
        return (await authenticator.judge(claim, Peer("192.0.2.1"))).result

    yield say
    await authenticator.close()


async def test_the_life_of_an_account_beside_a_server(node, server):
    node.add("Me@Example.test")
    assert await server("me@example.test") is Outcome.OK
    node.do("lock", "me@example.test")
    assert await server("me@example.test") is Outcome.WRONG
    node.do("unlock", "ME@example.test")
    assert await server("me@example.test") is Outcome.OK
    node.do("password", "me@example.test", "--password-stdin", say="another one\n")
    assert await server("me@example.test") is Outcome.WRONG
    assert await server("me@example.test", "another one") is Outcome.OK
    node.do("remove", "me@example.test")
    assert await server("me@example.test", "another one") is Outcome.WRONG
    assert node.json("list") == []


async def test_app_passwords_beside_a_server(node, server):
    node.add("me")
    made = node.json("app-password", "add", "me", "phone", "--network", "192.0.2.0/24")
    secret = made.pop("password")
    assert re.fullmatch(r"elemta(-[a-z2-7]{4}){8}", secret)
    assert (made["login"], made["name"], made["scope"]) == ("me", "phone", "submit")
    assert await server("me", secret) is Outcome.OK
    shown = node.json("app-password", "list", "me")
    assert [(each["name"], each["networks"]) for each in shown] == [("phone", ["192.0.2.0/24"])]
    assert secret not in node.do("app-password", "list", "me") + node.do("show", "me")
    for file in (node.folder).rglob("*"):
        assert not file.is_file() or secret.encode() not in file.read_bytes()
    node.do("app-password", "add", "me", "elsewhere", "--network", "198.51.100.1")
    assert node.fail("app-password", "add", "me", "phone").count("already") == 1
    node.do("app-password", "revoke", "me", "phone")
    assert await server("me", secret) is Outcome.WRONG
    node.fail("app-password", "revoke", "me", "phone")
    node.fail("app-password", "add", "nobody", "phone")


def test_an_app_password_expires(node):
    node.add("me")
    made = node.json("app-password", "add", "me", "guest", "--expires", "30d")
    assert made["expires_at"] > made["created_at"]
    assert made["last_used_at"] is None
    text = node.do("app-password", "list", "me")
    assert "guest" in text
    assert made["expires_at"] in text
    assert "at most 64" in node.fail("app-password", "add", "me", "two words", status=2)
    node.fail("app-password", "add", "me", "x", "--network", "here", status=2)


def test_what_is_shown(node):
    node.add(
        "me", CANARY, "--sender", "Me@Example.test", "--sender", "*.example.org", "--group", "staff"
    )
    node.do("add", "robot", "--no-password", "--act-as", "me")
    facts = node.json("show", "me")
    source = facts.pop("source")
    assert source.split()[0] in {"file", "sqlite"}
    assert facts == {
        "login": "me",
        "locked": False,
        "password": "argon2id",
        "scram": True,
        "reversible": False,
        "senders": ["me@example.test", "*.example.org"],
        "groups": ["staff"],
        "act_as": [],
        "app_passwords": [],
    }
    robot = node.json("show", "robot")
    assert (robot["password"], robot["act_as"]) == ("none", ["me"])
    assert [each["login"] for each in node.json("list")] == ["me", "robot"]
    table = node.do("list").split("\n")
    assert table[0].split() == [
        "LOGIN",
        "STATE",
        "PASSWORD",
        "APP",
        "PASSWORDS",
        "GROUPS",
        "SOURCE",
    ]
    assert table[1].split()[:5] == ["me", "active", "argon2id", "0", "staff"]
    words = node.do("show", "me")
    assert "me@example.test, *.example.org" in words
    assert "argon2id$" not in words


def test_changing_what_it_may(node):
    node.add("me", CANARY, "--sender", "a@example.test", "--group", "staff")
    node.do("change", "me", "--sender", "example.test", "--clear", "groups", "--act-as", "You")
    facts = node.json("show", "me")
    assert (facts["senders"], facts["groups"], facts["act_as"]) == (["example.test"], [], ["you"])
    node.fail("change", "me", status=2)
    node.fail("change", "nobody", "--sender", "*")
    node.fail("change", "me", "--sender", "a b@c", status=2)
    node.fail("change", "me", "--sender", "<>", status=2)
    node.fail("change", "me", "--group", "a b", status=2)


def test_what_is_not_there_and_what_is(node):
    for verb in ("show", "remove", "lock", "unlock"):
        assert "there is no account nobody" in node.fail(verb, "nobody")
    node.fail("password", "nobody", "--generate")
    node.add("me")
    assert "already" in node.fail("add", "me", "--password-stdin", say="x\n")
    node.fail("add", "a b", "--generate", status=2)


def test_a_password_that_is_made_up_is_printed_once(node):
    made = node.json("add", "me", "--generate")
    assert len(made["password"]) == 20
    other = node.json("password", "me", "--generate")["password"]
    assert other != made["password"]
    assert other not in node.do("show", "me") + node.do("show", "me", "--json")
    assert node.do("password", "me", "--generate").split("\n")[1]


def test_passwords_are_never_arguments(node):
    assert "No such option" in node.fail("add", "me", "--password", CANARY, status=2)
    node.fail("add", "me", CANARY, status=2)
    assert "no terminal" in node.fail("add", "me", status=2)
    node.fail("add", "me", "--password-stdin", "--generate", status=2)
    for said in ("\n", "", "a\0b\n", "x" * 2000 + "\n"):
        output = node.fail("add", "me", "--password-stdin", say=said)
        assert "password" in output
    assert node.json("list") == []


def test_a_short_password_is_warned_of(node):
    result = node.run("add", "me", "--password-stdin", say="short\n")
    assert (result.exit_code, "easily guessed" in result.stderr) == (0, True)


def test_on_a_terminal_it_is_asked_for_twice_and_not_shown(node):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "elemta", "user", "add", "me", "-c", str(node.path)],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    seen = b""
    try:
        for prompt in (b"Password:", b"Repeat for confirmation:"):
            while prompt not in seen:
                seen += os.read(ours, 1000)
            os.write(ours, f"{CANARY}\n".encode())
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert process.returncode == 0
    assert b"me: added" in output
    assert CANARY.encode() not in seen + output
    assert node.json("show", "me")["password"] == "argon2id"


def test_no_password_is_in_what_is_kept(node):
    node.add("me")
    for file in node.folder.rglob("*"):
        assert not file.is_file() or CANARY.encode() not in file.read_bytes()


def test_no_sources(tmp_path):
    node = Node(tmp_path, "")
    assert "no [[auth.sources]]" in node.fail("list")
    assert json.loads(node.run("list", "--json").stdout)["error"]


def test_several_sources(tmp_path):
    node = Node(tmp_path, SOURCES["file"] + SOURCES["sqlite"])
    node.add("me")
    node.do("add", "you", "--source", "2", "--no-password")
    assert "already" in node.fail("add", "me", "--source", "2", "--generate")
    node.fail("add", "else", "--source", "3", "--generate", status=2)
    kinds = [(each["login"], each["source"].split()[0]) for each in node.json("list")]
    assert kinds == [("me", "file"), ("you", "sqlite")]
    node.do("lock", "you")
    assert node.json("show", "you")["locked"]


def test_a_file_that_others_can_read_is_refused(tmp_path):
    node = Node(tmp_path, SOURCES["file"])
    node.add("me")
    (tmp_path / "accounts").chmod(0o644)
    for arguments in (("list",), ("show", "me"), ("lock", "me"), ("add", "you", "--no-password")):
        assert "others can read or write it" in node.fail(*arguments, status=75)


def test_commands_at_one_time_do_not_undo_each_other(node):
    node.add("me")
    failed: list[object] = []
    elemta = (sys.executable, "-m", "elemta", "user")

    def add(number: int) -> None:
        done = subprocess.run(
            [*elemta, "app-password", "add", "me", f"a{number}", "-c", str(node.path)],
            capture_output=True,
            check=False,
            timeout=100,
        )
        if done.returncode:
            failed.append(done)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    names = [each["name"] for each in node.json("app-password", "list", "me")]
    assert sorted(names) == ["a0", "a1", "a2", "a3"]


def test_the_secret_for_cram_is_kept_only_where_that_is_wanted(tmp_path):
    node = Node(tmp_path, SOURCES["sqlite"])
    node.path.write_text(
        node.path.read_text().replace("[auth]\n", '[auth]\nmechanisms = ["CRAM-MD5"]\n')
    )
    node.add("me")
    assert node.json("show", "me")["reversible"]
    (register,) = registers(node.config)
    assert register.find("me").secret == CANARY
    register.close()
