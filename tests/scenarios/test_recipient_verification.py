"""Recipients verified by the running server: with Dovecot, and with another server over TLS."""

import contextlib
import json

import apsw
import pytest
from servers.certificates import Authority
from servers.dialogue import Dialogue
from servers.dovecot import run_dovecot
from servers.elemta import running

FRONT = """
[relay]
local_domains = ["example.test"]
[[routes]]
domains = ["*"]
via = "hold"
[plugins]
plugins = ["recipient-verification"]
[[plugins.recipient-verification.destinations]]
domains = ["example.test"]
method = "{method}"
server = "{server}"
"""
DATABASE = """
[[plugins.recipient-verification.destinations]]
domains = ["db.test"]
method = "sqlite"
database = {}
"""
BACK = """
[relay]
local_domains = ["example.test"]
[[routes]]
domains = ["*"]
via = "hold"
[tls]
certificate = "certificate.pem"
key = "certificate.key"
[plugins]
plugins = ["recipient-verification"]
[[plugins.recipient-verification.destinations]]
domains = ["example.test"]
method = "table"
table = {table}
"""
UNKNOWN = "550 5.1.1 No such recipient here"
VERIFIED = (
    "elemta_plugin_recipient_verification_verified_total"
    '{{plugin="recipient-verification",result="{}"}}'
)


def told(elemta, *recipients):
    """What is said to recipients, without what a reply may say of its record."""
    with Dialogue(elemta.port) as client:
        client.hello()
        answers = client.envelope("a@else.test", *recipients)[1:]
        return [answer.partition(" (id ")[0] for answer in answers]


@pytest.mark.parametrize("place", ["port", "socket"])
def test_dovecot_says_by_lmtp_who_there_is(tmp_path, place):
    with run_dovecot({"bob@example.test": ""}) as dovecot:
        server = f"127.0.0.1:{dovecot.port}" if place == "port" else f"unix:{dovecot.socket}"
        mailboxes = tmp_path / "mailboxes.db"
        with contextlib.closing(apsw.Connection(str(mailboxes))) as connection:
            connection.execute("CREATE TABLE recipients (address TEXT PRIMARY KEY)")
            connection.execute("INSERT INTO recipients VALUES ('ann@db.test')")
        rest = FRONT.format(method="lmtp", server=server) + DATABASE.format(
            json.dumps(str(mailboxes))
        )
        rest = rest.replace('["example.test"]', '["example.test", "db.test"]', 1)
        with running(tmp_path, rest=rest) as front:
            known, unknown = told(front, "bob@example.test", "eve@example.test")
            assert known.startswith("250")
            assert unknown == UNKNOWN
            assert dovecot.mailbox("bob@example.test") == []
            front.wait_for(lambda: front.metric(VERIFIED.format("unknown")) == 1, "metrics")
            assert front.metric(VERIFIED.format("exists")) == 1
            assert told(front, "Ann+x@db.test")[0].startswith("250")
            assert told(front, "bob@db.test") == [UNKNOWN]
            mailboxes.unlink()
            assert told(front, "ann@db.test")[0].startswith("450 4.3.0")
            assert not front.events("plugin_error")


def test_what_another_server_has_said_over_tls_outlives_it_and_a_restart(tmp_path):
    table = tmp_path / "recipients"
    table.write_text("bob@example.test\n")
    folder = tmp_path / "back"
    folder.mkdir()
    Authority(folder).issue("localhost")
    with running(folder, rest=BACK.format(table=json.dumps(str(table)))) as back:
        rest = FRONT.format(method="smtp", server=f"127.0.0.1:{back.port}")
        with running(tmp_path / "front", rest=rest, workers=2) as front:
            known, unknown = told(front, "bob@example.test", "eve@example.test")
            assert known.startswith("250")
            assert unknown == UNKNOWN
            back.wait_event("tls_handshake")
            back.kill()
            assert front.stop() == 0
            front.start()
            known, unknown, unclear = told(
                front, "bob@example.test", "eve@example.test", "new@example.test"
            )
            assert known.startswith("250")
            assert unknown == UNKNOWN
            assert unclear == "450 4.4.1 The recipient cannot be verified at the moment"
            assert not front.events("plugin_error")
            assert not front.events("internal_error")
