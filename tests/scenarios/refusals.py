"""Ways to be refused by a running server: one for each rule, as far as a client can take it."""

import contextlib
from collections.abc import Callable

from servers.dialogue import Dialogue
from servers.logins import PASSWORD, plain
from servers.worker import paused, worker_pid

MAIL = b"From: ann@example.test\r\nDate: Mon, 2 Mar 2026 10:00:00 +0000\r\n\r\nhello\r\n"
WALK: dict[str, Callable] = {}
SCARCE: dict[str, Callable] = {}  # on a server that lacks much; in this order


def way_to(rule: str, walk: dict[str, Callable] = WALK):
    """Put a function into a walk: it gives the id it was told, or what else finds the record."""

    def put(function):
        walk[rule] = function
        return function

    return put


class Site:
    """A server with a listener of each kind, and clients that are each alone in their network."""

    def __init__(self, server, ports, puppet=None):
        self.server = server
        self.ports = ports
        self.puppet = puppet
        self._networks = iter(range(10, 250))
        self.network = ""

    def move(self) -> None:
        """Be somebody else from now on."""
        self.network = f"127.{next(self._networks)}.0"

    def client(self, kind: str = "mta", *, host: int = 1, hello: bool = True, **options):
        source = f"{self.network}.{host}"
        client = Dialogue(self.ports[kind], source=source, **options)
        if hello:
            client.hello("LHLO" if kind == "lmtp" else "EHLO")
        return client

    def told(self, *lines: str | bytes, kind: str = "mta", hello: bool = True) -> str:
        """The id of what the last of some lines is answered with."""
        with self.client(kind, hello=hello) as client:
            for line in lines:
                reply = client.say(line)
            assert client.id, reply
            return client.id

    def sent(self, content: bytes, *, kind: str = "mta", login: str = "") -> str:
        """The id of what a message is answered with."""
        with self.client(kind) as client:
            if login:
                assert client.say(plain(login, PASSWORD)).startswith("235")
            sender = f"{login or 'ann'}@example.test"
            reply = client.deliver(content, sender, "bob@example.test")
            assert client.id, reply
            return client.id


# ---- the walk


@way_to("relay")
def _(site):
    return site.told("MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>")


@way_to("server.max_recipients")
def _(site):
    return site.told("MAIL FROM:<a@b.test>", *(f"RCPT TO:<{n}@example.test>" for n in "abc"))


@way_to("server.max_message_size")
def _(site):
    return site.told("MAIL FROM:<a@b.test> SIZE=99999")


@way_to("smtp.max_received")
def _(site):
    return site.sent(b"Received: by x\r\n" * 4 + MAIL)


@way_to("smtp.max_header_size")
def _(site):
    return site.sent((b"X: " + b"y" * 500 + b"\r\n") * 3 + MAIL)


@way_to("smtp.max_header_fields")
def _(site):
    return site.sent(b"X: y\r\n" * 11 + MAIL)


@way_to("smtp.max_line")
def _(site):
    return site.sent(MAIL + b"x" * 1500 + b"\r\n")


@way_to("smtp.bare_newlines")
def _(site):
    return site.sent(MAIL + b"a\nb\r\n")


@way_to("content.nul")
def _(site):
    return site.sent(MAIL + b"a\0b\r\n")


@way_to("smtp.max_errors")
def _(site):
    return site.told(*["FOO"] * 4)


@way_to("smtp.max_junk_commands")
def _(site):
    return site.told(*["NOOP"] * 5)


@way_to("smtp.timeouts")
def _(site):
    with site.client() as client:
        assert client.reply().startswith("421 4.4.2")
        return client.id


@way_to("smtp.strict_sync")
def _(site):
    pids = [event["pid"] for event in site.server.wait_event("worker_started", 2)]
    with paused(pids[0]), paused(pids[1]):
        client = site.client(greet=False, hello=False)
        client.send(b"EHLO early.test\r\n")
    with client:
        assert client.reply().startswith("554 5.5.0")
        return client.id


