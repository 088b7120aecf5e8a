"""Logging in to the running server: clients of all kinds, and what they may do wrong."""

import contextlib
import functools
import hashlib
import json
import smtplib
import ssl
import subprocess
import time
from base64 import b64decode, b64encode
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest
from accounts.provider import AUDIENCE, ISSUER, key_set, token
from scramp import ScramClient
from scramp.core import CbName
from servers.certificates import Authority
from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, running
from servers.logins import plain
from servers.process import free_port, program
from servers.worker import processor_clock, worker_pid

from elemta.accounts import Account, AppPassword, Record
from elemta.accounts.app_passwords import digest_of, make_secret
from elemta.accounts.hashes import Argon2Settings
from elemta.accounts.passwords import Keeping, with_password
from elemta.accounts.registers import PasswdRegister
from elemta.net.tls import binding

PASSWORD = "correct-horse"
ME = "me@example.test"
MECHANISMS = ("PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS")
REST = """
[tls]
certificate = "certificate.pem"
key = "certificate.key"
client_ca = "authority.pem"
[tls.identities]
"email:me@example.test" = "me@example.test"
"email:locked@example.test" = "locked"
[auth]
mechanisms = [
    "EXTERNAL", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "OAUTHBEARER", "XOAUTH2", "CRAM-MD5",
    "PLAIN", "LOGIN",
]
scram_iterations = 4096
argon2 = {{ memory = "8MiB", passes = 1 }}
[auth.oauth]
issuer = "ISSUER"
audience = "AUDIENCE"
keys = "keys.json"
[[auth.sources]]
type = "file"
path = "people"
[[auth.rules]]
logins = ["office"]
hours = ["DAY"]
[[auth.rules]]
groups = ["inside"]
networks = ["127.0.5.0/24"]
[limits.brake]
enabled = false
"""
MAIL = b"Subject: hello\r\n\r\nhello\r\n"
OK, WRONG, DOWN = (
    "235 2.7.0 Authentication succeeded",
    "535 5.7.8 Authentication credentials invalid",
    "454 4.7.0 Temporary authentication failure",
)
SECRET = make_secret()


def listener(port, kind, *more):
    head = ["[[listeners]]", f'address = "127.0.0.1:{port}"', f'kind = "{kind}"']
    return "\n".join([*head, *more, ""])


def write_people(path):
    keeping = Keeping(Argon2Settings(memory=8192, passes=1), 4096, keeps_secret=True)
    path.touch(0o600)
    register = PasswdRegister(path)
    phone = AppPassword("phone", digest_of(SECRET), networks=(ip_network("127.0.0.1/32"),))
    accounts = {
        Account(ME): (phone,),
        Account("locked", is_locked=True): (phone,),
        Account("office"): (),
        Account("guard", groups=("inside",)): (),
    }
    for account, app_passwords in accounts.items():
        record = with_password(Record(account, app_passwords=app_passwords), PASSWORD, keeping)
        register.edit(account.name, functools.partial(lambda made, _: made, record))
    register.close()


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    folder = tmp_path_factory.mktemp("login")
    authority = Authority(folder)
    issued = authority.issue("localhost", "mail.example.test")
    write_people(folder / "people")
    (folder / "keys.json").write_text(json.dumps(key_set()))
    ports = {name: free_port() for name in ("starttls", "implicit", "clear")}
    listeners = listener(ports["starttls"], "submission")
    listeners += listener(ports["implicit"], "submissions", 'client_certificates = "request"')
    listeners += listener(ports["clear"], "submission", "clear_auth = true")
    other_day = f"{datetime.now(UTC) + timedelta(days=3):%a}"
    rest = REST.replace("ISSUER", ISSUER).replace("AUDIENCE", AUDIENCE).replace("DAY", other_day)
    with running(folder, rest=MAILDIR + rest, listeners=listeners) as elemta:
        elemta.ports, elemta.authority, elemta.certificate = ports, authority, issued
        yield elemta
        assert elemta.events("internal_error") == []


