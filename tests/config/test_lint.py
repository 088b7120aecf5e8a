"""What is wrong with a configuration as a whole."""

import pytest

from elemta.config import read

GOOD = """
[server]
hostname = "mx.example.test"
"""


@pytest.fixture
def found(tmp_path):
    def find(text: str) -> list[tuple[bool, str, str]]:
        path = tmp_path / "elemta.toml"
        path.write_text(GOOD + text)
        problems = read(path, {}).problems
        return [(each.is_error, each.setting, each.text) for each in problems]

    return find


def test_nothing(found):
    assert found("") == []


@pytest.mark.parametrize(
    "networks",
    [
        '"0.0.0.0/0"',
        '"::/0"',
        '"127.0.0.0/8", "0.0.0.0/1", "128.0.0.0/1"',
        '"2000::/3"',
        '"2000::/4", "3000::/4"',
        '"0.0.0.0/2", "64.0.0.0/2", "128.0.0.0/2", "192.0.0.0/2"',
    ],
)
def test_an_open_relay_is_an_error(found, networks):
    errors = [each for each in found(f"[relay]\ntrusted_networks = [{networks}]") if each[0]]
    assert len(errors) == 1
    assert errors[0][1].startswith("[relay] trusted_networks[")
    assert errors[0][2].endswith("an open relay: everyone may send to any domain")


@pytest.mark.parametrize(
    "network", ["10.0.0.0/8", "192.168.1.0/24", "172.17.0.0/16", "100.64.0.1", "fd00::/8"]
)
def test_private_networks_are_warned_of(found, network):
    ((is_error, setting, text),) = found(f'[relay]\ntrusted_networks = ["{network}"]')
    assert (is_error, setting) == (False, "[relay] trusted_networks[0]")
    assert "private network" in text


def test_certificates_that_are_trusted_have_to_be_known_and_asked_for(found):
    text = '[relay]\ntrusted_certificates = ["branch"]\n'
    ((is_error, setting, problem),) = found(text)
    assert (is_error, setting) == (True, "[relay] trusted_certificates[0]")
    assert problem.endswith("no certificate in [tls.identities] stands for it")
    known = text + '[tls.identities]\n"dns:branch.example.test" = "branch"\n'
    ((is_error, _setting, problem),) = found(known)
    assert not is_error
    assert "no listener asks for certificates" in problem


@pytest.mark.parametrize("network", ["8.0.0.0/7", "2001::/16"])
def test_wide_networks_are_warned_of(found, network):
    ((is_error, _setting, text),) = found(f'[relay]\ntrusted_networks = ["{network}"]')
    assert not is_error
    assert "very wide network" in text


@pytest.mark.parametrize("network", ["192.0.2.0/24", "127.0.0.1", "2001:db8::/32", "::1"])
def test_networks_of_ones_own_are_fine(found, network):
    assert found(f'[relay]\ntrusted_networks = ["{network}"]') == []


@pytest.mark.parametrize(
    ("text", "setting", "problem"),
    [
        (
            '[[listeners]]\naddress="127.0.0.1:25"\n[[listeners]]\naddress="127.0.0.1:25"',
            "[[listeners]] address",
            '"127.0.0.1:25": another listener has this address already',
        ),
        (
            '[[listeners]]\naddress="[::1]:25"\n[[listeners]]\naddress="[0::1]:25"\nkind="lmtp"',
            "[[listeners]] address",
            '"[0::1]:25": another listener has this address already',
        ),
        (
            '[[listeners]]\naddress="unix:/run/x"',
            "[[listeners]] address",
            '"unix:/run/x": only LMTP may use a unix socket',
        ),
        (
            '[[listeners]]\naddress="127.0.0.1:8080"',
            "[metrics] listen",
            "a listener has this address already",
        ),
        ('[[routes]]\ndomains=["*"]\nvia="maildir"', "[[routes]] path", 'via = "maildir" needs it'),
        ('[[routes]]\ndomains=["*"]\nvia="smtp"', "[[routes]] host", 'via = "smtp" needs it'),
        ('[[routes]]\ndomains=["*"]\nvia="lmtp"', "[[routes]] host", 'via = "lmtp" needs it'),
        (
            '[[routes]]\ndomains=["*"]\nvia="hold"\nhost="a.test"',
            "[[routes]] host",
            '"a.test": means nothing with via = "hold"',
        ),
        (
            '[[routes]]\ndomains=["*"]\nvia="smtp"\nhost="a.test"\npath="/x"',
            "[[routes]] path",
            '"/x": means nothing with via = "smtp"',
        ),
        (
            '[[routes]]\ndomains=["*"]\nvia="lmtp"\nhost="a.test"\nlong_lines="convert"',
            "[[routes]] long_lines",
            '"convert": means nothing with via = "lmtp"',
        ),
        (
            '[[routes]]\ndomains=["*"]\nvia="lmtp"\nhost="a.test"\npath="/x"',
            "[[routes]] host",
            '"a.test": means nothing with via = "lmtp"',
        ),
        (
            '[[routes]]\ndomains=["*"]\nvia="smtp"\nhost="localhost"\nport=2525',
            "[[routes]] host",
            '"localhost": mail would go in a circle: that is a listener of this server',
        ),
        (
            '[[listeners]]\naddress="0.0.0.0:25"\n'
            '[[routes]]\ndomains=["*"]\nvia="smtp"\nhost="127.0.0.1"',
            "[[routes]] host",
            '"127.0.0.1": mail would go in a circle: that is a listener of this server',
        ),
        (
            '[relay]\nlocal_domains=["a.test"]\nrelay_domains=["A.test"]\n'
            '[[routes]]\ndomains=["a.test"]\nvia="hold"',
            "[relay] relay_domains[0]",
            '"A.test": is in local_domains too',
        ),
        (
            "[smtp]\nmax_connections=3\n[delivery]\nmax_connections=50",
            "[smtp] max_connections",
            "3: must be at least the number of workers (4), which share it",
        ),
        (
            "[delivery]\nmax_connections_per_destination=2",
            "[delivery] max_connections_per_destination",
            "2: must be at least the number of workers (4), which share it",
        ),
        (
            "[delivery]\nmax_connections=10",
            "[delivery] max_connections_per_destination",
            "is more than max_connections",
        ),
        (
            '[queue]\ninline_size="2MB"\n[server.more]',
            "[queue] inline_size",
            '"2MB": is more than [server] max_message_size',
        ),
        ('[dns]\nmin_ttl="2d"', "[dns] min_ttl", '"2d": is more than max_ttl'),
    ],
)
def test_errors(found, text, setting, problem):
    text = "workers = 4\nmax_message_size = '1MB'\n" + text.replace("\n[server.more]", "")
    assert [each for each in found(text) if each[0]] == [(True, setting, problem)]


