"""The example plugins about logins in the running server."""

import contextlib
import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, running
from servers.logins import AUTH, PASSWORD, add_user, log_in, plain, submission
from servers.slapd import BASE, run_slapd

EXAMPLES = Path(__file__).resolve().parents[2] / "examples/plugins"
BRAKE = "[limits.brake]\nenabled = false\n"
MAIL = b"Subject: hello\r\n\r\nhello\r\n"
WRONG = "535 5.7.8 Authentication credentials invalid"


@contextlib.contextmanager
def server(folder, config, *names, auth=AUTH):
    """A server with copies of these examples; their settings are in the configuration."""
    plugins = folder / "plugins"
    plugins.mkdir()
    plugins.chmod(0o755)
    for name in names:
        shutil.copy(EXAMPLES / f"{name}.py", plugins)
        (plugins / f"{name}.py").chmod(0o644)
    port, listener = submission()
    rest = MAILDIR + auth + BRAKE + f"[plugins]\ndirectory = {json.dumps(str(plugins))}\n"
    config = config.replace("{", "{{").replace("}", "}}")
    with running(folder / "server", rest=rest + config, listeners=listener) as elemta:
        yield elemta, port


def test_guesses_are_slowed_down(tmp_path):
    config = "[plugins.auth_limit]\nmax_failures = 3\nwindow = 900\n"
    with server(tmp_path, config, "auth_limit") as (elemta, port):
        add_user(elemta, "me@example.test")
        slow = "454 4.7.0 Too many failed logins, try again later"
        assert log_in(port, "127.0.0.5", "me@example.test").startswith("235")
        for login in ("me@example.test", "you@example.test", "root"):
            assert log_in(port, "127.0.0.5", login, "guess") == WRONG
        assert log_in(port, "127.0.0.5", "me@example.test", "guess") == slow
        assert log_in(port, "127.0.0.5", "me@example.test") == slow  # the right one tells nothing
        assert log_in(port, "127.0.0.6", "me@example.test").startswith("235")
        failed = elemta.wait_event("auth_failed", 5)
        assert failed[-1]["reason"] == "auth-limit: 3 failures"


def test_some_users_have_hours(tmp_path):
    """Those of the clerk begin in two hours from now, those of the guard are now."""
    now = datetime.now(UTC)
    begin, end = (f"{now + timedelta(hours=hours):%H:%M}" for hours in (2, 3))
    since = f"{now - timedelta(hours=1):%H:%M}"
    config = (
        '[plugins.business_hours]\ntimezone = "UTC"\n[plugins.business_hours.users]\n'
        f'"clerk@example.test" = {{ start = "{begin}", end = "{end}" }}\n'
        f'"guard@example.test" = {{ start = "{since}", end = "{end}" }}\n'
    )
    with server(tmp_path, config, "business_hours") as (elemta, port):
        for name in ("clerk", "guard", "boss"):
            add_user(elemta, f"{name}@example.test")
        closed = "454 4.7.0 You cannot log in at this time"
        assert log_in(port, "127.0.0.1", "clerk@example.test") == closed
        assert log_in(port, "127.0.0.1", "CLERK@Example.test") == closed
        assert log_in(port, "127.0.0.1", "clerk@example.test", "wrong") == WRONG
        for name in ("guard", "boss"):
            assert log_in(port, "127.0.0.1", f"{name}@example.test").startswith("235")


def test_a_directory_says_whose_password_is_right(tmp_path):
    with run_slapd(tmp_path) as slapd, contextlib.ExitStack() as stack:
        config = (
            f'[plugins.ldap_login]\nuri = "{slapd.uri}"\nbase = "{BASE}"\ntimeout = 20\n'
            'filter = "(|(uid={login})(mail={login}))"\n'
            "[plugins.auth_limit]\nmax_failures = 3\n"
        )
        elemta, port = stack.enter_context(
            server(tmp_path, config, "auth_limit", "ldap_login", auth="")
        )
        for login in ("*", "al*", "alice)(uid=*", "*)(uid=*", "alice"):
            assert log_in(port, f"127.0.1.{len(login)}", login, "guess").startswith("535 5.7.1 ")
        with Dialogue(port) as client:
            assert "250-AUTH PLAIN LOGIN\n" in client.hello()
            assert client.say(plain("alice", "")).startswith("501")
            assert client.say(plain("alice\0", "wonderland")).startswith("501")
            assert client.say(plain("0@EXAMPLE.test", "wonderland")).startswith("235")
            reply = client.deliver(MAIL, "0@example.test", "c@example.test")
            assert reply.startswith("250"), reply
        assert elemta.wait_event("auth_succeeded")[0]["username"] == "0@example.test"
        for _ in range(3):  # what the directory calls wrong counts as a failure elsewhere, too
            log_in(port, "127.0.0.7", "alice", "guess")
        assert log_in(port, "127.0.0.7", "alice", "wonderland").startswith("454 4.7.0 Too many")
        assert PASSWORD not in elemta.log_file.read_text()
        slapd.process.terminate()
        slapd.process.wait(40)
        down = "454 4.7.1 The directory cannot be asked"
        for password in ("wonderland", "guess"):
            assert log_in(port, "127.0.0.1", "alice", password) == down

        def has_reason():
            reasons = [event["reason"] for event in elemta.events("auth_failed")]
            return any(each.startswith("ldap-login: LDAPSocketOpenError") for each in reasons)

        elemta.wait_for(has_reason, "the reason")
