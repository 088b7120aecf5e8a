"""The journal: an id for each refusal, and bounds that hold whatever clients do."""

import asyncio
import socket
from itertools import count

import msgspec
import pytest

from elemta.mail.address import Address
from elemta.mail.events import MessageReceived
from elemta.mail.ids import SessionId
from elemta.mail.message import Facts
from elemta.mail.reply import Reply
from elemta.mail.why import PACK, Heard, Mail, Ruling, Who, Why, unpack
from elemta.mailauth import AuthStatus, DkimVerdict, SpfVerdict
from elemta.net.clock import SystemClock
from elemta.plugins.contexts import SessionInfo
from elemta.server import Bound, Listeners, RelayPolicy, RelaySettings, SessionSettings, journal
from elemta.server.journal import Case, Journal
from elemta.server.relay import RELAY_DENIED
from elemta.server.rules import _BY_REPLY, find_rule
from elemta.server.settings import Door
from elemta.server.surroundings import Surroundings
from elemta.testing import FakeClock
from elemta.testing.server import _Queue


def case(number: int = 1, address: str = "192.0.2.1", **options) -> Case:
    mail = Mail("a@example.org", ("b@example.org",))
    return Case(Who(f"s{number}", address, "mta"), options.pop("mail", mail), "rcpt", **options)


def taken(it: Journal) -> list[Why]:
    return [why for pack in it.take() for why in unpack(pack.octets)]


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def it(clock):
    return Journal(clock, find_rule)


def test_a_refusal_gets_an_id_and_leaves_a_record(it, clock):
    told = it.refuse(RELAY_DENIED, case(note="private"))
    assert told == RELAY_DENIED
    assert told.encode() == f"550 5.7.1 Relaying denied (id {told.id})\r\n".encode()
    [why] = taken(it)
    assert (why.id, why.at, why.count) == (told.id, clock.now(), 1)
    words = "550 5.7.1 Relaying denied"
    assert why.ruling == Ruling("reject", "rcpt", words, "", "relay", "private")
    assert taken(it) == []


def test_refusals_that_are_alike_share_one_within_a_second(it, clock):
    first = it.refuse(RELAY_DENIED, case())
    assert it.refuse(RELAY_DENIED, case(2)).id == first.id
    assert it.refuse(RELAY_DENIED, case(2)).id == first.id
    assert it.refuse(RELAY_DENIED, case(address="192.0.2.2")).id != first.id
    assert it.refuse(RELAY_DENIED, case(mail=Mail("c@example.org"))).id != first.id
    assert it.refuse(Reply(550, "No", "5.7.1"), case()).id != first.id
    clock.advance(1.0)
    assert it.refuse(RELAY_DENIED, case()).id != first.id
    records = {each.id: each for each in taken(it)}
    assert len(records) == 5
    assert (records[first.id].count, records[first.id].sessions) == (3, ["s2"])


def test_what_has_been_taken_changes_no_more(it):
    first = it.refuse(RELAY_DENIED, case())
    [why] = taken(it)
    assert it.refuse(RELAY_DENIED, case()).id != first.id
    assert why.count == 1


def test_an_id_that_a_reply_has_already_is_kept(it):
    told = it.refuse(Reply(451, "Internal error", "4.3.0", "0123abcd"), case(plugin="one"))
    assert told.id == "0123abcd"
    [why] = taken(it)
    assert (why.id, why.ruling.outcome, why.ruling.plugin) == ("0123abcd", "defer", "one")


def test_a_flood_of_different_refusals_shares_a_record_beyond_the_bound(it, monkeypatch):
    monkeypatch.setattr(journal, "MAX_REFUSED", 10)
    ids = {it.refuse(RELAY_DENIED, case(address=f"192.0.2.{n}")).id for n in range(200)}
    assert len(ids) == 11
    last = it.refuse(Reply(550, "No", "5.7.1"), case(plugin="one"))
    assert last.id not in ids
    records = taken(it)
    assert len(records) == 12
    assert (records[10].count, records[10].who.address) == (190, "")
    assert records[10].ruling.note == journal.MANY


def test_sessions_of_one_record_are_bounded(it):
    for number in range(100):
        it.refuse(RELAY_DENIED, case(number))
    [why] = taken(it)
    assert why.count == 100
    assert len(why.sessions) == journal.MAX_SESSIONS


def received(number: int, **options) -> tuple[MessageReceived, Facts]:
    said = MessageReceived("s1", f"Q{number}", "a@example.org", ["b@example.org"], 1204, 1, 3.1)
    return said, Facts(session_id="s1", client_address="192.0.2.1", **options)


