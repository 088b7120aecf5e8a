"""Whatever is sent arrives as it was sent, below the trace header: by Maildir, LMTP and SMTP."""

import random
import re
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from corpus import INLINE, Sample, generated, public
from servers.dialogue import Dialogue
from servers.dovecot import run_dovecot
from servers.elemta import Elemta, running
from servers.next_hop import NextHop, serving
from servers.smtp_sink import run_smtp_sink

pytestmark = pytest.mark.timeout(300)  # thousands of deliveries
SEED = 2025
CLIENTS = 4
SHARE = 8  # every eighth message goes to servers of others

LOCAL = """
[relay]
local_domains = ["maildir.test"]
[[routes]]
domains = ["maildir.test"]
via = "maildir"
path = "{mail}/{{domain}}/{{local}}"
"""
ROUTE = """
[[routes]]
domains = ["{via}.test"]
via = "{via}"
host = "127.0.0.1"
port = {port}
"""

ZLIB = """
[queue]
compression = "zlib"
"""
HOLD = (
    """
[relay]
local_domains = ["maildir.test"]
[[routes]]
domains = ["*"]
via = "hold"
"""
    + ZLIB
)

TRACE = (
    rb"Received: from client\.example\.org \(\[127\.0\.0\.1\]\)\r\n"
    rb"\tby mail\.example\.test \(Elemta\) with ESMTP id ([0-9A-Z]+)"
    rb"(?:;\r\n\t|\r\n\tfor <box@[a-z]+\.test>; )"
    rb"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} \+0000\r\n"
)
IN_MAILBOX = rb"Return-Path: <a@example\.org>\r\nDelivered-To: box@maildir\.test\r\n"


@dataclass(frozen=True)
class Sent:
    """A sample as the server took it."""

    queue_id: bytes
    sample: Sample
    by_chunks: bool

    @property
    def as_lines(self) -> bytes:
        """How it must look where a message ends with a line end."""
        content = self.sample.content
        return content if self.sample.is_ended else content + b"\r\n"


def send_by_data(client: Dialogue, content: bytes) -> str:
    assert client.say("DATA").startswith("354")
    stuffed = content.replace(b"\r\n.", b"\r\n..")
    client.send((b"." if stuffed.startswith(b".") else b"") + stuffed + b".\r\n")
    return client.reply()


