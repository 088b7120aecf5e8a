"""TLS on reception: clients of all kinds, names, client certificates, and files that change."""

import contextlib
import hashlib
import json
import smtplib
import socket
import ssl
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from servers.certificates import Authority
from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, Elemta, running
from servers.process import free_port, program

LEVELS = ("minimum", "recommended", "strict", "maximum")
TLS = """
[tls]
certificate = "certificate.pem"
key = "certificate.key"
"""
CONTENT = b"Subject: hello\r\n\r\nhello\r\n"


def listener(port: int, *settings: str) -> str:
    return "\n".join(["[[listeners]]", f'address = "127.0.0.1:{port}"', *settings, ""])


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority.file))


@contextlib.contextmanager
def secured(port: int, context: ssl.SSLContext, name: str = "localhost"):
    """A dialogue that has changed to TLS."""
    client = Dialogue(port)
    try:
        assert "250-STARTTLS" in client.hello()
        assert client.say("STARTTLS").startswith("220")
        client.socket = context.wrap_socket(client.socket, server_hostname=name)
        yield client
    finally:
        client.socket.close()


def shown(port: int, authority: Authority, name: str = "localhost") -> bytes:
    """The certificate that a client gets which wants this name."""
    context = trusting(authority)
    context.check_hostname = False
    with secured(port, context, name) as client:
        return client.socket.getpeercert(binary_form=True)


@pytest.fixture(scope="module")
def all_levels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clients")
    authority = Authority(folder)
    authority.issue("localhost", "mail.example.test")
    ports = {(level, mode): free_port() for level in LEVELS for mode in ("starttls", "implicit")}
    listeners = "".join(
        listener(port, f'tls = "{mode}"', f'tls_level = "{level}"')
        for (level, mode), port in ports.items()
    )
    with running(folder, rest=MAILDIR + TLS, listeners=listeners) as server:
        yield server, authority, ports


class TestClients:
    """Each level with each client, on both ways to begin."""

    @pytest.fixture(params=LEVELS)
    def level(self, request):
        return request.param

    @pytest.fixture(params=["starttls", "implicit"])
    def mode(self, request):
        return request.param

    @pytest.fixture
    def port(self, all_levels, level, mode):
        return all_levels[2][level, mode]

    @pytest.fixture
    def versions(self, level):
        """The versions that must come up, with the others that must not."""
        return {"TLSv1.2": level != "maximum", "TLSv1.3": True}

    def run(self, *argv: object, text: str = "", env: dict | None = None) -> str:
        done = subprocess.run(
            [str(each) for each in argv],
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=env,
        )
        return done.stdout + done.stderr

    def test_openssl(self, all_levels, port, mode, versions):
        tool = program("openssl", "openssl")
        for version, is_spoken in versions.items():
            options = ["-starttls", "smtp"] if mode == "starttls" else []
            said = self.run(
                *(tool, "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", all_levels[1].file),
                *("-verify_hostname", "localhost", f"-{version.lower().replace('v1.', '1_')}"),
                *options,
            )
            assert (f"New, {version}" in said) == is_spoken
            assert "Verification: OK" in said or not is_spoken

    def test_python(self, all_levels, port, mode, versions):
        for version, is_spoken in versions.items():
            context = trusting(all_levels[1])
            context.maximum_version = ssl.TLSVersion[version.replace(".", "_")]
            if not is_spoken:
                with pytest.raises((ssl.SSLError, ConnectionError)):
                    self.send(port, mode, context)
                continue
            assert self.send(port, mode, context) == version

    def send(self, port: int, mode: str, context: ssl.SSLContext) -> str:
        if mode == "implicit":
            client = smtplib.SMTP_SSL("localhost", port, context=context, timeout=20)
        else:
            client = smtplib.SMTP("localhost", port, timeout=20)
        with client:
            if mode == "starttls":
                client.starttls(context=context)
            assert client.sendmail("a@example.org", ["anna@example.test"], CONTENT) == {}
            assert not client.has_extn("starttls")
            return client.sock.version()

    def test_node(self, all_levels, port, mode, versions):
        script = all_levels[0].folder / "client.js"
        script.write_text(NODE)
        for version, is_spoken in versions.items():
            said = self.run(
                program("node", "nodejs"), script, port, mode, version, all_levels[1].file
            ).strip()
            assert (said.partition("\n")[0] == f"authorized {version}") == is_spoken, said

    def test_swaks(self, port, mode, versions):
        option = "--tls" if mode == "starttls" else "--tlsc"
        for version, is_spoken in versions.items():
            said = self.run(
                *(program("swaks", "swaks"), "--server", "127.0.0.1", "--port", port, option),
                *("--tls-protocol", version.replace("TLSv1.", "tlsv1_")),
                *("--from", "a@example.org", "--to", "anna@example.test"),
            )
            assert ("queued as" in said) == is_spoken, said

    def test_postfix(self, all_levels, port, mode, versions):
        tool = program("posttls-finger", "postfix")
        folder = all_levels[0].folder / "postfix"
        folder.mkdir(exist_ok=True)
        (folder / "main.cf").write_text("compatibility_level = 3.6\nmaillog_file = /dev/stdout\n")
        (folder / "master.cf").touch()
        for version, is_spoken in versions.items():
            said = self.run(
                *(tool, "-c", "-l", "secure", "-F", all_levels[1].file, "-L", "summary"),
                *("-p", f">={version}, <={version}", *(["-w"] if mode == "implicit" else [])),
                *(f"[127.0.0.1]:{port}", "localhost"),
                env={"MAIL_CONFIG": str(folder), "PATH": "/usr/bin:/bin"},
            )
            verified = (
                f"Verified TLS connection established to 127.0.0.1[127.0.0.1]:{port}: {version}"
            )
            assert (verified in said) == is_spoken, said

    def test_it_is_in_the_log(self, all_levels, port, mode, level):
        server, authority, _ = all_levels
        self.send(port, mode, trusting(authority))
        event = server.wait_event("tls_handshake", version="TLSv1.3")[-1]
        assert event["cipher"] == "TLS_AES_256_GCM_SHA384"
        assert event["group"] == "x25519"


