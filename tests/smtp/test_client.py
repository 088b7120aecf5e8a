"""The client machine: what it reads, what it writes, and what it refuses to do."""

import pytest

from elemta.mail.address import Address, parse_address
from elemta.mail.errors import LocalProtocolError, RemoteProtocolError
from elemta.mail.reply import Reply
from elemta.smtp.client import ClientMachine

SENDER = parse_address("ann@example.test")
RECIPIENT = parse_address("bob@example.org")
EHLO = b"250-mx.example.org\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"


def greeted(ehlo: bytes = EHLO, *, lmtp: bool = False) -> ClientMachine:
    """A machine after greeting and EHLO."""
    machine = ClientMachine(lmtp=lmtp)
    machine.receive(b"220 mx.example.org\r\n")
    assert machine.next_reply() is not None
    machine.hello("me.test")
    machine.receive(ehlo)
    assert machine.next_reply() is not None
    return machine


def in_content(*, lmtp: bool = False, recipients: int = 1) -> ClientMachine:
    """A machine that may send content."""
    machine = greeted(lmtp=lmtp)
    machine.mail(SENDER, size=10)
    for _ in range(recipients):
        machine.rcpt(RECIPIENT)
    machine.data()
    machine.receive(b"250 ok\r\n" * (1 + recipients) + b"354 go\r\n")
    for _ in range(2 + recipients):
        assert machine.next_reply() is not None
    return machine


class TestReplies:
    def read(self, *pieces: bytes) -> Reply | None:
        machine = greeted()
        machine.reset()
        for piece in pieces[:-1]:
            machine.receive(piece)
            assert machine.next_reply() is None
        machine.receive(pieces[-1])
        return machine.next_reply()

    @pytest.mark.parametrize(
        ("raw", "reply"),
        [
            (b"250 2.0.0 ok\r\n", Reply(250, "ok", "2.0.0")),
            (b"250 ok\r\n", Reply(250, "ok")),
            (b"250\r\n", Reply(250, "")),
            (b"250 \r\n", Reply(250, "")),
            (b"250 2.0.0\r\n", Reply(250, "", "2.0.0")),
            (b"250 ok\n", Reply(250, "ok")),
            (b"550 5.7.1  two  blanks\r\n", Reply(550, "two  blanks", "5.7.1")),
            (b"550 4.7.1 wrong class\r\n", Reply(550, "4.7.1 wrong class")),
            (b"550 5.7 short\r\n", Reply(550, "5.7 short")),
            (b"550 5.1234.1 long\r\n", Reply(550, "5.1234.1 long")),
            (b"550 5.1.1x\r\n", Reply(550, "5.1.1x")),
            (b"571 odd but seen\r\n", Reply(571, "odd but seen")),
            (b"250-2.1.0 a\r\n250-2.1.0 b\r\n250 2.1.0 c\r\n", Reply(250, "a\nb\nc", "2.1.0")),
            (b"250-\r\n250 b\r\n", Reply(250, "\nb")),
            ("250 grüße\r\n".encode(), Reply(250, "grüße")),
            (b"250 \xff\r\n", Reply(250, "�")),
        ],
    )
    def test_forms(self, raw: bytes, reply: Reply) -> None:
        assert self.read(raw) == reply
        assert self.read(*(raw[i : i + 1] for i in range(len(raw)))) == reply

    @pytest.mark.parametrize(
        "raw",
        [
            b"\r\n",
            b"25\r\n",
            b"2x0 ok\r\n",
            b"25O ok\r\n",
            b"250ok\r\n",
            b"250\tok\r\n",
            b"250_ok\r\n",
            b" 250 ok\r\n",
            b"+25 ok\r\n",
            "٢٥٠ ok\r\n".encode(),
            b"150 one\r\n",
            b"600 six\r\n",
            b"000 none\r\n",
            b"250-a\r\n251 b\r\n",
            b"250-a\r\nok\r\n",
            b"HTTP/1.1 400 Bad Request\r\n",
            b"250 " + b"x" * 3000,
            b"250 " + b"x" * 3000 + b"\r\n",
            b"250-x\r\n" * 200,
        ],
    )
    def test_refused(self, raw: bytes) -> None:
        with pytest.raises(RemoteProtocolError):
            self.read(raw)

    def test_text_is_made_harmless(self) -> None:
        raw = "550 5.7.1 \x1b[31mred\x85 \u2028 \u202e\0 bare\rcr\r\n".encode()
        reply = self.read(raw)
        assert reply is not None
        assert reply.text == "[31mred       bare cr"

    def test_a_long_reply_is_kept_in_part(self) -> None:
        reply = self.read(
            b"250-" + b"x" * 2000 + b"\r\n" + (b"250-" + b"y" * 500 + b"\r\n") * 100 + b"250 z\r\n"
        )
        assert reply is not None
        assert len(reply.text) <= 4096

    def test_a_reply_to_nothing(self) -> None:
        for code in (b"250", b"550"):
            machine = greeted()
            machine.receive(code + b" surprise\r\n")
            with pytest.raises(RemoteProtocolError, match="no command"):
                machine.next_reply()

    def test_an_unasked_421_is_good_bye(self) -> None:
        machine = greeted()
        machine.receive(b"421 4.3.2 shutting down\r\n")
        assert machine.next_reply() == Reply(421, "shutting down", "4.3.2")
        assert machine.is_closing

    def test_more_replies_than_commands(self) -> None:
        machine = greeted()
        machine.mail(SENDER, size=1)
        machine.receive(b"250 ok\r\n250 and more\r\n")
        assert machine.next_reply() is not None
        assert machine.has_input
        with pytest.raises(RemoteProtocolError):
            machine.next_reply()

    def test_half_a_reply_counts_as_input(self) -> None:
        machine = greeted()
        machine.reset()
        machine.receive(b"250-a\r\n")
        assert machine.next_reply() is None
        assert machine.has_input
        machine.receive(b"250 b\r\n")
        assert machine.next_reply() == Reply(250, "a\nb")
        assert not machine.has_input


