from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic import ValidationError

from elemta.config import Config, Endpoint, InvalidConfigError, load, read
from elemta.mail.errors import ConfigError


@pytest.fixture
def told(tmp_path, monkeypatch):
    """What is said of a configuration, line by line."""
    monkeypatch.chdir(tmp_path)

    def tell(text: str, **environ: str) -> list[str]:
        Path("elemta.toml").write_text(text)
        return [str(problem) for problem in read(Path("elemta.toml"), environ).problems]

    return tell


@pytest.fixture
def loaded(tmp_path):
    def load_text(text: str, **environ: str) -> Config:
        path = tmp_path / "elemta.toml"
        path.write_text(text)
        return load(path, environ)

    return load_text


def test_without_a_file_everything_stays_here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    config = load(None, {})
    assert [listener.address for listener in config.listeners] == ["127.0.0.1:2525"]
    assert config.metrics.listen == Endpoint("127.0.0.1", 8080)
    assert config.server.state_dir == tmp_path / "var"
    assert config.relay.trusted_networks == (ip_network("127.0.0.0/8"), ip_network("::1/128"))
    assert [(route.domains, route.via, route.path) for route in config.routes] == [
        (("example.test",), "maildir", f"{tmp_path}/var/mail/{{domain}}/{{local}}"),
        (("*",), "hold", None),
    ]


def test_values_arrive_in_one_form(loaded, tmp_path):
    config = loaded("""
[server]
hostname = "MX.Bücher.Example."
workers = "auto"
state_dir = "spool"
max_message_size = "10MiB"
[[listeners]]
address = "[0:0::1]:2525"
[[listeners]]
address = "unix:/run/lmtp"
kind = "lmtp"
[relay]
local_domains = ["Example.TEST"]
trusted_networks = ["192.0.2.7", "2001:db8::/32"]
[[routes]]
domains = ["*.Example.TEST"]
senders = ["<>", "Bob@Example.Test", "*.x.test"]
via = "lmtp"
path = "unix:/run/dovecot"
[[routes]]
domains = ["example.test"]
via = "smtp"
host = "[2001:DB8::1]"
[queue]
max_age = "1h30m"
retry_schedule = [60, "2m"]
[dns]
nameservers = ["192.0.2.53", "[::1]:5353"]
[metrics]
listen = ""
""")
    assert config.server.hostname == "mx.xn--bcher-kva.example"
    assert config.server.state_dir == tmp_path / "spool"
    assert config.server.max_message_size == 10 * 1024 * 1024
    assert config.worker_count >= 1
    assert [(each.host, each.port, each.unix_path) for each in config.listeners] == [
        ("::1", 2525, None),
        ("", 0, "/run/lmtp"),
    ]
    assert config.listeners[0].address == "[::1]:2525"
    assert config.relay.local_domains == ("example.test",)
    assert config.relay.trusted_networks == (
        ip_network("192.0.2.7/32"),
        ip_network("2001:db8::/32"),
    )
    assert config.routes[0].domains == ("*.example.test",)
    assert config.routes[0].senders == ("<>", "Bob@example.test", "*.x.test")
    assert config.routes[0].path == "/run/dovecot"
    assert config.routes[1].host == "2001:db8::1"
    assert config.queue.max_age == 5400.0
    assert config.queue.retry_schedule == (60.0, 120.0)
    assert config.dns.nameservers == (Endpoint("192.0.2.53", 53), Endpoint("::1", 5353))
    assert config.metrics.listen is None


def test_a_configuration_does_not_change(loaded):
    with pytest.raises(ValidationError):
        loaded("").server.hostname = "other.test"


def test_unknown_settings_name_the_nearest(told):
    assert told("""
[server]
hostname = "mx.example.test"

[queue]
max_aeg = "5d"
max_recipients = 5
zzz = 1
[[listeners]]
address = "127.0.0.1:2525"
knid = "mta"
[smpt]
strict_sync = true
[zzz]
enabled = true
""") == [
        "elemta.toml:6: [queue] max_aeg: unknown setting; did you mean max_age?",
        "elemta.toml:7: [queue] max_recipients: unknown setting; did you mean max_resident or "
        "[server] max_recipients?",
        "elemta.toml:8: [queue] zzz: unknown setting",
        "elemta.toml:11: [[listeners]] knid: unknown setting; did you mean kind?",
        "elemta.toml:12: [smpt]: unknown section; did you mean smtp?",
        "elemta.toml:14: [zzz]: unknown section",
    ]


