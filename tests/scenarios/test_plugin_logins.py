"""Plugins of all kinds in the running server: the hooks of TLS and of logins."""

import contextlib
import itertools
import json
import shutil
import ssl
import sys
from base64 import b64encode
from pathlib import Path

import pytest
from plugins.remote.gcc import build
from servers.certificates import Authority
from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, Elemta, running
from servers.logins import PASSWORD, plain
from servers.process import free_port, start
from servers.puppet import Puppet

from elemta.accounts.hashes import Argon2Settings, make_hash

PLUGINS = Path(__file__).parents[1] / "servers" / "plugins"
ACTIONS = ("continue", "accept", "reject", "defer", "discard", "quarantine")
KINDS = ("in-process", "isolated", "library", "grpc")
REST = """
[auth]
required_on = []
mechanisms = ["PLAIN", "LOGIN", "CRAM-MD5"]
scram_iterations = 0
argon2 = {{ memory = "8MiB", passes = 1 }}
[[auth.sources]]
type = "file"
path = "people"
[tls]
certificate = "certificate.pem"
key = "certificate.key"
[limits.brake]
enabled = false
[plugins]
auto_load = false
"""
PLUGIN = """
directory = {directory}
[[plugins.plugin]]
name = "doorman"
{lines}
"""
MAIL = b"Subject: hello\r\n\r\nhello\r\n"
OK, WRONG = "235 2.7.0 Authentication succeeded", "535 5.7.8 Authentication credentials invalid"
EVENTS = {"discard": "message_discarded", "quarantine": "message_quarantined"}


@contextlib.contextmanager
def doorman(kind, folder):
    """The plugin in one of its forms; its lines of the configuration."""
    plugins = folder / "plugins"
    plugins.mkdir(mode=0o755)
    directory = json.dumps(str(plugins))
    if kind == "grpc":
        address = f"unix:{folder / 'doorman.sock'}"
        argv = [sys.executable, PLUGINS / "doorman_server.py", address]
        with start(argv, ready=(folder / "doorman.sock").exists, log=folder / "doorman.log"):
            yield PLUGIN.format(directory=directory, lines=f"address = {json.dumps(address)}")
        return
    if kind == "library":
        lines = f'library = "{build(PLUGINS / "doorman.c", plugins).name}"'
    else:
        shutil.copy(PLUGINS / "doorman.py", plugins)
        (plugins / "doorman.py").chmod(0o644)
        lines = 'module = "doorman.py"\n'
        lines += 'isolation = "process"' if kind == "isolated" else ""
    yield PLUGIN.format(directory=directory, lines=lines)


@pytest.fixture(scope="module", params=KINDS)
def house(request, tmp_path_factory):
    """A server with one kind of the plugin, and an account for each of its clients."""
    folder = tmp_path_factory.mktemp("logins")
    authority = Authority(folder)
    authority.issue("localhost")
    digest = make_hash(PASSWORD, Argon2Settings(memory=8192, passes=1))
    names = [f"{action}.{when}" for action in ACTIONS for when in ("start", "end")]
    people = folder / "people"
    people.write_text("".join(f"{name}:{digest}:::::: senders=*\n" for name in names))
    people.chmod(0o600)
    implicit = free_port()
    listeners = (
        f'clear_auth = true\n[[listeners]]\naddress = "127.0.0.1:{implicit}"\n'
        f'kind = "mta"\ntls = "implicit"\n'
    )
    with doorman(request.param, folder) as plugin:
        rest = MAILDIR + REST + plugin
        with running(folder, rest=rest, listeners=listeners) as elemta:
            elemta.implicit, elemta.numbers = implicit, itertools.count(1)
            elemta.context = ssl.create_default_context(cafile=str(authority.file))
            yield elemta
            assert elemta.events("plugin_error") == elemta.events("internal_error") == []
            text = elemta.log_file.read_text() + elemta.get("/metrics")[1]
            assert PASSWORD not in text


