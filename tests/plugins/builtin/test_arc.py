"""Chains of seals: what they come to, and seals of our own."""

import asyncio

import dkim
import pytest
from mailauth.arc import chains
from mailauth.dkim.signed import key, name_of
from plugins.builtin.dkim.signed import apply, keep
from plugins.builtin.slow import SlowResolver

from elemta.mail.errors import PluginError
from elemta.mailauth import ArcVerdict, AuthStatus, DkimVerdict, SpfVerdict
from elemta.mailauth.authres import parse
from elemta.plugins import Action, ARCPlugin
from elemta.plugins.builtin.arc import Arc
from elemta.testing import FakeClock, FakeResolver, PluginBench

MESSAGE = b"From: Ann <ann@example.org>\r\nSubject: hello\r\n\r\nhello\r\n"
ZONE = {name_of(key()): {"TXT": [key().key.record()]}}
NONE = ArcVerdict(AuthStatus.NONE)


def sealed(content: bytes = MESSAGE, selector: bytes = b"rsa", arc: bytes = b"none") -> bytes:
    """Seal by dkimpy."""
    results = b"Authentication-Results: example.org; dmarc=pass header.from=example.org; arc=%s\r\n"
    results %= arc
    domain, pem = b"example.org", key().key.pem()
    return b"".join(dkim.arc_sign(results + content, selector, domain, pem, domain)) + content


def check(content: bytes) -> tuple[bytes, int]:
    """What dkimpy says of a chain: the state, and how many sets."""
    record = key().key.record().encode()
    names = {f"{name_of(key())}.".encode(): record, b"ours._domainkey.example.test.": record}
    state, sets, _ = dkim.arc_verify(content, dnsfunc=lambda name, timeout=5: names.get(name))
    return state, len(sets)


def bench(dns=None, **settings):
    dns = dns or FakeResolver(ZONE)
    return PluginBench(Arc, settings, dns=dns, clock=FakeClock())


async def judged(it, content, *, with_headers=True) -> ArcVerdict:
    await it.mail_from("someone@list.test")
    if with_headers:
        await it.headers(content)
    assert (await it.data(content)).action is Action.CONTINUE
    return it.session.message.authentication.arc


@pytest.mark.parametrize("with_headers", [True, False])
async def test_a_chain_passes(with_headers):
    async with bench() as it:
        verdict = await judged(it, sealed(), with_headers=with_headers)
        assert (verdict.status, verdict.instances) == ("pass", 1)
        assert (verdict.sealers, verdict.dmarc_passed) == (("example.org",), "example.org")
        assert it.session.metadata["auth.arc"] == "pass"
        assert it.count("checks", result="pass") == 1
        assert "authentication" not in it.session.notes


async def test_a_chain_fails():
    async with bench() as it:
        assert (await judged(it, sealed().replace(b"\nhello", b"\nhullo"))).status == "fail"
        assert (await judged(it, sealed(selector=b"gone"))).status == "fail"
        assert (await judged(it, sealed().replace(b"ARC-Seal", b"X-Seal"))).status == "fail"


async def test_no_chain():
    async with bench() as it:
        assert await judged(it, b"X-Note: not an arc-seal\r\n" + MESSAGE) == NONE
        assert it.dns.questions == []


async def test_too_many_sets():
    async with bench(max_sets=1) as it:
        assert (await judged(it, sealed(sealed(), arc=b"pass"))).status == "fail"


async def test_a_key_that_cannot_be_looked_up():
    async with bench(FakeResolver({name_of(key()): None})) as it:
        assert (await judged(it, sealed())).status is AuthStatus.TEMPERROR


async def test_a_resolver_that_takes_its_time_or_never_answers():
    dns = SlowResolver(ZONE)
    async with bench(dns) as it:
        assert (await judged(it, sealed())).status is AuthStatus.PASS
    dns.is_dead = True
    async with bench(dns, limit=0.01) as it:
        assert (await judged(it, sealed())).status is AuthStatus.TEMPERROR


