"""`elemta dkim`, where no server runs: keys, their records, and what the DNS has of them."""

import json
import os
import re
import signal
import stat
import time

import msgspec
import pytest
from click.testing import CliRunner
from servers.knot import SOA, run_knot

from elemta.cli.main import cli
from elemta.mailauth.keys import PrivateKey, parse_key_record
from elemta.plugins.builtin.dkim.keystore import KeyStore

OK, PROBLEM, TEMPORARY = 0, 1, 75
NOBODY = 9  # a port without a name server


class Site:
    """A configuration, and the name server it names."""

    def __init__(self, folder, port):
        self.folder = folder
        self.config = folder / "elemta.toml"
        self.write("")
        self.port = port
        self.serial = 1
        self.write("")

    def write(self, more):
        port = getattr(self, "port", 53)
        timeout = "2s" if port == NOBODY else "20s"
        self.config.write_text(
            f'[server]\nstate_dir = "{self.folder / "var"}"\n[relay]\n'
            f'local_domains = ["example.test"]\n[dns]\nnameservers = ["127.0.0.1:{port}"]\n'
            f'min_ttl = "0s"\ntimeout = "{timeout}"\n{more}'
        )

    def run(self, *arguments):
        return CliRunner().invoke(cli, ["dkim", *arguments, "-c", str(self.config)])

    def json(self, *arguments, code=OK):
        done = self.run(*arguments, "--json")
        assert done.exit_code == code, done.output
        return json.loads(done.stdout)

    def publish(self, *lines, ttl=0):
        """Put records into the zone, in place of those that were there, and wait for them."""
        self.serial += 1
        head = SOA.format(negative_ttl=0).replace(". 1 3600", f". {self.serial} 3600")
        text = "\n".join(lines).replace(" 3600 IN TXT", f" {ttl} IN TXT")
        home = self.folder / "knot"
        (home / "example.test.zone").write_text(f"$ORIGIN example.test.\n$TTL 0\n{head}{text}\n")
        os.kill(int((home / "knot.pid").read_text()), signal.SIGHUP)
        limit = time.monotonic() + 30
        while f"serial {self.serial - 1} -> {self.serial}" not in (home / "knot.log").read_text():
            assert time.monotonic() < limit, (home / "knot.log").read_text()
            time.sleep(0.02)

    def states(self):
        return {each["selector"]: each["state"] for each in self.json("show")}


@pytest.fixture
def site(tmp_path):
    with run_knot(tmp_path, {"example.test": ""}, negative_ttl=0) as (_, port):
        yield Site(tmp_path, port)


@pytest.fixture
def plain(tmp_path):
    """Where no name server is asked."""
    return Site(tmp_path, NOBODY)


class TestGenerate:
    def test_a_key_and_its_record(self, plain):
        done = plain.run("generate", "Example.test", "--selector", "s1")
        assert done.exit_code == OK
        path = plain.folder / "var" / "dkim" / "example.test" / "s1.pem"
        assert f"; {path}\ns1._domainkey.example.test. 3600 IN TXT (" in done.stdout
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        text = "".join(re.findall(r'"(.*)"', done.stdout))
        assert text == PrivateKey.load(path.read_bytes()).record()
        assert parse_key_record(text.encode()).bits == 2048
        assert plain.states() == {"s1": "pending"}

    def test_all_kinds(self, plain):
        made = plain.json("generate", "example.test", "--algorithm", "both", "--selector", "a")
        assert [(each["selector"], each["algorithm"]) for each in made] == [
            ("a-rsa", "rsa"),
            ("a-ed25519", "ed25519"),
        ]
        (made,) = plain.json("generate", "other.test", "--algorithm", "ed25519")
        assert re.fullmatch(r"ed25519-\d{8}", made["selector"])
        (made,) = plain.json("generate", "third.test", "--bits", "1024")
        assert made["bits"] == 1024
        assert "secret" not in str(made)
        assert "PRIVATE" not in str(made)

    def test_only_one_of_a_kind(self, plain):
        assert plain.run("generate", "example.test").exit_code == OK
        done = plain.run("generate", "example.test", "--algorithm", "both")
        assert done.exit_code == PROBLEM
        assert "has a key (rsa): `elemta dkim rotate example.test`" in done.output
        assert plain.run("generate", "example.test", "--algorithm", "ed25519").exit_code == OK

    @pytest.mark.parametrize(
        ("arguments", "code"),
        [
            (("not a domain",), 2),
            (("[192.0.2.1]",), 2),
            (("../../etc",), 2),
            (("example.test", "--bits", "512"), 2),
            (("example.test", "--bits", "16384"), 2),
            (("example.test", "--selector", "../x"), 1),
            (("example.test", "--selector", "a b"), 1),
        ],
    )
    def test_what_cannot_be(self, plain, arguments, code):
        assert plain.run("generate", *arguments).exit_code == code
        assert not (plain.folder / "var").exists() or not list(plain.folder.rglob("*.pem"))

    def test_a_folder_of_another_place(self, plain):
        plain.write(f'[plugins.dkim]\nkeys_dir = "{plain.folder / "elsewhere"}"\n')
        assert plain.run("generate", "example.test").exit_code == OK
        assert list((plain.folder / "elsewhere" / "example.test").glob("*.pem"))

    def test_a_folder_that_cannot_be_written(self, plain):
        (plain.folder / "file").write_text("")
        plain.write(f'[plugins.dkim]\nkeys_dir = "{plain.folder / "file"}"\n')
        done = plain.run("generate", "example.test")
        assert done.exit_code == PROBLEM
        assert "Traceback" not in done.output