class TestExtensions:
    def test_learned(self) -> None:
        machine = greeted()
        assert machine.has_pipelining
        assert machine.has_8bit
        assert machine.has_smtputf8
        assert machine.size_limit == 1000
        assert machine.extensions["SIZE"] == "1000"

    @pytest.mark.parametrize("size", ["", "0", "1_0", "-1", "+1", "x", "٣", "9" * 21, "1 2"])
    def test_a_size_that_is_none(self, size: str) -> None:
        assert greeted(f"250-x\r\n250 SIZE {size}\r\n".encode()).size_limit == 0

    def test_keywords_in_any_case(self) -> None:
        assert greeted(b"250-x\r\n250 pipelining\r\n").has_pipelining

    def test_the_first_line_is_no_extension(self) -> None:
        assert not greeted(b"250 PIPELINING\r\n").has_pipelining

    def test_helo_forgets(self) -> None:
        machine = greeted()
        assert machine.helo("me.test") == b"HELO me.test\r\n"
        assert not machine.has_pipelining

    def test_lhlo(self) -> None:
        assert ClientMachine(lmtp=True).hello("me.test") == b"LHLO me.test\r\n"


class TestStarttls:
    def test_forgets_what_was_said_in_clear(self) -> None:
        machine = greeted(b"250-x\r\n250-PIPELINING\r\n250 STARTTLS\r\n")
        assert machine.starttls() == b"STARTTLS\r\n"
        machine.receive(b"220 go\r\n")
        assert machine.next_reply() is not None
        machine.tls_started()
        assert not machine.extensions
        assert not machine.has_pipelining

    @pytest.mark.parametrize("extra", [b"250 x\r\n", b"2", b"\r\n"])
    def test_plaintext_after_the_reply(self, extra: bytes) -> None:
        machine = greeted(b"250-x\r\n250 STARTTLS\r\n")
        machine.starttls()
        machine.receive(b"220 go\r\n" + extra)
        assert machine.next_reply() is not None
        with pytest.raises(RemoteProtocolError, match="STARTTLS"):
            machine.tls_started()

    def test_only_where_offered(self) -> None:
        with pytest.raises(LocalProtocolError):
            greeted().starttls()


class TestCommands:
    def test_parameters_that_are_offered(self) -> None:
        machine = greeted()
        assert machine.mail(SENDER, size=77) == b"MAIL FROM:<ann@example.test> SIZE=77\r\n"
        assert greeted().mail(None, size=1, eight_bit=True, smtputf8=True) == (
            b"MAIL FROM:<> SIZE=1 BODY=8BITMIME SMTPUTF8\r\n"
        )
        assert greeted(b"250 x\r\n").mail(SENDER, size=77) == b"MAIL FROM:<ann@example.test>\r\n"

    @pytest.mark.parametrize("need", ["eight_bit", "smtputf8"])
    def test_parameters_that_are_not(self, need: str) -> None:
        with pytest.raises(LocalProtocolError):
            greeted(b"250 x\r\n").mail(SENDER, size=1, **{need: True})

    def test_addresses_in_canonical_form(self) -> None:
        machine = greeted()
        assert machine.rcpt(Address('o"dd one', "example.org")) == (
            b'RCPT TO:<"o\\"dd one"@example.org>\r\n'
        )
        assert machine.rcpt(Address("grün", "example.org")) == (
            "RCPT TO:<grün@example.org>\r\n".encode()
        )
        assert machine.rcpt(Address("postmaster", "")) == b"RCPT TO:<postmaster>\r\n"

    @pytest.mark.parametrize("letter", ["\r", "\n", "\0", "\x85", "\x7f", "\ud800"])
    def test_nothing_can_slip_into_a_command(self, letter: str) -> None:
        with pytest.raises(LocalProtocolError):
            greeted().rcpt(Address(f"a{letter}b", "example.org"))
        with pytest.raises(LocalProtocolError):
            greeted().mail(Address("a", f"b{letter}c"), size=1)
        with pytest.raises(LocalProtocolError):
            ClientMachine().hello(f"a{letter}b")

    def test_rset_where_a_transaction_is_open(self) -> None:
        machine = greeted()
        machine.mail(SENDER, size=1)
        machine.rcpt(RECIPIENT)
        machine.receive(b"250 ok\r\n550 no\r\n")
        assert machine.next_reply() == Reply(250, "ok")
        assert machine.next_reply() == Reply(550, "no")
        assert machine.in_transaction
        assert machine.mail(SENDER, size=1).startswith(b"RSET\r\nMAIL FROM:")
        assert machine.owed == 2

    def test_no_rset_otherwise(self) -> None:
        machine = greeted()
        machine.mail(SENDER, size=1)
        machine.receive(b"550 no\r\n")
        assert machine.next_reply() == Reply(550, "no")
        assert machine.mail(SENDER, size=1).startswith(b"MAIL")

    def test_quit(self) -> None:
        assert greeted().quit() == b"QUIT\r\n"


