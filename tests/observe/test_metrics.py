import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from elemta.mail import events as ev
from elemta.observe import Metrics, Sample, prepare_metrics
from elemta.observe.catalogue import CATALOGUE
from elemta.observe.exposition import Exposition
from elemta.observe.metrics import MAX_LABEL, MAX_VALUES, metrics_folder

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


class SlowClock:
    """Goes on when told to."""

    def __init__(self):
        self.time = 1795227979.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


class Node:
    """The processes of one server, and what `/metrics` shows of them."""

    def __init__(self, state_dir: Path):
        self.state_dir = state_dir
        self.clock = SlowClock()
        self.reported: list[ev.Event] = []
        prepare_metrics(state_dir)
        self.exposition = Exposition(state_dir, self.clock)

    def process(self, name: str = "worker-0") -> Metrics:
        return Metrics(self.state_dir, name, self.reported.append, self.clock)

    def families(self):
        content, content_type = self.exposition.render(OPENMETRICS)
        assert content_type.startswith("application/openmetrics-text; version=1.0.0")
        return {
            family.name: family
            for family in openmetrics.text_string_to_metric_families(content.decode())
        }

    def value(self, name: str, **labels: str) -> float | None:
        """The value of one sample; None where it is not shown."""
        for family in self.families().values():
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return sample.value
        return None


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def deferred(domain: str) -> ev.MessageDeferred:
    return ev.MessageDeferred("0Q", f"someone@{domain}", delivery_method="smtp")


def bounced(notification: str) -> ev.MessageBounced:
    return ev.MessageBounced(
        "0Q", "someone@b.test", delivery_method="smtp", notification=notification
    )