@way_to("login_required")
def _(site):
    return site.told("MAIL FROM:<ann@example.test>", kind="submission")


@way_to("expn")
def _(site):
    return site.told("EXPN list")


@way_to("tls.handshake")
def _(site):
    with site.client() as client:
        assert client.say("STARTTLS").startswith("220")
        client.send(b"this is no TLS at all\r\n" * 10)
        client.rest()
    return f"{site.network}.1"


@way_to("auth")
def _(site):
    return site.told(plain("ann", "wrong"), kind="submission")


@way_to("auth.max_attempts")
def _(site):
    return site.told(*[plain("ann", "wrong")] * 3, kind="submission")


@way_to("ban")
def _(site):
    site.server.cli("bans", "add", f"{site.network}.1", "--reason", "a test")

    def refused():
        with site.client(hello=False) as client:
            return client.banner.startswith("554") and client.id

    def by_all():  # of both workers one may not know yet
        ids = [refused() for _ in range(6)]
        return all(ids) and ids[-1]

    return site.server.wait_for(by_all, "the ban")


@way_to("limits.connections")
def _(site):
    with site.client("lmtp"), site.client("lmtp", hello=False) as second:
        assert second.banner.startswith("421")
        return second.id


@way_to("limits.connections_per_address")
def _(site):
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(site.client(hello=False)) for _ in range(4)]
        return clients[-1].id


@way_to("limits.connections_per_network")
def _(site):
    with contextlib.ExitStack() as stack:
        hosts = (1, 1, 1, 2, 2)
        clients = [stack.enter_context(site.client(host=n, hello=False)) for n in hosts]
        return clients[-1].id


@way_to("limits.handshake_rate")
def _(site):
    with site.client() as client:
        assert client.say("STARTTLS").startswith("220")
    return site.told("STARTTLS")


@way_to("limits.message_rate")
def _(site):
    return site.told(*["MAIL FROM:<a@b.test>", "RSET"] * 3, "MAIL FROM:<a@b.test>")


@way_to("limits.recipient_rate")
def _(site):
    return site.told("MAIL FROM:<a@b.test>", *(f"RCPT TO:<{n}@example.test>" for n in "abcdef"))


@way_to("limits.auth_rate")
def _(site):
    for _ in range(2):
        site.told(*[plain("ann", "wrong")] * 2, kind="submission")
    return site.told(plain("ann", "wrong"), kind="submission")


@way_to("limits.error_rate")
def _(site):
    for _ in range(4):
        site.told("FOO", "FOO")
    return site.told("FOO")


@way_to("submission.future_release")
def _(site):
    login = plain("ann", PASSWORD)
    return site.told(login, "MAIL FROM:<ann@example.test> HOLDFOR=99999999", kind="submission")


@way_to("submission.fixes")
def _(site):
    return site.sent(b"From: ann@example.test\r\n\r\nx\r\n", kind="submission", login="ann")


@way_to("submission.sender")
def _(site):
    login = plain("ann", PASSWORD)
    return site.told(login, "MAIL FROM:<dan@example.test>", kind="submission")


@way_to("submission.authors")
def _(site):
    return site.sent(b"From: ann@example.test\r\n" + MAIL, kind="submission", login="ann")


def send_again(site, login: str, times: int) -> str:
    """Have a login send messages; the id of what the last is answered with."""
    content = MAIL.replace(b"ann", login.encode())
    for _ in range(times - 1):
        with site.client("submission") as client:
            client.say(plain(login, PASSWORD))
            client.deliver(content, f"{login}@example.test", "bob@example.test")
    return site.sent(content, kind="submission", login=login)


@way_to("submission.allowance")
def _(site):
    return send_again(site, "dan", 2)


@way_to("submission.locked")
def _(site):
    return send_again(site, "eve", 3)


