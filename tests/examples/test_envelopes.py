"""Example plugins that judge senders and recipients."""

import re

import pytest
from pydantic import ValidationError

from tests.examples.stage import Stage


class TestSenderDomains:
    REFUSED = "550 5.7.1 Your domain may not send here"

    @pytest.mark.parametrize(
        ("sender", "is_allowed"),
        [
            ("a@example.com", True),
            ("a@EXAMPLE.com", True),
            ('"a@evil.test"@example.com', True),
            ("a@bücher.example", True),
            ("", True),  # a notification
            ("a@example.com.evil.test", False),
            ("a@sub.example.com", False),
            ('"a@example.com"@evil.test', False),
            ("a@[192.0.2.1]", False),
        ],
    )
    async def test_the_list(self, sender, is_allowed):
        domains = ["Example.COM.", "xn--bcher-kva.example"]
        async with Stage("sender_domains", domains=domains) as stage:
            assert await stage.sender(sender) == ("" if is_allowed else self.REFUSED)
            assert stage.count("rejected_senders") == (not is_allowed)

    async def test_without_a_list_all_may(self):
        async with Stage("sender_domains") as stage:
            assert await stage.sender("a@anywhere.test") == ""

    @pytest.mark.parametrize("domain", ["@example.com", "a b", "", "-.test"])
    def test_what_is_no_domain_is_refused(self, domain):
        with pytest.raises(ValidationError):
            Stage("sender_domains", domains=[domain])


RULES = {"addresses": ["Boss@example.com"], "domains": ["spam.test"]}


class TestSenderRules:
    @pytest.mark.parametrize(
        ("sender", "problem"),
        [
            ("boss@example.com", "blocked address"),
            ("BOSS@Example.COM", "blocked address"),
            ("a@spam.test", "blocked domain"),
            ("a@[192.0.2.1]", "address literal"),
            ("a@[IPv6:2001:db8::1]", "address literal"),
            ("a@localhost", "domain without a dot"),
            ("", ""),
            ("boss2@example.com", ""),
            ('"boss@example.com"@other.test', ""),
            ("o'hara+tag@sub.example.museum", ""),  # the seed's pattern refuses this
        ],
    )
    async def test_each(self, sender, problem):
        async with Stage("sender_rules", **RULES) as stage:
            refused = f"553 5.1.8 Sender refused: {problem}"
            assert await stage.sender(sender) == (refused if problem else "")
            assert stage.count("rejected_senders", why=problem) == bool(problem)

    async def test_what_can_be_allowed(self):
        options = {"allow_literals": True, "allow_single_labels": True}
        async with Stage("sender_rules", **options) as stage:
            assert await stage.sender("a@[192.0.2.1]") == ""
            assert await stage.sender("a@localhost") == ""

    def test_what_is_no_address_is_refused(self):
        with pytest.raises(ValidationError, match="no domain"):
            Stage("sender_rules", addresses=["boss"])


class TestRecipientDomains:
    async def test_the_list(self):
        async with Stage("recipient_domains", domains=["blocked.com"]) as stage:
            assert await stage.rcpt("a@Blocked.com") == "550 5.7.1 We do not send to blocked.com"
            assert await stage.rcpt('"a@blocked.com"@example.test') == ""
            assert await stage.rcpt("a@sub.blocked.com") == ""
            assert await stage.rcpt("postmaster") == ""
            assert stage.count("rejected_recipients") == 1


class TestRelayControl:
    async def test_votes_only_for_listed_domains(self):
        async with Stage("relay_control", domains=["partner.test"]) as stage:
            assert await stage.rcpt("a@partner.test", relaying=True) == "accept"
            assert await stage.rcpt("a@other.test", relaying=True) == ""
            assert await stage.rcpt('"a@partner.test"@other.test', relaying=True) == ""
            assert stage.count("relayed_recipients") == 1

    async def test_asks_on_for_our_own(self):
        async with Stage("relay_control", domains=["partner.test"]) as stage:
            assert await stage.rcpt("a@partner.test") == ""

    @pytest.mark.parametrize("relay", [True, False])
    async def test_users(self, relay):
        async with Stage("relay_control", relay_for_users=relay) as stage:
            answer = await stage.rcpt("a@other.test", relaying=True, username="clerk")
            assert answer == ("accept" if relay else "")


class TestMaxRecipients:
    async def test_the_rest_waits(self):
        async with Stage("max_recipients", max_recipients=3) as stage:
            before = ("a@example.test", "b@example.test")
            assert await stage.rcpt("c@example.test", before=before) == ""
            full = await stage.rcpt("d@example.test", before=(*before, "c@example.test"))
            assert full == "452 4.5.3 Too many recipients"
            assert stage.count("deferred_recipients") == 1


