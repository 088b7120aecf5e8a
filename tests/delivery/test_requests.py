"""What a sender asked for, on its way to hosts that understand it, and their limits."""

import pytest
import trustme
from servers.jobs import post, summary, to_port

from elemta.delivery import TlsPolicy, Via
from elemta.mail.message import Facts, Requests
from elemta.testing.peer import OFFERS, Drop, Peer
from tests.delivery.test_tls import hop, server_context

ALL = (*OFFERS, "DSN", "DELIVERBY 30", "MT-PRIORITY MIXER", "REQUIRETLS")
ASKED = Requests(
    ret="HDRS",
    envid="a+2Bb",
    dsn={1: ("SUCCESS,DELAY", "rfc822;c+40d.test"), 2: ("NEVER", "")},
    deliver_by=1e12,
    by_mode="N",
    by_trace=True,
    mt_priority=-3,
)


async def send(peer: Peer, requests: Requests | None, *recipients: str):
    async with peer, post(to_port(peer.port)) as office:
        return await office.send(*recipients, facts=Facts(requests=requests))


def commands(peer: Peer, verb: str) -> list[str]:
    return [line for line in peer.commands if line.startswith(verb)]


class TestParameters:
    @pytest.mark.parametrize("pipelining", [True, False])
    async def test_passed_on_to_who_understands_them(self, pipelining):
        peer = Peer(offers=ALL if pipelining else ALL[1:])
        outcomes = await send(peer, ASKED, "a@b.test", "c@b.test", "d@b.test")
        [mail] = commands(peer, "MAIL")
        assert mail.endswith(" RET=HDRS ENVID=a+2Bb BY=999999999;NT MT-PRIORITY=-3")
        assert commands(peer, "RCPT") == [
            "RCPT TO:<a@b.test>",
            "RCPT TO:<c@b.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;c+40d.test",
            "RCPT TO:<d@b.test> NOTIFY=NEVER",
        ]
        assert all(outcome.notifies and outcome.keeps_deadline for outcome in outcomes)

    async def test_kept_from_who_does_not(self):
        peer = Peer()
        [_, outcome] = await send(peer, ASKED, "a@b.test", "c@b.test")
        assert not outcome.notifies
        assert not outcome.keeps_deadline
        assert commands(peer, "MAIL")[0].endswith(" SIZE=35")
        assert commands(peer, "RCPT")[1] == "RCPT TO:<c@b.test>"

    async def test_who_would_not_withdraw_it_in_time_does_not_get_it(self):
        peer, requests = Peer(), Requests(deliver_by=9e9, by_mode="R")
        outcomes = await send(peer, requests, "a@b.test", "c@b.test")
        assert summary(outcomes) == [("failed", "5.4.7")] * 2
        assert peer.contents == []

    async def test_an_address_beyond_ascii_needs_smtputf8(self):
        requests = Requests(dsn={0: ("", "utf-8;grün@b.test")})
        for offers, expected in ((ALL, " ORCPT=utf-8;grün@b.test"), ((*OFFERS[:3], "DSN"), "")):
            peer = Peer(offers=offers)
            await send(peer, requests, "a@b.test")
            assert commands(peer, "RCPT") == [f"RCPT TO:<a@b.test>{expected}"]

    async def test_a_deadline_that_returns_the_message_stays_positive(self):
        peer = Peer(offers=ALL)
        await send(peer, Requests(deliver_by=1.0, by_mode="R"))
        assert commands(peer, "MAIL")[0].endswith(" BY=1;R")