NODE = """
const [port, mode, version, ca] = process.argv.slice(2)
const net = require('net'), tls = require('tls'), fs = require('fs')
const options = {
  ca: fs.readFileSync(ca), servername: 'localhost', minVersion: version, maxVersion: version }
const fail = error => { console.log('failed ' + error.code); process.exit(1) }
const greet = socket => {
  socket.on('error', fail)
  socket.on('secureConnect', () => {
    console.log((socket.authorized ? 'authorized ' : 'stranger ') + socket.getProtocol())
    process.exit(0)
  })
}
if (mode === 'implicit') greet(tls.connect({ ...options, port, host: '127.0.0.1' }))
else {
  const raw = net.connect(port, '127.0.0.1')
  raw.on('error', fail)
  let step = 0
  raw.on('data', () => {
    step += 1
    if (step === 1) raw.write('EHLO client.example.org\\r\\n')
    else if (step === 2) raw.write('STARTTLS\\r\\n')
    else { raw.removeAllListeners('data'); greet(tls.connect({ ...options, socket: raw })) }
  })
}
"""


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    folder = tmp_path_factory.mktemp("names")
    authority = Authority(folder)
    found = {
        "first": authority.issue("localhost"),
        "exact": authority.issue("mail.example.org", file="exact"),
        "wildcard": authority.issue("*.example.org", file="wildcard"),
    }
    more = "".join(
        f'[[tls.certificates]]\ncertificate = "{name}.pem"\nkey = "{name}.key"\n'
        for name in ("exact", "wildcard")
    )
    strict = free_port()
    listeners = listener(strict, "strict_sni = true")
    with running(folder, rest=MAILDIR + TLS + more, listeners=listeners) as server:
        yield server, authority, found, strict


