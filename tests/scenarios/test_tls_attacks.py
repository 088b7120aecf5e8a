"""What attackers do around and under TLS: injection, smuggling, handshakes that never end."""

import contextlib
import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from servers.certificates import Authority
from servers.crowd import Attempt, Place, hold_all
from servers.dialogue import Dialogue
from servers.elemta import Elemta, running
from servers.process import free_port
from servers.worker import peak_watch, worker_pid

VARIANTS = [
    b"\n.\n",
    b"\n.\r",
    b"\r.\n",
    b"\r.\r",
    b"\n.\r\n",
    b"\r.\r\n",
    b"\r\n.\n",
    b"\r\n.\r",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\r\n.\r\r\n",
    b"\r\r\n.\r\r\n",
]
SECOND = b"MAIL FROM:<ceo@example.test>\r\nRCPT TO:<v@example.test>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n"
CONFIG = """
[relay]
local_domains = ["example.test"]
trusted_networks = []
[tls]
certificate = "certificate.pem"
key = "certificate.key"
[[routes]]
domains = ["*"]
via = "discard"
"""
IMPATIENT = """
[smtp]
command_timeout = "2s"
"""
LISTENERS = """
[[listeners]]
address = "127.0.0.1:{implicit}"
tls = "implicit"
[[listeners]]
address = "127.0.0.1:{lmtp}"
kind = "lmtp"
tls = "starttls"
[[listeners]]
address = "127.0.0.1:{proxied}"
proxy_protocol = ["127.0.0.0/8"]
"""
HEADERS = {
    "version 1": b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 25\r\n",
    "version 2": b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc0\0\x02\x01\x12\x67\0\x19",
}
LONG = 20.0  # seconds; what takes so long would take for ever


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attacks")
    Authority(folder).issue("localhost")
    ports = {name: free_port() for name in ("implicit", "lmtp", "proxied")}
    listeners = LISTENERS.format(**ports)
    with running(folder, rest=CONFIG, listeners=listeners) as elemta:
        elemta.ports = ports
        elemta.wait_event("connection_closed")  # the look for the banner
        yield elemta
        assert not elemta.events("internal_error")


@pytest.fixture
def context():
    found = ssl.create_default_context()
    found.check_hostname = False
    found.verify_mode = ssl.CERT_NONE
    return found


def senders(server) -> set[str]:
    return {each["mail_from"] for each in server.events("mail_from_accepted")}


def count_closed(server, client: str = "127.0.0.1") -> int:
    return sum(each["client_ip"] == client for each in server.events("connection_closed"))


def test_nothing_behind_starttls_is_carried_out(server):
    """In one segment, and cut in two at every octet."""
    begun = count_closed(server)
    whole = b"STARTTLS\r\n" + SECOND
    pieces = [[whole], *([whole[:at], whole[at:]] for at in range(1, len(whole)))]
    hello = [(b"EHLO client.test\r\n", 1)]
    said = hold_all(Place(server.port), [Attempt(hello, each) for each in pieces])
    server.wait_event("connection_closed", begun + len(pieces), client_ip="127.0.0.1")
    assert "ceo@example.test" not in senders(server)
    assert said[0].startswith(b"554 5.5.0 ")
    for (first, *_), answer in zip(pieces, said, strict=True):
        lines = [line for line in answer.split(b"\r\n") if line[:1].isdigit()]
        assert [line[:3] for line in lines] in ([b"554"], [b"220"], [b"220", b"554"]), first
    assert server.events("security_event")


def smuggle(client, mode: str, variant: bytes) -> None:
    """Send a variant within a message, and a transaction behind it; read to the end."""
    content = b"Subject: s\r\n\r\nx" + variant + SECOND
    assert client.envelope("a@client.test", "u@example.test")[-1].startswith("250")
    if mode == "bdat":
        client.send(b"BDAT %d LAST\r\n" % len(content) + content)
    else:
        assert client.say("DATA").startswith("354")
        half = content.index(variant) + len(variant) // 2
        client.send(content[:half])
        client.send(content[half:])
    client.socket.settimeout(LONG)
    assert client.reply().startswith("554 5.6.0 ")
    assert client.rest() == b""


@pytest.mark.parametrize("mode", ["data", "bdat"])
@pytest.mark.parametrize("way", ["mta", "lmtp"])
def test_nothing_is_smuggled_under_tls(server, context, way, mode):
    port = server.ports["lmtp"] if way == "lmtp" else server.port
    begun = count_closed(server)

    def attack(variant: bytes) -> None:
        with Dialogue(port) as client:
            client.hello("LHLO" if way == "lmtp" else "EHLO")
            assert client.say("STARTTLS").startswith("220")
            client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
            client.hello("LHLO" if way == "lmtp" else "EHLO")
            smuggle(client, mode, variant)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(attack, VARIANTS))
    server.wait_event("connection_closed", begun + len(VARIANTS), client_ip="127.0.0.1")
    assert "a@client.test" in senders(server)
    assert "ceo@example.test" not in senders(server)


@pytest.mark.parametrize("mode", ["data", "bdat"])
@pytest.mark.parametrize("version", HEADERS)
def test_nothing_is_smuggled_through_a_proxy(server, version, mode):
    begun = count_closed(server, "192.0.2.7")
    for variant in VARIANTS:
        with Dialogue(server.ports["proxied"], greet=False) as client:
            client.send(HEADERS[version])
            assert client.reply().startswith("220")
            client.hello()
            smuggle(client, mode, variant)
    server.wait_event("connection_closed", begun + len(VARIANTS), client_ip="192.0.2.7")
    assert "ceo@example.test" not in senders(server)


def test_a_client_that_never_reads_under_tls_is_cut_off_and_costs_no_memory(tmp_path, context):
    Authority(tmp_path).issue("localhost")
    options = {"server": "max_recipients = 10000000", "listeners": 'tls = "implicit"\n'}
    elemta = Elemta(tmp_path, rest=CONFIG + IMPATIENT, **options)
    try:
        elemta.spawn()
        elemta.wait_event("worker_started")
        never_read(elemta, context)
    finally:
        elemta.kill()


def never_read(server, context):
    growth = peak_watch(worker_pid(server))
    done = threading.Event()
    with Dialogue(server.port, greet=False) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
        assert client.reply().startswith("220")
        client.hello()
        client.say("MAIL FROM:<a@client.test>")
        client.socket.settimeout(LONG)
        group = b"RCPT TO:<u@example.test>\r\n" * 10_000

        def flood() -> None:
            with contextlib.suppress(OSError):
                for _ in range(1000):
                    client.send(group)
            done.set()

        sender = threading.Thread(target=flood)
        sender.start()
        assert done.wait(LONG)
        sender.join()
    assert growth() < 8_000_000


def test_a_name_that_is_no_text_fails_the_handshake_and_nothing_else(server, context):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    shaking = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        shaking.do_handshake()
    with Dialogue(server.ports["implicit"], greet=False) as client:
        client.send(outgoing.read().replace(b"localhost", b"local\xffost"))
        assert client.rest().startswith(b"\x15\x03")  # an alert
    server.wait_event("tls_handshake_failed")
    with Dialogue(server.port) as client:
        assert client.hello().startswith("250")
    assert not server.events("internal_error")
