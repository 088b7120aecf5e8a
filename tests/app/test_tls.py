"""From settings to the TLS of listeners, and what is told of certificates that change."""

import pytest
from servers.certificates import Authority

from elemta.app.tls import LOOK_EVERY, WorkerTls, alert_settings, find_problems, listener_settings
from elemta.config import load
from elemta.mail import events as ev
from elemta.mail.errors import ConfigError
from elemta.net.clock import SystemClock
from elemta.net.tls.levels import Level
from elemta.net.tls.server import ClientCertificates
from elemta.testing import FakeClock

BASE = """
[server]
hostname = "mx.example.test"
[[listeners]]
address = "127.0.0.1:2525"
[[listeners]]
address = "127.0.0.1:2526"
tls = "implicit"
tls_level = "maximum"
client_certificates = "request"
strict_sni = true
[[listeners]]
address = "127.0.0.1:2527"
tls = "none"
[[listeners]]
address = "127.0.0.1:2528"
kind = "lmtp"
[tls]
certificate = "certificate.pem"
key = "certificate.key"
"""


@pytest.fixture
def authority(tmp_path):
    authority = Authority(tmp_path)
    authority.issue("mx.example.test")
    return authority


@pytest.fixture
def config(tmp_path):
    def read(text: str = BASE):
        path = tmp_path / "elemta.toml"
        path.write_text(text)
        return load(path, {})

    return read


@pytest.fixture
def clock():
    return FakeClock(SystemClock().now())


@pytest.fixture
def told():
    return []


@pytest.fixture
def tls(clock, told):
    return WorkerTls(clock, told.append, 0)


def look_twice(tls, clock):
    for _ in range(2):
        clock.advance(LOOK_EVERY)
        tls.beat()


def test_which_listeners_have_it(tls, authority, config):
    tls.take(tls.prepare(config()))
    has = [tls.find(f"127.0.0.1:{port}") is not None for port in (2525, 2526, 2527, 2528)]
    assert has == [True, True, False, False]


def test_a_listener_may_differ(config, authority):
    first, second, *_ = config().listeners
    usual = listener_settings(config(), first)
    assert (usual.level, usual.strict_sni) == (Level.RECOMMENDED, False)
    assert usual.client_certificates is ClientCertificates.NONE
    special = listener_settings(config(), second)
    assert (special.level, special.strict_sni) == (Level.MAXIMUM, True)
    assert special.client_certificates is ClientCertificates.REQUEST


def test_what_is_wrong_is_told_once_and_by_the_file(config, authority, tmp_path, clock):
    assert list(find_problems(config(), clock)) == []
    (tmp_path / "certificate.key").chmod(0o644)
    (error,) = find_problems(config(), clock)
    assert error.where == str(tmp_path / "certificate.key")


def test_a_change_is_told_once_though_two_listeners_use_it(tls, told, authority, config, clock):
    tls.take(tls.prepare(config()))
    fresh = authority.issue("mx.example.test")
    look_twice(tls, clock)
    look_twice(tls, clock)
    assert told == [ev.CertificateChanged(str(fresh.chain))]


def test_a_broken_pair_is_told_once(tls, told, authority, config, clock, tmp_path):
    tls.take(tls.prepare(config()))
    before = tls.find("127.0.0.1:2525").context()
    (tmp_path / "certificate.pem").write_text("nothing")
    look_twice(tls, clock)
    look_twice(tls, clock)
    (event,) = told
    assert isinstance(event, ev.CertificateRefused)
    assert event.file == str(tmp_path / "certificate.pem")
    assert tls.find("127.0.0.1:2525").context() is before


def test_one_worker_speaks_for_all(told, authority, config, clock):
    tls = WorkerTls(clock, told.append, 1)
    tls.take(tls.prepare(config()))
    before = tls.find("127.0.0.1:2525").context()
    authority.issue("mx.example.test")
    look_twice(tls, clock)
    assert told == []
    assert tls.find("127.0.0.1:2525").context() is not before


def test_a_reload_reads_the_files_at_once(tls, told, authority, config):
    tls.take(tls.prepare(config()))
    authority.issue("mx.example.test")
    tls.take(tls.prepare(config()))
    assert [type(event) for event in told] == [ev.CertificateChanged]


def test_nothing_changes_before_it_is_taken(tls, told, authority, config):
    tls.take(tls.prepare(config()))
    before = tls.find("127.0.0.1:2525").context()
    authority.issue("mx.example.test")
    prepared = tls.prepare(config(BASE + 'level = "strict"\n'))
    assert tls.find("127.0.0.1:2525").context() is before
    assert told == []
    tls.take(prepared)
    assert tls.find("127.0.0.1:2525").context() is not before


def test_a_reload_that_cannot_be_changes_nothing(tls, told, authority, config):
    authority.issue("mx.example.test", key="rsa2048")
    tls.take(tls.prepare(config(BASE.replace('tls_level = "maximum"', ""))))
    before = tls.find("127.0.0.1:2525").context()
    with pytest.raises(ConfigError, match="3072"):
        tls.take(tls.prepare(config()))
    assert tls.find("127.0.0.1:2525").context() is before
    assert told == []


def test_a_worker_that_begins_again_takes_what_has_expired(tls, authority, config):
    authority.issue("mx.example.test", begin=-9, days=-1)
    assert "has expired" in str(next(find_problems(config(), SystemClock())))
    tls.take(tls.prepare(config()))
    assert tls.find("127.0.0.1:2525") is not None
    (left,) = tls.days_left().values()
    assert left == pytest.approx(-1, abs=0.01)


def test_workers_share_the_numbers_of_the_node(config):
    text = (
        BASE.replace("[server]", "[server]\nworkers = 3") + "[tls.alerts]\ncertificate_errors = 0\n"
    )
    parts = [alert_settings(config(text), index) for index in range(3)]
    assert [part.failures for part in parts] == [4, 3, 3]
    assert [part.certificate_errors for part in parts] == [0, 0, 0]
    assert {part.weak_ciphers for part in parts} == {0.05}


def test_what_happens_to_tls_is_heeded(tls, told, authority, config, clock):
    tls.take(tls.prepare(config(BASE + "[tls.alerts]\nfailures = 1\ndays_left = 100\n")))
    tls.heed(ev.TlsHandshakeFailed("1", "192.0.2.1", "mta", "timeout"))
    tls.beat()
    assert [event.kind for event in told] == ["failures", "days_left"]


def test_the_days_of_each_file(tls, authority, config, tmp_path):
    authority.issue("mail.example.org", days=7, file="other")
    more = '[[tls.certificates]]\ncertificate = "other.pem"\nkey = "other.key"\n'
    tls.take(tls.prepare(config(BASE + more)))
    assert tls.days_left() == {
        str(tmp_path / "certificate.pem"): pytest.approx(90, abs=0.01),
        str(tmp_path / "other.pem"): pytest.approx(7, abs=0.01),
    }
