"""Which target gets a message: the order, what is passed over, and what is left in the end."""

import asyncio
import ssl
from dataclasses import replace
from ipaddress import ip_network

import pytest
import trustme
from servers.jobs import DEFERRED, DELIVERED, FAILED, SETTINGS, Text, post, summary, to_port
from servers.process import free_port

from elemta.delivery import Route, Via
from elemta.delivery import mx as mx_module
from elemta.delivery.mx import Target
from elemta.mail.events import InternalError
from elemta.mail.message import Facts, Requests
from elemta.testing import FakeResolver
from elemta.testing.peer import OFFERS, Drop, Peer, Slow

ZONE = {
    "example.org": {"MX": [(10, "mx1.example.org"), (20, "mx2.example.org")]},
    "mx1.example.org": {"A": ["127.0.0.1"]},
    "mx2.example.org": {"A": ["127.0.0.1"]},
}


@pytest.fixture
def hosts(monkeypatch):
    """Let mail for a domain go to these peers, in this order: all on loopback, each by its port."""
    ports: list[int] = []

    async def targets(domain, resolver, settings, rng, port):
        return [Target(f"mx{i}.{domain}", "127.0.0.1", port) for i, port in enumerate(ports)]

    monkeypatch.setattr(mx_module, "targets", targets)
    return ports


PASSED_OVER = [
    {"greeting": "554 5.3.2 not today"},
    {"greeting": "421 4.3.2 busy"},
    {"greeting": "521 5.3.2 never"},
    {"greeting": Drop()},
    {"greeting": "hello?"},
    {"ehlo": "421 4.3.2 busy"},
    {"ehlo": "502 no", "helo": "550 5.7.1 bad name"},
    {"ehlo": Drop()},
    {"mail": Drop()},
    {"mail": Drop("421 4.3.2 closing")},
    {"mail": "what?"},
]


class TestOrder:
    @pytest.mark.parametrize("script", PASSED_OVER)
    async def test_the_next_target_after_one_that_takes_no_mail(self, hosts, script) -> None:
        async with Peer(script) as first, Peer() as second, post() as office:
            hosts += [first.port, second.port]
            [outcome] = await office.send()
        assert outcome.result is DELIVERED
        assert outcome.remote == "mx1.example.org"
        assert outcome.address == f"127.0.0.1:{second.port}"
        assert len(first.sessions) == 1
        assert not first.contents

    async def test_nobody_listens_there(self, hosts) -> None:
        async with Peer() as second, post() as office:
            hosts += [free_port(), second.port]
            assert summary(await office.send()) == [("delivered", "2.0.0")]

    @pytest.mark.parametrize(
        ("script", "result"),
        [
            ({"mail": "451 4.7.1 greylisted"}, DEFERRED),
            ({"mail": "550 5.7.1 no"}, FAILED),
            ({"rcpt": "550 5.1.1 no"}, FAILED),
            ({"rcpt": Drop("421 4.3.2 closing")}, DEFERRED),
            ({"data": Drop()}, DEFERRED),
            ({"dot": Drop()}, DEFERRED),
        ],
    )
    async def test_an_answer_at_mail_or_later_counts(self, hosts, script, result) -> None:
        async with Peer(script) as first, Peer() as second, post() as office:
            hosts += [first.port, second.port]
            [outcome] = await office.send()
        assert outcome.result is result
        assert outcome.remote == "mx0.example.org"
        assert not second.sessions

    @pytest.mark.parametrize(
        ("greetings", "expected"),
        [
            (["554 5.3.2 no", "554 5.3.2 no"], ("deferred", "4.3.2")),
            (["521 5.3.2 never", "521 5.3.2 never"], ("failed", "5.3.2")),
            (["521 5.3.2 never", "421 4.3.2 busy"], ("deferred", None)),
            (["421 4.3.2 busy", "521 5.3.2 never"], ("deferred", None)),
        ],
    )
    async def test_nobody_takes_it(self, hosts, greetings, expected) -> None:
        peers = [Peer({"greeting": greeting}) for greeting in greetings]
        async with peers[0], peers[1], post() as office:
            hosts += [peer.port for peer in peers]
            outcomes = await office.send("a@example.org", "b@example.org")
        result, enhanced = expected
        assert [outcome.result.value for outcome in outcomes] == [result] * 2
        if enhanced:
            assert outcomes[0].reply.enhanced == enhanced

    async def test_a_refusal_keeps_its_words(self) -> None:
        async with Peer({"greeting": "554 go away"}) as peer, post(to_port(peer.port)) as office:
            [outcome] = await office.send()
        assert outcome.result is DEFERRED
        assert outcome.reply.code == 451
        assert "554 go away" in outcome.reply.text

    async def test_at_most_so_many_targets(self, hosts) -> None:
        async with Peer({"greeting": "421 4.3.2 busy"}) as peer, post() as office:
            hosts += [peer.port] * 30
            await office.send()
        assert len(peer.sessions) == 10

    async def test_smtputf8_is_looked_for_at_other_targets(self, hosts) -> None:
        async with Peer(offers=("PIPELINING",)) as first, Peer() as second, post() as office:
            hosts += [first.port, second.port]
            outcomes = await office.send("bob@example.org", "grün@example.org")
        assert [outcome.result for outcome in outcomes] == [DELIVERED] * 2
        assert [outcome.remote for outcome in outcomes] == ["mx0.example.org", "mx1.example.org"]
        assert len(first.contents) == len(second.contents) == 1

    async def test_a_target_that_may_come_back_outweighs_one_that_lacks_smtputf8(
        self, hosts
    ) -> None:
        async with Peer(offers=("PIPELINING",)) as first, post() as office:
            hosts += [first.port, free_port()]
            assert summary(await office.send("grün@example.org")) == [("deferred", "4.4.1")]

    async def test_what_takes_the_content_as_it_is_goes_before_a_refusal(self, hosts) -> None:
        content = Text("Subject: Grüße\r\n\r\n".encode())
        async with Peer(offers=("PIPELINING",)) as first, Peer() as second, post() as office:
            hosts += [first.port, second.port]
            [outcome] = await office.send(content=content, facts=Facts(has_8bit=True))
        assert (outcome.result, outcome.remote) == (DELIVERED, "mx1.example.org")

    async def test_requiretls_is_looked_for_at_other_targets(self, hosts) -> None:
        authority = trustme.CA()

        def context(name: str) -> ssl.SSLContext:
            found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert(name).configure_cert(found)
            return found

        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        offers = (*OFFERS, "REQUIRETLS")
        plain, old = Peer(), Peer(tls=context("mx1.example.org"))
        good = Peer(tls=context("mx2.example.org"), offers=offers)
        facts = Facts(requests=Requests(require_tls=True))
        async with plain, old, good, post(authority=trusting) as office:
            hosts += [plain.port, old.port]
            assert summary(await office.send(facts=facts)) == [("failed", "5.7.30")]
            hosts.append(good.port)
            [outcome] = await office.send(facts=facts)
        assert (outcome.result, outcome.remote) == (DELIVERED, "mx2.example.org")
        assert plain.contents == old.contents == []

    async def test_helo_for_old_hosts(self) -> None:
        script = {"ehlo": "502 5.5.1 what?"}
        async with Peer(script) as peer, post(to_port(peer.port)) as office:
            assert summary(await office.send()) == [("delivered", "2.0.0")]
        assert peer.commands[:3] == ["EHLO me.test", "HELO me.test", "MAIL FROM:<ann@example.test>"]


