"""What a sender asks for by parameters: deadlines, release times, order, notifications."""

import email
from dataclasses import replace

import msgspec
import pytest
from shards import ANN, CONTENT, DEFERRED, DELIVERED, FAILED, SETTINGS, VERIFIED, Station, until

from elemta.mail import events as ev
from elemta.mail.dsn import decode_xtext
from elemta.mail.errors import SpoolError
from elemta.mail.message import Facts, Priority, Requests, State
from elemta.queue.admin import Order, Verb
from elemta.queue.requests import class_of
from elemta.queue.settings import BounceUnverified, PriorityRule
from elemta.queue.store import Filter

LOCAL = replace(DELIVERED, method="lmtp")
WIDE = "Subject: Grüße\r\n\r\nKöln\r\n".encode()


def asked(facts: Facts = VERIFIED, **requests) -> Facts:
    return msgspec.structs.replace(facts, requests=Requests(**requests))


@pytest.fixture
async def station(tmp_path):
    async with Station(tmp_path) as station:
        yield station


async def told(station: Station) -> list[bytes]:
    """The notifications that were delivered."""
    await station.calm()
    jobs = zip(station.courier.jobs, station.courier.contents, strict=True)
    return [content for job, content in jobs if job.message.sender is None]


def report(raw: bytes) -> tuple[str, dict[str, str]]:
    """Action and fields of the one recipient of a notification."""
    _, status, *_ = email.message_from_bytes(raw).get_payload()
    about, recipient = status.get_payload()
    return recipient["Action"], dict(about.items()) | dict(recipient.items())


class TestDeadline:
    async def test_the_message_is_returned_when_it_passes(self, station):
        station.courier.by_local["bob"] = [DEFERRED]
        now = station.clock.now()
        message = await station.submit("bob@x.test", facts=asked(deliver_by=now + 100, by_mode="R"))
        await station.calm()
        await station.pass_time(60)
        tried = station.courier.tried
        await until(lambda: tried.count("bob@x.test") == 2, "the second attempt")
        await station.calm()
        assert (await station.recipient(message)).next_at == now + 100
        await station.pass_time(40)
        assert await station.states(message) == {}
        action, fields = report((await told(station))[0])
        assert (action, fields["Status"]) == ("failed", "5.4.7")
        assert station.courier.tried.count("bob@x.test") == 2  # none after the deadline

    async def test_what_was_not_tried_in_time_is_not_tried_any_more(self, station):
        facts = asked(deliver_by=station.clock.now() - 1, by_mode="R")
        await station.submit("bob@x.test", facts=facts)
        await until(lambda: station.of(ev.MessageBounced))
        assert "bob@x.test" not in station.courier.tried

    async def test_the_sender_hears_of_it_once_and_delivery_goes_on(self, tmp_path):
        settings = replace(SETTINGS, delay_warnings=())
        async with Station(tmp_path, settings) as station:
            station.courier.by_local["bob"] = [DEFERRED]
            now = station.clock.now()
            facts = asked(deliver_by=now + 100, by_mode="N")
            message = await station.submit("bob@x.test", facts=facts)
            await station.calm()
            await station.pass_time(60)
            assert await told(station) == []
            await station.pass_time(40)
            [raw] = await told(station)
            assert report(raw)[0] == "delayed"
            for _ in range(3):
                await station.pass_time(3600)
            assert len(await told(station)) == 1
            assert await station.states(message) == {0: State.DEFERRED}

    async def test_strangers_are_not_told(self, station):
        station.courier.by_local["bob"] = [DEFERRED]
        facts = asked(Facts(), deliver_by=station.clock.now() + 100, by_mode="N")
        await station.submit("bob@x.test", facts=facts)
        await station.calm()
        await station.pass_time(60)
        await station.pass_time(40)
        assert await told(station) == []


class TestNotBefore:
    async def test_it_waits(self, station):
        facts = asked(not_before=station.clock.now() + 7 * 86400)
        station.courier.held_domains = {"held.test"}
        message = await station.submit("bob@x.test", "eve@held.test", facts=facts)
        assert await station.states(message) == {0: State.SCHEDULED, 1: State.HOLD}
        await station.pass_time(7 * 86400 - 1)
        assert station.courier.tried == []
        station.courier.by_local["bob"] = [DEFERRED, DELIVERED]
        await station.pass_time(1)
        assert station.courier.tried == ["bob@x.test"]
        await station.pass_time(60)  # though it is older than messages may get
        assert station.courier.tried == ["bob@x.test"] * 2
        assert len(station.of(ev.MessageDelivered)) == 1

    async def test_over_a_restart(self, station):
        facts = asked(not_before=station.clock.now() + 1000)
        await station.submit("bob@x.test", facts=facts)
        await station.stop()
        await station.start()
        await station.pass_time(999)
        assert station.courier.tried == []
        await station.pass_time(1)
        await until(lambda: station.courier.tried == ["bob@x.test"], "the attempt")

    @pytest.mark.parametrize(("verb", "tried"), [(Verb.RELEASE, 1), (Verb.DELETE, 0)])
    async def test_an_operator_may_let_it_go_or_delete_it(self, station, verb, tried):
        facts = asked(not_before=station.clock.now() + 1000)
        message = await station.submit("bob@x.test", facts=facts)
        order = Order(verb, Filter(ids=(message.queue_id,)))
        assert await station.shard.apply_order(order) == 1
        await station.empty()
        assert len(station.courier.tried) == tried

    async def test_an_instant_that_has_passed(self, station):
        await station.submit("bob@x.test", facts=asked(not_before=station.clock.now() - 1))
        await station.empty()
        assert station.courier.tried == ["bob@x.test"]


