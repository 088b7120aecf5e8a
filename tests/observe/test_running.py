"""Log, metrics and health of the running server."""

import json
import os
import signal

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from servers.dialogue import Dialogue
from servers.elemta import Elemta, running

from elemta.observe.exposition import Exposition
from elemta.observe.metrics import metrics_folder

MESSAGE = b"From: <bob@example.org>\r\nSubject: Hello\r\n\r\nText\r\n"


@pytest.fixture
def elemta(tmp_path):
    with running(tmp_path, workers=2) as server:
        server.wait_for(lambda: server.get("/ready")[0] == 200, "readiness")
        yield server


def deliver(elemta: Elemta, *recipients: str) -> None:
    with Dialogue(elemta.port) as client:
        client.hello()
        assert client.deliver(MESSAGE, "bob@example.org", *recipients).startswith("250")
        assert client.say("QUIT").startswith("221")


def test_what_happens_to_mail_is_counted_and_logged(elemta):
    for _ in range(4):
        deliver(elemta, "alice@example.test", "carol@example.test")
    with Dialogue(elemta.port) as client:
        client.hello()
        assert client.say("RCPT TO:<alice@example.test>").startswith("503")
    elemta.wait_mail("alice", 4)
    elemta.wait_mail("carol", 4)
    delivered = 'elemta_deliveries_total{method="maildir",result="delivered"}'
    elemta.wait_for(lambda: elemta.metric(delivered) == 8, "all deliveries in the metrics")
    assert elemta.metric("elemta_messages_received_total") == 4
    assert elemta.metric("elemta_recipients_received_total") == 8
    assert elemta.metric("elemta_accept_duration_seconds_count") == 4
    assert elemta.metric('elemta_connections_total{listener="mta"}') >= 5
    elemta.wait_for(lambda: elemta.metric("elemta_spool_free_bytes") > 0, "a look at the disk")
    assert elemta.metric("elemta_internal_errors_total") == 0
    elemta.wait_for(
        lambda: elemta.metric('elemta_sessions{listener="mta"}') == 0, "the end of all sessions"
    )

    received = elemta.wait_event("message_received", 4)
    for event in received:
        queue_id = event["queue_id"]
        assert elemta.wait_event("message_enqueued", queue_id=queue_id)
        for recipient in ("alice@example.test", "carol@example.test"):
            assert elemta.wait_event("message_delivered", queue_id=queue_id, recipient=recipient)
    for line in elemta.log_file.read_text().split("\n")[:-1]:
        if line.startswith("{"):
            assert list(json.loads(line))[:2] == ["event_type", "time"]


def test_metrics_are_openmetrics(elemta):
    deliver(elemta, "alice@example.test")
    content, _ = Exposition(elemta.state).render("application/openmetrics-text; version=1.0.0")
    families = {family.name for family in text_string_to_metric_families(content.decode())}
    assert "elemta_build" in families


def test_a_worker_that_dies_is_counted_and_its_numbers_stay(elemta):
    for _ in range(6):
        deliver(elemta, "alice@example.test")
    received = "elemta_messages_received_total"
    elemta.wait_for(lambda: elemta.metric(received) == 6, "six messages in the metrics")
    for started in elemta.wait_event("worker_started", 2):
        os.kill(started["pid"], signal.SIGKILL)
    elemta.wait_event("worker_restarted", 2)
    elemta.wait_event("worker_started", 4)
    elemta.wait_for(lambda: elemta.get("/ready")[0] == 200, "readiness after the restart")
    for number in (0, 1):
        restarts = f'elemta_restarts_total{{process="worker-{number}"}}'
        elemta.wait_for(lambda sample=restarts: elemta.metric(sample) == 1, restarts)
    deliver(elemta, "alice@example.test")
    elemta.wait_for(lambda: elemta.metric(received) == 7, "the seventh beside the six")


def test_a_stopped_worker_is_missed(elemta):
    worker = elemta.wait_event("worker_started", 2)[0]
    os.kill(worker["pid"], signal.SIGSTOP)
    try:
        missed = f"worker {worker['worker']} was last heard of"
        elemta.wait_for(
            lambda: (answer := elemta.get("/ready"))[0] == 503 and missed in answer[1], missed
        )
        assert elemta.get("/live")[0] == 200
    finally:
        os.kill(worker["pid"], signal.SIGCONT)
    elemta.wait_for(lambda: elemta.get("/ready")[0] == 200, "readiness again")


def test_every_process_has_its_numbers(elemta):
    expected = {"supervisor.snapshot", "worker-0.snapshot", "worker-1.snapshot"}
    folder = metrics_folder(elemta.state)
    elemta.wait_for(lambda: {path.name for path in folder.iterdir()} == expected, "snapshots")