def test_mail_that_is_taken_leaves_all_that_is_known_of_it(it, clock):
    said, facts = received(
        1, helo="client", protocol="ESMTPSA", message_id="<x@y>", login="ann", notes={"score": "5"}
    )
    info = SessionInfo("s1", "192.0.2.1", "here", "mta", is_trusted=False)
    info.message.authentication.spf = SpfVerdict(AuthStatus.PASS)
    info.heard.append(Heard("one", "on_data", "edit", "note", 0.2))
    it.accept(said, facts, "submission", "TLSv1.3", info)
    assert taken(it) == [
        Why(
            "Q1",
            clock.now(),
            Who("s1", "192.0.2.1", "submission", "client", "ESMTPSA", "TLSv1.3", "ann"),
            Mail("a@example.org", ("b@example.org",), "Q1", "<x@y>", 1204),
            Ruling("accept", "message"),
            (Heard("one", "on_data", "edit", "note", 0.2),),
            "spf=pass",
            {"score": "5"},
            3.1,
        )
    ]


def test_mail_that_is_taken_from_a_unix_socket_on_hold(it):
    said, facts = received(1)
    it.hold(case(mail=Mail(queue_id="Q1")))
    it.accept(said, msgspec.structs.replace(facts, client_address=""), "local", "", None)
    [why] = taken(it)
    assert (why.ruling, why.who.address) == (journal.HELD, "unix")
    assert why.mail.recipients == ("b@example.org",)


def test_recipients_of_one_record_are_bounded(it):
    said, facts = received(1)
    names = [f"{n}@example.org" for n in range(1000)]
    said = msgspec.structs.replace(said, to_envelope=names, recipient_count=1000)
    it.accept(said, facts, "mta", "", None)
    assert taken(it)[0].mail.recipients == tuple(names[: journal.MAX_RECIPIENTS])


def test_half_a_character_is_written_out_and_its_neighbours_are_whole(it):
    info = SessionInfo("s1", "192.0.2.1", "here", "mta", is_trusted=False)
    for number in range(3):
        notes = {"n": "\udc80" if number == 1 else "x"}
        info.heard.append(Heard("one", "on_data", "edit"))
        it.accept(*received(number, notes=notes), "mta", "", info)
    it.refuse(RELAY_DENIED, case(note="x", mail=Mail("\ud83d@b.test")))
    first, second, third, last = taken(it)
    assert [each.notes["n"] for each in (first, second, third)] == ["x", "\\udc80", "x"]
    assert [len(each.heard) for each in (first, second, third)] == [1, 2, 3]
    assert second.ruling == Ruling("accept", "message")
    assert last.mail.sender == "\\ud83d@b.test"


def test_many_records_are_packed_in_pieces_and_none_is_missing(it):
    for number in range(2000):
        it.accept(*received(number), "mta", "", None)
    it.refuse(RELAY_DENIED, case())
    packs = it.take()
    assert len(packs) > 2
    assert all(len(pack.octets) < 2 * PACK for pack in packs)
    ids = [[why.id for why in unpack(pack.octets)] for pack in packs]
    assert [len(each) for each in ids] == [pack.count for pack in packs]
    assert [each for some in ids for each in some][:-1] == [f"Q{n}" for n in range(2000)]
    assert it.take() == []


def test_a_pack_knows_when_its_oldest_and_its_latest_were_decided(it, clock):
    began = clock.now()
    it.refuse(RELAY_DENIED, case())
    clock.set(began + 5)
    it.accept(*received(1), "mta", "", None)
    [pack] = it.take()
    assert (pack.first_at, pack.last_at) == (began, began + 5)


def test_there_is_a_bound_to_what_waits_and_the_oldest_go(it, monkeypatch):
    monkeypatch.setattr(journal, "MAX_OTHERS", 3)
    for number in range(5):
        it.decide(case(mail=Mail(queue_id=f"Q{number}")), journal.HELD)
    assert it.lost == 2
    assert [each.id for each in taken(it)] == ["Q0", "Q1", "Q2"]


def test_there_is_a_bound_to_packs_and_of_those_given_back_the_oldest_go(it, monkeypatch):
    monkeypatch.setattr(journal, "PACK", 1)  # one record in each
    monkeypatch.setattr(journal, "MAX_PACKS", 3)
    monkeypatch.setattr(journal, "MAX_KEPT", 2)
    for number in range(5):
        it.accept(*received(number), "mta", "", None)
    assert it.lost == 2
    packs = it.take()
    it.accept(*received(9), "mta", "", None)
    it.give_back(packs)
    assert it.lost == 3
    assert [each.id for each in taken(it)] == ["Q1", "Q2", "Q9"]


