"""`elemta dmarc`, where no server runs."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from mailauth.reports.feedback_reader import read_feedback
from mailauth.reports.reporting import row
from servers.process import free_port

from elemta.cli.main import cli
from elemta.plugins.builtin.dmarc_reports.store import ReportStore, Seen, Tally, store_path
from elemta.testing import FakeResolver

DAY = 86_400
BEGIN = 1_699_920_000  # 2023-11-14


class Site:
    """A configuration and what has been seen."""

    def __init__(self, folder: Path, settings: str = "") -> None:
        self.folder = folder
        self.state = folder / "var"
        self.config = folder / "elemta.toml"
        self.config.write_text(
            f'[server]\nhostname = "mx.rx.test"\nstate_dir = "{self.state}"\n'
            f'[dns]\nnameservers = ["127.0.0.1:{free_port()}"]\ntimeout = "1s"\n{settings}'
        )

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(cli, ["dmarc", *arguments, "-c", str(self.config)])

    def json(self, *arguments: str, status: int = 0):
        done = self.run(*arguments, "--json")
        assert done.exit_code == status, done.output
        return json.loads(done.stdout)

    def fill(self) -> None:
        self.state.mkdir()
        store = ReportStore(store_path(self.state))
        store.add(
            {
                Seen(BEGIN, "a.test", "treewalk", row("192.0.2.1")): Tally(3, 2),
                Seen(BEGIN, "a.test", "treewalk", row("192.0.2.2", disposition="reject")): Tally(
                    7, 7
                ),
                Seen(BEGIN + DAY, "b.test", "treewalk", row("192.0.2.3")): Tally(1, 1),
            }
        )
        store.close()


@pytest.fixture
def site(tmp_path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def filled(site) -> Site:
    site.fill()
    return site


def test_nothing_has_been_seen(site):
    assert site.run("reports").stdout == ""
    assert site.json("reports") == []
    assert not site.state.exists()
    assert site.run("send", "--now").exit_code == 1


def test_what_has_been_seen(filled):
    b, a = filled.json("reports")
    assert (a["domain"], a["messages"], a["messages_of_people"]) == ("a.test", 10, 9)
    assert (a["begin"], a["end"]) == ("2023-11-14T00:00:00.000Z", "2023-11-15T00:00:00.000Z")
    assert (a["state"], a["done_at"]) == ("open", None)
    assert "rows" not in a
    assert b["domain"] == "b.test"
    heading, first, second = filled.run("reports").stdout.splitlines()
    assert heading.split() == ["DOMAIN", "FROM", "TO", "MESSAGES", "ROWS", "LOST", "STATE", "WHAT"]
    assert first.startswith("b.test  2023-11-15 00:00  2023-11-16 00:00  1 ")
    assert second.endswith("open   due now")


def test_one_day(filled):
    assert [each["domain"] for each in filled.json("reports", "--day", "2023-11-15")] == ["b.test"]
    assert filled.json("reports", "--day", "2023-11-13") == []


def test_one_domain_row_by_row(filled):
    (a,) = filled.json("reports", "--domain", "A.test.")
    assert [(each["source_ip"], each["messages"]) for each in a["rows"]] == [
        ("192.0.2.2", 7),
        ("192.0.2.1", 3),
    ]
    assert a["rows"][0]["dkim"] == [{"domain": "a.test", "selector": "s1", "result": "pass"}]
    lines = filled.run("reports", "--domain", "a.test").stdout.splitlines()
    assert lines[3].split() == [
        "7",
        "192.0.2.2",
        "a.test",
        "bounce.a.test",
        "pass",
        "fail",
        "reject",
    ]


def test_send_now_without_a_server_waits_for_it(filled):
    done = filled.run("send", "--now", "--domain", "a.test")
    assert done.exit_code == 75
    assert "the server does not run" in done.stderr
    assert [each["state"] for each in filled.json("reports")] == ["open", "open"]


def test_a_dry_run_without_the_dns_says_so(filled, tmp_path):
    told = filled.json("send", "--dry-run", str(tmp_path / "out"), status=1)
    assert [each["domain"] for each in told] == ["b.test", "a.test"]
    assert all("_dmarc." in each["error"] for each in told)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("arguments", [(), ("--now", "--dry-run", "/nowhere")])
def test_one_of_both_has_to_be_said(filled, arguments):
    assert filled.run("send", *arguments).exit_code == 2


def test_settings_that_are_wrong(tmp_path):
    site = Site(
        tmp_path, '[plugins]\nplugins = ["dmarc-reports"]\n[plugins.dmarc_reports]\nx = 1\n'
    )
    site.fill()
    done = site.run("reports")
    assert done.exit_code == 1
    assert "[plugins.dmarc-reports]: x: " in done.stderr


def test_a_dry_run_writes_what_would_be_sent(filled, tmp_path, monkeypatch):
    zone = {
        "_dmarc.a.test": {"TXT": ["v=DMARC1; p=none; rua=mailto:x@a.test,mailto:y@victim.test"]}
    }
    monkeypatch.setattr("elemta.cli.dmarc_send.DnsResolver", lambda *_: FakeResolver(zone))
    folder = tmp_path / "out"
    (a,) = filled.json("send", "--dry-run", str(folder), "--domain", "a.test")
    assert a["for"] == ["x@a.test"]
    assert [each["uri"] for each in a["not_for"]] == ["mailto:y@victim.test"]
    (path,) = folder.iterdir()
    assert [path.name] == a["files"]
    assert path.name.startswith(f"mx.rx.test!a.test!{BEGIN}!{BEGIN + DAY - 1}!")
    told = read_feedback(path.read_bytes())
    assert told["report_metadata"]["email"] == "postmaster@mx.rx.test"
    assert [each["row"]["count"] for each in told["record"]] == ["3", "7"]
    assert [each["state"] for each in filled.json("reports")] == ["open", "open"]