class TestPriority:
    @pytest.mark.parametrize(
        ("asked_for", "expected"),
        [
            (None, Priority.NORMAL),
            (0, Priority.NORMAL),
            (9, Priority.CRITICAL),
            (5, Priority.CRITICAL),
            (4, Priority.HIGH),
            (1, Priority.HIGH),
            (-1, Priority.LOW),
            (-5, Priority.LOW),
            (-6, Priority.BULK),
            (-9, Priority.BULK),
        ],
    )
    def test_classes(self, asked_for, expected):
        assert class_of(Requests(mt_priority=asked_for)) is expected

    async def test_rules_of_the_operator_outweigh_it(self, tmp_path):
        rule = PriorityRule(Priority.LOW, domains=("x.test",))
        async with Station(tmp_path, replace(SETTINGS, priorities=(rule,))) as station:
            facts = asked(mt_priority=9)
            messages = [await station.submit(f"bob@{name}.test", facts=facts) for name in "xy"]
        assert [each.priority for each in messages] == [Priority.LOW, Priority.CRITICAL]


class TestNotify:
    @pytest.mark.parametrize("notify", ["NEVER", "SUCCESS", "DELAY", "SUCCESS,DELAY"])
    async def test_failures_that_nobody_wants_to_hear_of(self, station, notify):
        station.courier.by_local["bob"] = [FAILED]
        await station.submit("bob@x.test", facts=asked(dsn={0: (notify, "")}))
        await station.empty()
        assert await told(station) == []
        [event] = station.of(ev.MessageBounced)
        assert event.notification == "not wanted by the sender"

    async def test_only_of_those_it_is_wanted_of(self, station):
        station.courier.by_local |= {"bob": [FAILED], "eve": [FAILED]}
        dsn = {0: ("NEVER", ""), 1: ("FAILURE", "rfc822;e+2Bve@old.test")}
        await station.submit("bob@x.test", "eve@x.test", facts=asked(dsn=dsn, envid="id+3D1"))
        await until(lambda: len(station.courier.contents) == 2)
        _, fields = report((await told(station))[0])
        assert fields["Final-Recipient"] == "rfc822; eve@x.test"
        assert fields["Original-Recipient"] == "rfc822; e+ve@old.test"
        assert fields["Original-Envelope-Id"] == "id=1"

    @pytest.mark.parametrize(("outcome", "action"), [(LOCAL, "delivered"), (DELIVERED, "relayed")])
    async def test_success(self, station, outcome, action):
        station.courier.by_local |= {"bob": [outcome], "eve": [outcome]}
        facts = asked(dsn={0: ("SUCCESS", ""), 1: ("FAILURE", "")})
        await station.submit("bob@x.test", "eve@x.test", facts=facts)
        await until(lambda: len(station.courier.contents) == 2)
        found, fields = report((await told(station))[0])
        assert (found, fields["Status"]) == (action, "2.0.0")
        assert fields["Final-Recipient"] == "rfc822; bob@x.test"

    @pytest.mark.parametrize(
        ("outcome", "count"),
        [(DELIVERED, 1), (replace(DELIVERED, keeps_deadline=True), 0), (LOCAL, 0)],
    )
    async def test_the_trace_of_a_deadline(self, station, outcome, count):
        """It tells of a host that does not know of deadlines, if only that is asked for."""
        station.courier.by_local["bob"] = [outcome]
        requests = {"deliver_by": station.clock.now() + 99, "by_mode": "N", "by_trace": True}
        await station.submit("bob@x.test", facts=asked(**requests))
        await station.empty()
        found = await told(station)
        assert [report(raw)[0] for raw in found] == ["relayed"] * count
        await station.submit("bob@x.test", facts=asked(dsn={0: ("NEVER", "")}, **requests))
        await station.empty()
        assert len(await told(station)) == count

    async def test_no_success_where_the_next_host_tells(self, station):
        station.courier.by_local["bob"] = [replace(DELIVERED, notifies=True)]
        await station.submit("bob@x.test", facts=asked(dsn={0: ("SUCCESS", "")}))
        await station.empty()
        assert await told(station) == []

    async def test_strangers_hear_of_success_only_where_the_operator_says_so(self, tmp_path):
        for mode, count in ((BounceUnverified.KEEP, 0), (BounceUnverified.SEND, 1)):
            settings = replace(SETTINGS, bounce_unverified=mode)
            async with Station(tmp_path / mode, settings) as station:
                facts = asked(Facts(), dsn={0: ("SUCCESS", "")})
                await station.submit("bob@x.test", facts=facts)
                await station.empty()
                assert len(await told(station)) == count

    async def test_nobody_is_told_about_notifications(self, station):
        station.courier.by_local |= {"bob": [FAILED], "eve": [DELIVERED]}
        dsn = {0: ("NEVER", ""), 1: ("SUCCESS", "")}
        message = await station.submit(
            "bob@x.test", "eve@x.test", sender=None, facts=asked(dsn=dsn)
        )
        await until(lambda: station.of(ev.MessageBounced))
        await station.calm()
        assert await station.states(message) == {0: State.FAILED}
        assert len(station.courier.jobs) == 1

    async def test_a_full_disk_does_not_hide_a_delivery(self, station, monkeypatch):
        """Who has the message must not get it again for want of a notification."""

        def no_room() -> None:
            raise SpoolError("the disk is full")

        station.courier.gate.clear()
        message = await station.submit("bob@x.test", facts=asked(dsn={0: ("SUCCESS", "")}))
        await until(lambda: station.courier.jobs)
        monkeypatch.setattr(station.spool, "draft", no_room)
        station.courier.gate.set()
        await station.empty()
        assert await station.states(message) == {}
        assert station.courier.tried == ["bob@x.test"]

    @pytest.mark.parametrize(
        ("notify", "count"), [("", 1), ("DELAY", 1), ("NEVER", 0), ("FAILURE", 0)]
    )
    async def test_delays(self, station, notify, count):
        station.courier.by_local["bob"] = [DEFERRED]
        await station.submit("bob@x.test", facts=asked(dsn={0: (notify, "")}))
        await station.calm()
        for _ in range(6):
            await station.pass_time(3600)
        assert len(await told(station)) == count

    @pytest.mark.parametrize(("notify", "count"), [("", 0), ("DELAY,FAILURE", 1)])
    async def test_senders_elsewhere_hear_of_delays_when_they_ask(self, station, notify, count):
        station.courier.by_local["bob"] = [DEFERRED]
        sender = replace(ANN, domain="far.test")
        facts = asked(dsn={0: (notify, "")})
        await station.submit("bob@x.test", sender=sender, facts=facts)
        await station.calm()
        for _ in range(6):
            await station.pass_time(3600)
        assert len(await told(station)) == count