class TestLimits:
    async def test_recipients_of_a_transaction(self):
        peer = Peer(offers=(*OFFERS, "LIMITS RCPTMAX=2 X=y"))
        outcomes = await send(peer, None, *(f"u{n}@b.test" for n in range(3)))
        assert summary(outcomes) == [("delivered", "2.0.0")] * 2 + [("deferred", "4.5.3")]
        assert [outcome.retry_at_once for outcome in outcomes] == [False, False, True]

    async def test_domains_of_a_transaction(self):
        peer = Peer(offers=(*OFFERS, "LIMITS RCPTDOMAINMAX=1"))
        outcomes = await send(peer, None, "a@b.test", "a@c.test", "d@b.test")
        assert summary(outcomes)[1] == ("deferred", "4.5.3")
        assert commands(peer, "RCPT") == ["RCPT TO:<a@b.test>", "RCPT TO:<d@b.test>"]

    async def test_who_is_left_out_is_tried_at_once_though_others_are_refused(self):
        peer = Peer(
            {"rcpt": "550 5.1.1 no", "data": "554 no"}, offers=(*OFFERS, "LIMITS RCPTMAX=1")
        )
        outcomes = await send(peer, None, "a@b.test", "c@b.test")
        assert [outcome.retry_at_once for outcome in outcomes] == [False, True]

    async def test_messages_of_a_connection(self):
        peer = Peer(offers=(*OFFERS, "LIMITS MAILMAX=2"))
        async with peer, post(to_port(peer.port)) as office:
            for _ in range(3):
                await office.send()
        assert [len(session.contents) for session in peer.sessions] == [2, 1]

    @pytest.mark.parametrize("words", ["RCPTMAX", "RCPTMAX=0", "RCPTMAX=-1", "RCPTMAX=1234567"])
    async def test_what_is_no_limit(self, words):
        peer = Peer(offers=(*OFFERS, f"LIMITS {words}"))
        assert (
            summary(await send(peer, None, "a@b.test", "c@b.test")) == [("delivered", "2.0.0")] * 2
        )


class TestRequireTls:
    FACTS = Facts(requests=Requests(require_tls=True, tls_optional=True))

    async def test_with_a_host_that_is_who_it_says(self):
        peer = Peer(offers=ALL, tls=server_context())
        async with peer, hop(peer, TlsPolicy.NONE) as office:
            for _ in range(2):
                [outcome] = await office.send(facts=self.FACTS)
                assert (outcome.reply.enhanced, outcome.tls) == ("2.0.0", "TLSv1.3")
        assert all(line.endswith(" REQUIRETLS") for line in commands(peer, "MAIL"))
        assert len(peer.sessions) == 1

    async def test_no_connection_is_shared_with_mail_that_does_not_need_it(self):
        peer = Peer(offers=ALL, tls=server_context())
        async with peer, hop(peer, TlsPolicy.OPPORTUNISTIC) as office:
            await office.send()
            await office.send(facts=self.FACTS)
        assert len(peer.sessions) == 2

    @pytest.mark.parametrize("tls", [True, False])
    async def test_with_a_host_that_does_not_offer_it(self, tls):
        peer = Peer(tls=server_context() if tls else None)
        async with peer, hop(peer, TlsPolicy.OPPORTUNISTIC) as office:
            assert summary(await office.send(facts=self.FACTS)) == [("failed", "5.7.30")]
        assert peer.contents == []

    async def test_with_a_stranger_s_certificate(self):
        peer = Peer(offers=ALL, tls=server_context("hop.test", trustme.CA()))
        async with peer, hop(peer, TlsPolicy.OPPORTUNISTIC) as office:
            assert summary(await office.send(facts=self.FACTS)) == [("failed", "5.7.30")]
        assert peer.contents == []

    async def test_a_handshake_that_breaks_says_nothing_for_good(self):
        peer = Peer({"handshake": Drop()}, offers=ALL, tls=server_context())
        async with peer, hop(peer, TlsPolicy.OPPORTUNISTIC) as office:
            assert summary(await office.send(facts=self.FACTS)) == [("deferred", "4.7.5")]

    async def test_mailboxes_are_the_end_of_the_way(self):
        peer = Peer(lmtp=True)
        async with peer, post(to_port(peer.port, via=Via.LMTP)) as office:
            assert summary(await office.send(facts=self.FACTS)) == [("delivered", "2.0.0")]


class TestTlsOptional:
    async def test_delivery_matters_more(self):
        facts = Facts(requests=Requests(tls_optional=True))
        peer = Peer(tls=server_context("hop.test", trustme.CA()))
        async with peer, hop(peer, TlsPolicy.VERIFY) as office:
            assert summary(await office.send()) == [("deferred", "4.7.5")]
            assert summary(await office.send(facts=facts)) == [("delivered", "2.0.0")]
