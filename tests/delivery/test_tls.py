"""STARTTLS to next hops: used where it works, demanded where the route says so, never tricked."""

import asyncio
import datetime
import ssl
from dataclasses import replace

import pytest
import trustme
from servers.jobs import SETTINGS, post, summary, to_port, until

from elemta.delivery import Target, TlsPolicy, opening
from elemta.mail.address import parse_address
from elemta.mail.events import SecurityEvent
from elemta.net.tls import unverified_context, verified_context
from elemta.testing import FakeClock
from elemta.testing.peer import Drop, Peer, Raw, Slow

AUTHORITY = trustme.CA()
GOOD = [("delivered", "2.0.0")]
POLICIES = list(TlsPolicy)


def server_context(name: str = "hop.test", authority: trustme.CA = AUTHORITY) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def trusting(authority: trustme.CA = AUTHORITY) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def hop(peer: Peer, policy: TlsPolicy):
    """A courier with one route to a host called hop.test."""
    route = to_port(peer.port, host="hop.test", tls=policy)
    return post(route, zone={"hop.test": {"A": ["127.0.0.1"]}}, authority=trusting())


class TestOffered:
    @pytest.mark.parametrize("policy", [TlsPolicy.OPPORTUNISTIC, "required", "verify"])
    async def test_used(self, policy) -> None:
        async with Peer(tls=server_context()) as peer, hop(peer, TlsPolicy(policy)) as office:
            for _ in range(2):
                [outcome] = await office.send()
                assert outcome.reply.enhanced == "2.0.0"
                assert outcome.tls == "TLSv1.3"
                assert outcome.tls_group in {"x25519", "X25519MLKEM768"}
        [session] = peer.sessions
        assert session.tls == "TLSv1.3"
        assert session.verbs()[:4] == ["EHLO", "STARTTLS", "EHLO", "MAIL"]
        assert session.verbs()[-1] == "QUIT"

    async def test_a_connection_of_before_a_reload_is_not_used(self) -> None:
        """What was planned goes on in clear; what must have TLS does not get its connection."""
        async with Peer(tls=server_context()) as peer, hop(peer, TlsPolicy.NONE) as office:
            before = office.delivery.destination(parse_address("bob@example.org"), None)
            route = to_port(peer.port, host="hop.test", tls=TlsPolicy.REQUIRED)
            office.delivery.apply([route], SETTINGS)
            [planned] = await office.send(destination=before)
            [outcome] = await office.send()
        assert (planned.tls, planned.tls_group) == ("", "")
        assert outcome.tls == "TLSv1.3"

    async def test_not_used_where_the_route_says_none(self) -> None:
        async with Peer(tls=server_context()) as peer, hop(peer, TlsPolicy.NONE) as office:
            [outcome] = await office.send()
        assert outcome.tls == ""
        assert "STARTTLS" not in peer.commands

    async def test_extensions_are_learned_anew(self) -> None:
        """What was offered in clear counts for nothing (RFC 3207 §4.2)."""
        ehlos = ["250-x\r\n250-PIPELINING\r\n250-SIZE 5\r\n250 STARTTLS", "250 x"]
        peer = Peer({"ehlo": ehlos}, tls=server_context(), offers=())
        async with peer, hop(peer, TlsPolicy.OPPORTUNISTIC) as office:
            assert summary(await office.send()) == GOOD
        assert peer.commands[3] == "MAIL FROM:<ann@example.test>"
        assert not peer.sessions[0].early

    async def test_not_offered(self) -> None:
        async with Peer() as peer, hop(peer, TlsPolicy.OPPORTUNISTIC) as office:
            assert summary(await office.send()) == GOOD

    @pytest.mark.parametrize("policy", [TlsPolicy.REQUIRED, TlsPolicy.VERIFY])
    async def test_not_offered_but_demanded(self, policy) -> None:
        async with Peer() as peer, hop(peer, policy) as office:
            assert summary(await office.send()) == [("deferred", "4.7.5")]
            await until(lambda: peer.commands == ["EHLO me.test", "QUIT"])

    async def test_refused(self) -> None:
        peer = Peer({"starttls": "454 4.7.0 not now"}, tls=server_context())
        async with peer:
            async with hop(peer, TlsPolicy.OPPORTUNISTIC) as office:
                assert summary(await office.send()) == GOOD
            async with hop(peer, TlsPolicy.REQUIRED) as office:
                assert summary(await office.send()) == [("deferred", "4.7.5")]
        assert len(peer.contents) == 1

    async def test_421(self) -> None:
        peer = Peer({"starttls": Drop("421 4.3.2 closing")}, tls=server_context())
        async with peer, hop(peer, TlsPolicy.OPPORTUNISTIC) as office:
            assert summary(await office.send()) == [("deferred", "4.3.2")]
        assert len(peer.sessions) == 1


