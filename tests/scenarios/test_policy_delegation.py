"""Policy servers on the running server: Postgrey, and one that says what it is told."""

import hashlib
import ssl

from scenarios.authentic import message
from servers.certificates import Authority
from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, running
from servers.milters import run_postgrey
from servers.policy import policy_puppet
from servers.process import free_port
from servers.threads import beside

CONFIG = """
[plugins]
plugins = ["policy-delegation"]
[[plugins.policy_delegation.servers]]
name = "policy"
address = "inet:127.0.0.1:{port}"
"""


def config(port, more=""):
    return MAILDIR + CONFIG.format(port=port) + more


def send(server, *recipients):
    """Send a message from a stranger; the last reply."""
    with Dialogue(server.port, source="127.0.0.7") as client:
        client.hello()
        return client.deliver(message("example.org"), "ann@example.org", *recipients)


def test_postgrey(tmp_path):
    with (
        run_postgrey(tmp_path / "postgrey") as policy,
        running(tmp_path / "server", rest=config(policy.port)) as server,
    ):
        first = send(server, "bob@example.test")
        assert first.startswith("450 4.2.0 Greylisted")

        def accepted():
            reply = send(server, "bob@example.test")
            assert reply.startswith(("250", "450 4.2.0 Greylisted"))
            return reply.startswith("250")

        server.wait_for(accepted, "the end of the delay")
        (raw,) = server.wait_mail("bob")
        assert b"\r\nX-Greylist: delayed " in raw
        assert server.events("plugin_error") == []


def test_each_recipient_has_an_answer_of_its_own(tmp_path):
    actions = {
        "bad@example.test": "550 5.7.1 not you",
        "odd@example.test": "FILTER smtp:[127.0.0.1]",
        "good@example.test": "PREPEND X-Seen: yes",
        "copied@example.test": "BCC copy@example.test",
    }

    def say(question):
        return f"action={actions[question['recipient']]}\n\n".encode()

    with (
        beside(policy_puppet(say)) as policy,
        running(tmp_path / "server", rest=config(policy.port)) as server,
    ):
        with Dialogue(server.port) as client:
            client.hello()
            replies = client.envelope("ann@example.org", *actions)[1:]
            assert replies[:2] == [
                "550 5.7.1 not you",
                "451 4.3.5 Server configuration problem",
            ]
            assert all(each.startswith("250") for each in replies[2:])
            client.say("DATA")
            assert client.say(message("example.org") + b".").startswith("250")
        for name in ("good", "copied", "copy"):
            (raw,) = server.wait_mail(name)
            assert b"\r\nX-Seen: yes\r\n" in raw
        (event,) = server.wait_event("plugin_logged")
        assert event["text"] == "policy server policy: FILTER is not supported: use routes"
        question = policy.asked[-1]
        assert question["client_address"] == "127.0.0.1"
        assert question["helo_name"] == "client.example.org"


def test_it_is_told_of_port_and_certificate(tmp_path):
    folder = tmp_path / "server"
    folder.mkdir()
    authority = Authority(folder)
    authority.issue("localhost")
    shown = authority.issue("client.example.org", file="client")
    tls = 'certificate = "certificate.pem"\nkey = "certificate.key"\n'
    tls = f'[tls]\n{tls}client_certificates = "request"\n'
    context = ssl.create_default_context(cafile=folder / "authority.pem")
    context.load_cert_chain(shown.chain, shown.key_file)
    with (
        beside(policy_puppet()) as policy,
        running(folder, rest=config(policy.port, tls)) as server,
        Dialogue(server.port) as client,
    ):
        client.hello()
        client.envelope("ann@example.org", "bob@example.test")
        client.say("STARTTLS")
        client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
        client.hello()
        client.envelope("ann@example.org", "bob@example.test")
        clear, secured = policy.asked
        port = str(client.socket.getsockname()[1])
    assert clear["client_port"] == secured["client_port"] == port
    digest = hashlib.sha256(shown.der).digest().hex(":").upper()
    assert (clear["ccert_fingerprint"], secured["ccert_fingerprint"]) == ("", digest)


def test_redirected_and_held(tmp_path):
    def say(question):
        redirect = question["protocol_state"] == "RCPT"
        return b"action=REDIRECT eve@example.test\n\n" if redirect else b"action=HOLD odd\n\n"

    more = 'states = ["RCPT", "END-OF-MESSAGE"]\n'
    with (
        beside(policy_puppet(say)) as policy,
        running(tmp_path / "server", rest=config(policy.port, more)) as server,
    ):
        queue_id = send(server, "bob@example.test").rpartition(" ")[2]
        (event,) = server.wait_event("message_quarantined", queue_id=queue_id)
        assert event["reason"] == "policy server policy: odd"
        shown = server.cli("queue", "show", queue_id).stdout
        assert "eve@example.test" in shown
        assert "bob@example.test" not in shown


def test_a_server_that_comes_later(tmp_path):
    port = free_port()
    with running(tmp_path / "server", rest=config(port)) as server:
        waiting = "451 4.3.2 A policy check is not available, try again later"
        assert send(server, "bob@example.test") == waiting
        with beside(policy_puppet(port=port)):
            assert send(server, "bob@example.test").startswith("250")
            server.wait_mail("bob")
            server.stop()
