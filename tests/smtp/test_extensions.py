"""The server's machine: STARTTLS, AUTH, and what parameters of extensions ask for."""

import pytest

from elemta.mail import Reply
from elemta.smtp import Limits, Offer, ServerMachine, commands, events
from elemta.smtp.commands import MAX_RESPONSE

ALL = Offer(
    binarymime=True,
    dsn=True,
    starttls=True,
    mechanisms=("PLAIN", "LOGIN"),
    require_tls=True,
    deliver_by=60,
    future_release=86400,
    mt_priority=True,
    prdr=True,
    recipients=100,
    xclient=True,
    xforward=True,
)
OK = Reply(250, "Ok", "2.0.0")
MORE = Reply(334, "")
LOGGED_IN = Reply(235, "Welcome", "2.7.0")
READY = Reply(220, "Go ahead", "2.0.0")


def greeted(offer: Offer = ALL, *, strict: bool = True, **options: bool) -> ServerMachine:
    machine = ServerMachine(Limits(strict_sync=strict), offer, **options)
    machine.receive(b"EHLO client.test\r\n")
    machine.next_event()
    machine.reply(OK)
    return machine


def ask(machine: ServerMachine, data: bytes) -> events.Event | None:
    machine.receive(data)
    return machine.next_event()


def fault(machine: ServerMachine, data: bytes) -> str:
    event = ask(machine, data)
    assert isinstance(event, events.Fault)
    machine.reply(event.reply)
    return str(event.reply)[:10].rstrip()


def mail(parameters: str, offer: Offer = ALL) -> events.Event | None:
    return ask(greeted(offer), f"MAIL FROM:<a@client.test> {parameters}\r\n".encode())


def rcpt(parameters: str, offer: Offer = ALL) -> events.Event | None:
    machine = greeted(offer)
    ask(machine, b"MAIL FROM:<a@client.test>\r\n")
    machine.reply(OK)
    return ask(machine, f"RCPT TO:<u@example.test> {parameters}\r\n".encode())


class TestOffers:
    def test_all_that_is_on_offer_is_told(self):
        assert greeted().extensions == (
            "PIPELINING",
            "SIZE 25000000",
            "8BITMIME",
            "ENHANCEDSTATUSCODES",
            "CHUNKING",
            "BINARYMIME",
            "SMTPUTF8",
            "DSN",
            "STARTTLS",
            "AUTH PLAIN LOGIN",
            "REQUIRETLS",
            "DELIVERBY 60",
            "MT-PRIORITY MIXER",
            "PRDR",
            "LIMITS RCPTMAX=100",
            "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT",
            "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE",
        )

    @pytest.mark.parametrize(
        ("command", "reply"),
        [
            (b"STARTTLS\r\n", "502 5.5.1"),
            (b"AUTH PLAIN\r\n", "502 5.5.1"),
            (b"XCLIENT ADDR=192.0.2.1\r\n", "550 5.7.0"),
            (b"XFORWARD ADDR=192.0.2.1\r\n", "550 5.7.0"),
            (b"MAIL FROM:<a@client.test> RET=FULL\r\n", "555 5.5.4"),
            (b"MAIL FROM:<a@client.test> ENVID=1\r\n", "555 5.5.4"),
            (b"MAIL FROM:<a@client.test> AUTH=<>\r\n", "555 5.5.4"),
            (b"MAIL FROM:<a@client.test> BY=120;R\r\n", "555 5.5.4"),
            (b"MAIL FROM:<a@client.test> HOLDFOR=1\r\n", "555 5.5.4"),
            (b"MAIL FROM:<a@client.test> MT-PRIORITY=1\r\n", "555 5.5.4"),
            (b"MAIL FROM:<a@client.test> PRDR\r\n", "555 5.5.4"),
            (b"MAIL FROM:<a@client.test> BODY=BINARYMIME\r\n", "501 5.5.4"),
            (b"MAIL FROM:<a@client.test> REQUIRETLS\r\n", "530 5.7.10"),
        ],
    )
    def test_what_is_not_on_offer_is_refused(self, command, reply):
        assert fault(greeted(Offer()), command) == reply