def of_sealers(number: int, content: bytes = chains.MESSAGE) -> tuple[bytes, SlowResolver]:
    """A message that servers have sealed in turn, each with a key of its own, and their keys."""
    servers = [chains.Server(f"s{each}.example", chains.ED25519) for each in range(number)]
    names = {}
    for at, server in enumerate(servers):
        status = AuthStatus.PASS if at else AuthStatus.NONE
        content = chains.seal(content, server, ArcVerdict(status, at))
        names |= server.zone
    return content, SlowResolver(names)


async def test_keys_are_asked_for_at_the_same_time_and_each_once():
    for sealers, most in ((3, 3), (12, 5)):
        content, dns = of_sealers(sealers)
        async with bench(dns) as it:
            verdict = await judged(it, content)
            assert (verdict.status, verdict.instances) == ("pass", sealers)
            assert (dns.most, len(dns.questions)) == (most, sealers)
    content, dns = of_sealers(12)
    async with bench(FakeResolver(dns.zone)) as it:
        broken = content.replace(b"d=s11.example; s=s; t=17", b"d=s11.example; s=s; t=18", 1)
        assert (await judged(it, broken)).status == "fail"
        assert len(it.dns.questions) == 1  # nobody had to be waited for


async def test_no_key_is_asked_for_where_the_body_tells_enough():
    content, dns = of_sealers(3)
    async with bench(dns) as it:
        assert (await judged(it, content.replace(b"Hello", b"HELLO"))).status == "fail"
        assert dns.questions == []


async def test_a_key_of_a_seal_that_never_comes():
    content, dns = of_sealers(12)
    dns.dead = {"s._domainkey.s3.example"}
    async with bench(dns, limit=0.05) as it:
        verdict = await judged(it, content)
        assert (verdict.status, verdict.instances) == (AuthStatus.TEMPERROR, 12)
        assert verdict.problem == "the look-ups have taken too long"
    assert not [each for each in asyncio.all_tasks() if each.get_name().startswith("key ")]


async def test_a_key_that_comes_late_and_is_not_needed_costs_no_verdict():
    """That of an older signature only tells where the message was changed last."""
    first = chains.seal_for(chains.C, chains.MESSAGE)
    content = chains.seal(first, chains.B, ArcVerdict(AuthStatus.PASS, 1))
    dns = SlowResolver(chains.ZONE)
    dns.dead = {"s._domainkey.c.example"}
    async with bench(dns, limit=0.5) as it:
        verdict = await judged(it, content)
        assert (verdict.status, verdict.oldest_pass) == (AuthStatus.PASS, 2)


async def test_keys_that_cannot_be_looked_up_ahead_are_no_trouble():
    content, dns = of_sealers(3)
    dns.zone = dict.fromkeys(dns.zone)
    dns.zone["s._domainkey.s2.example"] = {"TXT": [chains.RSA.record()]}
    async with bench(dns) as it:
        assert (await judged(it, content)).problem.endswith("the key is of another algorithm")


@pytest.mark.parametrize("about", [{"is_trusted": True}, {"username": "ann@example.org"}])
async def test_who_is_not_judged(about):
    async with bench(seal=True) as it:
        await it.connect("192.0.2.1", **about)
        assert await judged(it, sealed()) is None
        assert (await it.enqueue(sealed())).edits == ()


# ---- seals of our own


@pytest.fixture
async def sealer(tmp_path):
    keep(tmp_path, "example.test", "ours", key().key)
    async with bench(seal=True, keys_dir=str(tmp_path)) as it:
        yield it


async def test_a_first_seal(sealer):
    await judged(sealer, MESSAGE)
    sealer.session.metadata["authentication-results"] = "mx.example.test; spf=pass"
    answer = await sealer.enqueue(MESSAGE)
    assert [edit.name for edit in answer.edits] == [
        "ARC-Authentication-Results",
        "ARC-Message-Signature",
        "ARC-Seal",
    ]
    left = apply(MESSAGE, answer.edits)
    assert check(left) == (b"pass", 1)
    assert b"ARC-Authentication-Results: i=1; mx.example.test; spf=pass\r\n" in left
    assert sealer.count("seals") == 1


