"""Submission without a session: authors, what is mended, locks, allowances, the pickup folder."""

import asyncio
import os
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from server.test_transaction import AT, Draft, Intake

from elemta.accounts import Account
from elemta.mail import events as ev
from elemta.mail import parse_address
from elemta.mail.errors import SpoolError
from elemta.mail.headers import find_field, iter_fields
from elemta.server import Client, SessionSettings, Transaction
from elemta.server.limits import Counters, Quotas
from elemta.server.submission import (
    Allowance,
    Allowances,
    Desk,
    FixSettings,
    LocalUsers,
    Locks,
    SubmissionSettings,
    Submitter,
)
from elemta.server.submission.allowances import LOCKED, UNKNOWN, WAIT, Sending
from elemta.server.submission.authors import judge_authors
from elemta.server.submission.fixes import Facts, end_at_body, mend
from elemta.server.submission.pickup import (
    MODE,
    Envelope,
    PickupError,
    done,
    find_left,
    leave,
    make_pickup,
    opened,
    put_aside,
)
from elemta.server.submission.submitter import Origin, hide
from elemta.smtp.events import Mail
from elemta.testing import FakeClock

ANN = Account("ann@example.test")
ANN_ADDRESS = parse_address("ann@example.test")
FACTS = Facts(ANN_ADDRESS, "id@mx.example.test", "Sat, 21 Nov 2026 14:00:00 +0000", utf8=False)
BOB = parse_address("bob@example.test")


class TestAuthors:
    """More forms than the running server is asked about."""

    @pytest.mark.parametrize(
        "section",
        [
            b"From: ann@example.test\r\n\r\n",
            b"From: Ann <ANN@Example.Test>\r\n\r\n",
            b"From: ann@example.test (Ann)\r\n\r\n",
            b'From: "you@example.org" <ann@example.test>\r\n\r\n',
            b"From: ann@example.test\r\nSender: Ann <ann@example.test>\r\n\r\n",
            b"Reply-To: you@example.org\r\nFrom: ann@example.test\r\n\r\n",
            b"Subject: nobody says\r\n\r\n",
            b"From: ann@example.test\r\n\r\nFrom: you@example.org\r\n",
        ],
    )
    def test_her_own(self, section):
        assert judge_authors(ANN, section, ANN_ADDRESS, utf8=False) is None

    @pytest.mark.parametrize(
        "section",
        [
            b"From: you@example.org",
            b"From:\r\n you@example.org\r\n\r\n",
            b"From: ann@example.test\r\nfrom\t: you@example.org\r\n\r\n",
            b"From: ann@example.test\r\n , you@example.org\r\nSender: ann@example.test\r\n\r\n",
            b"From: ann@example.test\r\n\t\r\nFrom: you@example.org\r\n\r\n",
            b"From: ann@example.test\x00you@example.org\r\n\r\n",
            b"From: ann@example.test\nFrom: you@example.org\r\n\r\n",
            b"From: \xe2\x80\xa8you@example.org, ann@example.test\r\n\r\n",
            "From: änn@example.test\r\n\r\n".encode(),
            b"no field\r\nFrom: you@example.org\r\n\r\n",
            b"From: ann@example.test.\r\nSender:\r\n\r\n",
        ],
    )
    def test_not_hers(self, section):
        reply = judge_authors(ANN, section, ANN_ADDRESS, utf8=False)
        assert reply is not None
        assert reply.is_permanent

    @pytest.mark.parametrize(
        ("field", "is_report"),
        [
            (b"multipart/report; report-type=delivery-status; boundary=x", True),
            (
                b'Multipart/Report; boundary="a;b";\r\n\treport-type="disposition-notification"',
                True,
            ),
            (b"multipart/report; boundary=x", False),
            (b"multipart/report; report-type=feedback-report", False),
            (b"multipart/mixed; report-type=delivery-status", False),
            (b"text/plain; x=multipart/report; report-type=delivery-status", False),
        ],
    )
    def test_reports(self, field, is_report):
        section = b"From: ann@example.test\r\nContent-Type: " + field + b"\r\n\r\n"
        assert (judge_authors(ANN, section, None, utf8=False) is None) == is_report
        double = section.replace(b"\r\n\r\n", b"\r\nContent-Type: text/plain\r\n\r\n")
        assert judge_authors(ANN, double, None, utf8=False) is not None

    def test_a_hostile_type_takes_no_time(self):
        field = b"Content-Type: multipart/report" + b"; report-type =  " * 20_000
        assert judge_authors(ANN, field + b"\r\n\r\n", None, utf8=False) is not None


