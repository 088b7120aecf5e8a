"""Who may send to whom, in every way to write a recipient, and that the mail goes just there.

The policy decides on the domain that the one parser finds. So for every accepted recipient a
message is sent, and the next hop of exactly that domain gets exactly that recipient, written
as the parser understood it; a second reading anywhere on the way would show here.
"""

import contextlib
import subprocess
from dataclasses import dataclass

import pytest
from servers.dialogue import Dialogue
from servers.elemta import running
from servers.logins import AUTH, PASSWORD, add_user, plain, submission
from servers.next_hop import NextHop, serving
from servers.process import program

LOCAL, RELAY, FOREIGN = "example.test", "relay.test", "other.test"
DECOYS = {LOCAL: FOREIGN, RELAY: FOREIGN, FOREIGN: LOCAL}
LOGIN = "s@example.test"
# who -> where from; one of the strangers logs in, on a listener of its own
SOURCES = {"stranger": "127.0.0.1", "trusted": "127.0.0.5", "authenticated": "127.0.0.9"}

CONFIG = """
[relay]
local_domains = ["example.test"]
relay_domains = ["relay.test"]
trusted_networks = ["127.0.0.5/32"]
[smtp]
max_errors = 100000
max_junk_commands = 100000
[limits]
error_delay = 0
"""
ROUTE = """
[[routes]]
domains = ["{domain}"]
via = "smtp"
host = "127.0.0.1"
port = {port}
tls = "none"
"""

# path as sent -> recipient as understood; D is the domain that counts, X is another
FORMS = {
    "<u@D>": "u@D",
    "<u+tag@D>": "u+tag@D",
    "<UPPER@D>": "UPPER@D",
    " <u@D>": "u@D",
    "<@X:u@D>": "u@D",
    "<@X,@b.test:u@D>": "u@D",
    "<@X,@D:u@D>": "u@D",
    "<@[127.0.0.1]:u@D>": "u@D",
    "<u%X@D>": "u%X@D",
    "<u%X%b.test@D>": "u%X%b.test@D",
    "<X!u@D>": "X!u@D",
    "<b.test!X!u@D>": "b.test!X!u@D",
    "<u=X@D>": "u=X@D",
    "<{u|X}@D>": "{u|X}@D",
    '<"u"@D>': "u@D",
    '<"u.v"@D>': "u.v@D",
    '<"u@X"@D>': '"u@X"@D',
    '<"u@X@b.test"@D>': '"u@X@b.test"@D',
    '<"u%X"@D>': "u%X@D",
    '<"u\\@X"@D>': '"u@X"@D',
    '<"u v"@D>': '"u v"@D',
    '<"<u@X>"@D>': '"<u@X>"@D',
    '<"u> "@D>': '"u> "@D',
    '<"u\\"@X\\""@D>': '"u\\"@X\\""@D',
    '<"u\\\\"@D>': '"u\\\\"@D',
    '<"@X:u"@D>': '"@X:u"@D',
    '<"u,v@X"@D>': '"u,v@X"@D',
    '<"u;X"@D>': '"u;X"@D',
    '<"(c)u"@D>': '"(c)u"@D',
    '<" "@D>': '" "@D',
    '<""@D>': '""@D',
    '<"u..v"@D>': '"u..v"@D',
    '<".u"@D>': '".u"@D',
    "<$(id)@D>": None,
    '<"$(id)"@D>': '"$(id)"@D',
    '<"-oX/tmp"@D>': "-oX/tmp@D",
    '<"../../u"@D>': '"../../u"@D',
    "<|u@D>": "|u@D",
    "<postmaster@D>": "postmaster@D",
    # what parameters say of other recipients is only told
    "<u@D> NOTIFY=NEVER": "u@D",
    "<u@D> ORCPT=rfc822;u@X": "u@D",
    "<u@D> ORCPT=rfc822;<u@X>": "u@D",
    "<u@D> NOTIFY=FAILURE ORCPT=rfc822;u%X@X": "u@D",
    # nobody's recipients
    "<u@D.>": None,
    "<u@.D>": None,
    "<u@-D>": None,
    "<u@D@X>": None,
    "<u@X@D>": None,
    "<u@D>@X": None,
    "<u@X>@D": None,
    "u@D": None,
    "<u@D": None,
    "u@D>": None,
    "<<u@D>>": None,
    "<u@D><u@X>": None,
    "<u@D>,<u@X>": None,
    "<u@D,u@X>": None,
    "<u@D;u@X>": None,
    "<u@D u@X>": None,
    "< u@D>": None,
    "<u @D>": None,
    "<u@ D>": None,
    "<u@D >": None,
    "<u\t@D>": None,
    "<u(c)@D>": None,
    "<u@D(c)>": None,
    "(c)<u@D>": None,
    "Name <u@D>": None,
    '"u@X" <u@D>': None,
    "<u@D\0>": None,
    "<u@D\0.X>": None,
    "<u\0@D>": None,
    '<"u\0"@D>': None,
    "<u@D\rRCPT TO:<v@X>>": None,
    '<"u\r"@D>': None,
    '<"u\x0b"@D>': None,
    "<.u@D>": None,
    "<u.@D>": None,
    "<u..v@D>": None,
    "<@D>": None,
    "<@X:>": None,
    "<@X:@D>": None,
    "<:u@D>": None,
    "<@:u@D>": None,
    "<@X u@D>": None,
    "<@X;u@D>": None,
    "<@X:@X:u@D>": None,
    "<u@X:D>": None,
    "<u@D%X>": None,
    "<u@D:25>": None,
    "<u@D/X>": None,
    "<u@D\\@X>": None,
    "<u\\@X@D>": None,
    '<"u"v@D>': None,
    '<"u@D>': None,
    "<u@[D]>": None,
    "<u@D[127.0.0.1]>": None,
    "<D!u>": None,
    '<"u@D">': None,
    "<u@D> ORCPT=rfc822;u@X <u@X>": None,
    "<u@D> NOTIFY=<u@X>": None,
    "<u@D> @X": None,
    "<>": None,
}
# what stands for no domain of ours, however it looks
ODD_FOREIGN = [
    "<u@[127.0.0.1]>",
    "<u@[IPv6:::1]>",
    "<u@[IPv6:::ffff:127.0.0.1]>",
    "<u@127.0.0.1>",
    "<u@2130706433>",
    "<u@localhost>",
    "<u@example.test.other.test>",
    "<u@notexample.test>",
    "<u@sub.example.test>",
    "<u@test>",
    "<u@xn--exmple-4uf.test>",
    "<u@ex\u0430mple.test>",
    "<u@\uff45xample.test>",
    "<u@example\u3002test>",
    "<u@exa\u00admple.test>",
    "<u@example\u200d.test>",
]


