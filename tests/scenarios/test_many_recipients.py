"""One message with very many recipients, all of whom are refused."""

import email

from flufl.bounce import all_failures
from servers.dialogue import Dialogue
from servers.elemta import running
from servers.next_hop import NextHop, serving
from servers.worker import peak_watch, worker_pid

COUNT = 5000
ROUTES = """
[relay]
local_domains = ["example.test"]
[[routes]]
domains = ["example.test"]
via = "maildir"
path = "{{mail}}/{{{{domain}}}}/{{{{local}}}}"
[[routes]]
domains = ["*"]
via = "smtp"
host = "127.0.0.1"
port = {port}
tls = "none"
[delivery]
recipients_per_transaction = 500
"""


def test_few_notifications_name_all_who_were_refused(tmp_path):
    hop = NextHop(lambda stage, _about: "550 5.1.1 nobody" if stage == "rcpt" else None)
    recipients = [f"u{number}@far.test" for number in range(COUNT)]
    with (
        serving(hop),
        running(
            tmp_path, rest=ROUTES.format(port=hop.port), server=f"max_recipients = {COUNT}"
        ) as server,
    ):
        growth = peak_watch(worker_pid(server))
        with Dialogue(server.port) as client:
            client.hello()
            reply = client.deliver(b"Subject: all\r\n\r\n", "ann@example.test", *recipients)
            assert reply.startswith("250")
        server.wait_event("message_bounced", COUNT)
        refused = set()
        for raw in server.wait_mail("ann", COUNT // 500):
            temporary, permanent = all_failures(email.message_from_bytes(raw))
            assert not temporary
            assert len(permanent) == 500
            refused |= permanent
        assert refused == {recipient.encode() for recipient in recipients}
        assert len(server.mailbox("ann")) == COUNT // 500
        assert growth() < 30_000_000
        assert not hop.taken
