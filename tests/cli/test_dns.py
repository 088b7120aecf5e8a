"""`elemta dns`, with a resolver that validates, one that does not, and none; and a server."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, running
from servers.process import free_port
from servers.unbound import Names, run_unbound

from elemta.cli.main import cli

RECORDS = """
@ MX 10 mx
@ MX 20 mx2
_25._tcp.mx TLSA 3 1 1 {digest}
word TXT "v=spf1 " "-all" "\\255\\027"
mx A 192.0.2.1
xn--bcher-kva A 192.0.2.2
""".replace("{digest}", "ab" * 32)
ZONES = {"signed.test": RECORDS, "plain.test": RECORDS, "bogus.test": RECORDS}
DNSSEC = ("--dnssec", "--signed", "signed.test", "--bogus", "word.bogus.test")


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Names]:
    folder = tmp_path_factory.mktemp("dns")
    with run_unbound(folder, ZONES, signed=["signed.test"], bogus=["bogus.test"]) as names:
        yield names


class Site:
    """A configuration that names name servers."""

    def __init__(
        self, folder: Path, *servers: tuple[str, int], rest: str = "", timeout: str = "20s"
    ) -> None:
        addresses = [f"{host}:{port}" for host, port in servers]
        self.config = folder / "elemta.toml"
        self.config.write_text(
            f'[server]\nstate_dir = "{folder}/var"\n'
            f'[dns]\nnameservers = {json.dumps(addresses)}\ntimeout = "{timeout}"\n{rest}'
        )

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(cli, ["dns", *arguments, "-c", str(self.config)])


# ---- check


def test_a_name_server_that_can_do_all(tmp_path, names):
    site = Site(tmp_path, names.validating)
    done = site.run("check", *DNSSEC)
    assert done.exit_code == 0, done.output
    heading, row = done.stdout.splitlines()
    assert heading.split() == ["SERVER", "UDP", "TCP", "EDNS", "VALIDATES", "SECURE", "ANSWERS"]
    server = f"127.0.0.1:{names.validating[1]}"
    assert row.split() == [server, row.split()[1], "ms", "yes", "yes", "yes", "yes"]
    told = json.loads(site.run("check", *DNSSEC, "--json").stdout)
    assert told["ok"]
    (one,) = told["servers"]
    assert 0.01 < one.pop("milliseconds") < 5000  # they are no seconds
    assert one == {
        "server": server,
        "tcp": True,
        "edns": True,
        "validates": "yes",
        "trusted": True,
        "secure_answers": True,
        "problem": "",
    }


def test_one_that_does_not_validate(tmp_path, names):
    site = Site(tmp_path, names.authoritative)
    done = site.run("check", "--signed", "signed.test")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "it does not validate" in done.stdout
    done = site.run("check", *DNSSEC)
    assert done.exit_code == 1
    assert f"127.0.0.1:{names.authoritative[1]}: DNSSEC: it does not validate" in done.stderr


def test_one_whose_word_does_not_count(tmp_path, names):
    site = Site(tmp_path, names.validating, rest='trust_ad = "never"\n')
    done = site.run("check", *DNSSEC)
    assert done.exit_code == 1
    assert "DNSSEC: its word does not count: [dns] trust_ad" in done.stderr


def test_one_that_vouches_for_what_is_wrong(tmp_path, names):
    """As a forwarder that sets the bit without looking: what is named as wrong is no such thing."""
    site = Site(tmp_path, names.validating)
    done = site.run("check", "--dnssec", "--signed", "signed.test", "--bogus", "word.plain.test")
    assert done.exit_code == 1
    assert "it does not validate" in done.stderr


def test_a_zone_that_it_does_not_know(tmp_path, names):
    done = Site(tmp_path, names.validating).run("check", "--signed", "word.bogus.test", "--json")
    assert done.exit_code == 1
    (one,) = json.loads(done.stdout)["servers"]
    assert (one["validates"], one["problem"]) == ("unknown", "word.bogus.test: SERVFAIL")


def test_one_that_is_not_there(tmp_path, names):
    port = free_port()
    done = Site(tmp_path, ("127.0.0.1", port), names.validating).run("check", *DNSSEC)
    assert done.exit_code == 1
    assert f"127.0.0.1:{port}: over UDP: " in done.stderr
    assert len(done.stdout.splitlines()) == 3


def test_a_name_that_is_none(tmp_path, names):
    done = Site(tmp_path, names.validating).run("check", "--signed", "a..b")
    assert done.exit_code == 2
    assert "no name" in done.stderr


# ---- query


@pytest.mark.parametrize(
    ("name", "rdtype", "shown", "trust"),
    [
        ("signed.test", "MX", "10 mx.signed.test\n20 mx2.signed.test\n", "secure"),
        ("Word.Signed.TEST.", "txt", "v=spf1 -all\\xff \n", "secure"),
        ("_25._tcp.mx.signed.test", "TLSA", f"3 1 1 {'ab' * 32}\n", "secure"),
        ("mx.plain.test", "A", "192.0.2.1\n", "not secure"),
        ("bücher.plain.test", "A", "192.0.2.2\n", "not secure"),
    ],
)
def test_what_there_is(tmp_path, names, name, rdtype, shown, trust):
    done = Site(tmp_path, names.validating).run("query", name, rdtype)
    assert done.exit_code == 0, done.output
    assert sorted(done.stdout.splitlines()) == sorted(shown.splitlines())
    assert done.stderr.startswith("for ")
    assert done.stderr.endswith(f" s, {trust}\n")


def test_what_there_is_for_programs(tmp_path, names):
    done = Site(tmp_path, names.validating).run("query", "signed.test", "mx", "--json")
    told = json.loads(done.stdout)
    assert 0 < told.pop("ttl") <= 300  # another test may have asked some time ago
    told["records"].sort(key=lambda record: record["preference"])
    assert told == {
        "name": "signed.test",
        "type": "MX",
        "exists": True,
        "secure": True,
        "records": [
            {"preference": 10, "host": "mx.signed.test"},
            {"preference": 20, "host": "mx2.signed.test"},
        ],
    }


def test_a_certificate_for_programs(tmp_path, names):
    done = Site(tmp_path, names.validating).run(
        "query", "_25._tcp.mx.signed.test", "tlsa", "--json"
    )
    (record,) = json.loads(done.stdout)["records"]
    assert record == {"usage": 3, "selector": 1, "matching_type": 1, "data": "ab" * 32}


def test_what_there_is_not(tmp_path, names):
    site = Site(tmp_path, names.validating)
    for name, said in (("word.signed.test", "no such records"), ("x.signed.test", "no such name")):
        done = site.run("query", name, "A")
        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr.startswith(f"{said}, for ")


def test_what_nobody_can_tell(tmp_path, names):
    done = Site(tmp_path, names.validating).run("query", "word.bogus.test", "TXT")
    assert done.exit_code == 75
    assert "word.bogus.test/TXT: bogus, says DNSSEC: " in done.stderr


def test_what_cannot_be_asked(tmp_path, names):
    site = Site(tmp_path, names.validating)
    assert site.run("query", "signed.test", "ANY").exit_code == 2
    assert site.run("query", "\udcff.test", "A").exit_code == 2


# ---- flush


def test_without_a_server_nobody_forgets(tmp_path):
    done = Site(tmp_path).run("flush")
    assert done.exit_code == 75
    assert "the server, which does not run, has not answered" in done.stderr


PLUGIN = """
from elemta.plugins import *