@dataclass(frozen=True)
class Asked:
    """What was answered to a recipient, and under which subject a message went to it."""

    reply: str
    subject: str


class Matrix:
    """All questions with their answers, and what the next hops got."""

    def __init__(self, server, hops, submission):
        self.server, self.hops = server, hops
        self.submission = submission
        self.asked = {}
        self.sent = 0
        for who, source in SOURCES.items():
            with self.dialogue(who, source) as client:
                for form in FORMS:
                    for domain in DECOYS:
                        self.asked[who, form, domain] = self.ask(client, fill(form, domain))
                for form in ODD_FOREIGN:
                    self.asked[who, form, ""] = self.ask(client, form)
        server.wait_for(self.is_delivered, f"{self.sent} messages at the next hops", limit=60)
        self.got = {}
        for name, hop in hops.items():
            for message in hop.taken:
                _, _, subject = message.content.rpartition(b"Subject: ")
                key = subject.partition(b"\r\n")[0].decode()
                self.got.setdefault(key, []).append((name, message.recipients))

    @contextlib.contextmanager
    def dialogue(self, who, source):
        """A session of a client, which has logged in where it is one who does."""
        has_login = who == "authenticated"
        port = self.submission if has_login else self.server.port
        with Dialogue(port, source=source) as client:
            client.hello()
            if has_login:
                assert client.say(plain(LOGIN, PASSWORD)).startswith("235")
            yield client

    def is_delivered(self):
        return sum(len(hop.taken) for hop in self.hops.values()) >= self.sent

    def ask(self, client, path):
        wide = "" if path.isascii() else " SMTPUTF8"
        assert client.say(f"MAIL FROM:<{LOGIN}>{wide}").startswith("250")
        reply = client.say(f"RCPT TO:{path}")
        if not reply.startswith("250"):
            client.say("RSET")
            return Asked(reply, "")
        self.sent += 1
        subject = str(self.sent)
        assert client.say("DATA").startswith("354")
        assert client.say(f"Subject: {subject}\r\n\r\n.").startswith("250")
        return Asked(reply, subject)


def fill(form, domain):
    return form.replace("D", domain).replace("X", DECOYS[domain])


