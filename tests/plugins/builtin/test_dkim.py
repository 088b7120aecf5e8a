"""Signatures of mail that comes in: read at its head, judged when its body is here."""

import dkim
import pytest
from mailauth.dkim.signed import key, name_of, sign
from plugins.builtin.slow import SlowResolver

from elemta.mailauth import AuthStatus
from elemta.mailauth.dkim import SignSettings
from elemta.plugins import Action, DKIMPlugin
from elemta.plugins.builtin.dkim import Dkim
from elemta.testing import FakeClock, FakeResolver, PluginBench

MESSAGE = b"From: Ann <ann@example.org>\r\nSubject: hello\r\n\r\nhello\r\n"
LATER = 4_000_000_000.0  # than any signature that another makes today
ZONE = {name_of(key()): {"TXT": [key().key.record()]}, name_of(key(selector="down")): None}


def bench(dns=None, **settings):
    dns = dns or FakeResolver(ZONE)
    return PluginBench(Dkim, settings, dns=dns, clock=FakeClock(LATER))


async def judged(it, content, *, with_headers=True):
    await it.mail_from("ann@example.org")
    if with_headers:
        await it.headers(content)
    return await it.data(content)


def found(it):
    return [each.status for each in it.session.message.authentication.dkim]


@pytest.mark.parametrize("with_headers", [True, False])
async def test_a_signature_passes(with_headers):
    async with bench() as it:
        answer = await judged(it, sign(MESSAGE, key()), with_headers=with_headers)
        assert answer.action is Action.CONTINUE
        assert found(it) == ["pass"]
        assert it.session.metadata["auth.dkim"] == "pass"
        assert it.count("checks", result="pass") == 1
        assert "authentication" not in it.session.notes


async def test_what_is_not_signed():
    async with bench() as it:
        await judged(it, MESSAGE)
        assert found(it) == ["none"]
        assert it.dns.questions == []


async def test_several_signatures_come_to_the_best():
    async with bench(on_temperror="defer", max_signatures=2) as it:
        content = sign(MESSAGE, key(), key(selector="down"), key(selector="gone"))
        await judged(it, content)
        assert sorted(found(it)) == sorted(set(found(it)))
        assert len(found(it)) == 2
        assert it.session.metadata["auth.dkim"] == "pass"


async def test_a_key_that_cannot_be_looked_up():
    content = sign(MESSAGE, key(selector="down"))
    async with bench(on_temperror="defer") as it:
        answer = await judged(it, content)
        assert str(answer.reply).startswith("451 4.4.3 The key of a DKIM signature cannot")
        assert answer.note.startswith("dkim=temperror: example.org: ")
    async with bench() as it:
        assert (await judged(it, content)).action is Action.CONTINUE
        assert found(it) == ["temperror"]


async def test_a_signature_of_the_beginning_of_a_body():
    pem = key().key.pem()
    content = dkim.sign(MESSAGE, b"rsa", b"example.org", pem, length=True) + MESSAGE + b"more\r\n"
    async with bench() as it:
        await judged(it, content)
        assert found(it) == ["policy"]
    async with bench(accept_partial=True) as it:
        await judged(it, content)
        assert found(it) == ["pass"]
        assert it.session.message.authentication.dkim[0].unsigned == 6


async def test_what_plugins_before_have_done_to_fields_does_not_matter():
    async with bench() as it:
        content = sign(MESSAGE, key())
        await it.mail_from("ann@example.org")
        await it.headers(content)
        await it.data(content.replace(b"Subject: hello", b"Subject: other"))
        assert found(it) == ["pass"]


async def test_the_signature_of_the_message_before_does_not_count():
    async with bench() as it:
        await it.mail_from("ann@example.org")
        await it.headers(sign(MESSAGE, key()))
        await judged(it, MESSAGE)
        assert found(it) == ["none"]


@pytest.mark.parametrize(
    "about", [{"is_trusted": True}, {"username": "ann@example.org"}, {"listener": "lmtp"}]
)
async def test_who_is_not_judged(about):
    async with bench() as it:
        await it.connect("192.0.2.1", **about)
        await judged(it, sign(MESSAGE, key()))
        assert found(it) == []
        assert "auth.dkim" not in it.session.metadata


async def test_verifying_can_be_switched_off():
    async with bench(verify=False) as it:
        await judged(it, sign(MESSAGE, key()))
        assert found(it) == []


async def test_a_resolver_that_takes_its_time():
    async with bench(SlowResolver(ZONE)) as it:
        await judged(it, sign(MESSAGE, key()))
        assert found(it) == ["pass"]


async def test_a_resolver_that_never_answers():
    dns = SlowResolver(ZONE)
    dns.is_dead = True
    async with bench(dns, limit=0.01) as it:
        answer = await judged(it, sign(MESSAGE, key()))
        assert (answer.action, answer.error) == (Action.CONTINUE, "")
        assert found(it) == ["temperror"]


async def test_keys_that_have_come_count_where_others_never_come():
    """The topmost signature is asked for first, and its name server is dead."""
    keys = [key(), key(selector="other"), key(selector="dead")]
    content = sign(MESSAGE, *keys)
    dns = SlowResolver({name_of(each): {"TXT": [each.key.record()]} for each in keys})
    dns.dead = {name_of(keys[2])}
    async with bench(dns, limit=0.5) as it:
        await judged(it, content)
        assert sorted(found(it)) == ["pass", "pass", "temperror"]
        assert it.session.metadata["auth.dkim"] == "pass"
        assert dns.most == 3


async def test_not_all_keys_are_asked_for_at_once():
    keys = [key("ed25519", selector=f"s{number}") for number in range(12)]
    dns = SlowResolver({name_of(each): {"TXT": [each.key.record()]} for each in keys})
    async with bench(dns, max_signatures=12) as it:
        await judged(it, sign(MESSAGE, *keys))
        assert found(it) == ["pass"] * 12
        assert dns.most == 5
        assert len(dns.questions) == 12


async def test_a_large_body_is_hashed_beside_the_loop():
    form = SignSettings(canonicalization="relaxed/simple")
    content = sign(MESSAGE + b"a line that says little\r\n" * 40_000, key(), settings=form)
    async with bench() as it:
        await judged(it, content)
        assert found(it) == ["pass"]
        await judged(it, content.replace(b"says little", b"said little", 1))
        assert found(it) == ["fail"]


async def test_as_one_of_its_family():
    class Asking(Dkim):
        """Asks itself as another plugin would."""

        async def on_filter(self, ctx):
            self.result = await self.verify_signature(ctx)

    async with PluginBench(Asking, {}, dns=FakeResolver(ZONE), clock=FakeClock(LATER)) as it:
        assert isinstance(it.plugin, DKIMPlugin)
        assert it.plugin.get_info().type == "dkim"
        await it.mail_from("ann@example.org")
        await it.filter(sign(MESSAGE, key()))
        result = it.plugin.result
        assert (result.status, result.domain, result.selector) == ("pass", "example.org", "rsa")
        await judged(it, sign(MESSAGE, key(selector="gone")))
        await it.filter(MESSAGE)
        assert it.plugin.result.status is AuthStatus.PERMERROR
        await it.mail_from("ann@example.org")
        await it.filter(MESSAGE)
        assert it.plugin.result.status is AuthStatus.NONE
