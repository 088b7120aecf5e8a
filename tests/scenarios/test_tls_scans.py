"""What scanners find of each level: exactly its versions, suites and groups, and no weakness."""

import ssl
from concurrent.futures import ThreadPoolExecutor

import pytest
from servers.certificates import Authority
from servers.elemta import MAILDIR, running
from servers.process import free_port
from servers.scans import flaws_by_testssl, scan_by_sslyze

from elemta.net.tls import openssl

pytestmark = pytest.mark.timeout(600)  # all scans of a busy machine, one after the other
LEVELS = ("minimum", "recommended", "strict", "maximum")
MODES = ("starttls", "implicit")
TLS = """
[tls]
certificate = "certificate.pem"
key = "certificate.key"
[[tls.certificates]]
certificate = "rsa.pem"
key = "rsa.key"
"""
AEAD = {
    f"TLS_ECDHE_{key}_WITH_{cipher}"
    for key in ("ECDSA", "RSA")
    for cipher in ("AES_128_GCM_SHA256", "AES_256_GCM_SHA384", "CHACHA20_POLY1305_SHA256")
}
CBC = {
    f"TLS_ECDHE_{key}_WITH_AES_{bits}_CBC_SHA" for key in ("ECDSA", "RSA") for bits in (128, 256)
}
TLS_1_3 = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}
SUITES = {
    "minimum": AEAD | CBC | TLS_1_3,
    "recommended": AEAD | TLS_1_3,
    "strict": AEAD | TLS_1_3,
    "maximum": TLS_1_3,
}


@pytest.fixture(scope="module")
def ports(tmp_path_factory):
    """A server with a listener for each level and way to begin."""
    folder = tmp_path_factory.mktemp("scans")
    authority = Authority(folder)
    authority.issue("mail.example.test", "localhost")
    authority.issue("mail.example.test", "localhost", key="rsa3072", file="rsa")
    found = {(level, mode): free_port() for level in LEVELS for mode in MODES}
    listeners = "".join(
        f'[[listeners]]\naddress = "127.0.0.1:{port}"\ntls = "{mode}"\ntls_level = "{level}"\n'
        for (level, mode), port in found.items()
    )
    with running(folder, rest=MAILDIR + TLS, listeners=listeners):
        yield found


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("level", LEVELS)
def test_sslyze(ports, level, mode, tmp_path):
    found = scan_by_sslyze(ports[level, mode], tmp_path, starttls=mode == "starttls")
    versions = {"TLS_1_3"} if level == "maximum" else {"TLS_1_2", "TLS_1_3"}
    assert (found.versions, found.suites) == (versions, SUITES[level])
    if openssl.is_reachable() or hasattr(ssl.SSLContext, "set_groups"):
        assert found.groups == {"X25519", "secp256r1", "secp384r1"}
    assert found.flaws == set()


@pytest.fixture(scope="module")
def scans(ports, tmp_path_factory):
    """What testssl.sh says of each listener, when it is done: it waits most of its time."""
    folder = tmp_path_factory.mktemp("testssl")
    with ThreadPoolExecutor(4) as threads:
        yield {
            (level, mode): threads.submit(
                flaws_by_testssl, port, folder, starttls=mode == "starttls"
            )
            for (level, mode), port in ports.items()
        }
        threads.shutdown(cancel_futures=True)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("level", LEVELS)
def test_testssl(scans, level, mode):
    offered, flaws = scans[level, mode].result()
    assert offered == ({"TLS1_3"} if level == "maximum" else {"TLS1_2", "TLS1_3"})
    # what any CBC suite is told of; OpenSSL takes the same time whatever the padding
    assert flaws == ({"LUCKY13"} if level == "minimum" else set())