class TestMending:
    def test_everything(self):
        section = b"X: 1\r\n\t2\r\nBCC: a@b.test\r\nResent-Bcc: c@d.test\r\nx:3\r\n\r\n"
        found = mend(section, FixSettings(), FACTS)
        assert found.section == (
            b"Date: Sat, 21 Nov 2026 14:00:00 +0000\r\nFrom: <ann@example.test>\r\n"
            b"Message-ID: <id@mx.example.test>\r\nX: 1\r\n\t2\r\nx:3\r\n\r\n"
        )
        assert found.changes == (
            *("remove Bcc", "remove Resent-Bcc", "add Date", "add From", "add Message-ID"),
        )

    def test_nothing(self):
        settings = FixSettings(*["accept"] * 5)
        for section in (b"Bcc: x@y.test\r\n\r\n", b"", b"\r\n", b"no field\r\n"):
            assert mend(section, settings, FACTS).section == section
            assert end_at_body(section, "accept").section == section

    def test_from_takes_an_address_that_can_be_written(self):
        for author in (None, parse_address("änn@example.test")):
            found = mend(b"\r\n", FixSettings(), replace(FACTS, author=author))
            assert found.fault is not None
        wide = replace(FACTS, author=parse_address("änn@example.test"), utf8=True)
        assert "From: <änn@".encode() in mend(b"\r\n", FixSettings(), wide).section

    @given(st.lists(st.sampled_from([b"A: 1", b" fold", b"junk", b"From: x@y", b"Bcc: z"])))
    def test_readers_agree_on_what_is_a_field(self, lines):
        section = b"".join(line + b"\r\n" for line in lines) + b"\r\n"
        found = end_at_body(section, "fix")
        mended = mend(found.section, FixSettings(), FACTS)
        whole = mended.section + found.body
        assert b"\r\n\r\n" in b"\r\n" + whole
        head = whole.partition(b"\r\n\r\n")[0]
        assert all(re.match(rb"[!-9;-~]+:|[ \t]", line) for line in head.split(b"\r\n"))
        assert b"bcc" not in {name for name, _ in iter_fields(mended.section)}
        assert found.section.removesuffix(b"\r\n") + found.body in {section, section + b"\r\n"} or (
            found.section == section
        )


class Office:
    """Allowances with a clock of their own, and what they said."""

    def __init__(self, folder, **settings) -> None:
        self.clock = FakeClock()
        self.counters = Counters(2)
        self.events: list[ev.Event] = []
        self.held: list[str] = []
        self.locks = Locks(folder)
        self.settings = SubmissionSettings(**settings)
        self.allowances = self.open()

    def open(self) -> Allowances:
        quotas = Quotas(self.counters, self.clock)
        return Allowances(
            self.settings, quotas, self.locks, self.clock, self.events.append, self.hold
        )

    async def hold(self, login: str, why: str) -> None:
        self.held.append(f"{login}: {why}")

    async def take(self, login="ann", *to: str, octets=100, address="192.0.2.1"):
        recipients = [parse_address(each) for each in to or ("a@x.test",)]
        return await self.allowances.take(
            Sending(login, address, "s1", "submission", recipients, octets)
        )


@pytest.fixture
def office(tmp_path):
    offices = []

    def make(**settings) -> Office:
        offices.append(Office(tmp_path, **settings))
        return offices[-1]

    yield make
    for each in offices:
        each.counters.close()


