"""Figures of TLS, and alerts when it is not as it should be."""

import pytest

from elemta.mail import events as ev
from elemta.observe import TlsAlertSettings, TlsWatch
from elemta.observe.tls import CBC, MAX_CLIENTS, OLD, count_failure, count_handshake
from elemta.testing import FakeClock

GOOD = "TLS_AES_256_GCM_SHA384"
WEAK = "ECDHE-RSA-AES128-SHA"


def handshake(cipher: str = GOOD, version: str = "TLSv1.3", client: str = "192.0.2.1"):
    return ev.TlsHandshake("1", client, "mta", version, cipher, "x25519")


def failure(reason: str = "closed", client: str = "192.0.2.1"):
    return ev.TlsHandshakeFailed("1", client, "mta", reason)


class TestAlerts:
    @pytest.fixture
    def clock(self):
        return FakeClock()

    @pytest.fixture
    def told(self):
        return []

    @pytest.fixture
    def watch(self, clock, told):
        return TlsWatch(TlsAlertSettings(), clock, told.append)

    def kinds(self, told):
        return [event.kind for event in told]

    def test_ten_failures_within_a_minute(self, watch, clock, told):
        for _ in range(9):
            watch(failure())
            clock.advance(6)
        assert told == []
        watch(failure("NO_SHARED_CIPHER", "192.0.2.9"))
        assert told == [
            ev.TlsAlert(
                "failures",
                "10 handshakes have failed in a minute, the last one from 192.0.2.9: "
                "NO_SHARED_CIPHER",
            )
        ]

    def test_ten_failures_in_more_than_a_minute(self, watch, clock, told):
        for _ in range(50):
            watch(failure())
            clock.advance(7)
        assert told == []

    def test_what_goes_on_is_told_every_ten_minutes(self, watch, clock, told):
        for _ in range(20 * 60):
            watch(failure())
            clock.advance(1)
        assert self.kinds(told) == ["failures", "failures"]

    def test_five_certificates_refused(self, watch, told):
        for _ in range(4):
            watch(failure("sslv3 alert bad certificate"))
            watch(failure("timeout"))
        assert told == []
        watch(failure("PEER_DID_NOT_RETURN_A_CERTIFICATE"))
        assert self.kinds(told) == ["certificate_errors"]

    @pytest.mark.parametrize(
        ("weak", "good", "kinds"),
        [(1, 19, ["weak_ciphers"]), (1, 20, []), (19, 0, []), (20, 0, ["weak_ciphers"])],
    )
    def test_the_share_of_weak_suites(self, watch, clock, told, weak, good, kinds):
        for _ in range(weak):
            watch(handshake(WEAK, "TLSv1.2"))
        for _ in range(good):
            watch(handshake())
        clock.advance(59)
        watch.beat({})
        assert told == []
        clock.advance(1)
        watch.beat({})
        assert self.kinds(told) == kinds

    def test_the_share_of_old_versions(self, clock, told):
        watch = TlsWatch(TlsAlertSettings(failures=0), clock, told.append)
        for _ in range(2):
            watch(failure("UNSUPPORTED_PROTOCOL"))
        for _ in range(18):
            watch(handshake())
        clock.advance(60)
        watch.beat({})
        assert told == [
            ev.TlsAlert(
                "old_versions", "2 of 20 handshakes (10 %) of a minute wanted less than TLS 1.2"
            )
        ]

    def test_each_minute_counts_anew(self, watch, clock, told):
        for _ in range(2):
            for _ in range(10):
                watch(handshake(WEAK, "TLSv1.2"))
            clock.advance(60)
            watch.beat({})
        assert told == []

    def test_nothing_is_told_where_nothing_is_wanted(self, clock, told):
        watch = TlsWatch(TlsAlertSettings(0, 0, 0.0, 0.0, 0), clock, told.append)
        for _ in range(100):
            watch(failure("UNSUPPORTED_PROTOCOL"))
            watch(failure("CERTIFICATE_VERIFY_FAILED"))
            watch(handshake(WEAK, "TLSv1.2"))
        clock.advance(60)
        watch.beat({"old.pem": -3})
        assert told == []

    def test_certificates_that_end_are_told_of_once_a_day(self, watch, clock, told):
        for _ in range(25):
            watch.beat({"good.pem": 14.5, "soon.pem": 13.2, "over.pem": -0.5})
            clock.advance(3600)
        soon = ev.TlsAlert("days_left", "soon.pem has 13 days left")
        over = ev.TlsAlert("days_left", "over.pem has expired")
        assert told == [soon, over, soon, over]

    def test_settings_change(self, watch, told):
        watch.apply(TlsAlertSettings(failures=2))
        watch(failure())
        watch(failure())
        assert self.kinds(told) == ["failures"]


class TestClients:
    def test_who_speaks_what(self):
        values = {}
        count_handshake(values, handshake())
        count_handshake(values, handshake("ECDHE-RSA-AES128-GCM-SHA256", "TLSv1.2"))
        count_handshake(values, handshake(WEAK, "TLSv1.2", "192.0.2.2"))
        assert count_failure(values, failure("unsupported protocol", "192.0.2.3")) == "old_protocol"
        assert count_failure(values, failure("timeout", "192.0.2.4")) == "timeout"
        (series,) = values.values()
        assert series == {
            ("192.0.2.1", "TLSv1.2"): 1,
            ("192.0.2.2", CBC): 1,
            ("192.0.2.3", OLD): 1,
        }

    def test_a_crowd_pushes_nobody_out_who_comes_often(self):
        values = {}
        for number in range(10 * MAX_CLIENTS):
            count_handshake(values, handshake(WEAK, "TLSv1.2", f"2001:db8::{number:x}"))
            if number % 3 == 0:
                count_handshake(values, handshake(WEAK, "TLSv1.2", "192.0.2.1"))
        (series,) = values.values()
        assert len(series) == MAX_CLIENTS
        assert series["192.0.2.1", CBC] >= 10 * MAX_CLIENTS / 3
