"""`elemta auth-check`: the verdicts on a stored message, asked of a real name server."""

import json

import pytest
from click.testing import CliRunner
from servers.knot import run_knot

from elemta.cli.main import cli
from elemta.mailauth import ArcVerdict, AuthStatus
from elemta.mailauth.arc import Sealer, SealSettings
from elemta.mailauth.body import BodyHasher
from elemta.mailauth.dkim import Signer, SigningKey, SignSettings
from elemta.mailauth.keys import PrivateKey
from elemta.plugins.builtin.dkim.making import describe
from elemta.plugins.builtin.dkim.publishing import zone_lines

KEY = PrivateKey.generate("rsa", 1024)
HEAD = b"From: Ann <ann@good.test>\r\nTo: bob@example.test\r\nSubject: hello\r\n\r\n"
BODY = b"hello\r\n"
GOOD = """
@ TXT "v=spf1 ip4:192.0.2.1 -all"
_dmarc TXT "v=DMARC1; p=reject"
mx A 192.0.2.1
mx TXT "v=spf1 a -all"
"""
REVERSE = "1 PTR mx.good.test.\n"


def signed() -> bytes:
    signer = Signer([SigningKey("good.test", "s1", KEY)], SignSettings())
    hasher = BodyHasher([signer.spec])
    hasher.update(BODY)
    return signer.sign(HEAD, hasher.finish()[signer.spec], 1_700_000_000.0) + HEAD + BODY


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    records = "\n".join(zone_lines("good.test", describe(KEY, "s1")))
    zones = {"good.test": GOOD + records + "\n", "2.0.192.in-addr.arpa": REVERSE}
    with run_knot(tmp_path_factory.mktemp("names"), zones) as address:
        yield address


@pytest.fixture
def run(tmp_path, names):
    def call(message: bytes, *options: str, more: str = ""):
        (tmp_path / "message").write_bytes(message)
        (tmp_path / "elemta.toml").write_text(
            f'[server]\nhostname = "mx.example.test"\n[dns]\ntimeout = "20s"\n'
            f'nameservers = ["127.0.0.1:{names[1]}"]\n{more}'
        )
        files = (str(tmp_path / "message"), "-c", str(tmp_path / "elemta.toml"))
        return CliRunner().invoke(cli, ["auth-check", *files, *options])

    return call


CLIENT = ("--ip", "192.0.2.1", "--helo", "mx.good.test", "--from", "ann@good.test")


def test_all_is_well(run):
    done = run(signed(), *CLIENT, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["iprev"]["status"] == told["spf"]["status"] == told["spf_helo"]["status"] == "pass"
    assert [each["status"] for each in told["dkim"]] == ["pass"]
    assert told["arc"]["status"] == "none"
    assert told["dmarc"]["status"] == "pass"
    assert told["dmarc"]["spf_aligned"]
    assert told["dmarc"]["dkim_aligned"]
    assert told["field"].startswith("Authentication-Results: mx.example.test; iprev=pass")
    assert "dmarc=pass" in told["field"]
    checks = [each["check"] for each in told["steps"]]
    assert checks == ["iprev", "spf helo", "spf mailfrom", "dkim", "arc", "dmarc"]
    assert all(each["lines"] for each in told["steps"])


def test_for_people(run):
    done = run(signed(), *CLIENT)
    assert done.exit_code == 0
    assert "ip4:192.0.2.1" in done.output
    assert "DKIM signature 1: pass" in done.output
    assert "disposition: none" in done.output
    assert "\nAuthentication-Results: mx.example.test; iprev=pass" in done.output
    assert "\r" not in done.output


def test_a_forgery_would_be_refused(run):
    client = ("--ip", "192.0.2.66", "--helo", "mx.good.test", "--from", "ann@good.test")
    message = signed().replace(b"hello\r\n", b"hallo\r\n")
    done = run(message, *client)
    assert done.exit_code == 1
    assert "disposition: reject" in done.output
    assert "DKIM signature 1: fail" in done.output
    told = json.loads(run(message, *client, "--json").stdout)
    assert told["spf"]["status"] == told["dmarc"]["status"] == "fail"
    more = '[authentication]\ndmarc_policy = "quarantine"\n'
    assert json.loads(run(message, *client, "--json", more=more).stdout)["disposition"] == (
        "quarantine"
    )
    more = '[plugins.dmarc.overrides]\n"good.test" = "none"\n'
    done = run(message, *client, more=more)
    assert done.exit_code == 0
    assert "disposition: none (local_policy: set for this domain)" in done.output


def test_the_file_tells_who_sent_it(run):
    told = json.loads(
        run(b"Return-Path: <ann@good.test>\r\n" + signed(), *CLIENT[:2], "--json").stdout
    )
    assert told["spf"]["domain"] == "good.test"
    done = run(b"Return-Path: nonsense\r\n" + signed(), *CLIENT[:2])
    assert done.exit_code == 1
    assert "use --from" in done.output


def test_nobody_knows_the_client(run):
    told = json.loads(run(signed(), "--json").stdout)
    assert told["iprev"] is told["spf"] is told["spf_helo"] is None
    assert told["dmarc"]["status"] == "pass"


def test_the_null_sender(run):
    told = json.loads(run(signed(), *CLIENT[:4], "--from", "<>", "--json").stdout)
    assert told["spf"]["domain"] == "mx.good.test"


def test_line_ends_of_the_system(run):
    message = signed().replace(b"\r\n", b"\n")
    assert json.loads(run(message, "--json").stdout)["dkim"][0]["status"] == "pass"


def test_fields_that_claim_to_be_ours(run):
    message = b"Authentication-Results: MX.example.test; dkim=pass\r\n" + signed()
    assert "1 fields Authentication-Results claim to be ours" in run(message).output


def test_a_dns_that_is_down(run):
    message = signed().replace(b"good.test", b"gone.test")
    done = run(message, more="")  # Knot refuses what is not its own
    assert done.exit_code == 75
    assert "temperror" in done.output


def test_seals_that_are_trusted_and_cannot_be_judged_for_now(run):
    """The server has such mail wait (451), and does not refuse it."""
    sealer = Sealer(SigningKey("gone.test", "s1", KEY), SealSettings())
    hasher = BodyHasher([sealer.spec])
    hasher.update(BODY)
    (digest,) = hasher.finish().values()
    chain = ArcVerdict(AuthStatus.NONE)
    sealed = sealer.seal(HEAD, digest, "gone.test; none", chain, 1_700_000_000.0) + HEAD + BODY
    more = '[plugins.dmarc]\ntrusted_sealers = ["gone.test"]\n'
    done = run(sealed, more=more)
    assert done.exit_code == 75
    assert "disposition: reject; trusted seals cannot be judged for now" in done.output
    assert run(sealed).exit_code == 1


@pytest.mark.parametrize("message", [b"", b"\r\n", b"no header at all", b"From: a\r\nb\r\n\xff"])
def test_what_is_no_message(run, message):
    done = run(message)
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert "Authentication-Results: mx.example.test;" in done.output


def test_escape_sequences_do_not_reach_the_terminal(run):
    message = signed().replace(b"d=good.test", b"d=\x1b[31mgood.test")
    message = message.replace(b"ann@good.test", b"\x1b[2Jann@good.test")
    assert "\x1b" not in run(message).output


def test_wrong_settings_and_options(run):
    done = run(signed(), more="[plugins.dmarc]\npolicy = 5\n")
    assert done.exit_code == 1
    assert "plugins.dmarc.policy" in done.output
    assert run(signed(), "--ip", "x").exit_code == 2
    assert run(signed(), "--from", "a b").exit_code == 2