class TestAllowances:
    @pytest.mark.parametrize(
        ("allowance", "messages"),
        [
            (Allowance(messages=(2, 0)), [{}, {}, {}]),
            (Allowance(messages=(0, 2)), [{}, {}, {}]),
            (Allowance(recipients=(3, 0)), [{"to": 2}, {"to": 2}]),
            (Allowance(recipients=(0, 3)), [{"to": 2}, {"to": 2}]),
            (Allowance(octets=(250, 0)), [{}, {"octets": 151}]),
            (Allowance(octets=(0, 250)), [{}, {"octets": 151}]),
            (Allowance(new_recipients=1), [{}, {"to": 2}]),
            (Allowance(addresses=1), [{}, {"address": "192.0.2.2"}]),
        ],
    )
    async def test_soft_and_hard(self, office, allowance, messages):
        for limit, refusal in (("soft", WAIT), ("hard", LOCKED)):
            place = office(**{limit: allowance})
            login = f"ann-{limit}"
            said = []
            for message in messages:
                to = [f"r{number}@x.test" for number in range(message.pop("to", 1))]
                said.append(await place.take(login, *to, **message))
                message["to"] = len(to)
            assert said == [None] * (len(messages) - 1) + [refusal]
            assert len(place.held) == (limit == "hard")
            assert [type(each) for each in place.events] == [
                ev.LimitReached if limit == "soft" else ev.LoginLocked
            ]

    async def test_what_waits_goes_an_hour_later(self, office):
        place = office(soft=Allowance(messages=(1, 0)))
        assert await place.take() is None
        assert await place.take() is WAIT
        place.clock.advance(2 * 3600)
        assert await place.take() is None

    async def test_a_release_is_a_new_beginning(self, office):
        place = office(hard=Allowance(messages=(1, 0)))
        other = place.open()  # of another worker
        assert [await place.take() for _ in range(3)] == [None, LOCKED, LOCKED]
        assert other.find_objection("ann") is LOCKED
        assert len(place.held) == len(place.events) == 1
        assert place.locks.release("ann", "root", place.clock.now())
        assert other.find_objection("ann") is None
        assert [await place.take() for _ in range(2)] == [None, LOCKED]
        assert place.locks.find("ann").times == 2

    async def test_workers_that_lock_at_once_tell_it_once(self, office):
        place = office(hard=Allowance(messages=(1, 0)))
        await asyncio.gather(*(place.take() for _ in range(20)))
        assert len(place.held) == len(place.events) == 1

    async def test_exempt_logins(self, office):
        place = office(hard=Allowance(messages=(1, 0)), exempt=frozenset({"ann"}))
        assert [await place.take() for _ in range(3)] == [None] * 3

    async def test_a_lock_that_cannot_be_read_lets_nobody_send(self, office, tmp_path):
        place = office(hard=Allowance(messages=(1, 0)))
        await place.take()
        await place.take()
        [file] = (tmp_path / "locks").glob("*.json")
        file.write_bytes(b"{")
        os.utime(file, (1, 1))
        assert place.allowances.find_objection("ann") is UNKNOWN
        assert await place.take() is UNKNOWN
        with pytest.raises(SpoolError):
            place.locks.find("ann")
        assert list(place.locks.all()) == []
        assert place.allowances.find_objection("bob") is None