class TestStarttls:
    def test_nothing_in_clear_counts_after_it(self):
        machine = greeted()
        assert ask(machine, b"STARTTLS\r\n") == events.StartTls()
        machine.reply(READY)
        assert ask(machine, b"MAIL FROM:<mallory@client.test>\r\n") is None

    @pytest.mark.parametrize("strict", [True, False])
    def test_what_comes_with_it_is_an_attack(self, strict):
        machine = greeted(strict=strict)
        event = ask(machine, b"STARTTLS\r\nMAIL FROM:<mallory@client.test>\r\n")
        assert isinstance(event, events.Fault)
        assert event.close
        assert event.kind == "sync"

    def test_once_is_enough(self):
        assert fault(greeted(is_encrypted=True), b"STARTTLS\r\n") == "503 5.5.1"

    def test_it_takes_no_argument(self):
        assert fault(greeted(), b"STARTTLS now\r\n") == "501 5.5.4"

    def test_refused_it_changes_nothing(self):
        machine = greeted()
        ask(machine, b"STARTTLS\r\n")
        machine.reply(Reply(454, "Not now", "4.7.0"))
        assert isinstance(ask(machine, b"NOOP\r\n"), events.Noop)


class TestAuth:
    def test_an_initial_response(self):
        assert ask(greeted(), b"AUTH plain AGEAYg==\r\n") == events.Auth("PLAIN", b"\0a\0b")

    def test_an_empty_one(self):
        assert ask(greeted(), b"AUTH PLAIN =\r\n") == events.Auth("PLAIN", b"")

    def test_an_exchange(self):
        machine = greeted()
        assert ask(machine, b"AUTH LOGIN\r\n") == events.Auth("LOGIN", None)
        assert machine.reply(MORE) == b"334 \r\n"
        assert ask(machine, b"dXNlcg==\r\n") == events.AuthResponse(b"user")
        machine.reply(MORE)
        assert ask(machine, b"\r\n") == events.AuthResponse(b"")
        machine.reply(LOGGED_IN)
        assert fault(machine, b"AUTH PLAIN\r\n") == "503 5.5.1"
        assert isinstance(ask(machine, b"MAIL FROM:<a@client.test>\r\n"), events.Mail)

    def test_the_line_of_a_response_is_nobody_s_to_see(self):
        machine = greeted()
        ask(machine, b"AUTH LOGIN\r\n")
        machine.reply(MORE)
        ask(machine, b"c2VjcmV0\r\n")
        assert machine.line is None

    @pytest.mark.parametrize(
        ("response", "reply"),
        [
            (b"*\r\n", "501 5.7.0"),
            (b"?\r\n", "501 5.5.2"),
            (b"QQ\r\n", "501 5.5.2"),
            (b"QQ==QQ==\r\n", "501 5.5.2"),
            (b"QUJD\n", "500 5.5.2"),
            (b"A" * MAX_RESPONSE + b"\r\n", "500 5.5.2"),
        ],
    )
    def test_a_response_that_is_none_ends_the_exchange(self, response, reply):
        machine = greeted()
        ask(machine, b"AUTH PLAIN\r\n")
        machine.reply(MORE)
        assert fault(machine, response) == reply
        assert isinstance(ask(machine, b"NOOP\r\n"), events.Noop)

    def test_a_response_without_end_ends_the_session(self):
        machine = greeted()
        ask(machine, b"AUTH PLAIN\r\n")
        machine.reply(MORE)
        event = ask(machine, b"A" * MAX_RESPONSE)
        assert isinstance(event, events.Fault)
        assert event.close

    def test_the_longest_response_is_heard_in_pieces(self):
        machine = greeted()
        ask(machine, b"AUTH PLAIN\r\n")
        machine.reply(MORE)
        line = b"QUJD" * ((MAX_RESPONSE - 2) // 4) + b"\r\n"
        for at in range(0, len(line), 1000):
            event = ask(machine, line[at : at + 1000])
        assert event == events.AuthResponse(b"ABC" * ((MAX_RESPONSE - 2) // 4))

    @pytest.mark.parametrize("strict", [True, False])
    def test_a_command_behind_a_response(self, strict):
        machine = greeted(strict=strict)
        ask(machine, b"AUTH PLAIN\r\n")
        machine.reply(MORE)
        event = ask(machine, b"QQ==\r\nMAIL FROM:<a@client.test>\r\n")
        assert isinstance(event, events.Fault if strict else events.AuthResponse)

    @pytest.mark.parametrize(
        ("argument", "reply"),
        [
            (b"", "501 5.5.4"),
            (b"PLAIN/LOGIN", "501 5.5.4"),
            (b"SCRAM-SHA-256", "504 5.5.4"),
            (b"PLAIN ?", "501 5.5.2"),
            (b"PLAIN QQ== QQ==", "501 5.5.2"),
        ],
    )
    def test_what_is_no_attempt(self, argument, reply):
        assert fault(greeted(), b"AUTH " + argument + b"\r\n") == reply

    def test_it_needs_tls_where_that_is_to_be_had(self):
        offer = Offer(starttls=True, auth_needs_tls=True)
        assert fault(greeted(offer), b"AUTH PLAIN AGEAYg==\r\n") == "538 5.7.11"

    def test_it_needs_a_greeting_and_no_transaction(self):
        assert fault(ServerMachine(Limits(), ALL), b"AUTH PLAIN\r\n") == "503 5.5.1"
        machine = greeted()
        ask(machine, b"MAIL FROM:<a@client.test>\r\n")
        machine.reply(OK)
        assert fault(machine, b"AUTH PLAIN\r\n") == "503 5.5.1"

    def test_refused_it_may_be_tried_again(self):
        machine = greeted()
        ask(machine, b"AUTH PLAIN AGEAYg==\r\n")
        machine.reply(Reply(535, "No", "5.7.8"))
        assert isinstance(ask(machine, b"AUTH PLAIN AGEAYg==\r\n"), events.Auth)


class TestMailParameters:
    @pytest.mark.parametrize(
        ("text", "extras"),
        [
            ("RET=full ENVID=QQ314159", events.Extras(ret="FULL", envid="QQ314159")),
            ("ENVID=a+2Bb", events.Extras(envid="a+2Bb")),
            ("AUTH=<>", events.Extras(auth="<>")),
            ("AUTH=e+3Dmc2@example.test", events.Extras(auth="e+3Dmc2@example.test")),
            ("BY=120;RT", events.Extras(by_seconds=120, by_mode="R", by_trace=True)),
            ("BY=-5;n", events.Extras(by_seconds=-5, by_mode="N")),
            ("HOLDFOR=3600", events.Extras(hold_for=3600)),
            ("HOLDUNTIL=2026-01-02T03:04:05Z", events.Extras(hold_until=1767323045.0)),
            ("HOLDUNTIL=2026-01-02T03:04:05+01:00", events.Extras(hold_until=1767319445.0)),
            ("HOLDUNTIL=1970-01-01T00:00:00Z", events.Extras(hold_until=-1.0)),  # long ago
            ("MT-PRIORITY=-9", events.Extras(mt_priority=-9)),
            ("MT-PRIORITY=+3", events.Extras(mt_priority=3)),
            ("REQUIRETLS", events.Extras(require_tls=True)),
            ("PRDR", events.Extras(prdr=True)),
        ],
    )
    def test_what_they_ask_for(self, text, extras):
        event = mail(text)
        assert isinstance(event, events.Mail)
        assert event.extras == extras

    def test_without_them_nothing_is_asked_for(self):
        event = mail("SIZE=100 BODY=BINARYMIME SMTPUTF8")
        assert isinstance(event, events.Mail)
        assert (event.body, event.extras) == ("BINARYMIME", None)

    @pytest.mark.parametrize(
        "text",
        [
            "RET=ALL",
            "RET",
            "RET=FULL RET=FULL",
            "ENVID=",
            "ENVID=a+2",
            "ENVID=a+zz",
            "ENVID=" + "x" * 101,
            "AUTH=a+b",
            "BY=120",
            "BY=120;X",
            "BY=+120;R",
            "BY=1_0;R",
            "BY=1234567890;R",
            "BY=0;R",
            "BY=-1;R",
            "HOLDFOR=0",
            "HOLDFOR=+5",
            "HOLDFOR=1_0",
            "HOLDFOR=\u0665",
            "BY=\u0661\u0662\u0660;R",
            "HOLDUNTIL=\u0662026-01-02T03:04:05Z",
            "MT-PRIORITY=\u0663",
            "HOLDFOR=5 HOLDFOR=5",
            "HOLDFOR=5 HOLDUNTIL=2026-01-02T03:04:05Z",
            "HOLDUNTIL=2026-01-02",
            "HOLDUNTIL=2026-13-02T03:04:05Z",
            "HOLDUNTIL=2026-01-02T03:04:05",
            "HOLDUNTIL=0001-01-01T00:00:00+14:00",
            "MT-PRIORITY=10",
            "MT-PRIORITY=",
            "REQUIRETLS=1",
            "PRDR=yes",
            "PRDR PRDR",
        ],
    )
    def test_what_they_cannot_say(self, text):
        event = mail(text)
        assert isinstance(event, events.Fault)
        assert str(event.reply).startswith("501 5.5.4")

    def test_what_cannot_be_done(self):
        for text, reply in (("BY=59;R", "555 5.5.4"), ("HOLDFOR=86401", "501 5.5.4")):
            event = mail(text)
            assert isinstance(event, events.Fault)
            assert str(event.reply).startswith(reply)


class TestRcptParameters:
    @pytest.mark.parametrize(
        ("text", "notify", "original"),
        [
            ("NOTIFY=never", "NEVER", ""),
            ("NOTIFY=SUCCESS,FAILURE,DELAY", "SUCCESS,FAILURE,DELAY", ""),
            ("ORCPT=rfc822;Bob@example.test", "", "rfc822;Bob@example.test"),
            ("NOTIFY=DELAY ORCPT=rfc822;a+2Bb@x.test", "DELAY", "rfc822;a+2Bb@x.test"),
        ],
    )
    def test_what_they_ask_for(self, text, notify, original):
        event = rcpt(text)
        assert isinstance(event, events.Rcpt)
        assert (event.notify, event.original) == (notify, original)

    @pytest.mark.parametrize(
        ("text", "reply"),
        [
            ("NOTIFY=NEVER,FAILURE", "501"),
            ("NOTIFY=FAILURE,FAILURE", "501"),
            ("NOTIFY=", "501"),
            ("NOTIFY", "501"),
            ("NOTIFY=SOON", "501"),
            ("NOTIFY=NEVER NOTIFY=NEVER", "501"),
            ("ORCPT=bob@example.test", "501"),
            ("ORCPT=rfc822;", "501"),
            ("ORCPT=rfc822;a+b", "501"),
            ("ORCPT=;bob", "501"),
            ("ORCPT=rfc822;" + "x" * 494, "501"),
            ("RRVS=2014-04-03T23:01:00Z", "555"),
        ],
    )
    def test_what_they_cannot_say(self, text, reply):
        event = rcpt(text)
        assert isinstance(event, events.Fault)
        assert str(event.reply).startswith(f"{reply} 5.5.4")

    @pytest.mark.parametrize(
        ("text", "original"),
        [
            ("ORCPT=utf-8;j\u00f6rg@x.test", r"utf-8;j\x{F6}rg@x.test"),
            ("ORCPT=UTF-8;\U0001f600@x.test NOTIFY=NEVER", r"UTF-8;\x{1F600}@x.test"),
            (r"ORCPT=utf-8;j\x{F6}rg@x.test", r"utf-8;j\x{F6}rg@x.test"),
            ("ORCPT=utf-8;" + "\u7528" * 100, ""),
        ],
        ids=["latin", "beyond the plane", "in ASCII", "longer than can be said in ASCII"],
    )
    def test_letters_beyond_ascii_are_kept_in_ascii(self, text, original):
        argument = f"TO:<u@x.test> {text}".encode()
        event = commands.parse_rcpt(argument, Offer(dsn=True), smtputf8=True)
        assert isinstance(event, events.Rcpt)
        assert event.original == original

    @pytest.mark.parametrize(
        ("text", "wide"),
        [
            ("ORCPT=utf-8;j\u00f6rg@x.test", False),
            ("ORCPT=rfc822;j\u00f6rg@x.test", True),
            ("ORCPT=utf-8;j\u00f6rg+@x.test", True),
            ("NOTIFY=\u00f6", True),
            ("\u00f6=x", True),
            ("ORCPT=utf-8;" + "\u00f6" * 248, True),
        ],
    )
    def test_letters_beyond_ascii_have_their_place(self, text, wide):
        argument = f"TO:<u@x.test> {text}".encode()
        event = commands.parse_rcpt(argument, Offer(dsn=True), smtputf8=wide)
        assert isinstance(event, events.Fault)
        assert str(event.reply).startswith("501 5.5.4")

    def test_without_dsn_they_are_unknown(self):
        event = rcpt("NOTIFY=NEVER", Offer())
        assert isinstance(event, events.Fault)
        assert str(event.reply).startswith("555 5.5.4")


class TestBinary:
    @pytest.fixture
    def machine(self):
        machine = greeted()
        for line in (b"MAIL FROM:<a@client.test> BODY=BINARYMIME\r\n", b"RCPT TO:<u@x.test>\r\n"):
            ask(machine, line)
            machine.reply(OK)
        return machine

    def send(self, machine: ServerMachine, content: bytes, cut: int) -> tuple[bytes, str]:
        """Send it in two chunks, and their octets one by one."""
        taken = b""
        chunks = ((content[:cut], b""), (content[cut:], b" LAST"))
        for chunk, last in chunks:
            data = b"BDAT %d%s\r\n%s" % (len(chunk), last, chunk)
            for at in range(len(data)):
                machine.receive(data[at : at + 1])
                while (event := machine.next_event()) is not None:
                    if isinstance(event, events.Body):
                        taken += event.chunk
                        continue
                    machine.reply(OK)
                    if isinstance(event, events.BodyEnd):
                        return taken, event.kind
        raise AssertionError("no end")

    def test_data_is_not_for_it(self, machine):
        assert fault(machine, b"DATA\r\n") == "503 5.5.1"

    @pytest.mark.parametrize("cut", range(1, 40, 3))
    @pytest.mark.parametrize(
        "content",
        [
            b"Subject: x\r\nA: b\r\n\r\n\0\r\n.\r\n\nbare\rcr" + bytes(range(256)),
            b"\r\n\0\n\r.\r\n\r\n and what follows, no line end",
        ],
    )
    def test_its_body_is_any_octets(self, machine, content, cut):
        assert self.send(machine, content, cut) == (content, "")

    @pytest.mark.parametrize("cut", [1, 12, 20])
    def test_its_header_section_has_lines(self, machine, cut):
        content = b"Subject: x\nBcc: y\r\n\r\nbody, long enough"
        taken, kind = self.send(machine, content, cut)
        assert kind == "bare_newline"
        assert not taken

    def test_its_size_is_limited(self):
        machine = ServerMachine(Limits(max_message_size=1024), ALL)
        for line in (
            b"EHLO client.test\r\n",
            b"MAIL FROM:<a@client.test> BODY=BINARYMIME\r\n",
            b"RCPT TO:<u@x.test>\r\n",
        ):
            ask(machine, line)
            machine.reply(OK)
        assert self.send(machine, b"A: b\r\n\r\n" + b"\0" * 2000, 900)[1] == "size"


class TestProxies:
    def test_what_a_proxy_says_of_its_client(self):
        machine = greeted()
        event = ask(machine, b"XCLIENT ADDR=192.0.2.7 NAME=[UNAVAILABLE] HELO=a+2Eb\r\n")
        assert event == events.XClient({"ADDR": "192.0.2.7", "NAME": None, "HELO": "a.b"})
        machine.reply(READY)
        assert fault(machine, b"MAIL FROM:<a@client.test>\r\n") == "503 5.5.1"

    def test_what_the_client_was_is_for_the_log(self):
        event = ask(greeted(), b"XFORWARD ADDR=192.0.2.7 SOURCE=REMOTE\r\n")
        assert event == events.XForward({"ADDR": "192.0.2.7", "SOURCE": "REMOTE"})

    @pytest.mark.parametrize(
        "argument", [b"", b"ADDR", b"ADDR=", b"addr=1", b"ADDR=1 ADDR=2", b"ADDR=a+0D+0Ab"]
    )
    def test_what_it_cannot_say(self, argument):
        assert fault(greeted(), b"XCLIENT " + argument + b"\r\n") == "501 5.5.4"

    def test_not_for_one_who_has_logged_in(self):
        machine = greeted()
        ask(machine, b"AUTH PLAIN AGEAYg==\r\n")
        machine.reply(LOGGED_IN)
        assert fault(machine, b"XCLIENT ADDR=192.0.2.7\r\n") == "503 5.5.1"


class TestPrdr:
    """An answer for each recipient (draft-hall-prdr)."""

    def answers(self, recipients: int, end: bytes, *, parameters: str = " PRDR") -> bytes:
        machine = greeted()
        lines = [f"MAIL FROM:<a@client.test>{parameters}"]
        lines += [f"RCPT TO:<{number}@example.test>" for number in range(recipients)]
        for line in lines:
            assert ask(machine, f"{line}\r\n".encode()) is not None
            machine.reply(OK)
        if not end.startswith(b"BDAT"):
            ask(machine, b"DATA\r\n")
            machine.reply(Reply(354, "Go ahead"))
        machine.receive(end)
        while isinstance(event := machine.next_event(), events.Body):
            pass
        assert isinstance(event, events.BodyEnd)
        return machine.reply(event.fault or OK)

    @pytest.mark.parametrize("end", [b"a\r\n.\r\n", b"BDAT 3 LAST\r\na\r\n", b".\r\n"])
    def test_each_is_answered_and_then_all(self, end):
        first, *others = self.answers(3, end).split(b"\r\n")[:-1]
        assert first.startswith(b"353 ")
        assert others == [b"250 2.0.0 Ok"] * 4

    def test_one_recipient_needs_one_answer(self):
        assert self.answers(1, b"a\r\n.\r\n") == OK.encode()

    def test_who_does_not_ask_gets_one_answer(self):
        assert self.answers(3, b"a\r\n.\r\n", parameters="") == OK.encode()

    def test_content_that_cannot_be_read_gets_one_answer(self):
        assert self.answers(2, b"a\rb\r\n.\r\n").count(b"\r\n") == 1

    def test_the_next_transaction_begins_anew(self):
        machine = greeted()
        for line in (b"MAIL FROM:<> PRDR", b"RSET", b"MAIL FROM:<>", b"RCPT TO:<a@b.test>"):
            ask(machine, line + b"\r\n")
            machine.reply(OK)
        ask(machine, b"RCPT TO:<b@b.test>\r\n")
        machine.reply(OK)
        ask(machine, b"DATA\r\n")
        machine.reply(Reply(354, "Go ahead"))
        assert isinstance(ask(machine, b".\r\n"), events.BodyEnd)
        assert machine.reply(OK) == OK.encode()