class TestContent:
    @pytest.mark.parametrize(
        ("content", "wire"),
        [
            (b"", b".\r\n"),
            (b"a\r\n", b"a\r\n.\r\n"),
            (b"a", b"a\r\n.\r\n"),
            (b".", b"..\r\n.\r\n"),
            (b".\r\n", b"..\r\n.\r\n"),
            (b".\r\n.\r\n", b"..\r\n..\r\n.\r\n"),
            (b"..a\r\n", b"...a\r\n.\r\n"),
            (b"a\r\n.b\r\n\r\n.\r\n", b"a\r\n..b\r\n\r\n..\r\n.\r\n"),
            (b"a.\r\nb.", b"a.\r\nb.\r\n.\r\n"),
            (b"\r\n", b"\r\n.\r\n"),
            (b"\xff\r\n", b"\xff\r\n.\r\n"),
        ],
    )
    def test_dots(self, content: bytes, wire: bytes) -> None:
        machine = in_content()
        assert machine.content(content) + machine.end() == wire
        for at in range(len(content) + 1):
            machine = in_content()
            parts = [machine.content(content[:at]), machine.content(content[at:]), machine.end()]
            assert b"".join(parts) == wire
        machine = in_content()
        parts = [machine.content(content[i : i + 1]) for i in range(len(content))]
        assert b"".join(parts) + machine.end() == wire

    @pytest.mark.parametrize(
        "content",
        [
            b"a\n.\r\nb",
            b"a\r.\r\nb",
            b"a\r\n.\rb",
            b"a\r\n.\nb",
            b"a\n.\nb",
            b"a\r.\rb",
            b"a\r\r\n.\r\r\nb",
            b"a\r\n\0.\r\nb",
            b"\r\n.\0\r\n",
            b"\n",
            b"\r",
            b"a\r",
            b"\0",
            b"\n\r",
            b"a\r\n\r",
        ],
    )
    def test_what_could_smuggle(self, content: bytes) -> None:
        """Whatever the split: the machine never gives a dot that ends such content."""
        for at in range(len(content) + 1):
            machine = in_content()
            with pytest.raises(LocalProtocolError):
                _ = (machine.content(content[:at]), machine.content(content[at:]), machine.end())
            with pytest.raises(LocalProtocolError):
                machine.end()

    def test_only_after_a_354(self) -> None:
        machine = greeted()
        with pytest.raises(LocalProtocolError):
            machine.content(b"a")
        with pytest.raises(LocalProtocolError):
            machine.end()
        machine.mail(SENDER, size=1)
        machine.rcpt(RECIPIENT)
        machine.data()
        machine.receive(b"250 ok\r\n" * 2 + b"250 not 354\r\n")
        for _ in range(3):
            assert machine.next_reply() is not None
        with pytest.raises(LocalProtocolError):
            machine.content(b"a")

    def test_no_command_within_it(self) -> None:
        with pytest.raises(LocalProtocolError):
            in_content().quit()

    def test_one_reply_for_all(self) -> None:
        machine = in_content(recipients=3)
        machine.end()
        assert machine.owed == 1
        machine.receive(b"554 5.6.0 no\r\n")
        assert machine.next_reply() == Reply(554, "no", "5.6.0")
        assert not machine.in_transaction

    def test_lmtp_has_one_for_each_accepted(self) -> None:
        machine = greeted(lmtp=True)
        machine.mail(SENDER, size=1)
        for _ in range(3):
            machine.rcpt(RECIPIENT)
        machine.data()
        machine.receive(b"250 ok\r\n250 ok\r\n550 no\r\n250 ok\r\n354 go\r\n")
        for _ in range(5):
            assert machine.next_reply() is not None
        assert machine.accepted == 2
        machine.content(b"x\r\n")
        machine.end()
        assert machine.owed == 2

    def test_a_refusal_in_the_middle(self) -> None:
        machine = in_content()
        machine.content(b"a\r\n")
        machine.receive(b"552 5.3.4 enough\r\n")
        assert machine.next_reply() == Reply(552, "enough", "5.3.4")
        assert machine.is_closing
        with pytest.raises(LocalProtocolError):
            machine.end()

    def test_consent_in_the_middle(self) -> None:
        machine = in_content()
        machine.receive(b"250 taken\r\n")
        with pytest.raises(RemoteProtocolError):
            machine.next_reply()