def connect(elemta, mode="clear", action=None):
    """A client with an address of its own; TLS begins as the mode says."""
    number = next(elemta.numbers)
    source = f"127.3.{number}.1" if action is None else f"127.2.{number}.{ACTIONS.index(action)}"
    port = elemta.implicit if mode == "implicit" else elemta.port
    client = Dialogue(port, source=source, greet=mode != "implicit")
    if mode == "starttls":
        client.hello()
        assert client.say("STARTTLS").startswith("220")
    if mode != "clear":
        client.socket = elemta.context.wrap_socket(client.socket, server_hostname="localhost")
    if mode == "implicit":
        client.banner = client.reply()
    client.source = source
    return client


def told(elemta, client, count):
    """What the plugin has been told of a session: wait until it has logged so much."""

    def lines():
        texts = [event["text"].split(" ") for event in elemta.events("plugin_logged")]
        found = [words for address, *words in texts if address == client.source]
        return found if len(found) > count else None

    first, *others = elemta.wait_for(lines, f"{count} calls")
    assert first == ["connection_opened", "-", "-", "0", "-", "-"]
    return others


def deliver_all(elemta, client, action):
    """Send two messages in a session that is marked, or not."""
    client.hello()
    for _ in range(2):
        reply = client.deliver(MAIL, "a@b.test", f"{action}@example.test")
        assert reply.startswith("250 "), reply
        if action in EVENTS:
            event = elemta.wait_event(EVENTS[action], queue_id=reply.rpartition(" ")[2])[0]
            assert (event["plugin"], event["reason"]) == ("doorman", "as asked")


@pytest.mark.parametrize("mode", ["starttls", "implicit"])
@pytest.mark.parametrize("action", ACTIONS)
def test_when_tls_is_up(house, mode, action):
    with connect(house, mode, action) as client:
        replies = {"reject": "554 5.7.1 Not you", "defer": "421 4.7.1 Not now"}
        if action in replies:
            said = client.banner if mode == "implicit" else client.reply()
            assert said == replies[action]
            assert client.line() == ""  # closed
            rejected = house.wait_event(
                "message_rejected", stage="starttls", client_ip=client.source
            )
            assert (rejected[-1]["plugin"], rejected[-1]["reason"]) == ("doorman", "as asked")
        else:
            deliver_all(house, client, action)
    version = "TLSv1.3"
    helo = "-"  # what was said in clear does not count any more
    assert told(house, client, 1) == [["connection_upgraded", "-", "-", "0", version, helo]]


