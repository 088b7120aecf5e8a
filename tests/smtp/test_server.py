"""The machine's own promises: answers and questions in turn, bounded memory, linear work."""

import pytest
from smtp.bare_session import BareSession

from elemta.mail import Reply
from elemta.mail.errors import LocalProtocolError
from elemta.smtp import Limits, Offer, ServerMachine, events

OK = Reply(250, "Fine", "2.0.0")
NO = Reply(452, "Not now", "4.3.1")
HELLO = b"EHLO client.test\r\n"
ENVELOPE = b"MAIL FROM:<a@client.test>\r\nRCPT TO:<user@example.test>\r\n"


def open_transaction(limits: Limits | None = None, *, lmtp: bool = False) -> ServerMachine:
    machine = ServerMachine(limits or Limits(), lmtp=lmtp)
    machine.receive(b"LHLO client.test\r\n" if lmtp else HELLO)
    machine.next_event()
    machine.reply(OK)
    machine.receive(ENVELOPE)
    for _ in range(2):
        machine.next_event()
        machine.reply(OK)
    return machine


def test_an_event_is_answered_before_the_next():
    machine = ServerMachine(Limits())
    with pytest.raises(LocalProtocolError):
        machine.reply(OK)
    machine.receive(HELLO)
    assert machine.next_event() == events.Hello("client.test", "EHLO")
    with pytest.raises(LocalProtocolError):
        machine.next_event()
    assert machine.reply(OK) == b"250 2.0.0 Fine\r\n"
    with pytest.raises(LocalProtocolError):
        machine.reply(OK)
    assert machine.next_event() is None


def test_replies_are_for_lmtp_and_for_each_recipient():
    machine = open_transaction(lmtp=True)
    machine.receive(b"RCPT TO:<b@example.test>\r\nDATA\r\n")
    machine.next_event()
    with pytest.raises(LocalProtocolError):
        machine.replies([OK])
    machine.reply(OK)
    machine.next_event()
    machine.reply(Reply(354, "Go"))
    machine.receive(b".\r\n")
    assert machine.next_event() == events.BodyEnd()
    with pytest.raises(LocalProtocolError):
        machine.replies([OK])
    assert machine.replies([OK, NO]) == OK.encode() + NO.encode()
    machine.receive(b"MAIL FROM:<>\r\n")
    assert machine.next_event() == events.Mail(None)


def test_smtp_has_one_reply_only():
    machine = open_transaction()
    machine.receive(b"BDAT 0 LAST\r\n")
    machine.next_event()
    with pytest.raises(LocalProtocolError):
        machine.replies([OK])
    assert machine.reply(OK) == OK.encode()


def test_greeting():
    machine = ServerMachine(Limits(max_message_size=1000), Offer(smtputf8=False))
    assert machine.extensions == (
        "PIPELINING",
        "SIZE 1000",
        "8BITMIME",
        "ENHANCEDSTATUSCODES",
        "CHUNKING",
    )
    assert ServerMachine(Limits()).extensions[-1] == "SMTPUTF8"
    assert (machine.hello, machine.esmtp) == ("", False)
    for verb, answer, after in [
        (b"EHLO one.test", OK, ("one.test", True)),
        (b"HELO two.test", OK, ("two.test", False)),
        (b"EHLO three.test", NO, ("two.test", False)),
    ]:
        machine.receive(verb + b"\r\n")
        machine.next_event()
        machine.reply(answer)
        assert (machine.hello, machine.esmtp) == after


def test_smtputf8_that_is_not_offered():
    machine = ServerMachine(Limits(), Offer(smtputf8=False))
    machine.receive(HELLO)
    machine.next_event()
    machine.reply(OK)
    machine.receive(b"MAIL FROM:<a@client.test> SMTPUTF8\r\n")
    event = machine.next_event()
    assert isinstance(event, events.Fault)
    assert event.reply.code == 555
    machine.reply(event.reply)
    machine.receive("MAIL FROM:<ü@client.test> SMTPUTF8\r\n".encode())
    event = machine.next_event()
    assert isinstance(event, events.Fault)
    assert event.reply.enhanced == "5.6.7"


def test_refusals_change_nothing():
    machine = ServerMachine(Limits())
    machine.receive(HELLO)
    machine.next_event()
    machine.reply(OK)
    for _ in range(2):  # refused, MAIL may come again
        machine.receive(b"MAIL FROM:<a@client.test> SIZE=10\r\n")
        event = machine.next_event()
        assert isinstance(event, events.Mail)
        assert event.size == 10
        machine.reply(NO)
    machine.receive(b"RCPT TO:<user@example.test>\r\n")
    event = machine.next_event()
    assert isinstance(event, events.Fault)
    assert event.kind == "sequence"


