"""Clients that may send to anyone because of the certificate they show."""

import hashlib
import ssl

import pytest
from servers.certificates import Authority
from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, running

REST = """
[tls]
certificate = "certificate.pem"
key = "certificate.key"
client_certificates = "request"
[tls.identities]
"sha256:BRANCH" = "branch"
"sha256:PRINTER" = "printer"
[plugins]
plugins = ["rules"]
[[plugins.rules.rule]]
name = "told"
hook = "rcpt"
when = 'trusted && recipient == "nobody@example.test"'
then = "reject"
text = "a trusted client"
"""
RELAY = """
trusted_networks = []
trusted_certificates = ["branch"]
"""
ELSEWHERE = "RCPT TO:<anna@elsewhere.test>"
DENIED = "550 5.7.1 Relaying denied"


@pytest.fixture(scope="module")
def relay(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    authority = Authority(folder)
    authority.issue("localhost")
    clients = {name: authority.issue(name, file=name) for name in ("branch", "printer")}
    rest = MAILDIR.replace("[relay]", "[relay]" + RELAY) + REST
    for name, issued in clients.items():
        rest = rest.replace(name.upper(), hashlib.sha256(issued.der).hexdigest())
    with running(folder, rest=rest) as server:
        yield server, {**clients, "nobody": None}


def ask(port: int, issued, *commands: str) -> list[str]:
    """Begin a message under TLS; the answers."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if issued is not None:
        context.load_cert_chain(issued.chain, issued.key_file)
    with Dialogue(port) as client:
        client.hello()
        client.say("MAIL FROM:<a@example.org>")
        assert client.say(ELSEWHERE).startswith(DENIED)  # nobody is known yet
        client.say("STARTTLS")
        client.socket = context.wrap_socket(client.socket)
        client.hello()
        client.say("MAIL FROM:<a@example.org>")
        return [client.say(command) for command in commands]


@pytest.mark.parametrize(
    ("who", "reply"), [("branch", "250 2.1.5"), ("printer", DENIED), ("nobody", DENIED)]
)
def test_only_who_shows_one_of_these_may_relay(relay, who, reply):
    server, clients = relay
    (said,) = ask(server.port, clients[who], ELSEWHERE)
    assert said.startswith(reply)


def test_plugins_are_told(relay):
    server, clients = relay
    command = "RCPT TO:<nobody@example.test>"
    assert "a trusted client" in ask(server.port, clients["branch"], command)[0]
    assert ask(server.port, clients["printer"], command)[0].startswith("250 ")