def test_all_errors_are_told_at_once_with_value_and_way_out(told):
    assert told("""
[server]
hostname = "mx example"
workers = 0
state_dir = ""
max_message_size = "5XB"
max_recipients = true
[[listeners]]
address = "localhost:25"
[[listeners]]
kind = "submission"
address = "127.0.0.1"
[[listeners]]
kind = "smtp"
address = "127.0.0.1:70000"
[relay]
local_domains = "example.test"
trusted_networks = [
  "10.0.0.1/8",
  "::ffff:10.0.0.0/104",
  "here",
]
[smtp]
max_connections = -1
bare_newlines = "rejct"
strict_sync = "yes"
max_line = "2MiB"
[[routes]]
domains = []
via = "pipe"
[[routes]]
domains = ["*", "a..b"]
[[routes]]
domains = ["*"]
via = "maildir"
path = "/mail/{user}"
[queue]
retry_schedule = []
jitter = 0.9
max_age = 0
[dns]
nameservers = ["ns.example.test"]
[logging]
level = 3
""") == [
        'elemta.toml:3: [server] hostname: "mx example": a domain is expected, such as '
        '"example.test": domain is not valid',
        'elemta.toml:4: [server] workers: 0: a number from 1 to 256 or "auto" is expected',
        'elemta.toml:5: [server] state_dir: "": a path is expected',
        'elemta.toml:6: [server] max_message_size: "5XB": a size is expected, such as "25MB", '
        '"64KiB" or 8192',
        "elemta.toml:7: [server] max_recipients: true: a whole number is expected",
        'elemta.toml:9: [[listeners]] address: "localhost:25": an IP address and a port are '
        'expected, such as "127.0.0.1:25" or "[::1]:25"',
        'elemta.toml:12: [[listeners]] address: "127.0.0.1": an IP address and a port are '
        'expected, such as "127.0.0.1:25" or "[::1]:25"',
        'elemta.toml:14: [[listeners]] kind: "smtp": "mta", "submission", "submissions" or "lmtp" '
        "is expected",
        'elemta.toml:15: [[listeners]] address: "127.0.0.1:70000": an IP address and a port are '
        'expected, such as "127.0.0.1:25" or "[::1]:25"',
        'elemta.toml:17: [relay] local_domains: "example.test": a list is expected, such as '
        '["1m", "5m"] or ["example.test"]',
        'elemta.toml:19: [relay] trusted_networks[0]: "10.0.0.1/8": bits of the host are set; '
        'the network is "10.0.0.0/8"',
        'elemta.toml:20: [relay] trusted_networks[1]: "::ffff:10.0.0.0/104": write IPv4 networks '
        "as such, not within ::ffff:0:0/96",
        'elemta.toml:21: [relay] trusted_networks[2]: "here": a network is expected, such as '
        '"192.0.2.0/24" or "::1/128"',
        "elemta.toml:24: [smtp] max_connections: -1: at least 1 is expected",
        'elemta.toml:25: [smtp] bare_newlines: "rejct": "reject" or "normalise" is expected',
        'elemta.toml:26: [smtp] strict_sync: "yes": true or false is expected',
        'elemta.toml:27: [smtp] max_line: "2MiB": at most 1MiB is expected',
        "elemta.toml:29: [[routes]] domains: at least one is needed",
        'elemta.toml:30: [[routes]] via: "pipe": "maildir", "lmtp", "smtp", "mx", "hold" or '
        '"discard" is expected',
        "elemta.toml:31: [[routes]] via: is required",
        'elemta.toml:32: [[routes]] domains[1]: "a..b": "*", "example.test" or "*.example.test" '
        "is expected: domain is not valid",
        'elemta.toml:36: [[routes]] path: "/mail/{user}": only {domain} and {local} are filled '
        "in, not {user}",
        "elemta.toml:38: [queue] retry_schedule: at least one is needed",
        "elemta.toml:39: [queue] jitter: 0.9: at most 0.5 is expected",
        "elemta.toml:40: [queue] max_age: 0: more than 0s is expected",
        'elemta.toml:42: [dns] nameservers[0]: "ns.example.test": an IP address is expected, '
        'such as "192.0.2.53" or "127.0.0.1:5353"',
        'elemta.toml:44: [logging] level: 3: "debug", "info", "warning" or "error" is expected',
    ]


def test_tables_that_are_none(told):
    assert told(
        'server = "x"\nlisteners = { address = "127.0.0.1:1" }\n[routes]\nvia = "mx"\n'
    ) == [
        'elemta.toml:1: [server]: "x": a table is expected: [server]',
        "elemta.toml:2: [listeners]: several are possible: write [[listeners]]",
        "elemta.toml:3: [routes]: several are possible: write [[routes]]",
    ]


