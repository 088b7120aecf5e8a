"""Certificates and keys: what may be used, and what is said of what may not."""

import gc
import os
import ssl
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from net.tls.handshakes import shake_hands
from servers.certificates import Authority, key_of, pem_of

from elemta.mail.errors import ConfigError
from elemta.net.tls.certificates import FILE_LIMIT, CertificateFiles, read_certificate
from elemta.net.tls.levels import Level, make_context


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


def read(issued, level=Level.RECOMMENDED, names=()):
    return read_certificate(
        CertificateFiles(issued.chain, issued.key_file, names), level, time.time()
    )


def problem_of(issued, level=Level.RECOMMENDED) -> str:
    with pytest.raises(ConfigError) as caught:
        read(issued, level)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_what_is_known_of_a_certificate(authority):
    issued = authority.issue("MX.example.test", "*.example.test", days=30)
    found = read(issued)
    assert found.names == {"mx.example.test", "*.example.test"}
    assert found.key_type == "ECDSA"
    assert found.days_left(time.time()) == pytest.approx(30, abs=0.01)


def test_names_of_the_configuration_go_before_those_within(authority):
    issued = authority.issue("mx.example.test")
    assert read(issued, names=("mail.example.test",)).names == {"mail.example.test"}


@pytest.mark.parametrize(
    ("key", "levels"),
    [
        ("p256", set(Level)),
        ("p384", set(Level)),
        ("rsa3072", set(Level)),
        ("rsa2048", {Level.MINIMUM, Level.RECOMMENDED}),
        ("rsa1024", set()),
        ("p521", set()),
        ("ed25519", set()),
    ],
)
def test_keys_and_the_levels_they_are_good_for(authority, key, levels):
    issued = authority.issue("mx.example.test", key=key)
    for level in Level:
        if level in levels:
            read(issued, level).load_into(make_context(level))
        else:
            text = problem_of(issued, level)
            assert text.startswith(f"{issued.chain}: the key is ")
            assert f'level "{level}" wants ECDSA on P-256 or P-384, or RSA of ' in text


def test_a_key_of_another_certificate(authority):
    issued = authority.issue("mx.example.test")
    issued.key_file.write_bytes(pem_of(key_of("p256", 1)))
    assert problem_of(issued) == (
        f"{issued.key_file}: is not the key of the certificate in {issued.chain}"
    )


def test_expired(authority):
    issued = authority.issue("mx.example.test", begin=-10, days=-1)
    assert f"{issued.chain}: the certificate has expired at " in problem_of(issued)


def test_not_yet_valid(authority):
    issued = authority.issue("mx.example.test", begin=1)
    assert "is not valid before" in problem_of(issued)


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o606, 0o620, 0o602, 0o601])
def test_keys_that_others_may_use(authority, mode):
    issued = authority.issue("mx.example.test")
    issued.key_file.chmod(mode)
    assert problem_of(issued) == (
        f"{issued.key_file}: others on this machine may use the key: chmod 600 {issued.key_file}"
    )


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o640])
def test_keys_of_ours_or_of_a_group(authority, mode):
    issued = authority.issue("mx.example.test")
    issued.key_file.chmod(mode)
    assert read(issued).key_type == "ECDSA"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_keys_of_another_user(authority):
    issued = authority.issue("mx.example.test")
    os.chown(issued.key_file, 65534, 0)
    assert "the key belongs to another user" in problem_of(issued)


def test_a_certificate_may_be_seen_by_all(authority):
    issued = authority.issue("mx.example.test")
    issued.chain.chmod(0o644)
    assert read(issued)


def test_both_in_one_file(authority):
    issued = authority.issue("mx.example.test")
    issued.key_file.write_bytes(issued.key_file.read_bytes() + issued.chain.read_bytes())
    files = CertificateFiles(issued.key_file, issued.key_file)
    read_certificate(files, Level.RECOMMENDED, time.time()).load_into(
        make_context(Level.RECOMMENDED)
    )


def test_a_locked_key(authority):
    issued = authority.issue("mx.example.test")
    issued.key_file.write_bytes(pem_of(issued.key, "secret"))
    assert f"{issued.key_file}: the key is locked with a password" in problem_of(issued)


@pytest.mark.parametrize("content", [b"", b"no PEM", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_files_that_are_none(authority, content):
    issued = authority.issue("mx.example.test")
    good = issued.chain.read_bytes()
    issued.chain.write_bytes(content)
    assert f"{issued.chain}: has no certificate in PEM form" in problem_of(issued)
    issued.chain.write_bytes(good)
    issued.key_file.write_bytes(content)
    assert f"{issued.key_file}: has no private key in PEM form" in problem_of(issued)


def test_a_chain_that_is_cut_off(authority):
    issued = authority.issue("mx.example.test")
    broken = issued.chain.read_bytes()[:200]
    issued.chain.write_bytes(issued.chain.read_bytes() + broken)
    with pytest.raises(ConfigError):
        read(issued).load_into(make_context(Level.RECOMMENDED))


def test_files_that_are_not_there_or_too_large(authority):
    issued = authority.issue("mx.example.test")
    good = issued.chain.read_bytes()
    issued.chain.unlink()
    assert problem_of(issued) == f"{issued.chain}: cannot be read: No such file or directory"
    issued.chain.mkdir()
    assert f"{issued.chain}: " in problem_of(issued)
    issued.chain.rmdir()
    issued.chain.write_bytes(good + b"#" * FILE_LIMIT)
    assert problem_of(issued) == f"{issued.chain}: is larger than 48KiB"


def test_a_device_is_no_file(authority):
    issued = authority.issue("mx.example.test")
    issued.key_file.unlink()
    os.mkfifo(issued.key_file.with_suffix(".pipe"))
    issued.key_file.symlink_to("/dev/null")
    assert problem_of(issued) == f"{issued.key_file}: is not a file"


def test_the_whole_chain_is_shown(authority):
    issued = authority.issue("mx.example.test")
    with issued.chain.open("ab") as chain:
        chain.write(authority.certificate.public_bytes(Encoding.PEM))
    context = make_context(Level.RECOMMENDED)
    read(issued).load_into(context)
    client = ssl.create_default_context(cafile=str(authority.file))
    shaken = shake_hands(context, client, "mx.example.test")
    chain = shaken.client._sslobj.get_unverified_chain()
    assert len(chain) == 2


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_what_openssl_reads_is_never_on_a_disk(authority, monkeypatch, platform):
    monkeypatch.setattr("sys.platform", platform)
    found = read(authority.issue("mx.example.test"))
    authority.issue("mail.example.org")  # and what is there now does not matter
    open_files = Path("/proc/self/fd")
    gc.collect()  # nothing that others have left is closed meanwhile
    before = len(list(open_files.iterdir()))
    context = make_context(Level.RECOMMENDED)
    found.load_into(context)
    assert len(list(open_files.iterdir())) == before
    client = ssl.create_default_context(cafile=str(authority.file))
    assert shake_hands(context, client, "mx.example.test")
