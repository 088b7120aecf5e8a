"""Failed handshakes are told apart, by what OpenSSL really says."""

import ssl
import time

import pytest
from net.tls.handshakes import client_context, shake_hands
from servers.certificates import Authority

from elemta.net.clock import SystemClock
from elemta.net.tls.certificates import CertificateFiles, read_certificate
from elemta.net.tls.failures import Failure, classify, describe_failure
from elemta.net.tls.levels import Level, make_context
from elemta.net.tls.server import ClientCertificates, ServerTls, ServerTlsSettings


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("failures"))


@pytest.fixture(scope="module")
def issued(authority):
    return authority.issue("mx.example.test")


def tell(tls: ServerTls, sent: bytes) -> None:
    incoming = ssl.MemoryBIO()
    incoming.write(sent)
    tls.context().wrap_bio(incoming, ssl.MemoryBIO(), server_side=True).do_handshake()


def failure(issued, authority, client=None, name=None, sent=b"", **settings) -> Failure:
    """How a handshake ends, or what becomes of octets that are none."""
    files = CertificateFiles(issued.chain, issued.key_file)
    tls = ServerTls(
        ServerTlsSettings((files,), client_ca=authority.file, strict_sni=True, **settings),
        SystemClock(),
    )
    with pytest.raises(ssl.SSLError) as caught:
        shake_hands(tls.context(), client or client_context(), name) if not sent else tell(
            tls, sent
        )
    return classify(describe_failure(caught.value))


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
def test_old_versions(issued, authority, version):
    client = client_context(ssl.TLSVersion[version])
    client.minimum_version = ssl.TLSVersion[version]
    client.set_ciphers("ALL:@SECLEVEL=0")
    assert failure(issued, authority, client) is Failure.OLD_PROTOCOL
    assert failure(issued, authority, client, level=Level.MAXIMUM) is Failure.OLD_PROTOCOL


def test_suites(issued, authority):
    client = client_context(ssl.TLSVersion.TLSv1_2)
    client.set_ciphers("AES128-SHA")
    assert failure(issued, authority, client) is Failure.NO_COMMON_SUITE


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_groups(issued, authority, version):
    client = client_context(version)
    client.set_ecdh_curve("secp521r1")
    assert failure(issued, authority, client) in {
        Failure.NO_COMMON_GROUP,
        Failure.NO_COMMON_SUITE,  # as TLS 1.2 has it
    }


def test_names(issued, authority):
    assert failure(issued, authority, name="stranger.test") is Failure.UNKNOWN_NAME


def test_protocols(issued, authority):
    client = client_context()
    client.set_alpn_protocols(["h2"])
    assert failure(issued, authority, client) is Failure.OTHER_PROTOCOL


@pytest.mark.parametrize(
    "sent", [b"EHLO client.example.test\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100, b"\xff" * 100]
)
def test_what_is_no_tls(issued, authority, sent):
    assert failure(issued, authority, sent=sent) is Failure.NOT_TLS


def test_certificates_of_clients(issued, authority):
    required = ClientCertificates.REQUIRE
    found = failure(issued, authority, client_certificates=required)
    assert found is Failure.CLIENT_CERTIFICATE


def test_certificates_of_ours(issued, authority):
    context = make_context(Level.RECOMMENDED)
    files = CertificateFiles(issued.chain, issued.key_file)
    read_certificate(files, Level.RECOMMENDED, time.time()).load_into(context)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(incoming, outgoing, server_side=True)
    client_out = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(
        outgoing, client_out, server_hostname="mx.example.test"
    )
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    incoming.write(client_out.read())
    with pytest.raises(ssl.SSLWantReadError):
        server.do_handshake()
    with pytest.raises(ssl.SSLCertVerificationError):
        client.do_handshake()
    incoming.write(client_out.read())
    with pytest.raises(ssl.SSLError) as caught:
        server.do_handshake()
    assert classify(describe_failure(caught.value)) is Failure.OUR_CERTIFICATE


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (TimeoutError("late"), Failure.TIMEOUT),
        (ConnectionResetError("gone"), Failure.CLOSED),
        (ssl.SSLError("something"), Failure.OTHER),
        (RuntimeError(), Failure.OTHER),
    ],
)
def test_other_ends(error, wanted):
    assert classify(describe_failure(error)) is wanted