def test_what_contradicts_is_told_beside_what_is_wrong_alone(told):
    found = told("""
[server]
hostname = "mx.example.test"
max_recipients = "many"
[relay]
trusted_networks = ["nonsense", "0.0.0.0/0"]
[[routes]]
domains = ["a.test"]
via = "carrier pigeon"
[[routes]]
domains = ["b.test"]
via = "smtp"
""")
    assert [line for line in found if "warning" not in line] == [
        'elemta.toml:4: [server] max_recipients: "many": a whole number is expected',
        'elemta.toml:6: [relay] trusted_networks[0]: "nonsense": a network is expected, such as '
        '"192.0.2.0/24" or "::1/128"',
        'elemta.toml:6: [relay] trusted_networks[1]: "0.0.0.0/0": an open relay: everyone may '
        "send to any domain",
        'elemta.toml:9: [[routes]] via: "carrier pigeon": "maildir", "lmtp", "smtp", "mx", "hold" '
        'or "discard" is expected',
        'elemta.toml:10: [[routes]] host: via = "smtp" needs it',
    ]


def test_an_error_carries_all_problems(loaded):
    with pytest.raises(InvalidConfigError) as caught:
        loaded('[server]\nworkers = 0\nhostname = "-"\n')
    assert isinstance(caught.value, ConfigError)
    assert caught.value.where.endswith("elemta.toml:2")
    assert len(caught.value.problems) == 2
    assert str(caught.value).count("\n") == 1


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"[server\n", "elemta.toml:1: not valid TOML: Expected ']' at the end of a table"),
        (b"[a]\nx = 1\nx = 2\n", "elemta.toml:3: not valid TOML: Cannot overwrite a value"),
        (b"x = \xff", "elemta.toml: not UTF-8 (octet 4)"),
        (b"#" * (1 << 20) + b"#", "elemta.toml: larger than 1MiB"),
        (None, "elemta.toml: cannot be read: No such file or directory"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, monkeypatch, content, problem):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("elemta.toml").write_bytes(content)
    found = read(Path("elemta.toml"), {})
    assert found.config is None
    (only,) = found.problems
    assert str(only).startswith(problem)


class TestVariables:
    def test_override_the_file(self, loaded):
        config = loaded(
            '[queue]\nmax_age = "5d"\n[[listeners]]\naddress = "127.0.0.1:25"\n',
            ELEMTA_QUEUE__MAX_AGE="2d",
            ELEMTA_QUEUE__RETRY_SCHEDULE='["1m", "2m"]',
            ELEMTA_QUEUE__JITTER="0.2",
            ELEMTA_SERVER__WORKERS="3",
            ELEMTA_SERVER__HOSTNAME="mx.example.test",
            ELEMTA_SMTP__STRICT_SYNC="false",
            ELEMTA_SMTP__MAX_LINE="2000",
            ELEMTA_LISTENERS__0__ADDRESS="127.0.0.2:26",
            ELEMTA_LISTENERS__1__ADDRESS="127.0.0.3:27",
            ELEMTA_RELAY__LOCAL_DOMAINS__0="a.test",
            ELEMTA_ROUTES__0__DOMAINS='["a.test"]',
            ELEMTA_ROUTES__0__VIA="hold",
            ELEMTA_METRICS__LISTEN="",
        )
        assert config.queue.max_age == 2 * 86_400
        assert config.queue.retry_schedule == (60.0, 120.0)
        assert config.queue.jitter == 0.2
        assert config.server.workers == 3
        assert config.server.hostname == "mx.example.test"
        assert config.smtp.strict_sync is False
        assert config.smtp.max_line == 2000
        assert [each.address for each in config.listeners] == ["127.0.0.2:26", "127.0.0.3:27"]
        assert config.relay.local_domains == ("a.test",)
        assert [(route.domains, route.via) for route in config.routes] == [(("a.test",), "hold")]
        assert config.metrics.listen is None

    def test_override_the_defaults(self):
        assert load(None, {"ELEMTA_LOGGING__LEVEL": "debug"}).logging.level == "debug"

    def test_others_are_none_of_ours(self, told):
        assert (
            told(
                '[server]\nhostname = "a.test"',
                ELEMTA_CONFIG="x",
                ELEMTA_SERVICE_HOST="10.0.0.1",
                ELEMTA_PORT_2525_TCP="tcp://10.0.0.1:2525",
                PATH="/bin",
            )
            == []
        )

    def test_errors_name_them(self, told):
        assert told(
            '[server]\nhostname = "a.test"\n[queue]\nmax_age = "5d"',
            ELEMTA_QUEUE__MAX_AGE="soon",
            ELEMTA_QUEUE__MAX_AEG="1d",
            ELEMTA_QUEU__MAX_AGE="1d",
            ELEMTA_LISTENERS__4__ADDRESS="127.0.0.1:25",
            ELEMTA_LISTENERS__0__KIND="mat",
            ELEMTA_SERVER__HOSTNAME__0="x",
            ELEMTA_RELAY__LOCAL_DOMAINS='["-"]',
            ELEMTA_LISTENERS__X="3",
        ) == [
            "ELEMTA_LISTENERS__0__KIND: [[listeners]] address: is required",
            'ELEMTA_LISTENERS__0__KIND: [[listeners]] kind: "mat": "mta", "submission", '
            '"submissions" or "lmtp" is expected',
            "ELEMTA_LISTENERS__4__ADDRESS: no item 4: the list has 1",
            "ELEMTA_LISTENERS__X: a number is expected in place of X: it is a list",
            "ELEMTA_QUEUE__MAX_AEG: [queue] max_aeg: unknown setting; did you mean "
            "ELEMTA_QUEUE__MAX_AGE?",
            'ELEMTA_QUEUE__MAX_AGE: [queue] max_age: "soon": a duration is expected, such as '
            '"30s", "5m", "1h30m", "5d" or 90',
            "ELEMTA_QUEU__MAX_AGE: [queu]: unknown section; did you mean ELEMTA_QUEUE?",
            'ELEMTA_RELAY__LOCAL_DOMAINS: [relay] local_domains[0]: "-": a domain is expected, '
            'such as "example.test": domain is not valid',
            "ELEMTA_SERVER__HOSTNAME__0: goes deeper than the settings do",
        ]

    def test_a_value_cannot_bring_other_settings(self, told):
        assert told(
            '[server]\nhostname = "a.test"', ELEMTA_LOGGING__LEVEL='"info"\nformat = "console"'
        ) == [
            'ELEMTA_LOGGING__LEVEL: [logging] level: ""info" format = "console"": "debug", '
            '"info", "warning" or "error" is expected'
        ]