class TestReturned:
    async def fail(self, station: Station, facts: Facts, content: bytes = CONTENT):
        station.courier.by_local["bob"] = [FAILED]
        await station.submit("bob@x.test", facts=facts, content=content)
        await until(lambda: len(station.courier.contents) == 2)
        [raw] = await told(station)
        *_, returned = email.message_from_bytes(raw).get_payload()
        return returned, station.courier.jobs[-1].message.facts, raw

    @pytest.mark.parametrize("size", [0, 3_000_000])
    async def test_all_of_it(self, tmp_path, size):
        content = CONTENT + b"x" * 70 + b"\r\n" + b"y" * size + b"\r\n"
        async with Station(tmp_path, replace(SETTINGS, returned_size=4_000_000)) as station:
            returned, _, raw = await self.fail(station, asked(ret="FULL"), content)
        assert returned.get_content_type() == "message/rfc822"
        assert content in raw
        assert raw.endswith(b"--\r\n")

    async def test_8_bit_content(self, station):
        facts = msgspec.structs.replace(VERIFIED, has_8bit=True)
        returned, about, raw = await self.fail(station, asked(facts, ret="FULL"), WIDE)
        assert returned["Content-Transfer-Encoding"] == "8bit"
        assert WIDE in raw
        assert (about.has_8bit, about.body, about.smtputf8) == (True, "8BITMIME", False)

    async def test_an_internationalised_message(self, station):
        facts = msgspec.structs.replace(VERIFIED, has_8bit=True, smtputf8=True)
        returned, about, _ = await self.fail(station, asked(facts, ret="FULL"), WIDE)
        assert returned.get_content_type() == "message/global"
        assert about.smtputf8

    @pytest.mark.parametrize(
        "facts",
        [
            asked(ret="HDRS"),
            asked(),
            asked(ret="FULL", require_tls=True),
            asked(msgspec.structs.replace(VERIFIED, body="BINARYMIME"), ret="FULL"),
        ],
    )
    async def test_only_the_header_section(self, station, facts):
        returned, _, raw = await self.fail(station, facts)
        assert returned.get_content_type() == "text/rfc822-headers"
        assert b"Hello." not in raw

    async def test_what_is_too_large(self, tmp_path):
        async with Station(tmp_path, replace(SETTINGS, returned_size=10)) as station:
            returned, _, _ = await self.fail(station, asked(ret="FULL"))
        assert returned.get_content_type() == "text/rfc822-headers"

    async def test_tls_is_demanded_of_the_notification_too(self, station):
        _, about, _ = await self.fail(station, asked(ret="FULL", require_tls=True))
        assert about.requests == Requests(require_tls=True)


def test_xtext():
    assert decode_xtext("a+2Bb+3D") == "a+b="
    assert decode_xtext("a+zz+2b") == "a+zz+2b"