@pytest.fixture
def context(house):
    return ssl.create_default_context(cafile=str(house.authority.file))


@contextlib.contextmanager
def secured(house, mode="starttls", context=None, source=None):
    """A dialogue under TLS, greeted."""
    context = context or ssl.create_default_context(cafile=str(house.authority.file))
    with Dialogue(house.ports[mode], greet=mode != "implicit", source=source) as client:
        if mode == "starttls":
            assert "AUTH" not in client.hello()
            assert client.say("STARTTLS").startswith("220")
        client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
        if mode == "implicit":
            client.reply()
        client.offer = client.hello()
        yield client


def b64(text):
    return b64encode(text.encode() if isinstance(text, str) else text).decode()


def log_in(house, login, password=PASSWORD, **options):
    with secured(house, **options) as client:
        return client.say(plain(login, password))


def scram(client, mechanism, login, password, channel=None):
    """The dialogue of SCRAM, with a client that is not ours; the last reply."""
    options = {} if channel is None else {"channel_binding": channel}
    theirs = ScramClient([mechanism], login, password, **options)
    said = client.say(f"AUTH {mechanism} {b64(theirs.get_client_first())}")
    if not said.startswith("334 "):
        return said
    theirs.set_server_first(b64decode(said.removeprefix("334 ")).decode())
    said = client.say(b64(theirs.get_client_final()))
    if said.startswith("334 "):
        theirs.set_server_final(b64decode(said[4:]).decode())
        said = client.say("")
    return said