@way_to("proxy")
def _(site):
    with site.client("proxied", greet=False, hello=False) as client:
        assert client.rest() == b""
    return f"{site.network}.1"


LINES = {
    "unknown": ["FOO"],
    "unavailable": ["TURN", "ETRN x"],
    "too_long": [b"NOOP " + b"x" * 2000],
    "syntax": ["MAIL foo"],
    "encoding": [b"MAIL FROM:<\xff@b.test>"],
    "sync": [b"MAIL FROM:<a@b.test>", b"RCPT TO:<a@example.test>", b"DATA\r\nfoo"],
    "cross_protocol": ["GET / HTTP/1.1"],
    "sequence": ["RCPT TO:<a@example.test>"],
    "parameter": ["MAIL FROM:<a@b.test> FOO=1"],
    "address": ["MAIL FROM:<jürgen@b.test>"],
}


def walk_to_fault(kind: str):
    return lambda site: site.told(*LINES[kind])


for _kind in LINES:
    WALK[f"protocol.{_kind}"] = walk_to_fault(_kind)


@way_to("protocol.auth")
def _(site):
    return site.told("AUTH PLAIN !!!", kind="submission")


# ---- on a server that lacks much


@way_to("smtp.refuse_null_mx_senders", SCARCE)
def _(site):
    return site.told("MAIL FROM:<a@null.test>")


@way_to("smtp.split", SCARCE)
def _(site):
    recipients = ("bob", "apart")
    return site.told(
        "MAIL FROM:<a@b.test>", *(f"RCPT TO:<{each}@example.test>" for each in recipients)
    )


def walk_to_breach(said: bytes, *, is_early: bool = False):
    def walk(site):
        with contextlib.ExitStack() as stack:
            if is_early:
                stack.enter_context(paused(worker_pid(site.server)))
            client = site.client("new", greet=not is_early, hello=False)
            client.send(said)
        with client:
            while not client.id:
                assert client.reply()
            return client.id

    return walk


SCARCE |= {
    "pregreet.early_talker": walk_to_breach(b"EHLO bot.test\r\n", is_early=True),
    "pregreet.pipelining": walk_to_breach(b"EHLO bot.test\r\nNOOP\r\n"),
    "pregreet.bare_newline": walk_to_breach(b"EHLO bot.test\n"),
    "pregreet.non_smtp_command": walk_to_breach(b"Subject: x\r\n"),
}


@way_to("limits.tarpit", SCARCE)
def _(site):
    return site.told(*[plain("ann", "wrong")] * 2, kind="submission")


@way_to("tls.injection", SCARCE)
def _(site):
    def is_asked() -> bool:
        return any(call["verb"] == "STARTTLS" for call in site.puppet.calls("on_command"))

    with site.client() as client:
        client.send(b"STARTTLS\r\n")
        site.server.wait_for(is_asked, "STARTTLS")  # while a plugin ponders on it, there is more
        client.send(b"NOOP\r\n")
        assert client.reply() == "554 5.5.0 Input behind STARTTLS, closing connection"
        return client.id


@way_to("submission.down", SCARCE)
def _(site):
    (site.server.state / "locks").touch()  # it is a folder, once there is a lock
    login = plain("dan", PASSWORD)
    return site.told(login, "MAIL FROM:<dan@example.test>", kind="submission")


@way_to("auth.down", SCARCE)
def _(site):
    (site.server.state / "accounts").write_text("no line of it\n")
    return site.told(plain("dan", PASSWORD), kind="submission")


def walk_through(site: Site, ways: dict[str, Callable]) -> dict[str, str | Exception]:
    """A whole walk at once: records are written once a second, so all are looked for after it."""
    words: dict[str, str | Exception] = {}
    for rule, walk in ways.items():
        site.move()
        try:
            words[rule] = walk(site)
        except (AssertionError, OSError, ValueError) as error:
            words[rule] = error
    return words
