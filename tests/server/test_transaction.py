"""Transactions: what is learnt from a header section however it is cut, and what fails."""

from dataclasses import dataclass, field

import pytest

from elemta.mail import parse_address
from elemta.mail.errors import SpoolError
from elemta.mail.message import Facts, Message, State
from elemta.mail.reply import Reply
from elemta.server import Client, RelayPolicy, RelaySettings, SessionSettings, Transaction
from elemta.smtp.events import Mail

AT = 1_700_000_000.0
CLIENT = Client("0-1-1", "192.0.2.1", is_trusted=False, helo="client.test", protocol="ESMTP")
TRUSTED = Client("0-1-2", "127.0.0.1", is_trusted=True, helo="here.test", protocol="LMTP")
POLICY = RelayPolicy(
    RelaySettings("example.test", frozenset({"example.test"}), frozenset({"relay.test"}))
)
SETTINGS = SessionSettings(
    "mx.example.test", max_header_size=300, max_header_fields=8, max_received=3, max_recipients=3
)
HEADER = (
    b"Received: from a\r\n\tby b\r\nMessage-ID:\r\n <m@client.test>\r\n"
    b"Precedence: bulk\r\nSubject: x\r\n\r\n"
)


@dataclass
class Draft:
    queue_id: str = "1"
    content: bytearray = field(default_factory=bytearray)
    is_discarded: bool = False
    wants_flush: bool = False
    is_full: bool = False

    @property
    def size(self) -> int:
        return len(self.content)

    def add(self, chunk: bytes) -> bool:
        assert not self.is_discarded
        self.content += chunk
        return self.wants_flush

    async def flush(self) -> None:
        if self.is_full:
            raise SpoolError("the disk is full")

    def discard(self) -> None:
        self.is_discarded = True


@dataclass
class Intake:
    """Keeps what is submitted; `is_broken` when that cannot be made durable."""

    draft_made: Draft = field(default_factory=Draft)
    room: bool = True
    is_broken: bool = False
    facts: Facts | None = None
    recipients: tuple = ()

    def draft(self) -> Draft:
        return self.draft_made

    def has_room(self) -> bool:
        return self.room

    async def submit(self, draft, sender, recipients, facts, state, reason) -> Message:
        assert (state, reason) == (State.ACTIVE, "")
        if self.is_broken:
            raise SpoolError("the commit failed")
        self.facts, self.recipients = facts, recipients
        return Message(draft.queue_id, sender, draft.size, AT, facts=facts)


@pytest.fixture
def intake():
    return Intake()


def begin(intake, *, client=CLIENT, declared=("7BIT", False), settings=SETTINGS, recipients=("u",)):
    sender = parse_address("a@client.test")
    transaction = Transaction(Mail(sender, None, *declared), client, intake, settings)
    for local in recipients:
        assert transaction.add_recipient(parse_address(f"{local}@example.test"), POLICY) is None
    return transaction


async def take(intake, *chunks, **options):
    """A whole transaction: the message, or the reply that refuses it."""
    transaction = begin(intake, **options)
    assert transaction.begin_data(AT) is None
    for chunk in chunks:
        if transaction.add(chunk):
            await transaction.flush()
    return await transaction.finish()


def cuts(data):
    """Whole, every way to cut in two, and single octets."""
    yield [data]
    for at in range(1, len(data)):
        yield [data[:at], data[at:]]
    yield [data[at : at + 1] for at in range(len(data))]


# ---- the header section


async def test_a_header_section_is_read_the_same_however_it_is_cut():
    content = HEADER + b"Message-ID: <not@this.one>\r\n\r\nbody\r\n"
    for chunks in cuts(content):
        intake = Intake()
        message = await take(intake, *chunks)
        assert isinstance(message, Message)
        trace = intake.draft_made.content.removesuffix(content)
        assert trace.startswith(b"Received: from client.test ([192.0.2.1])\r\n")
        assert trace.endswith(b"\r\n")
        facts = intake.facts
        assert facts.message_id == "<m@client.test>"
        assert facts.header_size == len(trace) + len(HEADER)
        assert facts.auto_submitted


@pytest.mark.parametrize("content", [b"\r\nList-Id: of the body\r\n\r\n", b"\r\n\r\n", b"\r\n"])
async def test_an_empty_header_section_is_one(content):
    for chunks in cuts(content):
        intake = Intake()
        assert isinstance(await take(intake, *chunks), Message)
        trace = intake.draft_made.content.removesuffix(content)
        assert intake.facts.header_size == len(trace) + 2
        assert not intake.facts.auto_submitted


@pytest.mark.parametrize("content", [b"", b"X: y", b"X: y\r\n", b"X: y\r\nAuto-Submitted: yes\r\n"])
async def test_a_message_may_be_all_header(content):
    for chunks in cuts(content):
        intake = Intake()
        assert isinstance(await take(intake, *chunks), Message)
        assert intake.facts.header_size == intake.draft_made.size
        assert intake.facts.auto_submitted == (b"Auto" in content)


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (b"X: " + b"x" * 293 + b"\r\n\r\n", ""),
        (b"X: " + b"x" * 294 + b"\r\n\r\n", "552 5.3.4"),
        (b"X: " + b"x" * 296 + b"\r\n", "552 5.3.4"),
        (b"x" * 301, "552 5.3.4"),
        (b"X: y\r\n" * 8 + b"\r\n", ""),
        (b"X: y\r\n" * 9 + b"\r\n", "552 5.3.4"),
        (b"X: y\r\n\tz\r\n" * 8 + b"\r\n", ""),
        (b"Received: x\r\n" * 3 + b"\r\n", ""),
        (b"Received: x\r\n" * 4 + b"\r\n", "554 5.4.6"),
        (b"RECEIVED\t: x\r\n" * 4 + b"\r\n", "554 5.4.6"),
        (b"Received: x\r\n" * 4, "554 5.4.6"),
    ],
)
async def test_the_verdict_on_a_header_section_does_not_depend_on_its_cuts(header, code):
    for chunks in cuts(header + b"Received: body\r\n" * (header[-4:] == b"\r\n\r\n")):
        intake = Intake()
        result = await take(intake, *chunks)
        assert intake.draft_made.is_discarded == bool(code)
        if code:
            assert str(result).startswith(code)
            assert intake.facts is None
        else:
            assert isinstance(result, Message)