@pytest.mark.parametrize("mode", ["clear", "starttls", "implicit"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_what_they_are_told_of_a_login(house, mode, mechanism):
    version = "-" if mode == "clear" else "TLSv1.3"
    with connect(house, mode) as client:
        client.hello()
        assert log_in(client, mechanism, "continue.end", "wrong") == WRONG
        assert log_in(client, mechanism, "continue.end", PASSWORD) == OK
        assert client.say("AUTH PLAIN").startswith("503")
        about = [version, "client.example.org"]
        begun = 0 if mode == "clear" else 1
        assert told(house, client, begun + 4)[begun:] == [
            ["auth_started", "continue.end", mechanism, "5", *about],
            ["auth_failed", "continue.end", mechanism, "0", *about],
            ["auth_started", "continue.end", mechanism, str(len(PASSWORD)), *about],
            ["auth_completed", "continue.end", mechanism, "0", *about],
        ]


def log_in(client, mechanism, login, password):
    """Try it; the reply."""
    if mechanism == "PLAIN":
        return client.say(plain(login, password))
    assert client.say("AUTH LOGIN").startswith("334")
    assert client.say(b64encode(login.encode())).startswith("334")
    return client.say(b64encode(password.encode()))


def test_of_attempts_without_an_end_they_do_not_hear(house):
    with connect(house) as client:
        client.hello()
        assert client.say("AUTH LOGIN").startswith("334")
        assert client.say("*").startswith("501")
        for line in ("AUTH PLAIN !!!", "AUTH PLAIN AGEA", "AUTH PLAIN AGEAYgBj", "AUTH NTLM"):
            assert client.say(line)[:3] in {"501", "504"}
        assert log_in(client, "PLAIN", "continue.end", "wrong") == WRONG
        assert [line[0] for line in told(house, client, 2)] == ["auth_started", "auth_failed"]


REFUSALS = {"reject": "535 5.7.1 Not you", "defer": "454 4.7.1 Not now"}


@pytest.mark.parametrize("is_right", [True, False])
@pytest.mark.parametrize("action", ACTIONS)
def test_before_a_password_is_checked(house, action, is_right):
    with connect(house, "starttls") as client:
        client.hello()
        said = client.say(plain(f"{action}.start", PASSWORD if is_right else "wrong"))
        good = action == "accept" or (is_right and action not in REFUSALS)
        assert said == REFUSALS.get(action, OK if good else WRONG)
        heard = [line[0] for line in told(house, client, 2 if action == "defer" else 3)[1:]]
        after = [] if action == "defer" else ["auth_completed" if good else "auth_failed"]
        assert heard == ["auth_started", *after]
        check_log(house, client, f"{action}.start", good)
        if good:
            deliver_all(house, client, action)


@pytest.mark.parametrize("is_right", [True, False])
@pytest.mark.parametrize("action", ACTIONS)
def test_after_a_password_was_checked(house, action, is_right):
    with connect(house, "starttls") as client:
        client.hello()
        said = client.say(plain(f"{action}.end", PASSWORD if is_right else "wrong"))
        good = is_right and action not in REFUSALS
        assert said == REFUSALS.get(action, OK if good else WRONG)
        heard = [line[0] for line in told(house, client, 3)[1:]]
        assert heard == ["auth_started", "auth_completed" if is_right else "auth_failed"]
        check_log(house, client, f"{action}.end", good)
        if good:
            deliver_all(house, client, action)


def check_log(house, client, login, is_good):
    kind = "auth_succeeded" if is_good else "auth_failed"
    (event,) = house.wait_event(kind, client_ip=client.source)
    assert event["username"] == login
    if login.partition(".")[0] in REFUSALS:
        assert event["reason"] == "doorman: as asked"


def test_nobody_vouches_for_what_has_no_password(house):
    """ACCEPT before a mechanism that proves something itself means nothing."""
    with connect(house) as client:
        client.hello()
        assert client.say("AUTH CRAM-MD5").startswith("334")
        response = b64encode(b"accept.start " + b"0" * 32)
        assert client.say(response) == WRONG
        lines = told(house, client, 2)
        assert [line[:4] for line in lines] == [
            ["auth_started", "accept.start", "CRAM-MD5", "0"],
            ["auth_failed", "accept.start", "CRAM-MD5", "0"],
        ]


def test_a_login_is_forgotten_once_tls_is_up(house):
    with connect(house) as client:
        client.hello()
        assert client.say(plain("continue.end", PASSWORD)) == OK
        assert client.say("STARTTLS").startswith("220")
        client.socket = house.context.wrap_socket(client.socket, server_hostname="localhost")
        lines = told(house, client, 3)
        assert lines[2] == ["connection_upgraded", "-", "-", "0", "TLSv1.3", "-"]


def test_plugins_are_asked_on_every_kind_of_listener(tmp_path):
    """Those who submit mail above all: nobody else judges it."""
    kinds = ("mta", "submission", "submissions", "lmtp")
    port, other = free_port(), free_port()
    Authority(tmp_path).issue("localhost")
    listeners = (
        f'[[listeners]]\naddress = "127.0.0.1:{port}"\nkind = "submission"\n'
        f'[[listeners]]\naddress = "127.0.0.1:{other}"\nkind = "submissions"\n'
        f'[[listeners]]\naddress = "unix:{tmp_path}/lmtp"\nkind = "lmtp"\n'
    )
    puppet = Puppet(tmp_path / "beside", {"on_connect": ["reject", "No"]})
    context = ssl.create_default_context(cafile=str(tmp_path / "authority.pem"))
    elemta = Elemta(tmp_path, rest=MAILDIR + REST + puppet.table, listeners=listeners)
    elemta.rest = elemta.rest.replace("auto_load", f'directory = "{puppet.folder}"\nauto_load')
    (tmp_path / "people").touch(0o600)
    try:
        elemta.spawn()
        elemta.wait_event("worker_started")
        for place in (elemta.port, port, other, tmp_path / "lmtp"):
            with Dialogue(place, greet=False) as client:
                if place == other:
                    client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
                assert client.reply() == "554 5.7.1 No"
        elemta.wait_event("message_rejected", 4, stage="connect")
    finally:
        elemta.kill()
    assert [call["session"]["listener"] for call in puppet.calls("on_connect")] == list(kinds)