class TestReferences:
    def test_are_replaced(self, loaded, tmp_path):
        (tmp_path / "level").write_text("warning\n")
        config = loaded(
            """
[server]
hostname = "env:NAME"
[relay]
local_domains = ["a.test", "env:DOMAIN"]
[logging]
level = "file:level"
[[routes]]
domains = ["*"]
via = "smtp"
host = "env:HOP"
""",
            NAME="mx.example.test",
            DOMAIN="b.test",
            HOP="192.0.2.1",
        )
        assert config.server.hostname == "mx.example.test"
        assert config.relay.local_domains == ("a.test", "b.test")
        assert config.logging.level == "warning"
        assert config.routes[0].host == "192.0.2.1"

    def test_in_a_variable(self, loaded):
        config = loaded("", ELEMTA_SERVER__HOSTNAME="env:HOST", HOST="mx.example.test")
        assert config.server.hostname == "mx.example.test"

    def test_what_they_stand_for_is_not_read_again(self, told):
        found = told('[server]\nhostname = "env:A"', A="env:B", B="mx.example.test")
        assert found == ["elemta.toml:2: [server] hostname: env:A: what it stands for is no domain"]

    def test_that_stand_for_nothing(self, told, tmp_path):
        (tmp_path / "large").write_bytes(b"x" * 70_000)
        (tmp_path / "latin").write_bytes(b"\xff")
        assert told("""
[server]
hostname = "env:NOBODY"
[relay]
local_domains = ["file:/no/such", "file:large"]
relay_domains = ["file:latin"]
""") == [
            "elemta.toml:3: [server] hostname: env:NOBODY: the variable is not set",
            "elemta.toml:5: [relay] local_domains[0]: file:/no/such: the file cannot be read: "
            "No such file or directory",
            "elemta.toml:5: [relay] local_domains[1]: file:large: the file is larger than 64KiB",
            "elemta.toml:6: [relay] relay_domains[0]: file:latin: the file is not UTF-8",
        ]

    def test_what_they_stand_for_is_never_shown(self, told):
        secret = "correct-horse{battery}"
        for setting in (
            "[server]\nhostname",
            "[server]\nworkers",
            "[server]\nmax_message_size",
            "[server]\nmax_recipients",
            "[queue]\nmax_age",
            "[queue]\nbackend",
            "[smtp]\nstrict_sync",
            "[metrics]\nlisten",
        ):
            found = told(f'{setting} = "env:SECRET"', SECRET=secret)
            assert any("env:SECRET" in line for line in found)
            assert not any("horse" in line or "battery" in line for line in found)
        found = told(
            '[relay]\ntrusted_networks = ["env:NET"]\n[[routes]]\ndomains = ["*"]\n'
            'via = "maildir"\npath = "env:SECRET"',
            SECRET=secret,
            NET="10.9.8.7/8",
        )
        assert not any("horse" in line or "battery" in line or "10." in line for line in found)