class TestWhoseCertificate:
    @pytest.mark.parametrize(
        "context",
        [server_context("other.test"), server_context("hop.test", trustme.CA())],
        ids=["name", "authority"],
    )
    async def test_wrong(self, context) -> None:
        async with Peer(tls=context) as peer:
            for policy in (TlsPolicy.OPPORTUNISTIC, TlsPolicy.REQUIRED):
                async with hop(peer, policy) as office:
                    [outcome] = await office.send()
                    assert outcome.tls == "TLSv1.3"
            async with hop(peer, TlsPolicy.VERIFY) as office:
                [outcome] = await office.send()
        assert summary([outcome]) == [("deferred", "4.7.5")]
        assert "certificate" in outcome.reply.text.lower()
        assert len(peer.contents) == 2

    async def test_expired(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
        AUTHORITY.issue_cert("hop.test", not_after=past).configure_cert(context)
        async with Peer(tls=context) as peer, hop(peer, TlsPolicy.VERIFY) as office:
            assert summary(await office.send()) == [("deferred", "4.7.5")]
        assert not peer.contents

    async def test_old_versions_are_not_spoken(self) -> None:
        assert unverified_context().minimum_version is ssl.TLSVersion.TLSv1_2
        assert verified_context().minimum_version is ssl.TLSVersion.TLSv1_2
        assert verified_context().verify_mode is ssl.CERT_REQUIRED
        assert verified_context().check_hostname


BROKEN = [
    {"handshake": Drop()},
    {"handshake": Raw(b"this is no TLS at all\r\n")},
    {"handshake": Raw(b"\x15\x03\x03\x00\x02\x02\x28")},  # alert: handshake failure
]


class TestBroken:
    @pytest.mark.parametrize("script", BROKEN)
    async def test_opportunistic_goes_on_in_clear_and_remembers(self, script) -> None:
        async with Peer(script, tls=server_context()) as peer:
            async with hop(peer, TlsPolicy.OPPORTUNISTIC) as office:
                assert summary(await office.send()) == GOOD
                assert len(peer.sessions) == 2
                office.delivery.pool.shut()  # so that each message opens a connection
                assert summary(await office.send()) == GOOD
            assert len(peer.sessions) == 3
        assert [session.verbs()[1] for session in peer.sessions] == ["STARTTLS", "MAIL", "MAIL"]

    async def test_a_connection_lost_right_after_the_handshake(self) -> None:
        script = {"ehlo": ["250-x\r\n250 STARTTLS", Drop(), "250 x"]}
        peer = Peer(script, tls=server_context(), offers=())
        async with peer, hop(peer, TlsPolicy.OPPORTUNISTIC) as office:
            assert summary(await office.send()) == GOOD
        assert len(peer.sessions) == 2

    @pytest.mark.parametrize("script", BROKEN)
    @pytest.mark.parametrize("policy", [TlsPolicy.REQUIRED, TlsPolicy.VERIFY])
    async def test_never_in_clear_where_tls_is_demanded(self, script, policy) -> None:
        async with Peer(script, tls=server_context()) as peer, hop(peer, policy) as office:
            for _ in range(2):
                assert summary(await office.send()) == [("deferred", "4.7.5")]
        assert [session.verbs() for session in peer.sessions] == [["EHLO", "STARTTLS"]] * 2

    async def test_a_handshake_without_end(self) -> None:
        script = {"handshake": Slow(asyncio.Event(), "")}
        impatient = replace(SETTINGS, timeout=1.5)  # enough for what comes after it, in clear
        async with Peer(script, tls=server_context()) as peer:
            route = to_port(peer.port, tls=TlsPolicy.OPPORTUNISTIC)
            async with post(route, impatient) as office:
                assert summary(await office.send()) == GOOD

    async def test_memory_is_bounded_and_fades(self) -> None:
        clock, events = FakeClock(), []
        opener = opening.Opener(SETTINGS, clock, events.append)
        targets = [
            Target(f"mx{number}.test", "192.0.2.1", 25)
            for number in range(opening.BROKEN_TLS_HOSTS + 10)
        ]
        for target in targets:
            opener._remember(target)
        assert len(opener._broken) == opening.BROKEN_TLS_HOSTS
        assert not opener._is_broken(targets[0])
        assert opener._is_broken(targets[10])
        # several servers of one host are several servers
        assert not opener._is_broken(replace(targets[10], port=2525))
        clock.advance(opening.BROKEN_TLS_FOR)
        assert not opener._is_broken(targets[10])

    async def test_a_name_unfit_for_tls(self) -> None:
        """A mail exchanger may be called anything."""
        zone = {"a..b": {"A": ["127.0.0.1"]}}
        peer = Peer(tls=server_context())
        async with peer, post(to_port(peer.port, host="a..b"), zone=zone) as office:
            assert summary(await office.send()) == GOOD


class TestInjection:
    @pytest.mark.parametrize("policy", ["opportunistic", "required", "verify"])
    @pytest.mark.parametrize(
        "extra", [b"250-AUTH PLAIN\r\n250 x\r\n", b"2", b"250 2.0.0 taken\r\n" * 5]
    )
    async def test_plaintext_with_the_220(self, policy, extra) -> None:
        """CVE-2011-0411 from the other side: replies meant to be taken for protected ones."""
        script = {"starttls": Raw(b"220 2.0.0 go ahead\r\n" + extra)}
        peer = Peer(script, tls=server_context())
        async with peer, hop(peer, TlsPolicy(policy)) as office:
            assert summary(await office.send()) == [("deferred", "4.5.0")]
            [event] = office.events
        assert isinstance(event, SecurityEvent)
        assert event.kind == "starttls_reply_injection"
        [session] = peer.sessions
        assert session.verbs() == ["EHLO", "STARTTLS"]
        assert not session.tls
