"""Proxies in front of the server: who may speak for others, what counts then, and who may not."""

import socket
import ssl
import struct
import subprocess
from ipaddress import ip_address

import pytest
from servers.certificates import Authority
from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, running
from servers.haproxy import haproxy
from servers.logins import AUTH, add_user, submission
from servers.process import free_port, program

PROXY, CLIENT, STRANGER = "127.0.0.3", "192.0.2.7", "127.0.0.4"
CONTENT = b"Subject: hello\r\n\r\nhello\r\n"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
UNIQUE_ID = b"\x05\0\4abcd"
REST = f"""
[[listeners]]
address = "127.0.0.1:{{relay}}"
kind = "mta"
xclient = ["{PROXY}"]
xforward = ["{PROXY}"]
[[listeners]]
address = "127.0.0.1:{{behind}}"
kind = "mta"
proxy_protocol = ["{PROXY}", "127.0.0.1"]
[[listeners]]
address = "127.0.0.1:{{secure}}"
kind = "mta"
tls = "implicit"
proxy_protocol = ["{PROXY}"]
"""
SETTINGS = """
[tls]
certificate = "certificate.pem"
key = "certificate.key"
[limits]
connections_per_address = 2
{more}
"""


class Site:
    """A server with a listener of each kind."""

    def __init__(self, server, ports):
        self.server = server
        self.relay, self.behind, self.secure = ports

    def proxied(self, header: bytes, *, source: str = PROXY, greet: bool = True) -> Dialogue:
        """A connection that begins with a header."""
        client = Dialogue(self.behind, greet=False, source=source)
        client.send(header)
        if greet:
            client.banner = client.reply()
        return client

    def events(self, kind: str, count: int = 1, **fields):
        return self.server.wait_event(kind, count, **fields)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("proxies")
    Authority(folder).issue("localhost")
    ports = [free_port() for _ in range(3)]
    listeners = REST.format(relay=ports[0], behind=ports[1], secure=ports[2])
    rest = MAILDIR + SETTINGS.format(more="")
    with running(folder, rest=rest, listeners=listeners) as server:
        yield Site(server, ports)


def v1(client: str = CLIENT, port: int = 4711) -> bytes:
    return f"PROXY TCP4 {client} 192.0.2.25 {port} 25\r\n".encode()


def v2(client: str = CLIENT, extras: bytes = b"", command: int = 0x21) -> bytes:
    ends = ip_address(client).packed + ip_address("192.0.2.25").packed
    body = ends + struct.pack("!HH", 4711, 25) + extras
    return SIGNATURE + struct.pack("!BBH", command, 0x11, len(body)) + body