class TestTransaction:
    """Content of a submitted message, however it is cut."""

    CONTENT = (
        b"X: 1\r\nBcc: y@example.test\r\n z\r\nFrom: ann@example.test\r\n\r\nbody\r\n\r\nmore\r\n"
    )

    def transaction(self, office, intake, sender=ANN_ADDRESS) -> Transaction:
        desk = Desk(
            "mx.example.test", office.settings, office.allowances, b"k", office.events.append
        )
        submitter = Submitter(desk, ANN, Origin("s1", "192.0.2.1", "submission", True))
        client = Client(
            "s1", "192.0.2.1", True, "me", "ESMTPA", login=ANN.name, submitter=submitter
        )
        made = Transaction(Mail(sender), client, intake, SessionSettings("mx.example.test"))
        made.take_recipient(BOB)
        assert made.begin_data(AT) is None
        return made

    async def test_split_at_every_octet(self, office):
        place = office()
        seen = set()
        for cut in range(len(self.CONTENT) + 1):
            intake = Intake()
            made = self.transaction(place, intake)
            for piece in (self.CONTENT[:cut], self.CONTENT[cut:]):
                made.add(piece)
            message = await made.finish()
            content = bytes(intake.draft_made.content)
            seen.add(content)
            head = content.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
            assert message.facts.header_size == len(head)
        [content] = seen
        assert content.endswith(b">\r\nX: 1\r\nFrom: ann@example.test\r\n\r\nbody\r\n\r\nmore\r\n")

    @pytest.mark.parametrize(
        "content", [b"", b"\r\n", b"body\r\n", b"Subject: x\r\n", b"\r\nbody\r\n"]
    )
    async def test_without_a_header_section_or_a_body(self, office, content):
        intake = Intake()
        made = self.transaction(office(), intake)
        if content:
            made.add(content)
        await made.finish()
        there = bytes(intake.draft_made.content)
        assert find_field(there, b"from") == b" <ann@example.test>"
        assert there.endswith(content)
        assert (b"\r\n\r\n" in there) == (b"ody" in content or content == b"\r\n")

    async def test_refused_in_the_header_section_nothing_is_kept(self, office):
        intake = Intake()
        made = self.transaction(office(), intake)
        made.add(b"From: you@example.org\r\n\r\n")
        made.add(b"more")
        reply = await made.finish()
        assert (reply.code, reply.enhanced) == (553, "5.7.1")
        assert intake.draft_made.is_discarded
        assert b"you@" not in intake.draft_made.content

    async def test_over_the_limit_nothing_is_kept(self, office):
        place = office(soft=Allowance(messages=(1, 0)))
        for expected in (None, WAIT):
            intake = Intake(draft_made=Draft())
            made = self.transaction(place, intake)
            made.add(self.CONTENT)
            result = await made.finish()
            assert (result is WAIT) == (expected is WAIT) == intake.draft_made.is_discarded


class TestPickup:
    @pytest.fixture
    def folder(self, tmp_path):
        made = tmp_path / "pickup"
        make_pickup(made)
        return made

    def test_a_message_comes_back(self, folder):
        assert folder.stat().st_mode & 0o7777 == MODE
        envelope = Envelope("a@x.test", ("b@y.test",), notify="NEVER", ret="HDRS", envid="x")
        leave(folder, envelope, b"hello\r\n")
        [name] = find_left(folder)
        with opened(folder, name, 100) as left:
            assert (left.envelope, left.uid) == (envelope, os.getuid())
            assert os.read(left.fd, 100) == b"hello\r\n"
            with opened(folder, name, 100) as other:  # of another process
                assert other is None
        done(folder, name)
        assert find_left(folder) == []
        with opened(folder, name, 100) as gone:
            assert gone is None

    def test_what_is_put_aside_is_not_found_again(self, folder):
        leave(folder, Envelope("", ("b@y.test",)), b"")
        [name] = find_left(folder)
        put_aside(folder, name)
        assert find_left(folder) == []
        assert [path.name for path in folder.iterdir()] == [f"refused-{name}"]

    def test_no_links_and_nothing_too_large(self, folder, tmp_path):
        leave(folder, Envelope("", ("b@y.test",)), b"x" * 1_100_000)
        [name] = find_left(folder)
        with pytest.raises(PickupError, match="larger"), opened(folder, name, 10):
            pass
        os.link(folder / name, tmp_path / "link")
        with pytest.raises(PickupError, match="left here"), opened(folder, name, 10_000_000):
            pass


def test_users_of_this_machine():
    users = LocalUsers("example.test", frozenset({"root"}))
    root, nobody = users.account_of(0), users.account_of(2**31 - 7)
    assert (root.name, root.may_send_as_anyone) == ("unix:root", True)
    assert nobody.name == f"unix:uid{2**31 - 7}"
    assert nobody.may_send_as(parse_address(f"uid{2**31 - 7}@example.test"))
    assert not nobody.may_send_as(parse_address("root@example.test"))


def test_ids_that_stand_for_sessions():
    assert hide(b"k", "s1") == hide(b"k", "s1")
    assert len({hide(b"k", "s1"), hide(b"k", "s2"), hide(b"j", "s1"), ""}) == 4