def send_by_chunks(client: Dialogue, content: bytes) -> str:
    """In up to four chunks, cut anywhere, all in one write."""
    rng = random.Random(content)
    cuts = sorted(rng.randrange(len(content) + 1) for _ in range(rng.randrange(4)))
    chunks = [content[at:end] for at, end in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    wire = [b"BDAT %d\r\n%b" % (len(chunk), chunk) for chunk in chunks[:-1]]
    client.send(b"".join([*wire, b"BDAT %d LAST\r\n%b" % (len(chunks[-1]), chunks[-1])]))
    for _ in wire:
        assert client.reply().startswith("250")
    return client.reply()


def send(client: Dialogue, sample: Sample, recipients: tuple[str, ...], place: int) -> list[Sent]:
    """Send by BDAT, and by DATA what that can carry: lines."""
    done = []
    for by_chunks in (True, False) if sample.is_ended else (True,):
        body = " BODY=8BITMIME" if place % 2 else ""  # declared or not, it must not be touched
        assert client.say(f"MAIL FROM:<a@example.org>{body}").startswith("250")
        for recipient in recipients:
            assert client.say(f"RCPT TO:<{recipient}>").startswith("250")
        reply = (send_by_chunks if by_chunks else send_by_data)(client, sample.content)
        assert reply.startswith("250 2.0.0 Ok: queued as"), (sample.name, reply)
        done.append(Sent(reply.rpartition(" ")[2].encode(), sample, by_chunks))
    return done


def send_all(server: Elemta, samples: list[Sample], *recipients: str) -> list[Sent]:
    """Send everything, by several clients at once."""

    def send_share(share: int) -> list[Sent]:
        with Dialogue(server.port) as client:
            client.hello()
            mine = [place for place in range(len(samples)) if place % CLIENTS == share]
            return [sent for at in mine for sent in send(client, samples[at], recipients, at // 4)]

    with ThreadPoolExecutor(CLIENTS) as threads:
        return [sent for share in threads.map(send_share, range(CLIENTS)) for sent in share]


def compare(sent: list[Sent], received: Iterable[bytes], head: bytes = b"", *, lines: bool) -> None:
    """Each message once, and each as it was sent."""
    pattern = re.compile(head + TRACE)
    found: dict[bytes, bytes] = {}
    for message in received:
        trace = pattern.match(message)
        assert trace is not None, message[:500]
        assert trace[1] not in found, f"{trace[1]!r} came twice"
        found[trace[1]] = message[trace.end() :]
    assert len(found) == len(sent)
    altered = [
        each.sample.name
        for each in sent
        if found[each.queue_id] != (each.as_lines if lines else each.sample.content)
    ]
    assert altered == []


@pytest.fixture(scope="module")
def corpus() -> list[Sample]:
    return generated(SEED) + public()


@dataclass(frozen=True)
class Post:
    """What was sent, each message to all three, and where it went."""

    sent: list[Sent]
    server: Elemta
    lmtp: NextHop
    smtp: NextHop

    def has_arrived(self) -> bool:
        found = (self.lmtp.taken, self.smtp.taken, self.letters())
        return min(map(len, found)) >= len(self.sent)

    def letters(self) -> list[Path]:
        return self.server.mailbox("box", "maildir.test")


@pytest.fixture(scope="module", params=["from memory", "from disk"])
def post(request, tmp_path_factory, corpus):
    """Everything delivered: at once, or from a compressed queue after a restart."""
    lmtp, smtp = NextHop(lmtp=True), NextHop()
    with serving(lmtp, smtp):
        routes = LOCAL + "".join(
            ROUTE.format(via=via, port=hop.port) for via, hop in (("lmtp", lmtp), ("smtp", smtp))
        )
        waits = request.param == "from disk"
        with running(tmp_path_factory.mktemp("post"), rest=HOLD if waits else routes) as server:
            to = ("box@maildir.test", "box@lmtp.test", "box@smtp.test")
            found = Post(send_all(server, corpus, *to), server, lmtp, smtp)
            if waits:
                server.stop()
                server.rest = routes + ZLIB
                server.start()
                server.cli("queue", "release", "--all")
            server.wait_for(found.has_arrived, "all deliveries", limit=150)
            yield found
            assert not server.events("internal_error")


def test_the_corpus_is_large(corpus):
    assert len({sample.content for sample in corpus}) >= 500
    assert sum(sample.is_ended for sample in corpus) >= 500
    assert sum(len(sample.content) > INLINE for sample in corpus) >= 10


def test_by_maildir(post):
    compare(post.sent, [path.read_bytes() for path in post.letters()], IN_MAILBOX, lines=False)


def test_by_lmtp(post):
    compare(post.sent, [each.content for each in post.lmtp.taken], lines=True)
    envelopes = {(each.sender, each.recipients) for each in post.lmtp.taken}
    assert envelopes == {("a@example.org", ("box@lmtp.test",))}


def test_by_smtp(post):
    compare(post.sent, [each.content for each in post.smtp.taken], lines=True)
    envelopes = {(each.sender, each.recipients) for each in post.smtp.taken}
    assert envelopes == {("a@example.org", ("box@smtp.test",))}


def strip(message: bytes) -> tuple[bytes, bytes]:
    """Queue id and content of a message that another server has put on disk as lines."""
    trace = re.search(TRACE.replace(rb"\r\n", rb"\n"), message)
    assert trace is not None, message[:500]
    return trace[1], message[trace.end() :]


def compare_files(sent: list[Sent], files: Iterable[Path], tail: bytes = b"") -> None:
    """As `compare`; `tail` is what the other server puts at the end of each file."""
    found = dict(strip(path.read_bytes()) for path in files)
    assert len(found) == len(sent)
    altered = [
        each.sample.name
        for each in sent
        if found[each.queue_id] != each.as_lines.replace(b"\r\n", b"\n") + tail
    ]
    assert altered == []


def test_dovecot_gets_it_by_lmtp(tmp_path, corpus):
    with run_dovecot({"box@lmtp.test": ""}) as dovecot:
        rest = LOCAL + ROUTE.format(via="lmtp", port=dovecot.port)
        with running(tmp_path, rest=rest) as server:
            sent = send_all(server, corpus[::SHARE], "box@lmtp.test")
            server.wait_event("message_delivered", len(sent), delivery_method="lmtp")
            compare_files(sent, dovecot.mail.glob("box@lmtp.test/new/*"))


def test_smtp_sink_gets_it_by_smtp(tmp_path, corpus):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)  # the sink writes as another user
        with run_smtp_sink(tmp_path, "-d", f"{folder}/") as port:
            rest = LOCAL + ROUTE.format(via="smtp", port=port)
            with running(tmp_path / "elemta", rest=rest) as server:
                sent = send_all(server, corpus[1::SHARE], "box@smtp.test")
                server.wait_event("message_delivered", len(sent), delivery_method="smtp")
                compare_files(sent, folder.iterdir(), tail=b"\n")