@pytest.mark.parametrize(
    ("text", "setting", "problem"),
    [
        ('[metrics]\nlisten="0.0.0.0:8080"', "[metrics] listen", "everyone who can connect"),
        ('[relay]\nlocal_domains=["a.test"]', "[relay] local_domains[0]", "no route says where"),
        ('[queue]\nmax_age="30s"\ndelay_warnings=[]', "[queue] max_age", "nothing is tried twice"),
        ('[queue]\nmax_age="4h"\n', "[queue] delay_warnings[0]", "is never sent"),
        ('[queue]\nbounce_unverified="send"', "[queue] bounce_unverified", "backscatter"),
        (
            '[dns]\nnameservers=["192.0.2.53", "127.0.0.1", "::1"]\ntrust_ad="always"',
            "[dns] trust_ad",
            "on the way to 192.0.2.53",
        ),
        (
            '[[routes]]\ndomains=["*"]\nvia="mx"\n[[routes]]\ndomains=["a.test"]\nvia="hold"',
            "[[routes]]",
            "is never used",
        ),
        (
            '[[routes]]\ndomains=["*.a.test"]\nvia="mx"\n'
            '[[routes]]\ndomains=["b.a.test", "*.c.a.test"]\nsenders=["<>"]\nvia="hold"',
            "[[routes]]",
            "is never used",
        ),
    ],
)
def test_warnings(found, text, setting, problem):
    ((is_error, where, told),) = found(text)
    assert (is_error, where) == (False, setting)
    assert problem in told


@pytest.mark.parametrize(
    "text",
    [
        '[[listeners]]\naddress="127.0.0.1:0"\n[[listeners]]\naddress="127.0.0.1:0"',
        '[[listeners]]\naddress="unix:/run/x"\nkind="lmtp"',
        '[dns]\nnameservers=["192.0.2.53"]\ntrust_ad="never"',
        '[dns]\nnameservers=["127.0.0.1"]\ntrust_ad="always"',
        '[[routes]]\ndomains=["*"]\nvia="lmtp"\npath="/run/x"',
        '[[routes]]\ndomains=["*"]\nvia="mx"\nport=2525\ntls="verify"',
        '[[routes]]\ndomains=["*"]\nvia="smtp"\nhost="192.0.2.1"\nport=2525',
        '[[routes]]\ndomains=["*"]\nsenders=["a.test"]\nvia="mx"\n[[routes]]\ndomains=["*"]\nvia="hold"',
        '[[routes]]\ndomains=["*.a.test"]\nvia="mx"\n[[routes]]\ndomains=["a.test"]\nvia="hold"',
    ],
)
def test_what_is_fine(found, text):
    assert found(text) == []


def test_a_short_name_is_warned_of(tmp_path):
    path = tmp_path / "elemta.toml"
    path.write_text('[server]\nhostname = "mx"\n')
    loaded = read(path, {})
    assert loaded.config is not None
    assert [(each.is_error, each.setting) for each in loaded.problems] == [
        (False, "[server] hostname")
    ]
