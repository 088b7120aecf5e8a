"""Scanners on the running server: real clamd, Rspamd and spamd, before and after the queue."""

import smtplib
import ssl
import threading

import pytest
from servers.certificates import Authority
from servers.clamd import EICAR, VIRUS, run_clamd
from servers.dialogue import Dialogue
from servers.elemta import Elemta, running
from servers.process import free_port
from servers.redis import run_redis
from servers.rspamd_filter import run_rspamd_filter
from servers.spamd import run_spamd
from servers.worker import peak_watch, worker_pid

MIB = 1024 * 1024
GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
SIZE = 'max_message_size = "30MB"'
REST = """
[relay]
local_domains = ["example.test", "other.test"]
trusted_networks = ["127.0.0.1/32"]
[[routes]]
domains = ["example.test", "other.test"]
via = "maildir"
path = "{{mail}}/{{{{domain}}}}/{{{{local}}}}"
[[routes]]
domains = ["*"]
via = "hold"
[queue]
jitter = 0.0
retry_schedule = ["1s"]
[plugins]
plugins = [{names}]
{tables}
"""


def server(folder, **tables: str):
    names = ", ".join(f'"{name}"' for name in tables)
    text = "\n".join(f"[plugins.{name}]\n{table}" for name, table in tables.items())
    return running(folder / "server", rest=REST.format(names=names, tables=text), server=SIZE)


def mail(subject: str = "hello", body: bytes = b"hello") -> bytes:
    head = f"From: a@example.org\r\nMessage-ID: <1@example.org>\r\nSubject: {subject}\r\n\r\n"
    return head.encode() + body + b"\r\n"


def deliver(elemta: Elemta, content: bytes, *recipients: str) -> str:
    with Dialogue(elemta.port, source="127.0.0.9") as client:
        client.socket.settimeout(60)
        client.hello()
        return client.deliver(content, "a@example.org", *(recipients or ("b@example.test",)))


@pytest.fixture(scope="module")
def clamd(tmp_path_factory):
    with run_clamd(tmp_path_factory.mktemp("c"), limit=40 * MIB) as found:
        yield found


@pytest.fixture(scope="module")
def rspamd(tmp_path_factory):
    with run_rspamd_filter(tmp_path_factory.mktemp("r")) as found:
        yield found


@pytest.fixture(scope="module")
def post(tmp_path_factory, clamd, rspamd):
    """A server that asks both, while the client waits."""
    with server(
        tmp_path_factory.mktemp("post"),
        clamav=f'servers = ["{clamd.socket}"]\nmax_size = {40 * MIB}\nserver_timeout = 20',
        rspamd=f'servers = ["{rspamd.address}"]\nserver_timeout = 20',
    ) as elemta:
        yield elemta
        assert elemta.events("plugin_error") == []


def test_eicar_is_refused_and_the_log_names_it(post):
    assert deliver(post, mail(body=EICAR)) == "550 5.7.1 The message is infected"
    for event in post.wait_event("message_rejected", plugin="clamav"):  # also those of other tests
        assert event["reason"] == f"virus: {VIRUS}"


def test_gtube_is_refused(post):
    assert deliver(post, mail(body=GTUBE)) == "550 5.7.1 Gtube pattern"


def test_soft_reject_is_for_now(post):
    assert deliver(post, mail("soft")) == "451 4.7.1 Come back later"


def test_clean_mail_is_marked_by_both_and_edited(post):
    content = b"X-Virus-Status: Clean\r\nX-Old: 1\r\n" + mail("edits")
    assert deliver(post, content, "edited@example.test").startswith("250 ")
    (found,) = post.wait_mail("edited")
    assert found.count(b"X-Virus-Status: Clean\r\n") == 1
    assert b"X-Spam-Status: No, score=1.00" in found
    assert b"X-Added: one two\r\n" in found
    assert b"X-Old" not in found


