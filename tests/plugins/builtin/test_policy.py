"""The policy: what each of its settings does, and that without them it does nothing."""

import pytest
import yaml
from pydantic import ValidationError

from elemta.plugins import Action
from elemta.plugins.builtin.policy import Policy
from elemta.testing import PluginBench

WRITTEN = """
plugins:
  - name: policy
    enabled: true
    config:
      max_messages_per_minute: 60
      max_recipients_per_message: 50
      allowed_sender_domains:
        - example.com
        - trusted.org
      blocked_recipient_domains:
        - blocked.com
        - spam.org
      allowed_relay_domains:
        - example.com
        - trusted.org
      block_bad_reputation: true
      min_reputation_score: 50
"""
SETTINGS = yaml.safe_load(WRITTEN)["plugins"][0]["config"]


def bench(**more):
    return PluginBench(Policy, {**SETTINGS, **more})


async def test_senders():
    async with bench() as it:
        answer = await it.mail_from("a@elsewhere.test")
        assert str(answer.reply) == "550 5.7.1 Your domain may not send here"
        assert answer.note == "elsewhere.test is not in allowed_sender_domains"
        assert (await it.mail_from("a@mail.example.com")).is_refused
        for sender in ("a@example.com", "A@EXAMPLE.COM", "a@trusted.org", ""):
            assert (await it.mail_from(sender)).action is Action.CONTINUE
        assert it.count("rejected_senders") == 2


@pytest.mark.parametrize(
    ("one", "same", "other"),
    [
        ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"),
    ],
)
async def test_messages_in_a_minute(one, same, other):
    async with bench(max_messages_per_minute=3) as it:
        await it.connect(one)
        for _ in range(3):
            assert not (await it.mail_from("a@example.com")).is_refused
        await it.connect(same)
        answer = await it.mail_from("a@example.com")
        assert str(answer.reply) == "451 4.7.1 Too many messages, try again later"
        assert answer.note.startswith("more than 3 messages in a minute; ")
        await it.connect(other)
        assert not (await it.mail_from("a@example.com")).is_refused
        await it.connect("")
        for _ in range(5):
            assert not (await it.mail_from("a@example.com")).is_refused
        it.clock.advance(61)
        await it.connect(one)
        assert not (await it.mail_from("a@example.com")).is_refused


async def test_what_is_refused_for_its_sender_is_not_counted():
    async with bench(max_messages_per_minute=1) as it:
        for _ in range(5):
            assert (await it.mail_from("a@elsewhere.test")).action is Action.REJECT
        assert not (await it.mail_from("a@example.com")).is_refused


async def test_recipients():
    async with bench(max_recipients_per_message=2) as it:
        await it.mail_from("a@example.com")
        answer = await it.rcpt_to("x@blocked.com")
        assert str(answer.reply) == "550 5.7.1 We do not send to blocked.com"
        assert (await it.rcpt_to("x@trusted.org", is_relaying=True)).action is Action.ACCEPT
        assert (await it.rcpt_to("x@other.test", is_relaying=True)).action is Action.CONTINUE
        assert (await it.rcpt_to("x@local.test")).action is Action.CONTINUE
        answer = await it.rcpt_to("y@local.test")
        assert str(answer.reply) == "452 4.5.3 Too many recipients"
        assert it.count("rejected_recipients") == it.count("deferred_recipients") == 1


@pytest.mark.parametrize(
    ("score", "is_refused"),
    [("49", True), ("0", True), ("49.4", True), ("50", False), ("100", False)]
    + [(said, False) for said in ("", "nan", "inf", "no number", "1e999")],
)
async def test_reputation(score, is_refused):
    async with bench() as it:
        await it.connect("192.0.2.1")
        it.session.metadata["reputation.score"] = score
        answer = await it.run("on_connect")
        assert answer.is_refused is is_refused
        if is_refused:
            assert str(answer.reply) == "554 5.7.1 Your address has a bad reputation"
            assert answer.note.endswith("below 50")


async def test_unset_it_does_nothing():
    async with PluginBench(Policy) as it:
        await it.connect("192.0.2.1")
        it.session.metadata["reputation.score"] = "0"
        assert (await it.run("on_connect")).action is Action.CONTINUE
        for _ in range(100):
            assert (await it.mail_from("a@b.test")).action is Action.CONTINUE
            assert (await it.rcpt_to("c@blocked.com")).action is Action.CONTINUE


def test_wrong_settings():
    for wrong in (
        {"max_message_per_minute": 60},
        {"max_messages_per_minute": 0},
        {"allowed_sender_domains": ["exa mple"]},
        {"min_reputation_score": 101},
    ):
        with pytest.raises(ValidationError):
            PluginBench(Policy, wrong)
