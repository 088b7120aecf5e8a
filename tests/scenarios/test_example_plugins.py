"""The example plugins in the running server, each acting on the wire."""

import asyncio
import contextlib
import json
import shutil
import threading
from pathlib import Path

from servers.clamd import EICAR, VIRUS, run_clamd
from servers.dialogue import Dialogue
from servers.elemta import Elemta, running

from tests.examples.outside import endpoint

EXAMPLES = Path(__file__).resolve().parents[2] / "examples/plugins"
STRANGER = "127.0.0.9"
REST = """
[relay]
local_domains = ["example.test"]
trusted_networks = ["127.0.0.1/32"]
[[routes]]
domains = ["example.test"]
via = "maildir"
path = "{mail}/{{domain}}/{{local}}"
[[routes]]
domains = ["*"]
via = "hold"
"""
PLAIN = b"Subject: hello\r\n\r\nhello\r\n"


@contextlib.contextmanager
def server(folder: Path, config: str, *names: str):
    """A server with copies of these examples in its folder of plugins."""
    plugins = folder / "plugins"
    plugins.mkdir()
    plugins.chmod(0o755)
    for name in names:
        shutil.copy(EXAMPLES / f"{name}.py", plugins)
        (plugins / f"{name}.py").chmod(0o644)
    text = config.replace('"./plugins"', json.dumps(str(plugins)))
    escaped = text.replace("{", "{{").replace("}", "}}")
    with running(folder / "server", rest=REST + escaped) as elemta:
        yield elemta


@contextlib.contextmanager
def beside(made):
    """Serve what an asynchronous context manager makes, in a thread of its own."""
    ready, over, found = threading.Event(), [], []

    async def serve():
        done = asyncio.Event()
        over.append((asyncio.get_running_loop(), done))
        async with made as thing:
            found.append(thing)
            ready.set()
            await done.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(60)
        yield found[0]
    finally:
        loop, done = over[0]
        loop.call_soon_threadsafe(done.set)
        thread.join(60)


def say(elemta: Elemta, sender: str, *recipients: str, source: str | None = STRANGER) -> list[str]:
    """The replies to MAIL and RCPT."""
    with Dialogue(elemta.port, source=source) as client:
        client.hello()
        return client.envelope(sender, *recipients)


def deliver(elemta: Elemta, content: bytes, sender: str = "a@b.test") -> str:
    """The reply to a message of a stranger."""
    with Dialogue(elemta.port, source=STRANGER) as client:
        client.hello()
        return client.deliver(content, sender, "c@example.test")


POLICY = """
[plugins]
enabled = true
directory = "./plugins"

[[plugins.plugin]]
name = "policy"
enabled = true
[plugins.plugin.config]
max_messages_per_minute = 60
max_recipients_per_message = 50
allowed_sender_domains = ["example.com", "trusted.org"]
blocked_recipient_domains = ["blocked.com", "spam.org"]
allowed_relay_domains = ["example.com", "trusted.org"]
block_bad_reputation = true
min_reputation_score = 50
"""


def test_the_policy_of_the_seed(tmp_path):
    config = POLICY + 'reputation = {"127.0.0.66/32" = 49}\n'
    with server(tmp_path, config, "policy") as elemta:
        ok = ["250 2.1.0 Sender ok", "250 2.1.5 Recipient ok"]
        assert say(elemta, "a@example.com", "c@trusted.org") == ok  # relayed for a stranger
        assert say(elemta, "", "c@example.test") == ok
        refused = "550 5.7.1 Your domain may not send here"
        assert say(elemta, "a@elsewhere.test", "c@example.test")[0] == refused
        blocked = "550 5.7.1 We do not send to blocked.com"
        assert say(elemta, "a@example.com", "c@blocked.com")[1] == blocked
        assert say(elemta, "a@example.com", "c@other.test")[1].startswith("550 5.7.1")
        many = say(elemta, "a@example.com", *(f"u{n}@example.test" for n in range(51)))
        assert many[-2:] == ["250 2.1.5 Recipient ok", "452 4.5.3 Too many recipients"]
        with Dialogue(elemta.port, source="127.0.0.66") as client:
            assert client.banner == "554 5.7.1 Your IP address has a bad reputation"
        for _ in range(60):
            last = say(elemta, "a@example.com", source="127.0.0.10")
        assert last[0].startswith("250")
        assert say(elemta, "a@example.com", source="127.0.0.10")[0].startswith("451 4.7.1")
        elemta.wait_for(
            lambda: "elemta_plugin_policy_rejected_senders_total" in elemta.get("/metrics")[1],
            "its counters",
        )