class TestNames:
    @pytest.mark.parametrize(
        ("name", "wanted"),
        [
            ("localhost", "first"),
            ("mail.example.org", "exact"),
            ("any.example.org", "wildcard"),
            ("stranger.test", "first"),
        ],
    )
    def test_each_name_gets_its_certificate(self, named, name, wanted):
        server, authority, found, _ = named
        assert shown(server.port, authority, name) == found[wanted].der

    def test_a_strict_listener_knows_no_others(self, named):
        server, authority, found, port = named
        assert shown(port, authority, "mail.example.org") == found["exact"].der
        with pytest.raises(ssl.SSLError):
            shown(port, authority, "stranger.test")
        server.wait_event("tls_handshake_failed")

    def test_browsers_are_refused(self, named):
        server, authority, *_ = named
        context = trusting(authority)
        context.set_alpn_protocols(["h2", "http/1.1"])
        with (
            pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"),
            secured(server.port, context),
        ):
            pass

    def test_what_it_comes_to_can_be_seen(self, named):
        server, authority, *_ = named
        context = trusting(authority)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
        with secured(server.port, context):
            pass
        words = 'cipher="ECDHE-ECDSA-AES128-GCM-SHA256",group="x25519"'
        sample = f'elemta_tls_handshakes_total{{{words},listener="mta",version="TLSv1.2"}}'
        server.wait_for(lambda: server.metric(sample) >= 1, sample)
        status = json.loads(server.cli("tls", "status", "--json").stdout)
        assert {each["file"]: round(each["value"]) for each in status["certificates"]} == {
            str(server.folder / f"{name}.pem"): 90 for name in ("certificate", "exact", "wildcard")
        }
        assert {"client": "127.0.0.1", "protocol": "TLSv1.2"} in [
            {name: each[name] for name in ("client", "protocol")} for each in status["old_clients"]
        ]
        shown_lines = server.cli("tls", "status").stdout
        assert "ECDHE-ECDSA-AES128-GCM-SHA256" in shown_lines

    def test_many_failures_give_an_alert(self, named):
        server, authority, *_ = named
        context = trusting(authority)
        context.set_alpn_protocols(["h2"])
        for _ in range(10):
            with pytest.raises(ssl.SSLError), secured(server.port, context):
                pass
        (alert, *_) = server.wait_event("tls_alert")
        assert alert["kind"] == "failures"
        assert "10 handshakes have failed in a minute" in alert["detail"]

    def test_a_session_that_is_resumed(self, named):
        server, authority, *_ = named
        context = trusting(authority)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with secured(server.port, context) as client:
            session = client.socket.session
        client = Dialogue(server.port)
        client.hello()
        client.say("STARTTLS")
        with context.wrap_socket(
            client.socket, server_hostname="localhost", session=session
        ) as again:
            assert again.session_reused
        server.wait_event("tls_handshake", is_resumed=True)


@pytest.fixture(scope="module")
def asking(tmp_path_factory):
    folder = tmp_path_factory.mktemp("client-certificates")
    authority = Authority(folder)
    authority.issue("localhost")
    required = free_port()
    more = 'client_ca = "authority.pem"\nclient_certificates = "request"\n'
    listeners = listener(required, 'client_certificates = "require"')
    with running(folder, rest=MAILDIR + TLS + more, listeners=listeners) as server:
        (folder / "other").mkdir()
        yield server, authority, required, Authority(folder / "other", "Nobody")


class TestClientCertificates:
    def deliver(self, port: int, authority: Authority, issued=None) -> str:
        context = trusting(authority)
        if issued is not None:
            context.load_cert_chain(issued.chain, issued.key_file)
        with secured(port, context) as client:
            client.hello()
            return client.deliver(CONTENT, "a@example.org", "anna@example.test")

    def test_where_they_are_requested_none_is_needed(self, asking):
        server, authority, _, other = asking
        stranger = other.issue("client.example.test")
        mine = authority.issue("client.example.test", file="client")
        for issued in (None, stranger, mine):
            assert self.deliver(server.port, authority, issued).startswith("250")

    def test_where_they_are_required_one_must_be_vouched_for(self, asking):
        server, authority, port, other = asking
        mine = authority.issue("client.example.test", file="client")
        assert self.deliver(port, authority, mine).startswith("250")
        for issued in (None, other.issue("client.example.test")):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                self.deliver(port, authority, issued)
        server.wait_event("tls_handshake_failed", 2)