class TestShow:
    def test_nothing(self, plain):
        assert plain.run("show").exit_code == PROBLEM
        done = plain.run("show", "example.test")
        assert "`elemta dkim generate example.test`" in done.output
        assert json.loads(plain.run("show", "--json").stdout) == {
            "error": "there are no keys: `elemta dkim generate DOMAIN`"
        }

    def test_it_is_text_for_a_zone_file(self, plain):
        plain.run("generate", "example.test", "--algorithm", "both")
        plain.run("generate", "other.test")
        done = plain.run("show", "example.test", "--ttl", "60")
        assert " 60 IN TXT" in done.stdout
        assert "other.test" not in done.stdout
        for line in done.stdout.strip().split("\n"):
            assert line.startswith((";", '    "', ")")) or line.endswith(" 60 IN TXT (")
        assert plain.run("show").stdout.count("IN TXT") == 3

    def test_a_key_of_the_configuration(self, plain):
        path = plain.folder / "own.pem"
        path.write_bytes(PrivateKey.generate("ed25519").pem())
        path.chmod(0o600)
        plain.write(f'[plugins.dkim]\nselector = "own"\nprivate_key = "{path}"\n')
        (shown,) = plain.json("show")
        assert (shown["domain"], shown["selector"], shown["state"]) == (
            "example.test",
            "own",
            "active",
        )
        plain.write(f'[plugins.dkim]\nselector = "own"\nprivate_key = "file:{path}"\n')
        assert plain.json("show") == [shown]
        plain.write(f'[plugins.dkim]\nselector = "own"\nprivate_key = "{path}"\n')
        path.chmod(0o644)
        done = plain.run("show")
        assert done.exit_code == PROBLEM
        assert f"chmod 600 {path}" in done.output

    def test_settings_that_are_wrong(self, plain):
        plain.write('[plugins.dkim]\nselector = "own"\n')
        done = plain.run("show")
        assert done.exit_code == PROBLEM
        assert "selector and private_key need one another" in done.output


class TestRotation:
    def test_from_the_first_key_to_the_last_record(self, site):
        first = site.run("generate", "example.test", "--selector", "one").stdout
        (found,) = site.json("check", code=PROBLEM)
        assert (found["dns"], found["state"]) == ("absent", "pending")
        site.publish(first)
        (found,) = site.json("check")
        assert (found["dns"], found["detail"]) == ("published", "it may sign now")
        assert site.run("rotate", "example.test", "--activate").exit_code == OK
        assert site.states() == {"one": "active"}
        second = site.run("rotate", "example.test", "--selector", "two").stdout
        assert site.states() == {"one": "active", "two": "pending"}
        assert site.run("rotate", "example.test", "--activate").exit_code == TEMPORARY
        site.publish(first, second, ttl=60)
        found = {each["selector"]: each["dns"] for each in site.json("check", code=TEMPORARY)}
        assert found == {"one": "published", "two": "not yet"}
        assert site.run("rotate", "example.test", "--activate").exit_code == TEMPORARY
        assert site.run("rotate", "example.test", "--activate", "--force").exit_code == OK
        assert site.states() == {"one": "retiring", "two": "active"}
        shown = site.run("show").stdout
        assert "; it is needed until " in shown
        assert site.run("check").exit_code == OK
        site.publish(second)
        assert site.run("check").exit_code == PROBLEM  # mail with the old one is under way

    def test_another_key_in_the_dns(self, site):
        site.run("generate", "example.test", "--selector", "one")
        other = PrivateKey.generate("ed25519").record()
        site.publish(f'one._domainkey TXT "{other}"')
        (found,) = site.json("check", code=PROBLEM)
        assert (found["dns"], found["detail"]) == ("different", "the record has another key")
        site.publish('one._domainkey TXT "v=DKIM1; p="')
        (found,) = site.json("check", code=PROBLEM)
        assert found["dns"] == "revoked"

    def test_a_dns_that_does_not_answer(self, plain):
        plain.run("generate", "example.test")
        (found,) = plain.json("check", code=TEMPORARY)
        assert found["dns"] == "unknown"

    def test_what_cannot_be(self, plain):
        done = plain.run("rotate", "example.test")
        assert "`elemta dkim generate example.test`" in done.output
        assert plain.run("rotate", "example.test", "--force").exit_code == 2
        plain.run("generate", "example.test", "--selector", "one")
        done = plain.run("rotate", "example.test")
        assert "wait for the DNS already: one" in done.output
        plain.run("rotate", "example.test", "--activate", "--force")
        done = plain.run("rotate", "example.test", "--activate")
        assert "no key that waits" in done.output
        done = plain.run("rotate", "example.test", "--selector", "one")
        assert "has had the selector one" in done.output
        assert plain.states() == {"one": "active"}

    def test_all_algorithms_that_sign(self, plain):
        plain.run("generate", "example.test", "--algorithm", "both")
        plain.run("rotate", "example.test", "--activate", "--force")
        made = plain.json("rotate", "example.test")
        assert [each["algorithm"] for each in made] == ["rsa", "ed25519"]
        plain.run("rotate", "example.test", "--activate", "--force")
        (made,) = plain.json("rotate", "example.test", "--algorithm", "ed25519")
        assert made["algorithm"] == "ed25519"

    def test_a_retired_key_can_be_revoked(self, plain):
        plain.run("generate", "example.test", "--selector", "one", "--algorithm", "ed25519")
        KeyStore(plain.folder / "var" / "dkim").edit(
            "example.test",
            lambda keys: tuple(msgspec.structs.replace(each, state="retired") for each in keys),
        )
        shown = plain.run("show").stdout
        assert "one (ed25519) retired" in shown
        assert "IN TXT" not in shown
        shown = plain.run("show", "--revoked").stdout
        assert 'one._domainkey.example.test. 3600 IN TXT "v=DKIM1; k=ed25519; p="' in shown
        assert "has no keys" in plain.run("check", "example.test").output