FILTERS = """
[plugins]
enabled = true
directory = "./plugins"
auto_load = true

[[plugins.plugin]]
name = "spam-filter"
enabled = true
module = "spam_filter.py"
config = '''
{
  "spam_threshold": 5.0,
  "quarantine": true
}
'''

[[plugins.plugin]]
name = "virus-scanner"
enabled = true
module = "virus_scanner.py"
config = '''
{
  "clamav_socket": "/var/run/clamav/clamd.sock"
}
'''
"""
SPAM = b"Subject: winner\r\n\r\nviagra casino free money click here\r\n"


def test_the_filters_of_the_seed(tmp_path):
    socket = tmp_path / "clamd" / "socket"
    config = FILTERS.replace("/var/run/clamav/clamd.sock", str(socket))
    with server(tmp_path, config, "spam_filter", "virus_scanner") as elemta:
        assert deliver(elemta, PLAIN).startswith("451 4.3.0")  # there is no scanner yet
        with run_clamd(tmp_path):
            assert deliver(elemta, PLAIN).startswith("250")
            assert b"\nX-Spam-Score: 0\r\n" in elemta.wait_mail("c")[0]
            assert deliver(elemta, SPAM).startswith("250")
            aside = elemta.wait_event("message_quarantined", plugin="spam-filter")[0]
            assert aside["reason"].startswith("score 5: ")
            assert deliver(elemta, b"\r\n" + EICAR + b"\r\n").startswith("250")
            aside = elemta.wait_event("message_quarantined", plugin="virus-scanner")[0]
            assert aside["reason"] == VIRUS
        assert deliver(elemta, PLAIN).startswith("451 4.3.0")  # and none any more
        assert len(elemta.mailbox("c")) == 1


CONTENT = """
[plugins]
directory = "./plugins"
plugins = ["message-size", "domain-rate", "content-filter", "attachment-types", "message-logger"]

[plugins.message_size]
max_size = 5000
[plugins.domain_rate]
max_messages = 2
[plugins.content_filter]
keywords = ["lottery"]
[plugins.message_logger]
url = "URL"
"""
FILE = (
    b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n\r\ntext\r\n'
    b'--b\r\nContent-Disposition: attachment; filename="a.pdf.EXE"\r\n\r\nx\r\n--b--\r\n'
)


def test_contents(tmp_path):
    names = ("message_size", "domain_rate", "content_filter", "attachment_types", "message_logger")
    with (
        beside(endpoint()) as there,
        server(tmp_path, CONTENT.replace("URL", there.url), *names) as elemta,
    ):
        large = b"Subject: large\r\n\r\n" + b"x" * 70 + b"\r\n" + b"y\r\n" * 2000
        assert deliver(elemta, large, "a@1.test").startswith("552 5.3.4")
        word = deliver(elemta, b"Subject: x\r\n\r\na lot=\r\ntery\r\n", "a@2.test")
        assert word.startswith("250")  # it does not say that it is encoded
        word = deliver(
            elemta,
            b"Content-Transfer-Encoding: quoted-printable\r\n\r\na lot=\r\ntery\r\n",
            "a@2.test",
        )
        assert word == "550 5.7.1 Message contains prohibited content"
        assert deliver(elemta, FILE, "a@3.test").startswith("550 5.7.1 Attachments")
        assert deliver(elemta, PLAIN, "a@2.test").startswith("451 4.7.1 Too many messages")
        queue_id = deliver(elemta, PLAIN, "a@4.test").rpartition(" ")[2]

        def told() -> list[str]:
            return [line["queue_id"] for _, lines in there.posts for line in lines]

        elemta.wait_for(lambda: queue_id in told(), "the record")
        assert len(told()) == 2


ENVELOPES = """
[plugins]
directory = "./plugins"
auto_load = true

[[plugins.plugin]]
name = "ip-blocklist"
config = { networks = ["127.0.0.64/29"] }
[[plugins.plugin]]
name = "connection-rate"
config = { max_connections = 40 }
[[plugins.plugin]]
name = "business-hours"
config = { timezone = "Europe/Berlin", hours = { start = "00:00", end = "00:00" } }
[[plugins.plugin]]
name = "reputation"
config = { table = { "127.0.0.72/32" = 10 } }
[[plugins.plugin]]
name = "sender-domains"
config = { domains = ["b.test", "localhost"] }
[[plugins.plugin]]
name = "sender-rules"
config = { addresses = ["bad@b.test"] }
[[plugins.plugin]]
name = "recipient-domains"
config = { domains = ["blocked.test"] }
[[plugins.plugin]]
name = "max-recipients"
config = { max_recipients = 2 }
[[plugins.plugin]]
name = "greylisting"
config = { delay = 3600 }
[[plugins.plugin]]
name = "relay-control"
priority = 100
config = { domains = ["partner.test", "blocked.test"] }
"""