class TestIdentities:
    """A certificate stands for a login, where the configuration says so."""

    @pytest.mark.parametrize("kind", ["sha256", "spki", "dns"])
    def test_a_certificate_logs_in(self, tmp_path, kind):
        folder = tmp_path / "site"
        folder.mkdir()
        authority = Authority(folder)
        authority.issue("localhost")
        mine = authority.issue("branch.example.test", file="client")
        stranger = authority.issue("other.example.test", file="stranger", number=1)
        public = mine.certificate.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
        key = {
            "sha256": f"sha256:{hashlib.sha256(mine.der).hexdigest()}",
            "spki": f"spki:{hashlib.sha256(public).hexdigest()}",
            "dns": "dns:branch.example.test",
        }[kind]
        with running(folder, rest=MAILDIR + TLS + IDENTITIES.replace("KEY", key)) as server:
            server.cli("user", "add", "branch@example.test", "--no-password")
            assert self.log_in(server, authority, mine).startswith("235 ")
            event = server.wait_event("auth_succeeded", mechanism="EXTERNAL")[0]
            assert event["username"] == "branch@example.test"
            assert self.log_in(server, authority, stranger) == "not offered"
            assert self.log_in(server, authority, None) == "not offered"

    def log_in(self, server: Elemta, authority: Authority, issued) -> str:
        context = trusting(authority)
        if issued is not None:
            context.load_cert_chain(issued.chain, issued.key_file)
        with secured(server.port, context) as client:
            offered = next(
                line for line in client.hello().split("\n") if line[4:].startswith("AUTH")
            )
            return client.say("AUTH EXTERNAL =") if "EXTERNAL" in offered else "not offered"


IDENTITIES = """
client_ca = "authority.pem"
client_certificates = "request"
[tls.identities]
"KEY" = "branch@example.test"
[auth]
mechanisms = ["EXTERNAL", "PLAIN"]
scram_iterations = 0
[[auth.sources]]
type = "sqlite"
"""


class TestChange:
    """Certificates that change while the server runs."""

    @pytest.fixture
    def folder(self, tmp_path):
        (tmp_path / "site").mkdir()
        return tmp_path / "site"

    @pytest.fixture
    def authority(self, folder):
        return Authority(folder)

    def test_a_swap_under_load_drops_no_session(self, folder, authority):
        """Sessions begun before, during and after the swap, each with many messages."""
        old = authority.issue("localhost")
        context = trusting(authority)
        swapped = threading.Event()
        with running(folder, rest=MAILDIR + TLS, workers=2) as server:

            def session(number: int) -> int:
                accepted = 0
                with secured(server.port, context) as client:
                    client.hello()
                    while accepted < 20 or not swapped.is_set():
                        reply = client.deliver(CONTENT, "a@example.org", f"u{number}@example.test")
                        assert reply.startswith("250"), reply
                        accepted += 1
                return accepted

            with ThreadPoolExecutor(8) as threads:
                running_sessions = [threads.submit(session, number) for number in range(8)]
                try:
                    server.wait_event("message_received", 16)
                    fresh = authority.issue("localhost", number=1)
                    server.wait_event("certificate_changed", file=str(fresh.chain))
                    server.wait_for(
                        lambda: all(shown(server.port, authority) == fresh.der for _ in range(8)),
                        "the new certificate from both workers",
                    )
                finally:
                    swapped.set()
                counts = [each.result() for each in running_sessions]
            assert fresh.der != old.der
            for number, count in enumerate(counts):
                server.wait_mail(f"u{number}", count)
            assert server.events("tls_handshake_failed") == []

    def test_a_broken_pair_keeps_the_old_one(self, folder, authority):
        old = authority.issue("localhost")
        with running(folder, rest=MAILDIR + TLS) as server:
            fresh = authority.issue("localhost", number=1, file="fresh")
            fresh.chain.replace(old.chain)
            event = server.wait_event("certificate_refused")[0]
            assert event["file"] == str(old.key_file)
            assert "is not the key of the certificate" in event["error"]
            assert shown(server.port, authority) == old.der
            fresh.key_file.replace(old.key_file)
            server.wait_event("certificate_changed")
            assert shown(server.port, authority) == fresh.der
            assert len(server.events("certificate_refused")) == 1

    def test_a_reload_reads_them_at_once(self, folder, authority):
        authority.issue("localhost")
        with running(folder, rest=MAILDIR + TLS) as server:
            fresh = authority.issue("localhost")
            server.reload('level = "debug"', 'level = "debug" # again')
            assert shown(server.port, authority) == fresh.der

    def test_a_level_they_are_not_good_for_is_not_taken_over(self, folder, authority):
        issued = authority.issue("localhost", key="rsa2048")
        with running(folder, rest=MAILDIR + TLS) as server:
            server.reload("[tls]\n", '[tls]\nlevel = "maximum"\n')
            event = server.wait_event("notice")[-1]
            assert "RSA of 2048 bits" in event["detail"]
            context = trusting(authority)
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            with secured(server.port, context) as client:
                assert client.socket.getpeercert(binary_form=True) == issued.der


