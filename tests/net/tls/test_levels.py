"""What each level speaks, shown by handshakes with clients that can do one thing each."""

import socket
import ssl
import subprocess
import threading
import time

import pytest
from net.tls.handshakes import client_context, outcome, shake_hands
from servers.certificates import Authority
from servers.process import program

from elemta.net.tls import openssl
from elemta.net.tls.certificates import CertificateFiles, read_certificate
from elemta.net.tls.levels import RULES, Level, is_weak, make_context

AEAD = {
    f"ECDHE-{key}-{cipher}"
    for key in ("ECDSA", "RSA")
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
}
CBC = {
    f"ECDHE-{key}-{cipher}" for key in ("ECDSA", "RSA") for cipher in ("AES128-SHA", "AES256-SHA")
}
SUITES = {
    Level.MINIMUM: AEAD | CBC,
    Level.RECOMMENDED: AEAD,
    Level.STRICT: AEAD,
    Level.MAXIMUM: set(),
}


@pytest.fixture(scope="module")
def issued(tmp_path_factory):
    authority = Authority(tmp_path_factory.mktemp("levels"))
    return [authority.issue("mx.example.test", key=key, file=key) for key in ("p256", "rsa3072")]


def server_context(issued, level, groups=()):
    context = make_context(level, groups)
    for each in issued:
        files = CertificateFiles(each.chain, each.key_file)
        read_certificate(files, level, time.time()).load_into(context)
    return context


@pytest.mark.parametrize("level", Level)
def test_exactly_these_suites_of_tls_1_2(issued, level):
    server = server_context(issued, level)
    every = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    every.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    found = set()
    for suite in every.get_ciphers():
        if suite["protocol"] == "TLSv1.3":
            continue
        client = client_context(ssl.TLSVersion.TLSv1_2)
        client.set_ciphers(f"{suite['name']}:@SECLEVEL=0")
        if shaken := outcome(server, client):
            assert shaken[0] == "TLSv1.2"
            found.add(shaken[1])
    assert found == SUITES[level]
    assert {suite for suite in found if is_weak(suite)} == found & CBC


@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1", "TLSv1_2", "TLSv1_3"])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_exactly_these_versions(issued, level, version):
    client = client_context(ssl.TLSVersion[version])
    client.minimum_version = ssl.TLSVersion[version]
    client.set_ciphers("ALL:@SECLEVEL=0")
    shaken = outcome(server_context(issued, level), client)
    wanted = {"TLSv1_3"} if level is Level.MAXIMUM else {"TLSv1_2", "TLSv1_3"}
    assert (shaken is not None) == (version in wanted)


def test_the_server_chooses_the_suite(issued):
    client = client_context(ssl.TLSVersion.TLSv1_2)
    client.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256")
    shaken = shake_hands(server_context(issued, Level.RECOMMENDED), client)
    assert shaken.server.cipher()[0] == "ECDHE-ECDSA-AES128-GCM-SHA256"


@pytest.mark.parametrize("level", Level)
def test_no_compression_no_renegotiation(level):
    options = make_context(level).options
    assert options & ssl.OP_NO_COMPRESSION
    assert options & ssl.OP_NO_RENEGOTIATION
    assert options & ssl.OP_CIPHER_SERVER_PREFERENCE


class Acceptor:
    """Takes one connection after another, and remembers the groups of those that came up."""

    def __init__(self, context: ssl.SSLContext):
        self._context = context
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.groups = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _run(self):
        while True:
            try:
                raw, _ = self._socket.accept()
            except OSError:
                return
            with raw:
                self._serve(raw)

    def _serve(self, raw):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = self._context.wrap_bio(incoming, outgoing, server_side=True)
        raw.settimeout(20)
        while True:
            try:
                server.do_handshake()
            except ssl.SSLWantReadError:
                raw.sendall(outgoing.read())
                data = raw.recv(65536)
                if not data:
                    return
                incoming.write(data)
            except ssl.SSLError:
                raw.sendall(outgoing.read())
                return
            else:
                raw.sendall(outgoing.read())
                self.groups.append(openssl.find_group(server))
                return


def s_client(port: int, *options: str) -> str:
    """What `openssl s_client` says of a handshake."""
    tool = program("openssl", "openssl")
    done = subprocess.run(
        [tool, "s_client", "-connect", f"127.0.0.1:{port}", *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_which_groups_a_handshake_may_use(issued, version):
    """OpenSSL's own list has X448, P-521 and finite fields, too."""
    offered = ["X25519", "P-256", "P-384", "X448", "P-521", "ffdhe2048"]
    with Acceptor(server_context(issued, Level.RECOMMENDED)) as acceptor:
        for group in offered:
            s_client(acceptor.port, version, "-groups", group)
    # ECDSA certificates of TLS 1.2 need their curve among the groups, but there is RSA, too
    assert acceptor.groups == ["x25519", "secp256r1", "secp384r1"]


def test_the_server_chooses_the_group(issued):
    with Acceptor(server_context(issued, Level.RECOMMENDED, ["P-384", "X25519"])) as acceptor:
        s_client(acceptor.port, "-tls1_2", "-groups", "X25519:P-384")
        s_client(acceptor.port, "-tls1_2", "-groups", "P-256")
    assert acceptor.groups == ["secp384r1"]


@pytest.mark.skipif(
    not openssl.knows_group("X25519MLKEM768"), reason=f"not known to {ssl.OPENSSL_VERSION}"
)
def test_quantum_computers_are_thought_of(issued):
    with Acceptor(server_context(issued, Level.RECOMMENDED)) as acceptor:
        s_client(acceptor.port, "-groups", "X25519MLKEM768")
    assert acceptor.groups == ["X25519MLKEM768"]


def test_groups_that_openssl_does_not_know():
    with pytest.raises(ValueError, match="has no group P-255"):
        make_context(Level.RECOMMENDED, ["X25519", "P-255"])


def test_groups_of_a_level_are_sound():
    for rules in RULES.values():
        assert {"X25519", "P-256", "P-384"} <= {
            name for name in rules.groups if openssl.knows_group(name)
        }