async def test_what_was_found_is_sealed_where_it_is_written_nowhere_else(sealer):
    await judged(sealer, MESSAGE)
    about = sealer.session.message.authentication
    about.spf = SpfVerdict(AuthStatus.FAIL, "list.test")
    about.dkim = (DkimVerdict(AuthStatus.FAIL, "example.org", problem="the signature is wrong"),)
    left = apply(MESSAGE, (await sealer.enqueue(MESSAGE)).edits)
    assert check(left) == (b"pass", 1)
    results = left.partition(b"ARC-Authentication-Results: ")[2].partition(b"\r\nReceived:")[0]
    found = parse(results.partition(b";")[2])
    assert found.authserv_id == "mx.example.test"
    assert [(each.method, each.result) for each in found.results] == [
        ("spf", "fail"),
        ("dkim", "fail"),
        ("arc", "none"),
    ]


async def test_a_chain_that_passed_goes_on(sealer):
    content = sealed()
    await judged(sealer, content)
    assert check(apply(content, (await sealer.enqueue(content)).edits)) == (b"pass", 2)


async def test_a_chain_that_failed_stays_failed(sealer):
    content = sealed().replace(b"\nhello", b"\nhullo")
    await judged(sealer, content)
    left = apply(content, (await sealer.enqueue(content)).edits)
    assert b"; cv=fail;" in left.replace(b"\r\n ", b" ").replace(b"\r\n\t", b" ")
    async with bench() as it:
        assert (await judged(it, left)).status is AuthStatus.FAIL


async def test_what_is_sealed_is_the_message_as_it_leaves(sealer):
    await judged(sealer, MESSAGE)
    changed = MESSAGE.replace(b"hello", b"changed")
    assert check(apply(changed, (await sealer.enqueue(changed)).edits)) == (b"pass", 1)


async def test_without_a_key_nothing_is_sealed_and_the_operator_hears_of_it(tmp_path):
    async with bench(seal=True, keys_dir=str(tmp_path)) as it:
        for _ in range(3):
            await judged(it, MESSAGE)
            assert (await it.enqueue(MESSAGE)).edits == ()
        assert it.log == [("error", "mail is not sealed: mx.example.test has no key that signs")]
        assert it.count("keys_missing") == 3
        it.clock.advance(100)
        await it.enqueue(MESSAGE)
        assert len(it.log) == 2


async def test_the_domain_that_seals_can_be_named(tmp_path):
    keep(tmp_path, "seals.test", "ours", key().key)
    async with bench(seal=True, seal_domain="Seals.test", keys_dir=str(tmp_path)) as it:
        await judged(it, MESSAGE)
        left = apply(MESSAGE, (await it.enqueue(MESSAGE)).edits)
        assert left.count(b"d=seals.test;") == 2


async def test_as_one_of_its_family(tmp_path):
    class Asking(Arc):
        """Asks itself as another plugin would."""

        async def on_filter(self, ctx):
            self.result = await self.verify_chain(ctx)
            try:
                self.values = await self.seal_message(ctx)
            except PluginError as error:
                self.values = (str(error),)

    keep(tmp_path, "example.test", "ours", key().key)
    settings = {"keys_dir": str(tmp_path)}
    async with PluginBench(Asking, settings, dns=FakeResolver(ZONE)) as it:
        assert isinstance(it.plugin, ARCPlugin)
        assert it.plugin.get_info().type == "arc"
        await it.mail_from("someone@list.test")
        await it.filter(sealed())
        assert (it.plugin.result.status, it.plugin.result.instances) == ("pass", 1)
        await judged(it, sealed())
        await it.filter(sealed())
        seal, signature, results = it.plugin.values
        assert seal.startswith("i=2; a=rsa-sha256; d=example.test; s=ours;")
        assert "bh=" in signature
        assert results.startswith("i=2; mx.example.test; arc=pass (i=1) header.oldest-pass=0")
        await it.filter(sealed().replace(b"i=1", b"i=50"))
        assert it.plugin.values == ("no seal may follow",)
    async with PluginBench(Asking, {"keys_dir": str(tmp_path / "none")}) as it:
        await it.filter(MESSAGE)
        assert it.plugin.values == ("there is no key to seal with",)