class Asking(Plugin[Settings]):
    metadata = Metadata(name="asking")

    async def on_helo(self, ctx):
        answer = await ctx.dns.query(ctx.name, "TXT")
        return Result.reject("?".join(str(text) for text in sorted(answer.records)))
"""


def test_a_running_server_forgets_what_is_named(tmp_path, names):
    plugins = tmp_path / "plugins"
    plugins.mkdir(mode=0o755)
    (plugins / "asking.py").write_text(PLUGIN)
    rest = f"""{MAILDIR}
[plugins]
directory = {json.dumps(str(plugins))}
[dns]
nameservers = ["127.0.0.1:{names.validating[1]}"]
"""
    with running(tmp_path / "server", rest=rest) as server, Dialogue(server.port) as client:

        def ask(*wanted: str) -> None:
            for zone in wanted:
                assert "v=spf1 -all" in client.say(f"EHLO word.{zone}.test")

        def questions() -> float:
            return server.metric('elemta_resolver_questions_total{rdtype="TXT",result="answer"}')

        ask("signed", "plain", "signed")
        server.wait_for(lambda: questions() == 2, "two questions")
        server.wait_for(lambda: server.metric("elemta_resolver_cache_entries") == 2, "entries")
        assert server.metric("elemta_resolver_seconds_count") == 2
        done = server.cli("dns", "flush", "Word.Signed.test.")
        assert done.stdout == "forgotten: 1 answer\n"
        ask("signed", "plain")
        server.wait_for(lambda: questions() == 3, "another question")
        told = json.loads(server.cli("dns", "flush", "--json").stdout)
        assert told == {"name": "", "flushed": 2, "errors": [], "unanswered": []}
        ask("signed", "plain")
        server.wait_for(lambda: questions() == 5, "two more questions")
        assert json.loads(server.cli("dns", "flush", "x.test", "--json").stdout)["flushed"] == 0