@pytest.fixture(scope="module")
def matrix(tmp_path_factory):
    hops = {domain: NextHop() for domain in (LOCAL, RELAY, FOREIGN)}
    with serving(*hops.values()):
        ports = [(LOCAL, hops[LOCAL].port), (RELAY, hops[RELAY].port), ("*", hops[FOREIGN].port)]
        routes = "".join(ROUTE.format(domain=domain, port=port) for domain, port in ports)
        port, listener = submission()
        folder = tmp_path_factory.mktemp("relay")
        with running(folder, rest=CONFIG + AUTH + routes, listeners=listener) as server:
            add_user(server, LOGIN)
            yield Matrix(server, hops, port)


@pytest.mark.parametrize("who", SOURCES)
@pytest.mark.parametrize("form", FORMS)
def test_recipient(matrix, who, form):
    for domain in DECOYS:
        asked = matrix.asked[who, form, domain]
        if FORMS[form] is None:
            assert asked.reply.startswith(("501 5.", "553 5.1.2", "555 5.5.4")), domain
        elif who == "stranger" and domain == FOREIGN:
            assert asked.reply.startswith("550 5.7.1 "), domain
        else:
            assert asked.reply.startswith("250 2.1.5 "), domain
            recipient = fill(FORMS[form], domain)
            assert matrix.got[asked.subject] == [(domain, (recipient,))]


@pytest.mark.parametrize("who", ["trusted", "authenticated"])
@pytest.mark.parametrize("form", ODD_FOREIGN)
def test_what_only_resembles_our_domain_is_not_ours(matrix, form, who):
    assert matrix.asked["stranger", form, ""].reply.startswith(("550 5.7.1", "553 5.1.2"))
    asked = matrix.asked[who, form, ""]
    if asked.reply.startswith("250"):
        [(hop, (recipient,))] = matrix.got[asked.subject]
        assert hop == FOREIGN
        assert recipient.isascii()
        assert recipient.partition("@")[2] not in DECOYS
    else:
        assert asked.reply.startswith("553 5.1.2")


def test_there_are_enough_questions(matrix):
    assert len(FORMS) >= 60
    assert matrix.sent >= 200
    assert len(matrix.got) == matrix.sent


def test_the_bare_postmaster_is_ours_whoever_asks(matrix):
    for who, source in SOURCES.items():
        with matrix.dialogue(who, source) as client:
            sender = LOGIN if who == "authenticated" else ""
            reply = client.deliver(b"Subject: pm\r\n\r\n", sender, "postmaster")
            assert reply.startswith("250")
    hop = matrix.hops[LOCAL]
    matrix.server.wait_for(
        lambda: hop.recipients().count("postmaster@example.test") >= 2 * len(SOURCES),
        "the postmaster's mail",
    )


def test_a_login_counts_for_one_session(matrix):
    """The address from which somebody has logged in is a stranger's as before."""
    with Dialogue(matrix.submission, source=SOURCES["authenticated"]) as client:
        client.hello()
        assert client.say(f"MAIL FROM:<{LOGIN}>").startswith("530 5.7.0")
    with Dialogue(matrix.server.port, source=SOURCES["authenticated"]) as client:
        client.hello()
        assert client.envelope(LOGIN, f"u@{FOREIGN}")[1].startswith("550 5.7.1")


ALL_FAILED = "Server doesn't seem to be an open relay, all tests failed"
NEEDS_LOGIN = "Server isn't an open relay, authentication needed"


@pytest.mark.parametrize(
    ("listener", "verdict"), [("mta", ALL_FAILED), ("submission", NEEDS_LOGIN)]
)
def test_nmap_finds_no_open_relay(matrix, listener, verdict):
    port = matrix.server.port if listener == "mta" else matrix.submission
    found = scan(port)
    for _ in range(5):  # it takes 530 for a code wherever that stands, in the id of a refusal, too
        if NEEDS_LOGIN in found and verdict != NEEDS_LOGIN:
            found = scan(port)
    assert verdict in found, found


def scan(port: int) -> str:
    """What nmap says of a port."""
    return subprocess.run(
        [program("nmap", "nmap"), "-Pn", "-n", "-p", str(port), "--script", "+smtp-open-relay",
         "--script-args", "smtp-open-relay.domain=other.test,smtp-open-relay.ip=127.0.0.1",
         "-vv", "127.0.0.1"],
        capture_output=True, text=True, timeout=80, check=False,
    ).stdout  # fmt: skip
