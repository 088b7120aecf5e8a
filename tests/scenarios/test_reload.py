"""A reload takes over all of a changed configuration, or nothing; and says which."""

import json
import ssl

import pytest
from servers.certificates import Authority
from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, Elemta, running

REST = """
[tls]
certificate = "certificate.pem"
key = "certificate.key"
level = "minimum"
[auth]
mechanisms = ["PLAIN"]
[[auth.sources]]
type = "file"
[limits]
error_delay = "1s"
[smtp]
max_errors = 10
[plugins]
plugins = ["judge"]
directory = "plugins"
"""
JUDGE = """
from elemta.plugins import Metadata, Plugin, Result

class Judge(Plugin):
    metadata = Metadata(name="judge", version="1")

    def on_config_changed(self, ctx):
        if "smtp.max_errors" in ctx.changed:
            return Result.reject(note="not on a Friday")
"""


@pytest.fixture
def server(tmp_path):
    Authority(tmp_path).issue("localhost")
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "judge.py").write_text(JUDGE)
    with running(tmp_path, rest=MAILDIR + REST) as server:
        yield server


def change(server: Elemta, *replacements: tuple[str, str]) -> dict:
    """Change the file and have it read again; what the command says."""
    text = server.config.read_text()
    for before, after in replacements:
        assert before in text
        text = text.replace(before, after)
    server.config.write_text(text)
    return json.loads(server.cli("reload", "--json", check=False).stdout)


def shown(server: Elemta) -> tuple[str, str]:
    """What a client is offered within TLS, and by which certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with Dialogue(server.port) as client:
        client.hello()
        assert client.say("STARTTLS").startswith("220")
        client.socket = context.wrap_socket(client.socket)
        [auth] = [line for line in client.hello().split("\n") if line[4:8] == "AUTH"]
        return auth[4:], client.socket.getpeercert(binary_form=True).hex()


OTHER_CERTIFICATE = (
    ('certificate = "certificate.pem"', 'certificate = "other.pem"'),
    ('key = "certificate.key"', 'key = "other.key"'),
)
MORE_MECHANISMS = ('mechanisms = ["PLAIN"]', 'mechanisms = ["PLAIN", "LOGIN"]')


def issue_other(server: Elemta) -> None:
    Authority(server.folder).issue("localhost", file="other")


def test_all_that_can_be_applied_is_named_and_in_use(server):
    issue_other(server)
    before = shown(server)
    said = change(
        server,
        *OTHER_CERTIFICATE,
        MORE_MECHANISMS,
        ('error_delay = "1s"', 'error_delay = "2s"'),
        ("workers = 1", "workers = 2"),
        ('kind = "mta"', 'kind = "mta"\nxclient = ["127.0.0.1"]'),
    )
    assert (said["ok"], said["error"]) == (True, "")
    assert set(said["applied"]) == {
        "limits.error_delay",
        "auth.mechanisms",
        "tls.certificate",
        "tls.key",
    }
    assert set(said["needs_restart"]) == {"server.workers", "listeners"}
    after = shown(server)
    assert after[0] == "AUTH PLAIN LOGIN"
    assert after[1] != before[1]


@pytest.mark.parametrize(
    "reason",
    [
        ("max_errors = 10", "max_errors = 5"),  # the plugin minds
        ('plugins = ["judge"]', 'plugins = ["judge", "there-is-none"]'),
        ('level = "minimum"', 'level = "maximum"\n[[tls.certificates]]\ncertificate = "none.pem"'),
        ('type = "file"', 'type = "file"\n[[auth.rules]]\nlogins = ["a\\u0001b"]'),
    ],
    ids=["refused by a plugin", "plugin that is missing", "no certificate", "no login"],
)
def test_what_cannot_be_applied_changes_nothing_anywhere(server, reason):
    issue_other(server)
    before, text = shown(server), server.config.read_text()
    said = change(server, *OTHER_CERTIFICATE, MORE_MECHANISMS, reason)
    assert (said["ok"], said["applied"], said["needs_restart"]) == (False, [], [])
    assert said["error"]
    assert shown(server) == before
    server.config.write_text(text)
    assert change(server, MORE_MECHANISMS)["applied"] == ["auth.mechanisms"]
    assert shown(server)[0] == "AUTH PLAIN LOGIN"