class TestProxyProtocol:
    @pytest.mark.parametrize(
        "header",
        [v1(), v2(), v2(extras=UNIQUE_ID), v2(extras=UNIQUE_ID + b"\x04\0\2\0\0")],
        ids=["version 1", "version 2", "more in it", "padded"],
    )
    def test_the_client_is_the_one_it_names(self, site, header):
        with site.proxied(header) as client:
            assert client.banner.startswith("220")
            client.hello()
            replies = client.envelope("a@example.org", "x@other.example")
            assert replies[-1].startswith("550 5.7.1")  # loopback would be trusted
            client.say("RSET")
            reply = client.deliver(CONTENT, "a@example.org", "proxied@example.test")
            assert reply.startswith("250")
        site.events("connection_accepted", client_ip=CLIENT, server_ip="192.0.2.25:25")
        raw = site.server.wait_mail("proxied")[-1]
        assert b"[192.0.2.7]" in raw
        assert PROXY.encode() not in raw

    @pytest.mark.parametrize("header", [v1(), v2()], ids=["version 1", "version 2"])
    def test_it_may_come_in_any_pieces(self, site, header):
        with site.proxied(b"", greet=False) as client:
            for octet in header:
                client.send(bytes([octet]))
            assert client.reply().startswith("220")
        site.events("connection_accepted", client_ip=CLIENT)

    @pytest.mark.parametrize(
        "header",
        [b"PROXY UNKNOWN\r\n", v2(command=0x20), SIGNATURE + b"\x20\0\0\0"],
        ids=["version 1", "version 2", "version 2, empty"],
    )
    def test_it_may_speak_for_itself(self, site, header):
        with site.proxied(header) as client:
            assert client.banner.startswith("220")
            client.hello()
            replies = client.envelope("a@example.org", "x@other.example")
            assert replies[-1].startswith("250")  # loopback is trusted

    @pytest.mark.parametrize(
        "header",
        [
            b"EHLO client.example.org\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.25 4711\r\n",
            b"PROXY TCP4 192.0.2.999 192.0.2.25 1 2\r\n",
            b"PROXY " + b"x" * 200,
            SIGNATURE + b"\x31\x11\0\x0c" + bytes(12),
            SIGNATURE + b"\x21\x11\0\x04" + bytes(4),
            SIGNATURE + b"\x21\x11\xff\xff",
            v2(extras=b"\x05\0\x09abcd"),
            b"\x16\x03\x01\x02\0\x01",
        ],
        ids=[
            "none",
            "cut short",
            "no address",
            "endless",
            "version 3",
            "wrong length",
            "too long",
            "broken part",
            "TLS",
        ],
    )
    def test_a_broken_one_gets_no_banner(self, site, header):
        def reports() -> int:
            found = site.server.events("security_event")
            return [(each["kind"], each["client_ip"]) for each in found].count(
                ("proxy_header", PROXY)
            )

        count = reports()
        with site.proxied(header, greet=False) as client:
            assert client.rest() == b""
        site.server.wait_for(lambda: reports() > count, "the report")

    def test_one_that_does_not_come_in_time(self, site):
        with site.proxied(v2()[:20], greet=False) as client:
            client.socket.settimeout(30)
            assert client.rest() == b""

    def test_nobody_else_gets_in(self, site):
        for header in (v1(), v2(), b""):
            with site.proxied(header, source=STRANGER, greet=False) as client:
                assert client.rest() == b""
        refused = site.events("connection_refused", client_ip=STRANGER)
        assert {event["reason"] for event in refused} == {"proxy"}

    def test_a_second_one_is_a_broken_command(self, site):
        with site.proxied(v1()) as client:
            assert client.say("PROXY TCP4 127.0.0.1 127.0.0.1 1 2").startswith("500")
            client.hello()
            replies = client.envelope("a@example.org", "x@other.example")
            assert replies[-1].startswith("550")

    def test_elsewhere_it_is_a_broken_command(self, site):
        with Dialogue(site.server.port, source=PROXY) as client:
            assert client.say(v1().decode().strip()).startswith("500")

    def test_it_stands_before_tls(self, site):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        near = ("127.0.0.1", site.secure), 20, (PROXY, 0)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing)
        with socket.create_connection(*near) as raw:
            with pytest.raises(ssl.SSLWantReadError):
                tls.do_handshake()
            raw.sendall(v2() + outgoing.read())  # the first flight comes with the header
            banner = b""
            while not banner.endswith(b"\r\n"):
                said = raw.recv(65536)
                assert said, "the server has closed"
                incoming.write(said)
                try:
                    tls.do_handshake()
                    if outgoing.pending:
                        raw.sendall(outgoing.read())
                    banner += tls.read(1000)
                except ssl.SSLWantReadError:
                    if outgoing.pending:
                        raw.sendall(outgoing.read())
            assert banner.startswith(b"220 ")
        site.events("tls_handshake", client_ip=CLIENT)

    def test_connections_count_for_the_client(self, site):
        crowded, other = "192.0.2.40", "192.0.2.41"
        with site.proxied(v1(crowded)) as first, site.proxied(v1(crowded)) as second:
            assert first.banner[:3] == second.banner[:3] == "220"
            with site.proxied(v1(crowded)) as third:
                assert third.banner.startswith("421")
            with site.proxied(v1(other)) as fourth:
                assert fourth.banner.startswith("220")
        refused = site.events("connection_refused", client_ip=crowded)
        assert refused[-1]["reason"] == "connections_per_address"

    def test_a_ban_is_the_clients(self, site):
        banned = "192.0.2.50"
        site.server.cli("bans", "add", banned)
        site.server.wait_for(lambda: self._greeting(site, banned).startswith("5"), "the ban")
        assert self._greeting(site, "192.0.2.51").startswith("220")

    @staticmethod
    def _greeting(site: Site, address: str) -> str:
        with site.proxied(v1(address)) as client:
            return client.banner