class TestClients:
    @pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
    def test_python(self, house, context, mechanism):
        with smtplib.SMTP("localhost", house.ports["starttls"], timeout=40) as client:
            client.starttls(context=context)
            client.ehlo()
            assert mechanism in client.esmtp_features["auth"].split()
            client.user, client.password = ME, PASSWORD
            method = getattr(client, f"auth_{mechanism.lower().replace('-', '_')}")
            assert client.auth(mechanism, method)[0] == 235
            assert client.sendmail(ME, ["you@example.test"], MAIL) == {}
        house.wait_event("auth_succeeded", username=ME, mechanism=mechanism)
        house.wait_mail("you")

    def test_python_chooses_by_itself(self, house, context):
        host, port = "localhost", house.ports["implicit"]
        with smtplib.SMTP_SSL(host, port, timeout=40, context=context) as client:
            assert client.login(ME, PASSWORD)[0] == 235
        with smtplib.SMTP_SSL(host, port, timeout=40, context=context) as client:
            with pytest.raises(smtplib.SMTPAuthenticationError) as caught:
                client.login(ME, "wrong")
            assert caught.value.smtp_code == 421  # it tries one mechanism after the other

    @pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
    @pytest.mark.parametrize("password", [PASSWORD, "wrong"])
    def test_swaks(self, house, mechanism, password):
        done = subprocess.run(
            [
                *(program("swaks", "swaks"), "-tls", "--server", "127.0.0.1"),
                *("--port", str(house.ports["starttls"]), "--from", ME, "--to", ME),
                *("--auth", mechanism, "--auth-user", ME, "--auth-password", password),
                *("--ehlo", "client.test", "--quit-after", "AUTH"),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (f"<~  {OK}" in done.stdout) == (password == PASSWORD), done.stdout
        assert (f"<~* {WRONG}" in done.stdout) == (password != PASSWORD), done.stdout

    @pytest.mark.parametrize("mechanism", MECHANISMS)
    @pytest.mark.parametrize("password", [PASSWORD, "wrong"])
    def test_gsasl(self, house, mechanism, password):
        done = subprocess.run(
            [
                *(program("gsasl", "gsasl"), "--smtp", "--starttls", "--mechanism", mechanism),
                *(f"--connect=localhost:{house.ports['starttls']}", f"--authentication-id={ME}"),
                *(f"--password={password}", f"--x509-ca-file={house.authority.file}"),
                *("--no-cb",) * (mechanism == "SCRAM-SHA-256"),
            ],
            input="QUIT\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (OK in done.stdout) == (password == PASSWORD), done.stdout + done.stderr
        assert (WRONG in done.stdout) == (password != PASSWORD), done.stdout + done.stderr


class TestScram:
    @pytest.fixture(autouse=True)
    def any_binding(self, monkeypatch):
        """The client cannot make the data of RFC 9266 itself; here it is given."""
        known = CbName.SUPPORTED_TYPES | CbName.UNSUPPORTED_TYPES
        monkeypatch.setattr(CbName, "SUPPORTED_TYPES", known)
        monkeypatch.setattr(CbName, "UNSUPPORTED_TYPES", frozenset())

    @pytest.mark.parametrize("password", [PASSWORD, "wrong"])
    def test_without_binding(self, house, password):
        with secured(house) as client:
            said = scram(client, "SCRAM-SHA-256", ME, password)
            assert said == (OK if password == PASSWORD else WRONG)

    @pytest.mark.parametrize("password", [PASSWORD, "wrong"])
    @pytest.mark.parametrize("kind", ["tls-exporter", "tls-server-end-point"])
    def test_with_binding(self, house, kind, password):
        with secured(house) as client:
            assert "SCRAM-SHA-256-PLUS" in client.offer
            data = {
                "tls-exporter": binding.exporter(client.socket),
                "tls-server-end-point": hashlib.sha256(house.certificate.der).digest(),
            }[kind]
            said = scram(client, "SCRAM-SHA-256-PLUS", ME, password, (kind, data))
            assert said == (OK if password == PASSWORD else WRONG)

    @pytest.mark.parametrize("kind", ["tls-exporter", "tls-server-end-point", "tls-unique"])
    def test_somebody_in_the_middle(self, house, kind):
        """The password is right, the connection is not that of the client."""
        with secured(house) as client:
            said = scram(client, "SCRAM-SHA-256-PLUS", ME, PASSWORD, (kind, b"x" * 32))
            assert said == WRONG

    def test_a_client_that_was_not_told_of_binding(self, house):
        """Whoever says "y" thinks that the server cannot: somebody has changed the offer."""
        with secured(house) as client:
            first = "n=me@example.test,r=abcdefghijkl"
            said = client.say(f"AUTH SCRAM-SHA-256 {b64('y,,' + first)}")
            assert said == WRONG

    def test_in_clear_there_is_no_binding(self, house):
        with Dialogue(house.ports["clear"]) as client:
            offer = client.hello()
            assert "SCRAM-SHA-256 " in offer
            assert "PLUS" not in offer
            assert scram(client, "SCRAM-SHA-256", ME, PASSWORD) == OK


class TestExternal:
    @pytest.mark.parametrize(
        ("who", "authzid", "reply"),
        [(ME, "", OK), (ME, ME, OK), (ME, "guard", WRONG), ("locked@example.test", "", WRONG)],
    )
    def test_a_certificate_says_who_it_is(self, house, context, who, authzid, reply):
        theirs = house.authority.issue(emails=(who,), file=f"client-{who[:2]}")
        context.load_cert_chain(theirs.chain, theirs.key_file)
        with secured(house, "implicit", context) as client:
            assert "EXTERNAL" in client.offer
            assert client.say(f"AUTH EXTERNAL {b64(authzid) or '='}") == reply

    @pytest.mark.parametrize("is_known", [True, False])
    def test_strangers_are_not_offered_it(self, house, context, is_known, tmp_path):
        authority = house.authority if is_known else Authority(tmp_path)
        theirs = authority.issue(emails=("else@example.test" if is_known else ME,), file="stranger")
        context.load_cert_chain(theirs.chain, theirs.key_file)
        with secured(house, "implicit", context) as client:
            assert "EXTERNAL" not in client.offer
            assert client.say("AUTH EXTERNAL =").startswith("504")


class TestTokens:
    @pytest.mark.parametrize("mechanism", ["OAUTHBEARER", "XOAUTH2"])
    @pytest.mark.parametrize(
        ("changes", "reply"),
        [
            ({}, OK),
            ({"exp": 1_700_000_000}, WRONG),
            ({"aud": "other"}, WRONG),
            ({"iss": "https://evil.test"}, WRONG),
            ({"email": "you@example.test"}, WRONG),
            ({"email": "locked"}, WRONG),
        ],
    )
    def test_tokens(self, house, mechanism, changes, reply):
        made = token(time.time(), **changes)
        user = changes.get("email", ME)
        form = {
            "OAUTHBEARER": f"n,a={user},\x01auth=Bearer {made}\x01\x01",
            "XOAUTH2": f"user={user}\x01auth=Bearer {made}\x01\x01",
        }[mechanism]
        with secured(house) as client:
            said = client.say(f"AUTH {mechanism} {b64(form)}")
            if said.startswith("334 "):  # an error, which the client has to acknowledge
                assert json.loads(b64decode(said[4:]))["status"]
                said = client.say(b64("\x01"))
            assert said == reply
        assert made not in house.log_file.read_text()


class TestRefusals:
    def test_the_same_words_for_all_reasons(self, house):
        replies = [
            log_in(house, ME, "wrong"),
            log_in(house, "nobody", PASSWORD),
            log_in(house, "locked"),
            log_in(house, "office"),
            log_in(house, "guard"),
        ]
        assert replies == [WRONG] * 5
        house.wait_event("auth_failed", username="locked", reason="the account is locked")

    @pytest.mark.parametrize("login", ["locked", "office", "guard", "nobody"])
    @pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "CRAM-MD5"])
    def test_whatever_the_mechanism(self, house, mechanism, login):
        with secured(house) as client:
            if mechanism == "CRAM-MD5":
                assert client.say("AUTH CRAM-MD5").startswith("334")
                assert client.say(b64(f"{login} {'0' * 32}")) == WRONG
            else:
                assert scram(client, mechanism, login, PASSWORD) == WRONG

    def test_rules_let_others_in(self, house):
        assert log_in(house, "guard", source="127.0.5.7") == OK
        assert log_in(house, "guard", source="127.0.6.7") == WRONG

    def test_app_passwords(self, house):
        assert log_in(house, ME, SECRET) == OK
        assert log_in(house, ME, SECRET, source="127.0.0.2") == WRONG
        assert log_in(house, "locked", SECRET) == WRONG
        assert log_in(house, "guard", SECRET, source="127.0.5.7") == WRONG

    def test_unknown_logins_take_as_long(self, house):
        """Roughly: what a hash costs is more than what all else does."""
        clock = processor_clock(worker_pid(house))
        times = {ME: [], "nobody": []}
        for _ in range(9):
            for login, taken in times.items():
                with secured(house) as client:
                    begun = time.clock_gettime(clock)
                    client.say(plain(login, "wrong"))
                    taken.append(time.clock_gettime(clock) - begun)
        known, unknown = (sorted(taken)[4] for taken in times.values())
        assert 0.33 < known / unknown < 3

    def test_three_are_enough(self, house):
        with secured(house) as client:
            for _ in range(2):
                assert client.say(plain(ME, "wrong")) == WRONG
            last = client.say(plain(ME, "wrong"))
            assert last == "421 4.7.0 Too many failed logins, closing connection"
            assert client.line() == ""

    @pytest.mark.parametrize(
        ("lines", "code"),
        [
            (["AUTH"], "501"),
            (["AUTH NTLM"], "504"),
            (["AUTH PLAIN !!!!"], "501"),
            (["AUTH PLAIN AAA"], "501"),
            ([f"AUTH PLAIN {b64(chr(0) + ME)}"], "501"),
            ([f"AUTH PLAIN {b64(chr(0) + ME + chr(0))}"], "501"),
            ([f"AUTH PLAIN {b64(f'{chr(0)}{ME}{chr(0)}a{chr(0)}b')}"], "501"),
            ([f"AUTH PLAIN {b64(bytes(1) + ME.encode() + bytes(1) + bytes([255]))}"], "501"),
            (["AUTH PLAIN ="], "501"),
            (["AUTH PLAIN", "*"], "501"),
            (["AUTH LOGIN", "*"], "501"),
            (["AUTH LOGIN", b64(ME), "*"], "501"),
            (["AUTH LOGIN", b64(ME), ""], "501"),
            (["AUTH LOGIN", "ü"], "501"),
            (["AUTH CRAM-MD5", b64("nonsense")], "501"),
            (["AUTH SCRAM-SHA-256 " + b64("nonsense")], "501"),
            (["AUTH OAUTHBEARER " + b64("nonsense")], "501"),
        ],
    )
    def test_what_is_malformed_ends_the_attempt(self, house, lines, code):
        with secured(house) as client:
            for line in lines:
                said = client.say(line)
            assert said.startswith(code), said
            assert client.say(plain(ME, PASSWORD)) == OK

    def test_when_it_cannot_be(self, house):
        with secured(house) as client:
            assert client.say(f"MAIL FROM:<{ME}>").startswith("530 5.7.0")
            assert client.say(plain(ME, PASSWORD)) == OK
            assert client.say(plain(ME, PASSWORD)).startswith("503")
            assert client.say(f"MAIL FROM:<{ME}>").startswith("250")

    def test_in_clear(self, house):
        with Dialogue(house.ports["starttls"]) as client:
            assert "AUTH" not in client.hello()
            for line in (plain(ME, PASSWORD), "AUTH LOGIN", "AUTH PLAIN", "AUTH SCRAM-SHA-256"):
                assert client.say(line).startswith("538 5.7.11 ")
        with Dialogue(house.ports["clear"]) as client:
            assert "AUTH" in client.hello()
            assert client.say(plain(ME, PASSWORD)) == OK


class TestTrouble:
    @pytest.fixture(params=["unreadable", "broken", "gone"])
    def down(self, house, request):
        """The accounts cannot be asked."""
        people = house.folder / "people"
        content = people.read_bytes()
        if request.param == "unreadable":
            people.chmod(0o666)
        elif request.param == "broken":
            people.write_bytes(content + b"no account at all\n")
        else:
            people.unlink()
        yield
        people.touch(0o600)
        people.write_bytes(content)
        people.chmod(0o600)
        house.wait_for(lambda: log_in(house, ME) == OK, "the accounts")

    def test_nobody_is_told_that_he_is_wrong(self, house, down):
        now = time.time()
        bearer = f"n,a={ME},\x01auth=Bearer {token(now)}\x01\x01"
        with secured(house) as client:
            for login, password in ((ME, PASSWORD), (ME, "wrong"), ("nobody", "wrong")):
                assert client.say(plain(login, password)) == DOWN
            assert client.say(f"AUTH OAUTHBEARER {b64(bearer)}") == DOWN
            assert client.say("AUTH CRAM-MD5").startswith("334")
            assert client.say(b64(f"{ME} {'0' * 32}")) == DOWN
            assert scram(client, "SCRAM-SHA-256", ME, PASSWORD) == DOWN

    def test_a_database_that_is_broken(self, tmp_path):
        port = free_port()
        rest = MAILDIR + '[[auth.sources]]\ntype = "sqlite"\npath = "people.db"\n'
        with running(
            tmp_path, rest=rest, listeners=listener(port, "submission", "clear_auth = true")
        ) as elemta:
            (tmp_path / "people.db").write_bytes(b"no database " * 1000)
            (tmp_path / "people.db").chmod(0o600)
            for path in tmp_path.glob("people.db-*"):
                path.unlink()
            with Dialogue(port) as client:
                client.hello()
                assert client.say(plain(ME, PASSWORD)) == DOWN
            elemta.wait_event("notice", subject="accounts")
