"""Whatever a next hop does, each recipient ends sent, deferred or bounced as the RFC says.

One server, one message to each peer, all at once; the peers behave when they are asked again.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from scenarios.hostile import BOUNCED, CASES, DEFERRED, SENT, Case
from servers.dialogue import Dialogue
from servers.elemta import Elemta, running
from servers.next_hop import serving
from servers.report import Report

from elemta.testing.peer import Drop, Peer, Raw

HEAD = """
[relay]
local_domains = ["example.test"]
[queue]
retry_schedule = ["1h"]
[delivery]
timeout = "10s"
[[routes]]
domains = ["example.test"]
via = "maildir"
path = "{mail}/{{domain}}/{{local}}"
"""
ROUTE = """
[[routes]]
domains = ["{domain}"]
via = "{via}"
host = "127.0.0.1"
port = {port}
tls = "{tls}"
"""
SENDER = "a@example.test"


@dataclass(frozen=True)
class Trial:
    """A case and its peer."""

    case: Case
    peer: Peer
    domain: str

    @property
    def route(self) -> str:
        via = "lmtp" if self.case.lmtp else "smtp"
        return ROUTE.format(domain=self.domain, via=via, port=self.peer.port, tls=self.case.policy)

    def ends(self) -> Iterator[tuple[str, str, str]]:
        """Each recipient with its event and status."""
        for place, (kind, status) in enumerate(self.case.ends):
            yield f"r{place}@{self.domain}", kind, status

    def ending(self, kind: str) -> set[str]:
        return {recipient for recipient, end, _ in self.ends() if end == kind}

    def copies(self) -> int:
        """How many times the peer has, or may have, taken responsibility for the message."""
        step = self.case.script.get("dot", "250")
        answers = step if isinstance(step, list) else [step]
        contents = [content for content in self.peer.contents if content != b".\r\n"]
        count = 0
        for place in range(len(contents)):
            answer = answers[min(place, len(answers) - 1)]
            said = answer.last if isinstance(answer, Drop) else answer
            count += isinstance(answer, Raw) or not said.startswith(("4", "5"))
        return count


@dataclass(frozen=True)
class Run:
    """All messages after one attempt, and after another one.

    Attributes:
        first, second: Events by recipient.
        waiting, still_waiting: States in the queue by recipient.
    """

    server: Elemta
    trials: list[Trial]
    first: dict[str, list[dict]]
    waiting: dict[str, str]
    second: dict[str, list[dict]]
    still_waiting: dict[str, str]

    def all_ending(self, kind: str) -> set[str]:
        return set().union(*(trial.ending(kind) for trial in self.trials))


def send(server: Elemta, trial: Trial) -> None:
    case = trial.case
    with Dialogue(server.port) as client:
        client.hello()
        assert client.say(f"MAIL FROM:<{SENDER}>{case.parameters}").startswith("250")
        for recipient, _, _ in trial.ends():
            assert client.say(f"RCPT TO:<{recipient}>").startswith("250")
        client.say("DATA")
        client.send(case.content + b".\r\n")
        assert client.reply().startswith("250")


def events(server: Elemta) -> dict[str, list[dict]]:
    """What the log says of each recipient, attempt by attempt."""
    found: dict[str, list[dict]] = {}
    for event in server.events():
        if event["event_type"] in {SENT, DEFERRED, BOUNCED} and event["recipient"] != SENDER:
            found.setdefault(event["recipient"], []).append(event)
    return found


def states(server: Elemta) -> dict[str, str]:
    listed = json.loads(server.cli("queue", "list", "--json").stdout)
    return {each["address"]: each["state"] for row in listed for each in row["recipients"]}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Iterator[Run]:
    trials = [Trial(case, case.peer(), f"case-{n}.test") for n, case in enumerate(CASES)]
    with serving(*(trial.peer for trial in trials)):
        rest = HEAD + "".join(trial.route for trial in trials)
        with running(tmp_path_factory.mktemp("hostile"), rest=rest) as server:
            for trial in trials:
                send(server, trial)
            everyone = sum(len(trial.case.ends) for trial in trials)
            server.wait_for(lambda: len(events(server)) == everyone, "an outcome for each", 80)
            first, waiting = events(server), states(server)
            server.cli("queue", "retry", "--all")
            again = everyone + len(waiting)
            server.wait_for(
                lambda: sum(map(len, events(server).values())) == again, "the others", 80
            )
            yield Run(server, trials, first, waiting, events(server), states(server))
            assert not server.events("internal_error")


def test_each_recipient_ends_as_the_rfc_says(run):
    wrong = []
    for trial in run.trials:
        for recipient, kind, status in trial.ends():
            [event] = run.first[recipient]
            said = f"{event['reply']} ".split(" ", 2)[1]
            if event["event_type"] != kind or status not in {"", said}:
                wrong.append((trial.case.name, recipient, event["event_type"], event["reply"]))
    assert wrong == []


def test_the_queue_says_the_same(run):
    assert run.waiting == dict.fromkeys(run.all_ending(DEFERRED), "deferred")


def test_no_mail_is_lost(run):
    """Whoever was deferred gets it at the next attempt, unless the route forbids it for good."""
    hopeless = {r for t in run.trials if t.case.is_hopeless for r in t.ending(DEFERRED)}
    for recipient in run.all_ending(DEFERRED):
        kinds = [event["event_type"] for event in run.second[recipient]]
        assert kinds == [DEFERRED, DEFERRED if recipient in hopeless else SENT], recipient
    assert run.still_waiting == dict.fromkeys(hopeless, "deferred")


def test_copies_only_where_the_protocol_cannot_tell(run):
    wrong = {}
    for trial in run.trials:
        case = trial.case
        if len(case.ends) == 1 and not case.is_hopeless:
            expected = 0 if case.ends[0][0] == BOUNCED else 1 + case.is_unknowable
            if trial.copies() != expected:
                wrong[case.name] = trial.copies()
    assert wrong == {}


def test_the_sender_hears_of_each_failure(run):
    count = sum(bool(trial.ending(BOUNCED)) for trial in run.trials)
    reports = [Report(raw) for raw in run.server.wait_mail("a", count)]
    assert len(reports) == count
    assert set().union(*(report.failed() for report in reports)) == run.all_ending(BOUNCED)


def test_injected_replies_are_an_attack(run):
    [event] = run.server.events("security_event")
    assert event["kind"] == "starttls_reply_injection"


def test_the_table_is_a_table(run):
    names = [trial.case.name for trial in run.trials]
    assert len(names) == len(set(names)) > 80