class TestHaproxy:
    @pytest.mark.parametrize("options", ["send-proxy", "send-proxy-v2", "send-proxy-v2-ssl-cn"])
    def test_mail_comes_through(self, site, tmp_path, options):
        source = {"send-proxy": "127.0.0.61", "send-proxy-v2": "127.0.0.62"}.get(options)
        source = source or "127.0.0.63"
        with haproxy(tmp_path, site.behind, options) as proxy:
            with Dialogue(proxy.port, source=source) as client:
                assert client.banner.startswith("220")
                client.hello()
                local = f"ha{source[-2:]}"
                reply = client.deliver(CONTENT, "a@example.org", f"{local}@example.test")
                assert reply.startswith("250")
            site.events("connection_accepted", client_ip=source)
            assert f"[{source}]".encode() in site.server.wait_mail(local)[0]

    def test_its_checks_are_no_clients(self, site, tmp_path):
        options = "send-proxy-v2 check check-send-proxy inter 100ms"
        known = [
            event
            for event in site.server.events("connection_accepted")
            if event["client_ip"] == "127.0.0.1"
        ]
        with haproxy(tmp_path, site.behind, options) as proxy:
            with Dialogue(proxy.port) as client:
                assert client.banner.startswith("220")
            site.events("connection_accepted", len(known) + 3, client_ip="127.0.0.1")
        assert not [
            event
            for event in site.server.events("security_event")
            if event["kind"] == "proxy_header" and event["client_ip"] == "127.0.0.1"
        ]


@pytest.fixture
def proxy(site):
    with Dialogue(site.relay, source=PROXY) as client:
        client.hello()
        yield client


def may_relay(client: Dialogue, sender: str = "a@example.org") -> bool:
    client.hello()
    reply = client.envelope(sender, "x@other.example")[-1]
    client.say("RSET")
    return reply.startswith("250")