class TestNames:
    async def test_a_fixed_host_by_name(self) -> None:
        zone = {"hop.test": {"A": ["127.0.0.1"]}}
        async with Peer() as peer, post(to_port(peer.port, host="hop.test"), zone=zone) as office:
            [outcome] = await office.send()
        assert outcome.result is DELIVERED
        assert outcome.remote == "hop.test"
        assert outcome.address == f"127.0.0.1:{peer.port}"

    @pytest.mark.parametrize("zone", [{}, {"hop.test": {}}, {"hop.test": None}])
    async def test_a_fixed_host_without_address(self, zone) -> None:
        async with post(to_port(25, host="hop.test"), zone=zone) as office:
            assert summary(await office.send()) == [("deferred", "4.4.3")]

    @pytest.mark.parametrize(
        ("zone", "expected"),
        [
            ({}, ("failed", "5.1.2")),
            ({"example.org": {"MX": [(0, ".")]}}, ("failed", "5.1.10")),
            ({"example.org": None}, ("deferred", "4.4.3")),
        ],
    )
    async def test_what_the_dns_says_of_a_domain(self, zone, expected) -> None:
        async with post(zone=zone) as office:
            assert summary(await office.send()) == [expected]

    async def test_mail_exchangers_are_asked_for(self) -> None:
        """The real look-up, its hosts prohibited so that nobody is called."""
        settings = replace(SETTINGS, prohibited_networks=(ip_network("127.0.0.0/8"),))
        async with post(settings=settings, zone=ZONE) as office:
            assert summary(await office.send()) == [("failed", "5.4.4")]


class TestGuard:
    async def test_a_defect_defers_and_is_reported(self, monkeypatch) -> None:
        async def broken(self, domain):
            raise ZeroDivisionError("what?")

        monkeypatch.setattr(FakeResolver, "mx", broken)
        async with post() as office:
            outcomes = await office.send("a@example.org", "b@example.org")
        assert summary(outcomes) == [("deferred", "4.3.0")] * 2
        [event] = office.events
        assert isinstance(event, InternalError)
        assert event.error == "ZeroDivisionError: what?"
        assert event.queue_id == "0000000000000"

    async def test_cancelled_in_the_middle(self) -> None:
        """At a stop: the connection is cut, and nothing was ended by a dot."""
        peer = Peer({"rcpt": Slow(asyncio.Event(), "250 ok")})
        async with peer, post(to_port(peer.port)) as office:
            sending = asyncio.ensure_future(office.send())
            while "DATA" not in peer.commands and len(peer.commands) < 3:
                await asyncio.sleep(0)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            assert office.delivery.pool.in_use == office.delivery.pool.idle == 0
        assert not peer.contents


class TestOtherRoutes:
    async def test_discard(self) -> None:
        async with post(Route(("*",), Via.DISCARD)) as office:
            [outcome] = await office.send()
        assert outcome.result is DELIVERED
        assert outcome.method == "discard"

    async def test_maildir(self, tmp_path) -> None:
        route = Route(("*",), Via.MAILDIR, path=f"{tmp_path}/{{domain}}/{{local}}")
        async with post(route) as office:
            [outcome] = await office.send()
        assert outcome.result is DELIVERED
        assert len(list(tmp_path.glob("example.org/bob/new/*"))) == 1


async def test_new_settings(tmp_path) -> None:
    async with Peer() as first, Peer() as second, post(to_port(first.port)) as office:
        await office.send()
        office.delivery.apply([to_port(second.port)], SETTINGS)
        await office.send()
    assert len(first.contents) == len(second.contents) == 1
    assert first.sessions[0].verbs()[-1] == "QUIT"