def test_a_scanner_that_hangs_is_named_and_mail_waits(tmp_path, clamd):
    table = f'servers = ["{clamd.socket}"]\nserver_timeout = 1\ntries = 1'
    with server(tmp_path, clamav=table) as elemta:
        elemta.wait_for(lambda: "_probes_total" in elemta.get("/metrics")[1], "the first probe")
        clamd.pause()
        try:
            reply = deliver(elemta, mail())
        finally:
            clamd.resume()
        assert reply == "451 4.3.0 The message cannot be scanned at the moment"
        (event,) = elemta.wait_event("message_rejected", plugin="clamav", reply=reply)
        assert f"{clamd.socket}: no answer within 1 s" in event["reason"]
        elemta.wait_event("plugin_logged", plugin="clamav", level="warning")
        elemta.wait_for(lambda: deliver(elemta, mail()).startswith("250 "), "its return")


def test_a_large_message_takes_no_memory(post):
    """What it is shown to are two real scanners; the worker never has much of it."""
    line = b"a line of a message that is rather large, one of very many\r\n"
    content = mail(body=line * (25 * MIB // len(line)))
    deliver(post, content)
    growth = peak_watch(worker_pid(post))
    replies = [deliver(post, content) for _ in range(2)]
    assert [reply[:4] for reply in replies] == ["250 ", "250 "]
    assert growth() < 4 * MIB


def test_fifty_clients_at_once(post):
    replies: list[str] = []
    bodies = [EICAR, b"hello"] * 25
    threads = [
        threading.Thread(target=lambda body=body: replies.append(deliver(post, mail(body=body))))
        for body in bodies
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    refused = [reply for reply in replies if reply == "550 5.7.1 The message is infected"]
    taken = [reply for reply in replies if reply.startswith("250 ")]
    assert (len(refused), len(taken)) == (25, 25)


def test_probes_are_counted(post):
    for name in ("clamav", "rspamd"):
        post.wait_for(
            lambda name=name: f"elemta_plugin_{name}_probes_total" in post.get("/metrics")[1],
            "a probe",
        )
    assert 'result="ok"' in post.get("/metrics")[1]


def test_rspamd_is_told_of_tls_the_user_and_its_settings(tmp_path, rspamd):
    authority = Authority(tmp_path)
    authority.issue("localhost")
    table = f'servers = ["{rspamd.address}"]\nuser_from = "recipient"\n'
    table += '[plugins.rspamd.settings_ids]\nmta = "inbound"\n[tls]\n'
    table += f'certificate = "{tmp_path}/certificate.pem"\nkey = "{tmp_path}/certificate.key"\n'
    with server(tmp_path, rspamd=table) as elemta:
        context = ssl.create_default_context(cafile=str(authority.file))
        with smtplib.SMTP("localhost", elemta.port) as client:
            client.starttls(context=context)
            client.sendmail("a@example.org", ["b@example.test"], mail("facts"))
            version, cipher = client.sock.version(), client.sock.cipher()[0]
        (found,) = elemta.wait_mail("b")
        facts = found.replace(b"\r\n ", b" ").decode()
        told = f" settings=inbound for=b@example.test tls={version} cipher={cipher} "
        assert told in facts


def test_spamassassin(tmp_path):
    with (
        run_spamd(tmp_path) as spamd,
        server(tmp_path, spamassassin=f'servers = ["{spamd.address}"]') as elemta,
    ):
        assert deliver(elemta, mail(body=GTUBE)) == "550 5.7.1 The message looks like spam"
        assert deliver(elemta, mail()).startswith("250 ")
        (found,) = elemta.wait_mail("b")
        assert b"X-Spam-Status: No, score=" in found


def test_after_the_queue(tmp_path, clamd):
    table = f'servers = ["{clamd.socket}"]\nwhere = "queue"\n'
    with server(tmp_path, clamav=table) as elemta:
        reply = deliver(elemta, mail(body=EICAR), "b@example.test", "c@other.test")
        assert reply.startswith("250 ")
        queue_id = reply.rpartition(" ")[2]
        elemta.wait_event("message_quarantined", queue_id=queue_id, plugin="clamav")
        assert deliver(elemta, mail(), "d@example.test").startswith("250 ")
        (found,) = elemta.wait_mail("d")
        assert b"X-Virus-Status: Clean\r\n" in found
        assert elemta.mailbox("b") == []
        elemta.cli("queue", "release", queue_id)
        elemta.wait_mail("b")
        elemta.wait_for(lambda: elemta.mailbox("c", "other.test"), "the other recipient")
        assert elemta.events("message_bounced") == []


def test_in_a_process_of_its_own(tmp_path, clamd):
    tables = f"""
[[plugins.plugin]]
name = "clamav"
isolation = "process"
[plugins.plugin.config]
socket = "{clamd.tcp}"
where = "queue"
"""
    rest = REST.replace("[plugins]\nplugins = [{names}]\n", "").format(tables=tables)
    with running(tmp_path / "server", rest=rest) as elemta:
        queue_id = deliver(elemta, mail(body=EICAR)).rpartition(" ")[2]
        elemta.wait_event("message_quarantined", queue_id=queue_id, plugin="clamav")
        assert elemta.mailbox("b") == []
        elemta.cli("quarantine", "release", queue_id)
        elemta.wait_mail("b")
        assert elemta.events("plugin_error") == []


def test_a_scanner_dies_and_comes_back_after_the_queue(tmp_path):
    with run_clamd(tmp_path) as dying:
        table = f'servers = ["{dying.socket}"]\nwhere = "queue"\nserver_timeout = 1\ntries = 1\n'
        with server(tmp_path, clamav=table + "pause = 1\nprobe_every = 0\n") as elemta:
            dying.pause()
            assert deliver(elemta, mail()).startswith("250 ")
            elemta.wait_event("plugin_logged", plugin="clamav", level="warning")
            assert elemta.mailbox("b") == []
            dying.resume()
            (found,) = elemta.wait_mail("b")
            assert b"X-Virus-Status: Clean\r\n" in found


def test_what_cannot_be_scanned_in_time_is_kept_and_nobody_is_told(tmp_path):
    """Not even where notifications go to whoever is named as the sender."""
    table = f'servers = ["127.0.0.1:{free_port()}"]\nwhere = "queue"\nprobe_every = 0\n'
    table += 'on_failure = "reject"\n[plugins.clamav.listeners.mta]\non_failure = "defer"\n'
    rest = REST.replace("[queue]", '[queue]\nmax_age = "1s"\nbounce_unverified = "send"\n')
    rest = rest.replace("[queue]", "[queue]\ndelay_warnings = []\n")
    tables = f"[plugins.clamav]\n{table}"
    with running(tmp_path / "server", rest=rest.format(names='"clamav"', tables=tables)) as elemta:
        queue_id = deliver(elemta, mail()).rpartition(" ")[2]
        (event,) = elemta.wait_event("message_quarantined", queue_id=queue_id, plugin="clamav")
        assert event["reason"].startswith("delivery time expired, the last reply was: 451 4.3.0")
        assert "clamav has not scanned it" in event["reason"]
        assert elemta.events("message_bounced") == []
        assert "clamav" in elemta.cli("quarantine", "list").stdout
        elemta.cli("quarantine", "release", queue_id)
        elemta.wait_mail("b")


def test_rspamd_with_redis_sends_away_once(tmp_path):
    """Its own module remembers whom: the plugin does not."""
    with (
        run_redis(tmp_path) as redis,
        run_rspamd_filter(tmp_path, f"127.0.0.1:{redis.port}") as filter_,
        server(
            tmp_path, rspamd=f'servers = ["{filter_.address}"]\ngreylist_delay = 86400'
        ) as elemta,
    ):
        first = deliver(elemta, mail("doubtful"))
        assert first.startswith("451 4.7.1 ")
        (event,) = elemta.wait_event("message_rejected", plugin="rspamd")
        assert event["reason"].startswith("Rspamd: soft reject")
        elemta.wait_for(
            lambda: deliver(elemta, mail("doubtful")).startswith("250 "), "its second chance"
        )