class TestXclient:
    def test_it_is_offered_to_proxies_alone(self, site, proxy):
        assert "250-XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT" in proxy.hello()
        with Dialogue(site.relay, source=STRANGER) as stranger:
            assert "XCLIENT" not in stranger.hello()
            assert stranger.say("XCLIENT ADDR=127.0.0.1").startswith("550 5.7.0")
            assert stranger.say("XFORWARD ADDR=127.0.0.1").startswith("550 5.7.0")
        with Dialogue(site.server.port, source=PROXY) as elsewhere:
            elsewhere.hello()
            assert elsewhere.say("XCLIENT ADDR=192.0.2.7").startswith("550 5.7.0")

    def test_the_client_is_the_one_it_names(self, site, proxy):
        assert may_relay(proxy)
        line = f"XCLIENT NAME=mail.example.org ADDR={CLIENT} PORT=4711 DESTADDR=192.0.2.25"
        assert proxy.say(line).startswith("220 mail.example.test")
        assert proxy.say("MAIL FROM:<a@example.org>").startswith("503")
        assert not may_relay(proxy)
        reply = proxy.deliver(CONTENT, "a@example.org", "xclient@example.test")
        assert reply.startswith("250")
        assert b"[192.0.2.7]" in site.server.wait_mail("xclient")[0]

    def test_an_ipv6_client(self, site, proxy):
        assert proxy.say("XCLIENT ADDR=IPV6:2001:db8::7").startswith("220")
        proxy.hello()
        proxy.deliver(CONTENT, "a@example.org", "six@example.test")
        assert b"[IPv6:2001:db8::7]" in site.server.wait_mail("six")[0]

    def test_a_login_that_the_proxy_has_checked(self, proxy):
        anna = "anna@example.test"
        assert proxy.say(f"XCLIENT ADDR={CLIENT} LOGIN={anna}").startswith("220")
        assert may_relay(proxy, anna)
        assert not may_relay(proxy)  # she is not that sender
        assert proxy.say("XCLIENT HELO=mail.example.org").startswith("220")
        assert may_relay(proxy, anna)
        for other in (f"ADDR={CLIENT} LOGIN=[UNAVAILABLE]", "ADDR=192.0.2.8"):
            assert proxy.say(f"XCLIENT ADDR={CLIENT} LOGIN={anna}").startswith("220")
            assert proxy.say(f"XCLIENT {other}").startswith("220")
            assert not may_relay(proxy, anna)
        assert not may_relay(proxy)

    @pytest.mark.parametrize(
        "argument",
        [
            "ADDR=[UNAVAILABLE]",
            "ADDR=[TEMPUNAVAIL]",
            "ADDR=mail.example.org",
            "ADDR=fe80::1+25eth0",
            "ADDR=192.0.2.7 PORT=99999",
            "ADDR=192.0.2.7 LOGIN=a+20b",
            "ADDR=192.0.2.7 ADDR=192.0.2.8",
            "ADDR=192.0.2.7+0D+0AEHLO",
        ],
    )
    def test_what_makes_no_sense_changes_nothing(self, proxy, argument):
        assert proxy.say(f"XCLIENT {argument}").startswith("501 5.5.4")
        assert may_relay(proxy)

    def test_not_within_a_message(self, proxy):
        proxy.say("MAIL FROM:<a@example.org>")
        assert proxy.say(f"XCLIENT ADDR={CLIENT}").startswith("503")

    def test_connections_count_for_the_client(self, site):
        crowded = "192.0.2.42"
        with Dialogue(site.relay, source=PROXY) as first, Dialogue(site.relay, source=PROXY) as two:
            for client in (first, two):
                client.hello()
                assert client.say(f"XCLIENT ADDR={crowded}").startswith("220")
            with Dialogue(site.relay, source="127.0.0.1") as other:
                assert "XCLIENT" not in other.hello()
            with Dialogue(site.relay, source=PROXY) as third:
                third.hello()
                assert third.say(f"XCLIENT ADDR={crowded}").startswith("421")
                assert third.rest() == b""
            assert two.say("XCLIENT ADDR=192.0.2.43").startswith("220")
            with Dialogue(site.relay, source=PROXY) as fourth:
                fourth.hello()
                assert fourth.say(f"XCLIENT ADDR={crowded}").startswith("220")

    def test_swaks_speaks_it(self, site):
        command = [
            program("swaks", "swaks"),
            "--server",
            "127.0.0.1",
            "--port",
            str(site.relay),
            "--local-interface",
            PROXY,
            "--xclient",
            f"ADDR={CLIENT} NAME=mail.example.org HELO=mail.example.org",
            "--from",
            "a@example.org",
            "--to",
            "swaks@example.test",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert b"[192.0.2.7]" in site.server.wait_mail("swaks")[0]


class TestXforward:
    def test_it_is_for_the_log_alone(self, site, proxy):
        line = "XFORWARD NAME=mail.example.org ADDR=192.0.2.99 HELO=there.example.org SOURCE=REMOTE"
        assert proxy.say(line).startswith("250")
        assert may_relay(proxy)
        [event] = site.events("client_forwarded", forwarded_for="192.0.2.99")
        assert event["client_ip"] == PROXY
        said = {name: event[name] for name in ("helo", "name", "source")}
        assert said == {
            "helo": "there.example.org",
            "name": "mail.example.org",
            "source": "REMOTE",
        }
        assert proxy.say("XFORWARD IDENT=4ABC PORT=4711 PROTO=ESMTP").startswith("250")
        [event] = site.events("client_forwarded", ident="4ABC")
        assert (event["port"], event["proto"]) == ("4711", "ESMTP")
        proxy.deliver(CONTENT, "a@example.org", "forwarded@example.test")
        raw = site.server.wait_mail("forwarded")[0]
        assert b"192.0.2.99" not in raw
        assert f"[{PROXY}]".encode() in raw


MARKER = """
from elemta.plugins import Metadata, Plugin, Result

class Gate(Plugin):
    metadata = Metadata(name="gate", version="1")

    def on_connect(self, ctx):
        ctx.log.info(f"connect {ctx.session.client_ip} {ctx.session.username}")
        if ctx.session.client_ip == "192.0.2.66":
            return Result.reject("Not you")

    def on_helo(self, ctx):
        ctx.log.info(f"helo {ctx.session.client_ip}")
"""


def test_plugins_are_asked_again(tmp_path):
    Authority(tmp_path).issue("localhost")
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "gate.py").write_text(MARKER)
    ports = [free_port() for _ in range(3)]
    listeners = REST.format(relay=ports[0], behind=ports[1], secure=ports[2])
    more = '[plugins]\ndirectory = "plugins"\nplugins = ["gate"]'
    with running(
        tmp_path, rest=MAILDIR + SETTINGS.format(more=more), listeners=listeners
    ) as server:
        site = Site(server, ports)
        with Dialogue(site.relay, source=PROXY) as client:
            client.hello()
            assert client.say(f"XCLIENT ADDR={CLIENT} LOGIN=anna").startswith("220")
            client.hello()
            assert client.say("XCLIENT ADDR=192.0.2.66").startswith("554")
        with site.proxied(v1("192.0.2.66")) as client:
            assert client.banner.startswith("554")
        said = [
            f"connect {PROXY} ",
            f"helo {PROXY}",
            f"connect {CLIENT} anna",
            f"helo {CLIENT}",
            "connect 192.0.2.66 ",
            "connect 192.0.2.66 ",
        ]
        server.wait_for(lambda: asked(server) == said, "what the plugin was asked")