def test_what_plugins_leave_with_a_message_is_kept_within_bounds(it):
    info = SessionInfo("s1", "192.0.2.1", "here", "mta", is_trusted=False)
    info.message.notes["score"] = "5"
    info.message.notes["long"] = "x" * 5000
    for _ in range(100):
        info.heard.append(Heard("one", "on_data", "edit"))
    it.refuse(RELAY_DENIED, case(info=info))
    it.decide(case(info=info), journal.HELD)
    for why in taken(it):
        assert why.notes == {"score": "5"}
        assert len(why.heard) == 30


def test_what_checks_have_found_is_kept_in_short(it):
    info = SessionInfo("s1", "192.0.2.1", "here", "mta", is_trusted=False)
    info.message.authentication.spf = SpfVerdict(AuthStatus.PASS)
    info.message.authentication.dkim = (DkimVerdict(AuthStatus.FAIL, "example.org"),)
    it.refuse(RELAY_DENIED, case(info=info))
    assert taken(it)[0].authentication == "spf=pass dkim=fail (example.org)"


def test_what_could_not_be_written_is_given_again(it):
    it.refuse(RELAY_DENIED, case())
    packs = it.take()
    it.give_back(packs)
    assert it.take() == packs


class Says(RelayPolicy):
    """Refuses recipients by whatever reply it is given; or is defective."""

    reply = RELAY_DENIED
    error: Exception | None = None

    def refusal(self, recipient: Address, *, trusted: bool) -> Reply | None:
        if self.error is not None:
            raise self.error
        return self.reply


async def _is_null_mx(domain: str) -> bool:
    return domain == "null.test"


class Site:
    """A listener in this process, whose policy says what it is told to."""

    def __init__(self) -> None:
        clock = SystemClock()
        self.journal = Journal(clock, find_rule)
        self.policy = Says(RelaySettings("example.test"))
        around = Surroundings(
            settings=SessionSettings("mail.example.test", refuse_null_mx_senders=True),
            policy=self.policy,
            intake=_Queue(),
            is_null_mx=_is_null_mx,
            clock=clock,
            emit=lambda _event: None,
            door=Door("mta"),
            journal=self.journal,
        )
        numbers = count(1)
        self.listeners = Listeners(lambda _: around, 100, lambda: SessionId(f"s{next(numbers)}"))

    async def start(self) -> None:
        bound = socket.create_server(("127.0.0.1", 0))
        bound.setblocking(False)
        self.port = bound.getsockname()[1]
        await self.listeners.start([Bound(bound, "mta", "here")])

    async def talk(self, *lines: str) -> list[str]:
        """Say lines one by one; the last line of each reply."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        await reader.readline()
        replies = []
        for line in lines:
            writer.write(line.encode() + b"\r\n")
            while (said := await reader.readline())[3:4] == b"-":
                pass
            replies.append(said.decode().rstrip())
        writer.close()
        await writer.wait_closed()
        return replies


@pytest.fixture
async def site():
    made = Site()
    await made.start()
    yield made
    await made.listeners.stop(0)


ENVELOPE = ("EHLO client.example.org", "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.net>")


@pytest.mark.parametrize("reply", [pytest.param(each, id=str(each)) for each in _BY_REPLY])
async def test_whatever_a_session_refuses_by_the_client_is_told_the_id_of_a_record(site, reply):
    site.policy.reply = reply
    said = (await site.talk(*ENVELOPE))[-1]
    [why] = taken(site.journal)
    assert said == f"{reply} (id {why.id})"
    assert (why.ruling.rule, why.ruling.reply) == (find_rule(reply), str(reply))
    assert (why.who.session_id, why.who.helo) == ("s1", "client.example.org")
    assert why.mail == Mail("a@example.org", ("b@example.net",))


async def test_a_sender_whose_domain_has_no_mail(site):
    said = (await site.talk(ENVELOPE[0], "MAIL FROM:<a@null.test>"))[-1]
    [why] = taken(site.journal)
    assert said == f"550 5.7.27 The sender's domain accepts no mail (id {why.id})"
    assert (why.ruling.stage, why.mail) == ("mail", Mail("a@null.test"))


async def test_a_defect_of_the_server(site):
    site.policy.error = ZeroDivisionError("oh")
    said = (await site.talk(*ENVELOPE))[-1]
    [why] = taken(site.journal)
    assert said == f"421 4.3.0 Internal error, closing connection (id {why.id})"
    assert (why.ruling.stage, why.ruling.rule) == ("rcpt", "defect")


async def test_without_a_journal_replies_are_as_they_are(site):
    around = site.listeners._surroundings("")
    around.journal = None
    assert (await site.talk(*ENVELOPE))[-1] == "550 5.7.1 Relaying denied"
