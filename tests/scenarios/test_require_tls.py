"""Mail that demands TLS on its whole way, and mail that would rather arrive (RFC 8689)."""

import ssl

import pytest
import trustme
from servers.dialogue import Dialogue
from servers.elemta import Elemta, running
from servers.next_hop import serving
from servers.report import Report

from elemta.testing.peer import OFFERS, Peer

ROUTES = """
[tls]
certificate = "{folder}/server.pem"
[relay]
local_domains = ["example.test"]
[[routes]]
domains = ["example.test"]
via = "maildir"
path = "{{mail}}/{{{{domain}}}}/{{{{local}}}}"
[[routes]]
domains = ["able.test"]
via = "smtp"
host = "127.0.0.1"
port = {able}
[[routes]]
domains = ["old.test"]
via = "smtp"
host = "127.0.0.1"
port = {old}
[[routes]]
domains = ["stranger.test"]
via = "smtp"
host = "127.0.0.1"
port = {stranger}
tls = "verify"
"""
CONTENT = b"Subject: a secret\r\n\r\nThe body.\r\n"
AUTHORITY = trustme.CA()


def context(authority: trustme.CA = AUTHORITY) -> ssl.SSLContext:
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(found)
    return found


@pytest.fixture(scope="module")
def peers():
    able = (*OFFERS, "REQUIRETLS")
    found = {
        "able": Peer(offers=able, tls=context()),
        "old": Peer(tls=context()),
        "stranger": Peer(offers=able, tls=context(trustme.CA())),
    }
    with serving(*found.values()):
        yield found


@pytest.fixture(scope="module")
def server(tmp_path_factory, peers):
    folder = tmp_path_factory.mktemp("requiretls")
    AUTHORITY.cert_pem.write_to_path(str(folder / "ca.pem"))
    pem = AUTHORITY.issue_cert("mail.example.test").private_key_and_cert_chain_pem
    pem.write_to_path(str(folder / "server.pem"))
    (folder / "server.pem").chmod(0o600)
    ports = {name: peer.port for name, peer in peers.items()}
    rest = ROUTES.format(folder=folder, **ports)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(folder / "ca.pem"))
        with running(folder, rest=rest, listeners='tls = "starttls"') as elemta:
            yield elemta
            assert not elemta.events("internal_error")


def send(server: Elemta, mail: str, to: str, content: bytes = CONTENT) -> str:
    """Send a message over TLS; its queue id."""
    trusting = ssl.create_default_context()
    AUTHORITY.configure_trust(trusting)
    with Dialogue(server.port) as client:
        assert "REQUIRETLS" not in client.hello()
        assert client.say("STARTTLS").startswith("220")
        client.socket = trusting.wrap_socket(client.socket, server_hostname="mail.example.test")
        assert "REQUIRETLS" in client.hello()
        assert client.say(f"MAIL FROM:{mail}").startswith("250")
        assert client.say(f"RCPT TO:<{to}>").startswith("250")
        assert client.say("DATA").startswith("354")
        client.send(content + b".\r\n")
        reply = client.reply()
    assert reply.startswith("250"), reply
    return reply.rpartition(" ")[2]


def test_over_verified_tls_to_a_host_that_offers_it(server, peers):
    queue_id = send(server, "<ann@example.test> REQUIRETLS", "bob@able.test")
    [event] = server.wait_event("message_delivered", queue_id=queue_id)
    assert event["tls"] == "TLSv1.3"
    assert event["tls_group"] in {"x25519", "X25519MLKEM768"}
    [mail] = [line for line in peers["able"].commands if "MAIL FROM:<ann@" in line]
    assert mail.endswith(" REQUIRETLS")


def test_returned_where_no_host_offers_it(server, peers):
    """With its header section only; and the notification has the same demand."""
    send(server, "<full@example.test> REQUIRETLS RET=FULL", "bob@old.test")
    [raw] = server.wait_mail("full")
    [fate] = Report(raw).fates()
    assert (fate[1], fate[2]) == ("failed", "5.7.30")
    assert b"a secret" in raw
    assert b"The body" not in raw
    assert peers["old"].contents == []
    send(server, "<eve@able.test> REQUIRETLS", "bob@old.test")
    demands = lambda: [line for line in peers["able"].commands if "MAIL FROM:<>" in line]  # noqa: E731
    [mail] = server.wait_for(demands, "a notification for eve")
    assert mail.endswith(" REQUIRETLS")


def test_not_to_a_stranger(server, peers):
    queue_id = send(server, "<ann@example.test> REQUIRETLS", "bob@stranger.test")
    [event] = server.wait_event("message_bounced", queue_id=queue_id)
    assert "5.7.30" in event["reply"]
    assert "RCPT TO:<bob@stranger.test>" not in peers["stranger"].commands


def test_delivery_matters_more_than_a_certificate(server, peers):
    header = b"TLS-Required: No\r\n"
    queue_id = send(server, "<ann@example.test>", "opt@stranger.test", header + CONTENT)
    server.wait_event("message_delivered", queue_id=queue_id)
    strict = send(server, "<ann@example.test> REQUIRETLS", "b@stranger.test", header + CONTENT)
    server.wait_event("message_bounced", queue_id=strict)
    assert len(peers["stranger"].contents) == 1