EVENTS = [
    (ev.ConnectionAccepted("s", "192.0.2.1", "127.0.0.1:25", "mta"),
     {"elemta_connections_total listener=mta": 1, "elemta_sessions listener=mta": 1}),
    (ev.ConnectionRefused("192.0.2.1", "mta", "connections"),
     {"elemta_connections_refused_total listener=mta reason=connections": 1}),
    (ev.MessageReceived("s", "0Q", "a@b.test", ["c@d.test"], 1024, 3, 2.0),
     {"elemta_messages_received_total": 1, "elemta_received_bytes_total": 1024,
      "elemta_recipients_received_total": 3, "elemta_accept_duration_seconds_count": 1,
      "elemta_accept_duration_seconds_sum": 0.002,
      "elemta_accept_duration_seconds_bucket le=0.001": 0,
      "elemta_accept_duration_seconds_bucket le=0.0025": 1,
      "elemta_accept_duration_seconds_bucket le=+Inf": 1}),
    (ev.MessageRejected("s", "192.0.2.1", "rcpt", "550 5.7.1 No"),
     {"elemta_messages_rejected_total stage=rcpt": 1}),
    (ev.MessageEnqueued("0Q", "", "normal", "active"),
     {"elemta_messages_enqueued_total priority=normal": 1}),
    (ev.MessageDelivered("0Q", "a@b.test", delivery_method="lmtp", delivery_time_ms=700_000.0),
     {"elemta_deliveries_total result=delivered method=lmtp": 1,
      "elemta_delivery_duration_seconds_bucket result=delivered method=lmtp le=600.0": 0,
      "elemta_delivery_duration_seconds_bucket result=delivered method=lmtp le=+Inf": 1,
      "elemta_delivery_duration_seconds_sum result=delivered method=lmtp": 700}),
    (deferred("b.test"),
     {"elemta_deliveries_total result=deferred method=smtp": 1,
      "elemta_deferred_recipients_total domain=b.test": 1}),
    (bounced("no sender"),
     {"elemta_deliveries_total result=bounced method=smtp": 1,
      "elemta_notifications_total kind=failure": None}),
    (ev.MessageDelayed("0Q", "0R"), {"elemta_notifications_total kind=delay": 1}),
    (ev.MessageCorrupt("0Q", "CRC"), {"elemta_messages_corrupt_total": 1}),
    (ev.SecurityEvent("sync", "early talker"), {"elemta_security_events_total kind=sync": 1}),
    (ev.LimitReached("s", "192.0.2.1", "mta", "submission.soft: 9 messages by ann", "450 4.7.0 No"),
     {"elemta_limits_reached_total listener=mta limit=submission.soft": 1}),
    (ev.ClientChecked("s", "192.0.2.1", "mta", "pipelining", "drop", "EHLO"),
     {"elemta_clients_checked_total check=pipelining result=drop": 1}),
    (ev.InternalError("session", "KeyError"), {"elemta_internal_errors_total": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("event", "shown"), EVENTS, ids=[type(e).__name__ for e, _ in EVENTS])
def test_events_are_counted(node, event, shown):
    metrics = node.process()
    metrics(event)
    metrics.close()
    for sample, value in shown.items():
        name, *labels = sample.split()
        found = node.value(name, **dict(label.split("=") for label in labels))
        assert found == (None if value is None else pytest.approx(value)), sample


def test_events_that_nobody_counts_change_nothing(node):
    metrics = node.process()
    metrics.flush()
    before = node.exposition.render("")[0]
    metrics(ev.RcptToAccepted("s", "a@b.test", "c@d.test"))
    metrics.close()
    assert node.exposition.render("")[0] == before


def test_all_metrics_are_shown_with_type_and_unit(node):
    families = node.families()
    assert {(family.name, family.type, family.unit) for family in families.values()} == {
        (metric.name, metric.kind, metric.unit) for metric in CATALOGUE
    }


def test_recipients_that_failed_together_share_a_notification(node):
    metrics = node.process()
    for notification in ("01J8Q2R5T7V9X", "01J8Q2R5T7V9X", "", "01J8Q2R5T7V9Y"):
        metrics(bounced(notification))
    metrics.close()
    assert node.value("elemta_notifications_total", kind="failure") == 2
    assert node.value("elemta_deliveries_total", result="bounced", method="smtp") == 4


class TestSample:
    def test_what_a_worker_measures_is_shown(self, node):
        metrics = node.process("worker-1")
        metrics.sample(Sample({"active": 2}, 61.5, 3, 4, 0.25, 1000, 9))
        metrics.close()
        assert node.value("elemta_queue_recipients", state="active") == 2
        assert node.value("elemta_queue_oldest_seconds") == 61.5
        assert node.value("elemta_queue_ready") == 3
        assert node.value("elemta_deliveries_in_flight") == 4
        assert node.value("elemta_event_loop_lag_seconds", worker="1") == 0.25
        assert node.value("elemta_spool_free_bytes") == 1000
        assert node.value("elemta_log_lines_dropped_total") == 9

    def test_a_later_sample_replaces_all_of_an_earlier_one(self, node):
        metrics = node.process()
        metrics.sample(Sample({"active": 2, "hold": 1}))
        metrics.sample(Sample({"active": 1}))
        metrics.close()
        assert node.value("elemta_queue_recipients", state="active") == 1
        assert node.value("elemta_queue_recipients", state="hold") is None


class TestProcesses:
    def test_their_numbers_become_one(self, node):
        for number, free in ((0, 500), (1, 400)):
            metrics = node.process(f"worker-{number}")
            metrics(ev.MessageReceived("s", "0Q", "a@b.test", [], 100, 1, 2.0))
            metrics.sample(Sample({"active": 2}, oldest=number, loop_lag=0.1, spool_free=free))
            metrics.close()
        assert node.value("elemta_messages_received_total") == 2
        assert node.value("elemta_accept_duration_seconds_count") == 2
        assert node.value("elemta_queue_recipients", state="active") == 4
        assert node.value("elemta_queue_oldest_seconds") == 1
        assert node.value("elemta_spool_free_bytes") == 400
        assert node.value("elemta_event_loop_lag_seconds", worker="0") == 0.1
        assert node.value("elemta_event_loop_lag_seconds", worker="1") == 0.1

    def test_the_next_process_of_the_name_goes_on_counting(self, node):
        for _ in range(2):
            metrics = node.process()
            metrics(ev.ConnectionAccepted("s", "192.0.2.1", "127.0.0.1:25", "mta"))
            metrics(ev.MessageReceived("s", "0Q", "a@b.test", [], 100, 1, 2.0))
            metrics(ev.MessageDelivered("0Q", "a@b.test", delivery_method="lmtp"))
            metrics(deferred("b.test"))
            metrics.sample(Sample(double_bounces=5, log_lines_dropped=1))
            metrics.sample(Sample(double_bounces=6, log_lines_dropped=1, why_records_lost=3))
            metrics.close()
        assert node.value("elemta_messages_received_total") == 2
        assert node.value("elemta_accept_duration_seconds_count") == 2
        assert node.value("elemta_deliveries_total", result="delivered", method="lmtp") == 2
        assert node.value("elemta_deferred_recipients_total", domain="b.test") == 2
        assert node.value("elemta_double_bounces_total") == 12
        assert node.value("elemta_log_lines_dropped_total") == 2
        assert node.value("elemta_why_records_lost_total") == 6
        # but the sessions of the first are gone with it
        assert node.value("elemta_sessions", listener="mta") == 1

    def test_gauges_end_with_their_process_counters_do_not(self, node):
        metrics = node.process()
        metrics(ev.ConnectionAccepted("s", "192.0.2.1", "127.0.0.1:25", "mta"))
        metrics.sample(Sample({"active": 2}))
        metrics.flush()
        node.clock.time += 5
        assert node.value("elemta_queue_recipients", state="active") == 2
        node.clock.time += 0.1
        assert node.value("elemta_queue_recipients", state="active") is None
        assert node.value("elemta_sessions", listener="mta") is None
        assert node.value("elemta_connections_total", listener="mta") == 1
        metrics.close()

    def test_the_supervisor_needs_no_timer(self, node):
        metrics = node.process("supervisor")
        metrics(ev.ServerStarted("1.2.3", 2, []))
        metrics(ev.WorkerRestarted(0, "SIGKILL", 0.1))
        metrics(ev.WorkerRestarted(0, "SIGKILL", 0.1, "web"))
        node.clock.time += 100
        assert node.value("elemta_start_time_seconds") == node.clock.time - 100
        python = sys.version.split(maxsplit=1)[0]
        assert node.value("elemta_build_info", version="1.2.3", python=python) == 1
        assert node.value("elemta_restarts_total", process="worker-0") == 1
        assert node.value("elemta_restarts_total", process="web-0") == 1
        metrics.close()

    def test_a_new_server_starts_at_zero(self, node):
        metrics = node.process()
        metrics(ev.MessageCorrupt("0Q", "CRC"))
        metrics.close()
        prepare_metrics(node.state_dir)
        assert node.value("elemta_messages_corrupt_total") is None
        metrics = node.process()
        metrics.close()
        assert node.value("elemta_messages_corrupt_total") == 0


class TestLabels:
    def test_a_label_from_outside_has_a_bounded_number_of_values(self, node):
        metrics = node.process()
        for number in range(MAX_VALUES + 50):
            metrics(deferred(f"d{number}.test"))
        metrics(deferred("d0.test"))
        metrics.close()
        samples = node.families()["elemta_deferred_recipients"].samples
        assert len(samples) == MAX_VALUES + 1
        assert node.value("elemta_deferred_recipients_total", domain="other") == 50
        assert node.value("elemta_deferred_recipients_total", domain="d0.test") == 2

    def test_also_over_all_processes(self, node):
        for worker in (0, 1):
            metrics = node.process(f"worker-{worker}")
            for number in range(MAX_VALUES):
                metrics(deferred(f"d{number}.w{worker}.test"))
            metrics.close()
            node.families()
        samples = node.families()["elemta_deferred_recipients"].samples
        assert len(samples) == MAX_VALUES + 1
        assert sum(sample.value for sample in samples) == 2 * MAX_VALUES
        # those that were there first have kept their names
        assert node.value("elemta_deferred_recipients_total", domain="d99.w0.test") == 1

    @pytest.mark.parametrize("text", ['"\n\\', "\x00\x9b\u2028", "\udcff", "x" * 5000, "", "ü{}="])
    def test_any_text_makes_a_valid_label(self, node, text):
        metrics = node.process()
        for _ in range(2):
            metrics(ev.SecurityEvent(text, ""))
            metrics(ev.MessageDelivered("0Q", "a@b.test", delivery_method=text))
        metrics.close()
        assert node.reported == []
        (sample,) = node.families()["elemta_security_events"].samples
        assert len(sample.labels["kind"]) <= MAX_LABEL
        assert sample.labels["kind"].isprintable()
        assert sample.value == 2
        (sample,) = node.families()["elemta_deliveries"].samples
        assert sample.value == 2


class TestFile:
    def test_a_failing_disk_is_told_once_and_forgotten_when_it_works_again(self, node):
        folder = metrics_folder(node.state_dir)
        folder.rmdir()
        metrics = node.process()
        metrics(ev.MessageCorrupt("0Q", "CRC"))
        metrics.flush()
        metrics.flush()
        assert [event.subject for event in node.reported] == ["metrics"]
        assert "No such file" in node.reported[0].detail
        folder.mkdir()
        metrics.close()
        assert node.value("elemta_messages_corrupt_total") == 1
        assert len(node.reported) == 1

    def test_its_blocks_are_set_aside_before_the_disk_is_full(self, node):
        metrics = node.process()
        metrics.flush()
        (path,) = metrics_folder(node.state_dir).iterdir()
        for number in range(MAX_VALUES + 1):
            word = f"{number}".rjust(MAX_LABEL, "x")
            metrics(deferred(word))
            metrics(ev.SecurityEvent(word, ""))
            metrics(ev.ConnectionRefused("192.0.2.1", word, word))
            metrics(ev.ConnectionAccepted("s", "192.0.2.1", "127.0.0.1:25", word))
            metrics(ev.MessageRejected("s", "192.0.2.1", word, ""))
            metrics(ev.MessageEnqueued("0Q", "", word, ""))
            metrics(ev.MessageDelivered("0Q", "a@b.test", delivery_method=word))
            metrics(ev.WorkerRestarted(number, "", 0.0))
        size, blocks = path.stat().st_size, path.stat().st_blocks
        metrics.close()
        assert (path.stat().st_size, path.stat().st_blocks) == (size, blocks)

    @pytest.mark.parametrize("content", [b"", b"\x01", b"\xff" * 100, b"\0" * 100])
    def test_one_that_cannot_be_read_is_left_out(self, node, content):
        folder = metrics_folder(node.state_dir)
        (folder / "worker-0.snapshot").write_bytes(content)
        metrics = node.process("worker-1")
        metrics(ev.MessageCorrupt("0Q", "CRC"))
        metrics.close()
        assert node.value("elemta_messages_corrupt_total") == 1
        node.process("worker-0").close()
        assert node.value("elemta_messages_corrupt_total") == 1

    def test_it_can_be_read_while_it_is_written(self, node):
        metrics = node.process()
        for number in range(300):
            metrics(deferred(f"d{number % 90}.test"))
            metrics(ev.MessageCorrupt("0Q", "CRC"))
            metrics.flush()
            assert node.value("elemta_messages_corrupt_total") == number + 1
        metrics.close()


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain; version=1.0.0", "text/plain; version=1.0.0; charset=utf-8"),
        ("application/openmetrics-text; version=x", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text", "application/openmetrics-text; version=1.0.0"),
    ],
)
def test_the_form_is_negotiated(node, accept, content_type):
    metrics = node.process()
    metrics(deferred("b.test"))
    metrics.close()
    content, given = node.exposition.render(accept)
    assert given.startswith(content_type)
    if given.startswith("text/plain"):
        shown = {s.name: s.value for family in parse_text(content.decode()) for s in family.samples}
        assert shown["elemta_deferred_recipients_total"] == 1
    else:
        assert content.endswith(b"# EOF\n")


@given(st.text())
def test_no_accept_field_upsets_it(tmp_path_factory, accept):
    exposition = Exposition(tmp_path_factory.getbasetemp())
    for field in (accept, f"application/openmetrics-text;version={accept}"):
        assert b"elemta_messages_received" in exposition.render(field)[0]


def test_workers_do_not_load_what_only_the_web_process_needs():
    script = "import sys, elemta.observe; sys.exit('prometheus_client' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_tls(node):
    worker = node.process()
    for _ in range(2):
        worker(
            ev.TlsHandshake("1", "192.0.2.1", "mta", "TLSv1.2", "ECDHE-RSA-AES128-SHA", "x25519")
        )
    worker(ev.TlsHandshakeFailed("2", "192.0.2.2", "submission", "NO_SHARED_CIPHER"))
    worker(ev.TlsAlert("failures", "many"))
    worker(ev.CertificateRefused("mx.pem", "has expired"))
    worker.sample(Sample(certificates={"/etc/mail.pem": 12.5}))
    worker.flush()
    words = {"version": "TLSv1.2", "cipher": "ECDHE-RSA-AES128-SHA", "group": "x25519"}
    assert node.value("elemta_tls_handshakes_total", listener="mta", **words) == 2
    failed = {"listener": "submission", "reason": "no_common_suite"}
    assert node.value("elemta_tls_handshakes_failed_total", **failed) == 1
    assert node.value("elemta_tls_alerts_total", kind="failures") == 1
    assert node.value("elemta_tls_alerts_total", kind="certificate_refused") == 1
    assert node.value("elemta_tls_old_clients", client="192.0.2.1", protocol="CBC") == 2
    assert node.value("elemta_tls_certificate_days", file="/etc/mail.pem") == 12.5
