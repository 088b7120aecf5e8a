"""Logging in to the running server, while its accounts are changed by commands."""

import base64
import contextlib
import json
import smtplib
import subprocess

import pytest
from scramp import ScramClient
from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, running
from servers.process import free_port

CANARY = "canary-7h3-p455w0rd"
SETTINGS = """
[auth]
scram_iterations = 4096
[auth.argon2]
memory = "8MiB"
passes = 1
[limits.brake]
enabled = false
"""
SOURCES = {
    "sqlite": '[[auth.sources]]\ntype = "sqlite"\n',
    "file": '[[auth.sources]]\ntype = "file"\npath = "{folder}/people"\n',
}


def b64(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def plain(login: str, password: str, authzid: str = "") -> str:
    return "AUTH PLAIN " + b64("\0".join((authzid, login, password)))


@pytest.fixture(scope="module", params=SOURCES)
def server(request, tmp_path_factory):
    port = free_port()
    listener = (
        f'[[listeners]]\naddress = "127.0.0.1:{port}"\nkind = "submission"\nclear_auth = true\n'
    )
    folder = tmp_path_factory.mktemp("accounts")
    (folder / "people").touch(mode=0o600)
    rest = SETTINGS + SOURCES[request.param] + MAILDIR
    with running(folder, rest=rest, listeners=listener) as elemta:
        elemta.submission = port
        elemta.kind = request.param
        yield elemta


def set_password(server, *arguments: str, password: str = CANARY) -> None:
    done = subprocess.run(
        [*server.command, "user", *arguments, "--password-stdin", "-c", str(server.config)],
        input=f"{password}\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def login(server, request):
    """An account of this test alone."""
    name = f"u{abs(hash(request.node.name))}@example.test"
    set_password(server, "add", name)
    yield name
    server.cli("user", "remove", name)


def try_it(server, line: str) -> str:
    with Dialogue(server.submission) as client:
        client.hello()
        return client.say(line)[:9]


OK, WRONG, DOWN = "235 2.7.0", "535 5.7.8", "454 4.7.0"


def test_changes_hold_at_once(server, login):
    assert try_it(server, plain(login, CANARY)) == OK
    assert try_it(server, plain(login.upper(), CANARY)) == OK
    assert try_it(server, plain(login, "wrong")) == WRONG
    assert try_it(server, plain("nobody@example.test", CANARY)) == WRONG
    assert try_it(server, plain(login, CANARY, "nobody@example.test")) == WRONG
    server.cli("user", "lock", login)
    assert try_it(server, plain(login, CANARY)) == WRONG
    server.cli("user", "unlock", login)
    assert try_it(server, plain(login, CANARY)) == OK
    set_password(server, "password", login, password="another one")
    assert try_it(server, plain(login, CANARY)) == WRONG
    assert try_it(server, plain(login, "another one")) == OK


def test_the_client_of_pythons_library(server, login):
    for mechanism in ("PLAIN", "LOGIN"):
        with smtplib.SMTP("127.0.0.1", server.submission, timeout=40) as client:
            client.ehlo()
            assert mechanism in client.esmtp_features["auth"].split()
            client.user, client.password = login, CANARY
            code, _ = client.auth(
                mechanism, getattr(client, f"auth_{mechanism.lower()}"), initial_response_ok=False
            )
            assert code == 235
            client.sendmail(login, ["you@example.test"], "Subject: hello\r\n\r\nhello\r\n")


def test_scram(server, login):
    for password, expected in ((CANARY, OK), ("wrong", WRONG)):
        with Dialogue(server.submission) as client:
            assert "SCRAM-SHA-256" in client.hello()
            scram = ScramClient(["SCRAM-SHA-256"], login, password)
            said = client.say(f"AUTH SCRAM-SHA-256 {b64(scram.get_client_first())}")
            scram.set_server_first(base64.b64decode(said.removeprefix("334 ")).decode())
            said = client.say(b64(scram.get_client_final()))
            if expected == OK:
                scram.set_server_final(base64.b64decode(said.removeprefix("334 ")).decode())
                said = client.say("")
            assert said[:9] == expected


def test_app_passwords(server, login):
    made = server.cli("user", "app-password", "add", login, "phone", "--json").stdout
    secret = json.loads(made)["password"]
    assert try_it(server, plain(login, secret)) == OK
    if server.kind == "sqlite":

        def was_used():
            shown = server.cli("user", "app-password", "list", login, "--json").stdout
            return json.loads(shown)[0]["last_used_at"]

        server.wait_for(was_used, "the note of its use")
    server.cli("user", "app-password", "revoke", login, "phone")
    assert try_it(server, plain(login, secret)) == WRONG


def test_a_source_that_is_down_refuses_nobody_for_good(server, login):
    if server.kind != "file":
        pytest.skip("the database is held open")
    people = server.folder / "people"
    people.chmod(0o644)
    assert try_it(server, plain(login, "wrong")) == DOWN
    assert try_it(server, plain(login, CANARY)) == DOWN
    server.wait_event("notice", subject="accounts")
    people.chmod(0o600)
    assert try_it(server, plain(login, CANARY)) == OK


def test_no_password_is_written_anywhere(server, login):
    """Not in the log, which tells of every command here, not in figures, not in the state."""
    secret = json.loads(
        server.cli("user", "app-password", "add", login, "tablet", "--json").stdout
    )["password"]
    forms = [f"\0{login}\0{CANARY}", CANARY, secret, f"{CANARY}\0", f"\0{login}\0{CANARY}\0"]
    lines = (
        *(f"AUTH PLAIN {b64(form)}" for form in forms),
        plain(login, secret),
        plain("nobody", CANARY),
        f"AUTH PLAIN {b64(forms[0])}=",
        f"AUTH NTLM {b64(CANARY)}",
        f"AUTH {CANARY}",
    )
    for line in lines:
        try_it(server, line)
    with Dialogue(server.port) as client:  # a listener that does not offer it in clear
        client.hello()
        assert client.say(plain(login, CANARY))[0] == "5"
    for answers in (["AUTH PLAIN", b64(forms[0])], ["AUTH LOGIN", b64(login), b64(CANARY)]):
        with Dialogue(server.submission) as client:
            client.hello()
            for answer in answers:
                client.say(answer)
    server.wait_event("auth_failed", 2)
    sent = [line.rpartition(" ")[2] for line in lines]
    hidden = {
        CANARY,
        secret,
        *(form.rstrip("=")[2:-2] for form in (b64(CANARY), b64(secret), *sent)),
    }
    texts = {}
    for path in server.folder.rglob("*"):
        if path.is_file() and path.name != "elemta.toml":
            with contextlib.suppress(FileNotFoundError):  # the server replaces some meanwhile
                texts[path] = path.read_bytes()
    texts[server.folder / "metrics"] = server.get("/metrics")[1].encode()
    for path, text in texts.items():
        for form in hidden:
            assert form.encode() not in text, path