def test_data_refused_leaves_the_transaction_open():
    machine = open_transaction()
    for answer in (NO, Reply(354, "Go")):
        machine.receive(b"DATA\r\n")
        assert machine.next_event() == events.Data()
        machine.reply(answer)
    machine.receive(b"x\r\n.\r\n")
    assert machine.next_event() == events.Body(b"x\r\n")
    assert machine.next_event() == events.BodyEnd()


def test_a_refused_message_ends_the_transaction():
    machine = open_transaction()
    machine.receive(b"BDAT 3 LAST\r\nabc")
    assert machine.next_event() == events.Body(b"abc")
    assert machine.next_event() == events.BodyEnd()
    machine.reply(NO)
    machine.receive(b"MAIL FROM:<>\r\n")
    assert machine.next_event() == events.Mail(None)


def test_a_refused_chunk_refuses_the_rest():
    machine = open_transaction()
    machine.receive(b"BDAT 3\r\nabcBDAT 3\r\ndefBDAT 3 LAST\r\nghiMAIL FROM:<>\r\n")
    assert machine.next_event() == events.ChunkEnd(3)
    machine.reply(NO)
    for _ in range(2):
        event = machine.next_event()
        assert isinstance(event, events.Fault)
        assert (event.reply.code, event.close, event.kind) == (503, False, "sequence")
        machine.reply(event.reply)
    assert machine.next_event() == events.Mail(None)


def test_a_refused_last_chunk_in_lmtp_is_refused_for_each_recipient():
    machine = open_transaction(lmtp=True)
    machine.receive(b"RCPT TO:<b@example.test>\r\nBDAT 1\r\nxBDAT 1 LAST\r\nyMAIL FROM:<>\r\n")
    machine.next_event()
    machine.reply(OK)
    assert machine.next_event() == events.ChunkEnd(1)
    assert machine.reply(NO) == NO.encode()
    event = machine.next_event()
    assert isinstance(event, events.Fault)
    assert machine.reply(event.reply) == event.reply.encode() * 2
    assert machine.next_event() == events.Mail(None)
    assert machine.reply(OK) == OK.encode()


def test_input_is_known_to_be_there():
    machine = ServerMachine(Limits())
    assert not machine.has_input
    machine.receive(HELLO[:5])
    assert machine.has_input
    assert machine.next_event() is None
    assert not machine.has_input  # what is there is not enough
    machine.receive(HELLO[5:])
    machine.next_event()
    assert not machine.has_input
    machine.reply(OK)
    machine.receive(ENVELOPE)
    machine.next_event()
    assert machine.has_input
    machine.reply(OK)
    machine.next_event()
    assert not machine.has_input


def test_nothing_is_read_after_the_end():
    for last in (b"QUIT\r\n", b"GET / HTTP/1.1\r\nMAIL FROM:<>\r\n"):
        machine = ServerMachine(Limits())
        machine.receive(last)
        machine.next_event()
        machine.reply(OK)
        machine.receive(b"NOOP\r\n" * 10)
        assert machine.next_event() is None
        assert machine._buffer == b""


def test_a_declared_flood_closes_at_once():
    session = BareSession(Limits(max_message_size=100))
    session.feed(HELLO)
    assert session.feed(b"BDAT 201\r\n") == b"503 5.5.1 MAIL first\r\n"
    assert session.closed


def held(machine: ServerMachine) -> int:
    reader = machine._progress.reader
    return len(machine._buffer) + (len(reader._tail) if reader is not None else 0)