@pytest.mark.timeout(8)
async def test_a_large_section_in_very_small_pieces_is_read_once(intake):
    """Were all that came copied for each piece, this would copy a hundred gigabytes."""
    settings = SessionSettings("mx.example.test")
    pieces = [b"X: y\r\n", *[b"\tz\r\n"] * 240_000, b"List-Id: x\r\n", b"\r\n"]
    assert isinstance(await take(intake, *pieces, settings=settings), Message)
    assert intake.facts.auto_submitted


@pytest.mark.parametrize(
    ("field", "is_automatic"),
    [
        (b"Auto-Submitted: auto-replied", True),
        (b"AUTO-SUBMITTED:auto-generated", True),
        (b"Auto-Submitted: No", False),
        (b"Auto-Submitted:\r\n no", False),
        (b"List-ID: <l.example.test>", True),
        (b"Precedence: list", True),
        (b"Precedence:  Junk ", True),
        (b"Precedence: first-class", False),
        (b"Subject: List-Id: Auto-Submitted: Precedence: bulk", False),
        (b"X-List-Id: y", False),
        (b"Subject: x\r\n List-Id: y", False),
    ],
)
async def test_automatic_mail_is_known_by_its_header(intake, field, is_automatic):
    await take(intake, b"Subject: s\r\n" + field + b"\r\n\r\nList-Id: in the body\r\n")
    assert intake.facts.auto_submitted == is_automatic


async def test_a_message_id_from_outside_is_made_harmless(intake):
    content = b"Message-ID: <\x1b[31m\xff" + b"x" * 280 + b">\r\n\r\n"
    settings = SessionSettings("mx.example.test")
    assert isinstance(await take(intake, content, settings=settings), Message)
    assert len(intake.facts.message_id) <= 250
    assert intake.facts.message_id.isprintable()


# ---- the rest of what is known


async def test_facts_of_a_message(intake):
    await take(intake, b"\r\n", b"caf\xc3\xa9\r\n", client=TRUSTED, declared=("8BITMIME", True))
    facts = intake.facts
    assert (facts.body, facts.smtputf8, facts.has_8bit, facts.verified) == (
        "8BITMIME", True, True, True,
    )  # fmt: skip
    assert (facts.client_address, facts.helo) == ("127.0.0.1", "here.test")
    assert b" with UTF8LMTP id 1\r\n" in intake.draft_made.content
    assert b"for <u@example.test>; " in intake.draft_made.content


async def test_no_recipient_learns_of_another(intake):
    await take(intake, b"\r\n", recipients=("u", "secret", "u"))
    assert b"secret" not in intake.draft_made.content
    assert [str(each) for each in intake.recipients] == ["u@example.test", "secret@example.test"]


def test_recipients_are_judged_one_by_one(intake):
    transaction = begin(intake)
    assert str(transaction.add_recipient(parse_address("u@other.test"), POLICY))[:9] == "550 5.7.1"
    assert transaction.add_recipient(parse_address("postmaster"), POLICY) is None
    assert transaction.add_recipient(parse_address("u@relay.test"), POLICY) is None
    for _ in range(2):
        surplus = transaction.add_recipient(parse_address("v@example.test"), POLICY)
        assert str(surplus).startswith("452 4.5.3")
    assert transaction.overshoot == 2
    assert [str(each) for each in transaction.recipients] == [
        "u@example.test",
        "postmaster@example.test",
        "u@relay.test",
    ]


# ---- what fails


async def test_without_room_no_content_is_asked_for():
    intake = Intake(room=False)
    transaction = begin(intake)
    assert str(transaction.begin_data(AT)).startswith("452 4.3.1")
    assert not transaction.has_begun_data
    assert intake.draft_made.size == 0


async def test_a_disk_that_fills_up_refuses_the_message_and_takes_no_more():
    intake = Intake(Draft(wants_flush=True, is_full=True))
    result = await take(intake, b"Subject: x\r\n\r\n", b"more\r\n", b"and more\r\n")
    assert str(result).startswith("452 4.3.1")
    assert intake.draft_made.is_discarded
    assert b"and more" not in intake.draft_made.content


async def test_a_commit_that_fails_is_a_temporary_refusal():
    intake = Intake(is_broken=True)
    assert str(await take(intake, b"\r\n")).startswith("452 4.3.1")
    assert intake.draft_made.is_discarded


async def test_content_that_was_refused_beforehand_gets_that_answer(intake):
    refusal = Reply(451, "Not now", "4.3.0")
    transaction = begin(intake)
    transaction.refuse(refusal)
    assert transaction.has_begun_data
    assert not transaction.add(b"Subject: x\r\n\r\n")
    await transaction.flush()
    assert await transaction.finish() is refusal
    assert intake.facts is None


async def test_nothing_is_left_of_a_transaction_that_is_dropped(intake):
    transaction = begin(intake)
    transaction.discard()
    transaction.begin_data(AT)
    transaction.add(b"Subject: x\r\n")
    transaction.discard()
    assert intake.draft_made.is_discarded