class TestGreylisting:
    LATER = "451 4.7.1 Greylisted, try again later"

    async def test_a_stranger_waits_once(self):
        async with Stage("greylisting", delay=300) as stage:
            assert await stage.rcpt("c@example.test") == self.LATER
            stage.clock.advance(299)
            assert await stage.rcpt("c@example.test") == self.LATER
            stage.clock.advance(1)
            assert await stage.rcpt("c@example.test") == ""
            assert await stage.rcpt("C@EXAMPLE.test", sender="A@b.test") == ""
            assert stage.count("deferred_recipients", first="yes") == 1
            assert stage.count("deferred_recipients", first="no") == 1

    async def test_what_makes_a_stranger(self):
        async with Stage("greylisting", delay=300) as stage:
            await stage.rcpt("c@example.test")
            stage.clock.advance(300)
            assert await stage.rcpt("d@example.test") == self.LATER
            assert await stage.rcpt("c@example.test", sender="x@b.test") == self.LATER
            assert await stage.rcpt("c@example.test", sender="") == self.LATER
            assert await stage.rcpt("c@example.test", ip="198.51.100.1") == self.LATER
            assert await stage.rcpt("c@example.test", ip="192.0.2.99") == ""  # its neighbour

    async def test_who_is_known_is_not_asked(self):
        async with Stage("greylisting") as stage:
            assert await stage.rcpt("c@example.test", is_trusted=True) == ""
            assert await stage.rcpt("c@example.test", username="clerk") == ""
            assert await stage.rcpt("c@example.test", ip="") == ""
            assert await stage.rcpt("c@other.test", relaying=True) == ""

    async def test_all_is_forgotten_some_day(self):
        async with Stage("greylisting", delay=10, retry_window=100, keep=1000) as stage:
            await stage.rcpt("c@example.test")
            stage.clock.advance(101)
            assert await stage.rcpt("c@example.test") == self.LATER
            stage.clock.advance(10)
            for _ in range(3):  # each time counts anew
                assert await stage.rcpt("c@example.test") == ""
                stage.clock.advance(900)
            stage.clock.advance(101)
            assert await stage.rcpt("c@example.test") == self.LATER

    async def test_keys_tell_no_addresses_and_have_room(self):
        async with Stage("greylisting") as stage:
            sender = f"{'s' * 64}@{'.'.join(['d' * 60] * 3)}"
            assert await stage.rcpt(f"{'r' * 64}@example.test", sender=sender) == self.LATER
            network, key = sorted(stage.plugin.tools.kv._entries)
            assert network == "192.0.2.0/24"
            assert re.fullmatch("[0-9a-f]{64}", key)

    async def test_nobody_fills_the_store(self):
        async with Stage("greylisting", delay=10, retry_window=1000, max_new=2) as stage:
            for name in "abcde":
                assert await stage.rcpt(f"{name}@example.test") == self.LATER
            assert len(stage.plugin.tools.kv._entries) == 3  # two of them, and their number
            assert await stage.rcpt("a@example.test", ip="198.51.100.1") == self.LATER
            stage.clock.advance(10)
            assert await stage.rcpt("b@example.test") == ""
            assert await stage.rcpt("a@example.test", ip="198.51.100.1") == ""
            assert await stage.rcpt("e@example.test") == self.LATER
            stage.clock.advance(1000)
            assert await stage.rcpt("e@example.test") == self.LATER
            stage.clock.advance(10)
            assert await stage.rcpt("e@example.test") == ""


SEED_POLICY = {
    "max_messages_per_minute": 2,
    "max_recipients_per_message": 2,
    "allowed_sender_domains": ["example.com", "trusted.org"],
    "blocked_recipient_domains": ["blocked.com", "spam.org"],
    "allowed_relay_domains": ["example.com", "trusted.org"],
    "block_bad_reputation": True,
    "min_reputation_score": 50,
    "reputation": {"198.51.100.0/24": 20, "192.0.2.0/24": 50},
    "blocked_networks": ["203.0.113.0/24"],
}


class TestPolicy:
    """All that the seed's policy has, with the names it has there."""

    async def test_connections(self):
        async with Stage("policy", **SEED_POLICY) as stage:
            assert await stage.client("203.0.113.5") == "554 5.7.1 Your IP address is blocked"
            bad = "554 5.7.1 Your IP address has a bad reputation"
            assert await stage.client("198.51.100.5") == bad
            assert await stage.client("192.0.2.1") == ""
            assert await stage.client("2001:db8::1") == ""
            assert await stage.client("") == ""
            assert stage.count("rejected_connections") == 2

    async def test_senders(self):
        async with Stage("policy", **SEED_POLICY) as stage:
            refused = "550 5.7.1 Your domain may not send here"
            assert await stage.sender("a@elsewhere.test") == refused
            assert await stage.sender("a@example.com") == ""
            assert await stage.sender("") == ""
            assert (await stage.sender("a@trusted.org")).startswith("451 4.7.1 Too many messages")
            assert await stage.sender("a@trusted.org", ip="192.0.2.2") == ""
            assert await stage.sender("a@trusted.org", ip="") == ""
            stage.clock.advance(61)
            assert await stage.sender("a@trusted.org") == ""
            assert stage.count("rejected_senders") == 1
            assert stage.count("deferred_messages") == 1

    async def test_recipients(self):
        async with Stage("policy", **SEED_POLICY) as stage:
            assert await stage.rcpt("a@blocked.com") == "550 5.7.1 We do not send to blocked.com"
            assert await stage.rcpt("a@trusted.org", relaying=True) == "accept"
            assert await stage.rcpt("a@other.test", relaying=True) == ""
            full = await stage.rcpt("a@trusted.org", relaying=True, before=("b@x.test",) * 2)
            assert full == "452 4.5.3 Too many recipients"

    async def test_unset_it_does_nothing(self):
        async with Stage("policy") as stage:
            assert await stage.client("192.0.2.1") == ""
            assert await stage.sender("a@b.test") == ""
            assert await stage.rcpt("c@d.test", before=("b@x.test",) * 500) == ""

    def test_an_unknown_setting_is_refused(self):
        with pytest.raises(ValidationError, match="max_message_per_minute"):
            Stage("policy", max_message_per_minute=60)