@pytest.mark.parametrize(
    "start", [b"", b"DATA\r\n", b"BDAT 90000000 LAST\r\n", b"BDAT 4000000\r\n"]
)
@pytest.mark.parametrize("filler", [b"x", b"x\n", b"\r", b"\0", b"x\r\n", b".x\r\n.", b"\r\n.x"])
def test_memory_is_bounded(start, filler):
    """A lot of anything, no end in sight; 100 MB where there is no line to be seen."""
    limits = Limits(max_message_size=5_000_000, max_drain=100_000_000)
    machine = open_transaction(limits)
    machine.receive(start)
    if start == b"DATA\r\n":
        machine.next_event()
        machine.reply(Reply(354, "Go"))
    piece = filler * (65536 // len(filler))
    faults = 0
    for _ in range((100_000_000 if filler == b"x" else 6_000_000) // len(piece)):
        machine.receive(piece)
        while faults < 100 and (event := machine.next_event()) is not None:
            if not isinstance(event, events.Body):
                faults += 1
                machine.reply(event.reply if isinstance(event, events.Fault) else OK)
        if faults >= 100:
            break
        assert held(machine) <= limits.max_line


@pytest.mark.parametrize("line", [b"x" * 78 + b"\r\n", b"x" * 8190 + b"\r\n", b"x" * 100_000])
def test_tiny_segments_are_held_in_little(line):
    limits = Limits()
    machine = open_transaction(limits)
    machine.receive(b"DATA\r\n")
    machine.next_event()
    machine.reply(Reply(354, "Go"))
    content = b""
    for at in range(len(line)):
        machine.receive(line[at : at + 1])
        while isinstance(event := machine.next_event(), events.Body):
            content += event.chunk
        assert held(machine) <= limits.max_line
    assert content == (line if len(line) <= limits.max_line else b"")


def test_work_is_linear():
    """Octets looked at do not grow faster than octets received, one octet at a time."""

    class Counting(bytes):
        searched = 0

        def find(self, what, at=0):
            Counting.searched += len(self) - at
            return super().find(what, at)

    machine = open_transaction()
    machine.receive(b"DATA\r\n")
    machine.next_event()
    machine.reply(Reply(354, "Go"))
    limit = Limits().max_line
    for _ in range(3 * limit):
        machine.receive(b"x")
        machine._buffer = Counting(machine._buffer)
        assert machine.next_event() is None
    assert 0 < Counting.searched <= 3 * limit * limit


def answers(limits: Limits, stream: bytes, *, single: bool) -> tuple[bytes, bool]:
    session = BareSession(limits)
    for piece in [stream[at : at + 1] for at in range(len(stream))] if single else [stream]:
        if not session.closed:
            session.feed(piece)
    return session.output, session.closed


@pytest.mark.parametrize(
    ("stream", "code", "close"),
    [
        (b"NOOP " + b"x" * 505 + b"\r\n", b"250", False),
        (b"NOOP " + b"x" * 506 + b"\r\n", b"500", False),
        (b"VRFY " + b"x" * 515 + b"\r\n", b"252", False),
        (b"VRFY " + b"x" * 516 + b"\r\n", b"500", False),
        (b"MAIL " + b"x" * 1255 + b"\r\n", b"503", False),
        (b"MAIL " + b"x" * 1256 + b"\r\n", b"500", False),
        (b"RCPT " + b"x" * 1039 + b"\r\n", b"503", False),
        (b"RCPT " + b"x" * 1040 + b"\r\n", b"500", False),
        (b"AUTH " + b"x" * 12281 + b"\r\n", b"502", False),
        (b"AUTH " + b"x" * 12282 + b"\r\n", b"500", False),
        (b"x" * 14999 + b"\r\n", b"500", False),
        (b"x" * 15000 + b"\n", b"500", False),
        (b"x" * 15001 + b"\n", b"500", True),
        (b"x" * 15000 + b"\r\n", b"500", True),
        (b"x" * 15001, b"500", True),
    ],
)
def test_command_lengths(stream, code, close):
    """Octets with CRLF: 512, what extensions add, and where patience ends."""
    limits = Limits(max_buffer=15000)
    for single in (False, True):
        output, closed = answers(limits, stream, single=single)
        assert output.startswith(code)
        assert closed == close
        assert output.count(b"\r\n") == 1


def test_the_tail_of_a_long_line_is_no_command():
    machine = ServerMachine(Limits())
    machine.receive(b"x" * 600)
    assert machine.next_event() is None
    machine.receive(b"NOOP\r\nHELP\r\n")
    event = machine.next_event()
    assert isinstance(event, events.Fault)
    assert event.kind == "too_long"
    machine.reply(event.reply)
    assert machine.next_event() == events.Help()


def test_content_behind_a_refused_data_is_no_command():
    machine = open_transaction(Limits(strict_sync=False))
    machine.receive(b"DATA\r\nRSET\r\n")
    assert machine.next_event() == events.Data()
    machine.reply(NO)
    event = machine.next_event()
    assert isinstance(event, events.Fault)
    assert (event.kind, event.close) == ("sync", True)
    machine.reply(event.reply)
    assert machine.next_event() is None


def test_chunks_may_fill_the_limit():
    for sizes, fits in [((60,), True), ((61,), False), ((30, 30), True), ((30, 31), False)]:
        session = BareSession(Limits(max_message_size=60))
        session.feed(HELLO)
        session.feed(ENVELOPE)
        for size in sizes:
            session.feed(b"BDAT %d\r\n" % size + b"x" * size)
        assert session.output.endswith(b"250 2.0.0 Done\r\n" if fits else b"the limit\r\n")
        assert not session.closed