def asked(server) -> list[str]:
    """What the plugin was asked about clients other than the test itself."""
    texts = [event["text"] for event in server.events("plugin_logged")]
    return [text for text in texts if "127.0.0.1" not in text]


def test_a_trusted_proxy_lends_nobody_its_mildness(tmp_path):
    """Bare line ends are mended for trusted networks, not for those who come by a proxy there.

    For those who log in they are, wherever they come from; the proxy says who that is, and the
    account what it may.
    """
    Authority(tmp_path).issue("localhost")
    ports = [free_port() for _ in range(3)]
    listeners = REST.format(relay=ports[0], behind=ports[1], secure=ports[2])
    inside, listener = submission()
    listeners += f'{listener}xclient = ["{PROXY}"]\n'
    rest = MAILDIR + SETTINGS.format(more='[smtp]\nbare_newlines = "normalise"' + AUTH)
    bare = b"Subject: hello\n\nhello\r\n"
    with running(tmp_path, rest=rest, listeners=listeners) as server:
        with Dialogue(ports[0], source=PROXY) as client:
            client.hello()
            assert client.deliver(bare, "a@example.org", "mild@example.test").startswith("250")
            assert client.say(f"XCLIENT ADDR={CLIENT}").startswith("220")
            client.hello()
            assert client.deliver(bare, "a@example.org", "mild@example.test").startswith("5")
        assert len(server.wait_mail("mild")) == 1
        add_user(server, "bob", "--sender", "robert@example.test")
        with Dialogue(inside, source=PROXY) as client:
            client.hello()
            assert client.say(f"XCLIENT ADDR={CLIENT} LOGIN=anna").startswith("220")
            client.hello()
            assert client.deliver(bare, "anna@example.test", "inside@example.test")[:3] == "250"
            assert client.say(f"XCLIENT ADDR={CLIENT} LOGIN=Bob").startswith("220")
            client.hello()
            assert client.say("MAIL FROM:<bob@example.test>").startswith("553 5.7.1")
            assert client.say("MAIL FROM:<robert@example.test>").startswith("250")
            client.say("RSET")
            server.cli("user", "lock", "bob")
            assert client.say(f"XCLIENT ADDR={CLIENT} LOGIN=bob").startswith("535 5.7.8")
            assert client.say("NOOP").startswith("250")
        assert b"\r\n\r\nhello\r\n" in server.wait_mail("inside")[0]
        [failed] = server.wait_event("auth_failed", username="bob")
        assert (failed["client_ip"], failed["mechanism"]) == (CLIENT, "XCLIENT")