class TestStart:
    """What keeps a server from starting is told with the line it is in."""

    @pytest.fixture
    def server(self, tmp_path):
        (tmp_path / "site").mkdir()
        self.authority = Authority(tmp_path / "site")
        server = Elemta(tmp_path / "site", rest=MAILDIR + TLS)
        server.write_config()
        return server

    def refused(self, server: Elemta) -> str:
        """What `serve` and `check` say, which must be the same."""
        text = ""
        for command in ("check", "serve"):
            done = server.cli(command, check=False)
            assert done.returncode == 1
            said = (done.stdout + done.stderr).strip().split("\n")
            assert not text or text == said[0]
            text = said[0]
        return text

    def test_a_key_that_all_can_read(self, server):
        issued = self.authority.issue("localhost")
        issued.key_file.chmod(0o644)
        line = 1 + server.config.read_text().split("\n").index('key = "certificate.key"')
        assert self.refused(server) == (
            f'{server.config}:{line}: [tls] key: "certificate.key": '
            f"others on this machine may use the key: chmod 600 {issued.key_file}"
        )

    def test_an_expired_certificate(self, server):
        self.authority.issue("localhost", begin=-9, days=-1)
        assert "[tls] certificate: " in (text := self.refused(server))
        assert "has expired at" in text

    def test_a_certificate_below_the_level(self, server):
        self.authority.issue("localhost", key="rsa2048")
        server.config.write_text(
            server.config.read_text().replace("[tls]", '[tls]\nlevel = "strict"')
        )
        assert 'the key is RSA of 2048 bits: level "strict" wants' in self.refused(server)

    def test_a_level_that_does_not_exist(self, server):
        self.authority.issue("localhost")
        server.config.write_text(
            server.config.read_text().replace("[tls]", '[tls]\nlevel = "recomended"')
        )
        assert 'did you mean "recommended"?' in self.refused(server)

    def test_files_that_are_not_there(self, server):
        assert "[tls] certificate: " in (text := self.refused(server))
        assert text.endswith("cannot be read: No such file or directory")


def test_nothing_is_offered_without_a_certificate(tmp_path):
    with running(tmp_path / "site") as server, Dialogue(server.port) as client:
        assert "STARTTLS" not in client.hello()
        assert client.say("STARTTLS").startswith("5")


def test_the_port_of_implicit_tls_says_nothing_in_clear(tmp_path):
    (tmp_path / "site").mkdir()
    Authority(tmp_path / "site").issue("localhost")
    port = free_port()
    listeners = listener(port, 'tls = "implicit"')
    with running(tmp_path / "site", rest=MAILDIR + TLS, listeners=listeners) as server:
        with socket.create_connection(("127.0.0.1", port), 20) as client:
            client.sendall(b"EHLO client.example.org\r\n")
            said = b""
            while data := client.recv(4096):
                said += data
        assert said[:1] in {b"", b"\x15"}  # nothing, or an alert
        (event,) = server.wait_event("tls_handshake_failed")
        assert json.dumps(event)