def test_connections_and_envelopes(tmp_path):
    names = [path.stem for path in EXAMPLES.glob("*.py")]
    with server(tmp_path, ENVELOPES, *names) as elemta:  # the others do no harm as they are
        wanted = {name.replace("_", "-") for name in names}
        elemta.wait_for(
            lambda: wanted <= {event["plugin"] for event in elemta.events("plugin_changed")},
            "all of them",
        )
        with Dialogue(elemta.port, source="127.0.0.66") as client:
            assert client.banner == "554 5.7.1 Your IP address is blocked"
        with Dialogue(elemta.port, source="127.0.0.72") as client:
            assert client.banner == "554 5.7.1 Your IP address has a bad reputation"
        assert say(elemta, "a@c.test")[0].startswith("550 5.7.1 Your domain")
        assert say(elemta, "Bad@b.test")[0] == "553 5.1.8 Sender refused: blocked address"
        assert say(elemta, "a@localhost")[0] == "553 5.1.8 Sender refused: domain without a dot"
        asked = ["c@blocked.test", "c@partner.test", "c@other.test", "c@example.test"]
        _, blocked, relayed, refused, grey = say(elemta, "a@b.test", *asked)
        assert blocked == "550 5.7.1 We do not send to blocked.test"
        assert relayed == "250 2.1.5 Recipient ok"
        assert refused.startswith("550 5.7.1")
        assert grey == "451 4.7.1 Greylisted, try again later"
        mine = say(elemta, "", "1@example.test", "2@example.test", "3@example.test", source=None)
        assert mine[1:] == [
            "250 2.1.5 Recipient ok",
            "250 2.1.5 Recipient ok",
            "452 4.5.3 Too many recipients",
        ]
        banners = []
        for _ in range(41):
            with Dialogue(elemta.port, source="127.0.0.20") as client:
                banners.append(client.banner[:9])
        assert banners[0].startswith("220 ")
        assert banners[-1] == "421 4.7.1"


ISOLATED = """
[plugins]
directory = "./plugins"
auto_load = false

[[plugins.plugin]]
name = "business-hours"
isolation = "process"
config = { timezone = "Europe/Berlin" }
[[plugins.plugin]]
name = "greylisting"
isolation = "process"
config = { delay = 0.001 }
[[plugins.plugin]]
name = "content-filter"
isolation = "process"
config = { keywords = ["lottery"] }
[[plugins.plugin]]
name = "attachment-types"
isolation = "process"
[[plugins.plugin]]
name = "spam-filter"
isolation = "process"
config = { quarantine = true }
[[plugins.plugin]]
name = "virus-scanner"
isolation = "process"
config = { clamav_socket = "CLAMD", infected = "reject" }
[[plugins.plugin]]
name = "message-logger"
isolation = "process"
config = { url = "URL" }
"""


def test_in_processes_of_their_own(tmp_path, clamd):
    names = ["business_hours", "greylisting", "content_filter", "attachment_types", "spam_filter"]
    names += ["virus_scanner", "message_logger"]
    with beside(endpoint()) as there:
        config = ISOLATED.replace("CLAMD", clamd.tcp).replace("URL", there.url)
        with server(tmp_path, config, *names) as elemta:
            assert deliver(elemta, PLAIN) == "451 4.7.1 Greylisted, try again later"
            assert deliver(elemta, PLAIN).startswith("250")
            assert b"\nX-Spam-Score: 0\r\n" in elemta.wait_mail("c")[0]
            assert deliver(elemta, FILE).startswith("550 5.7.1 Attachments")
            word = deliver(elemta, b"Subject: lottery\r\n\r\nx\r\n")
            assert word == "550 5.7.1 Message contains prohibited content"
            assert deliver(elemta, SPAM).startswith("250")
            aside = elemta.wait_event("message_quarantined", plugin="spam-filter")[0]
            assert aside["reason"].startswith("score 5: ")
            elemta.wait_for(lambda: sum(len(lines) for _, lines in there.posts) == 2, "the records")
            infected = deliver(elemta, b"\r\n" + EICAR + b"\r\n")
            assert infected == "554 5.7.1 Message is infected"
            refused = elemta.wait_event("message_rejected", plugin="virus-scanner")[0]
            assert refused["reason"] == VIRUS
            assert elemta.events("plugin_error") == []


def test_outside_business_hours(tmp_path):
    config = """
[plugins]
directory = "./plugins"
[plugins.business_hours]
hours = { days = [] }
"""
    plugins = tmp_path / "plugins"
    plugins.mkdir(mode=0o755)
    shutil.copy(EXAMPLES / "business_hours.py", plugins)
    (plugins / "business_hours.py").chmod(0o644)
    text = config.replace('"./plugins"', json.dumps(str(plugins)))
    elemta = Elemta(tmp_path / "server", rest=REST + text.replace("{", "{{").replace("}", "}}"))
    try:
        elemta.spawn()
        elemta.wait_event("worker_started")
        with Dialogue(elemta.port) as client:
            assert client.banner.startswith("421 4.7.1 We are closed")
    finally:
        elemta.kill()
