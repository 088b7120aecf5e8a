"""What is signed, by whom, and what becomes of mail whose key cannot be used."""

import asyncio
import tracemalloc

import pytest
from plugins.builtin.dkim.signed import (
    ED25519,
    MESSAGE,
    OTHER_RSA,
    RSA,
    OnlySigning,
    apply,
    keep,
    verdicts,
    zone,
)

from elemta.plugins import Action, InsertHeader
from elemta.plugins.builtin.dkim.keyring import LOOK_EVERY
from elemta.plugins.builtin.dkim.keystore import KeyState
from elemta.testing import PluginBench

ZONE = zone(
    ("example.test", "s1", RSA),
    ("example.test", "ed", ED25519),
    ("esp.test", "s2", OTHER_RSA),
    ("example.test", "new", OTHER_RSA),
)


@pytest.fixture
def keys(tmp_path):
    return tmp_path / "keys"


@pytest.fixture
async def bench(keys):
    made = []

    async def start(who="ann@example.test", **settings):
        it = PluginBench(OnlySigning, {"keys_dir": str(keys), **settings})
        made.append(it)
        await it.connect(is_trusted=who == "trusted")
        if who not in {"trusted", "stranger"}:
            it.session.username = who
        await it.mail_from("ann@example.test")
        return it

    yield start
    for it in made:
        await it.close()


async def signed(it, message=MESSAGE) -> bytes:
    """The message as it leaves."""
    answer = await it.enqueue(message)
    assert answer.action is Action.CONTINUE
    assert answer.error == ""
    return apply(message, answer.edits)


class TestWhat:
    async def test_another_implementation_says_yes(self, bench, keys):
        keep(keys, "example.test", "s1", RSA)
        left = await signed(await bench())
        assert left.startswith(b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example")
        assert left.endswith(MESSAGE)
        assert verdicts(left, ZONE) == [True]
        assert verdicts(left.replace(b"\r\nhello\r\n", b"\r\nhallo\r\n"), ZONE) == [False]
        assert verdicts(left.replace(b"Subject: hello", b"Subject: hallo"), ZONE) == [False]

    async def test_two_keys_sign_twice(self, bench, keys):
        keep(keys, "example.test", "s1", RSA)
        keep(keys, "example.test", "ed", ED25519)
        it = await bench()
        left = await signed(it)
        assert left.index(b"a=rsa-sha256") < left.index(b"a=ed25519-sha256")
        assert verdicts(left, ZONE) == [True, True]
        assert it.count("signatures", algorithm="rsa_sha256") == 1

    @pytest.mark.parametrize(
        "message",
        [
            MESSAGE.replace(b"hello\r\n", b"\r\n" * 40),
            MESSAGE.replace(b"hello\r\n", b""),
            MESSAGE.replace(b"Subject: hello", b"Subject: gr\xc3\xbc\xc3\x9fe"),
            MESSAGE.replace(b"\r\nhello\r\n", "\r\nüß \t ü\t\r\n \r\n".encode()),
            MESSAGE.replace(b"Subject: hello", b"Subject: a\r\n\tb  c\r\n  d"),
            MESSAGE.replace(b"Subject: hello", b"Subject:" + b" word" * 5000),
            MESSAGE.replace(b"Subject: hello", b"Subject: a\r\nsubject: b\r\nSUBJECT:c"),
            MESSAGE.replace(b"To: bob", b"To: " + b"x@other.test,\r\n " * 500 + b"bob"),
            MESSAGE + b"x" * 70_000 + b"\r\n",
            MESSAGE.replace(b"\r\nhello", b"DKIM-Signature: v=1; a=old\r\n\r\nhello"),
        ],
        ids=["blank", "empty", "utf8", "8bit", "folds", "long", "twice", "many", "line", "signed"],
    )
    async def test_messages_of_all_kinds(self, bench, keys, message):
        keep(keys, "example.test", "s1", RSA)
        left = await signed(await bench(), message)
        assert verdicts(left, ZONE)[0] is True

    async def test_what_could_be_added_is_signed_as_missing(self, bench, keys):
        keep(keys, "example.test", "s1", RSA)
        left = await signed(await bench())
        for line in (
            b"From: eve@evil.test\r\n",
            b"Subject: win\r\n",
            b"Content-Type: text/html\r\n",
        ):
            forged = left.replace(b"To: bob", line + b"To: bob")
            assert verdicts(forged, ZONE) == [False]

    async def test_it_expires_where_that_is_wanted(self, bench, keys):
        keep(keys, "example.test", "s1", RSA)
        left = await signed(await bench(expire_after=3600))
        assert b" t=1700000000; x=1700003600;" in left

    async def test_a_large_message_is_not_kept_in_memory(self, keys, tmp_path):
        keep(keys, "example.test", "s1", RSA)
        async with PluginBench(OnlySigning, {"keys_dir": str(keys)}) as it:
            signing = it.plugin.signing
            line = b"x" * 98 + b"\r\n"

            async def chunks():
                yield MESSAGE
                for _ in range(100):
                    yield line * 2621

            head = MESSAGE.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
            tracemalloc.start()
            edits = await signing.sign_own(head, chunks())
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 4_000_000
            whole = apply(MESSAGE, edits) + line * 2621 * 100
            assert len(whole) > 25_000_000
            assert verdicts(whole, ZONE) == [True]


class TestWhose:
    @pytest.mark.parametrize(
        ("who", "sign_for"),
        [
            ("ann@example.test", "authenticated"),
            ("trusted", "trusted"),
            ("unix:ann", "local"),
            ("plugin:dmarc-reports", "local"),
        ],
    )
    async def test_mail_of_those_we_know(self, bench, keys, who, sign_for):
        keep(keys, "example.test", "s1", RSA)
        assert len((await (await bench(who)).enqueue(MESSAGE)).edits) == 1
        assert len((await (await bench(who, sign_for=[sign_for])).enqueue(MESSAGE)).edits) == 1
        others = {"authenticated", "trusted", "local"} - {sign_for}
        assert (await (await bench(who, sign_for=sorted(others))).enqueue(MESSAGE)).edits == ()

    async def test_no_mail_of_strangers(self, bench, keys):
        keep(keys, "example.test", "s1", RSA)
        assert (await (await bench("stranger")).enqueue(MESSAGE)).edits == ()

    async def test_nothing_where_signing_is_off(self, bench, keys):
        keep(keys, "example.test", "s1", RSA)
        assert (await (await bench(sign=False)).enqueue(MESSAGE)).edits == ()


class TestByWhom:
    async def test_a_domain_without_keys(self, bench, keys):
        keep(keys, "example.test", "s1", RSA)
        it = await bench()
        long = b"ann@" + b"a." * 120 + b"test"
        wide = "ann@üß.test".encode()
        for author in (b"ann@other.test", b"ann@[192.0.2.1]", b"nonsense", b"a@b, c", long, wide):
            message = MESSAGE.replace(b"ann@example.test", author)
            assert (await it.enqueue(message)).edits == ()
            assert (await it.enqueue(message)).error == ""
        assert it.log == []

    async def test_no_author_or_several_fields_of_them(self, bench, keys):
        keep(keys, "example.test", "s1", RSA)
        it = await bench()
        for begin in (b"", b"From: ann@example.test\r\nFrom: bob@example.test\r\n"):
            message = begin + b"Subject: x\r\n\r\nhello\r\n"
            assert (await it.enqueue(message)).edits == ()

    async def test_the_domain_above_signs(self, bench, keys):
        keep(keys, "example.test", "s1", RSA)
        message = MESSAGE.replace(b"ann@example.test", b"ann@a.b.example.test")
        left = await signed(await bench(), message)
        assert b" d=example.test;" in left
        assert verdicts(left, ZONE) == [True]
        assert (await (await bench(parents=False)).enqueue(message)).edits == ()

    async def test_the_envelope_chooses(self, bench, keys):
        keep(keys, "example.test", "s1", RSA)
        message = MESSAGE.replace(b"ann@example.test", b"ann@other.test")
        it = await bench(sign_by="envelope")
        assert b" d=example.test;" in await signed(it, message)
        await it.mail_from("")
        assert (await it.enqueue(message)).edits == ()  # then From does
        assert b" d=example.test;" in await signed(it)

    async def test_others_sign_for_a_domain(self, bench, keys):
        keep(keys, "example.test", "s1", RSA)
        keep(keys, "esp.test", "s2", OTHER_RSA)
        it = await bench(
            signers={"example.test": ["example.test", "esp.test"], "*.sub.test": ["esp.test"]}
        )
        left = await signed(it)
        assert left.index(b"d=example.test") < left.index(b"d=esp.test")
        assert verdicts(left, ZONE) == [True, True]
        below = MESSAGE.replace(b"ann@example.test", b"ann@a.b.sub.test")
        assert verdicts(await signed(it, below), ZONE) == [True]
        for other in (b"ann@sub.test", b"ann@other.test"):
            assert (await it.enqueue(MESSAGE.replace(b"ann@example.test", other))).edits == ()

    async def test_somebody_signs_for_all_others(self, bench, keys):
        keep(keys, "esp.test", "s2", OTHER_RSA)
        it = await bench(signers={"*": ["esp.test"]})
        for author in (b"ann@other.test", b"nonsense"):
            left = await signed(it, MESSAGE.replace(b"ann@example.test", author))
            assert b"d=esp.test" in left

    async def test_a_tenant_has_signers_of_its_own(self, bench, keys):
        keep(keys, "example.test", "s1", RSA)
        keep(keys, "esp.test", "s2", OTHER_RSA)
        tenants = {"Example.test": ["example.test", "esp.test"], "Acme Ltd": ["ESP.test"]}
        it = await bench(tenants=tenants, signers={"*": ["example.test"]})
        message = MESSAGE.replace(b"ann@example.test", b"ann@other.test")
        left = await signed(it, message)
        assert left.index(b"d=example.test") < left.index(b"d=esp.test")
        assert verdicts(left, ZONE) == [True, True]
        it.session.metadata["tenant"] = "ACME ltd"
        left = await signed(it, message)
        assert b"d=example.test" not in left
        assert verdicts(left, ZONE) == [True]
        it.session.metadata["tenant"] = "another"
        assert b"d=esp.test" not in await signed(it)

    async def test_a_signer_of_a_tenant_has_to_have_keys(self, bench, keys):
        keep(keys, "example.test", "s1", RSA)
        it = await bench(tenants={"example.test": ["example.test", "esp.test"]})
        answer = await it.enqueue(MESSAGE)
        assert str(answer.reply).startswith("451 4.7.7 ")
        assert "esp.test is to sign, and has no keys" in answer.note
        with pytest.raises(ValueError, match="at least one domain"):
            await bench(tenants={"example.test": []})

    @pytest.mark.parametrize("state", ["pending", "retiring", "retired"])
    async def test_only_active_keys_sign(self, bench, keys, state):
        keep(keys, "example.test", "s1", RSA, KeyState(state))
        assert (await (await bench()).enqueue(MESSAGE)).edits == ()
        keep(keys, "example.test", "new", OTHER_RSA)
        left = await signed(await bench())
        assert b" s=new;" in left
        assert verdicts(left, ZONE) == [True]

    async def test_a_key_of_the_configuration(self, bench, tmp_path):
        path = tmp_path / "dkim.key"
        path.write_bytes(RSA.pem())
        path.chmod(0o600)
        given = {"selector": "S1", "domains": ["Example.test"]}
        left = await signed(await bench(private_key=str(path), **given))
        assert verdicts(left, ZONE) == [True]
        left = await signed(await bench(private_key=RSA.pem().decode(), **given))
        assert verdicts(left, ZONE) == [True]

    async def test_the_family_method(self, bench, keys):
        keep(keys, "example.test", "s1", RSA)
        keep(keys, "esp.test", "s2", OTHER_RSA)

        class Asking(OnlySigning):
            async def on_filter(self, ctx):
                self.value = await self.signing.sign_message(ctx, "esp.test")
                with pytest.raises(Exception, match=r"other\.test has no key that signs"):
                    await self.signing.sign_message(ctx, "other.test")

        async with PluginBench(Asking, {"keys_dir": str(keys)}) as it:
            assert (await it.filter(MESSAGE)).error == ""
            left = apply(MESSAGE, [InsertHeader("DKIM-Signature", it.plugin.value)])
            assert verdicts(left, ZONE) == [True]


class TestTrouble:
    async def test_mail_waits_for_its_key(self, bench, keys):
        store = keep(keys, "example.test", "s1", RSA)
        path = store.key_path("example.test", "s1")
        path.unlink()
        it = await bench()
        answer = await it.enqueue(MESSAGE)
        assert str(answer.reply) == "451 4.7.7 Cannot be signed now, try again later"
        assert "s1.pem: No such file" in answer.note
        assert it.count("keys_missing") == 1
        await it.enqueue(MESSAGE)
        (line,) = it.log  # not one for each message
        assert line[0] == "error"
        it.clock.advance(61)
        await it.enqueue(MESSAGE)
        assert len(it.log) == 2
        path.write_bytes(RSA.pem())
        path.chmod(0o600)
        it.clock.advance(LOOK_EVERY)
        assert verdicts(await signed(it), ZONE) == [True]

    async def test_or_goes_unsigned(self, bench, keys):
        store = keep(keys, "example.test", "s1", RSA)
        store.key_path("example.test", "s1").unlink()
        it = await bench(on_missing_key="send")
        answer = await it.enqueue(MESSAGE)
        assert (answer.action, answer.edits) == (Action.CONTINUE, ())
        assert it.log[0][0] == "error"
        keep(keys, "example.test", "ed", ED25519)
        it.clock.advance(LOOK_EVERY)
        assert verdicts(await signed(it), ZONE) == [True]  # with the key that is left

    async def test_a_key_that_others_can_read(self, bench, keys):
        store = keep(keys, "example.test", "s1", RSA)
        path = store.key_path("example.test", "s1")
        path.chmod(0o644)
        it = await bench()
        answer = await it.enqueue(MESSAGE)
        assert answer.is_refused
        assert f"chmod 600 {path}" in answer.note
        path.chmod(0o600)
        it.clock.advance(LOOK_EVERY)
        assert verdicts(await signed(it), ZONE) == [True]
        path.chmod(0o640)
        it.clock.advance(LOOK_EVERY)
        assert (await it.enqueue(MESSAGE)).is_refused  # noticed also later

    @pytest.mark.parametrize("content", [b"nonsense", OTHER_RSA.pem()])
    async def test_a_key_that_is_another(self, bench, keys, content):
        store = keep(keys, "example.test", "s1", RSA)
        store.key_path("example.test", "s1").write_bytes(content)
        assert (await (await bench()).enqueue(MESSAGE)).is_refused

    async def test_a_broken_index(self, bench, keys):
        store = keep(keys, "example.test", "s1", RSA)
        (store.folder / "example.test" / "keys.json").write_bytes(b"{")
        answer = await (await bench()).enqueue(MESSAGE)
        assert "is not as it was written" in answer.note

    async def test_a_signer_without_keys(self, bench, keys):
        keep(keys, "example.test", "s1", RSA)
        it = await bench(signers={"example.test": ["example.test", "esp.test"]})
        answer = await it.enqueue(MESSAGE)
        assert answer.is_refused
        assert "esp.test is to sign, and has no keys" in answer.note
        keep(keys, "esp.test", "s2", OTHER_RSA, KeyState.PENDING)
        it.clock.advance(LOOK_EVERY)
        assert verdicts(await signed(it), ZONE) == [True]  # it is on its way

    async def test_a_key_of_the_configuration_that_is_not_there(self, bench, tmp_path):
        it = await bench(
            private_key=str(tmp_path / "none"), selector="s1", domains=["example.test"]
        )
        assert "none: No such file" in (await it.enqueue(MESSAGE)).note


class TestChanges:
    async def test_a_new_key_is_noticed(self, bench, keys):
        it = await bench()
        assert (await it.enqueue(MESSAGE)).edits == ()
        keep(keys, "example.test", "s1", RSA)
        assert (await it.enqueue(MESSAGE)).edits == ()  # the disk is not asked for each message
        it.clock.advance(LOOK_EVERY)
        assert verdicts(await signed(it), ZONE) == [True]

    async def test_keys_are_kept_in_memory(self, bench, keys, monkeypatch):
        keep(keys, "example.test", "s1", RSA)
        it = await bench()
        await signed(it)
        ring = await it.plugin.signing.keyring.find("example.test")
        it.clock.advance(3600)
        assert await it.plugin.signing.keyring.find("example.test") is ring

    async def test_many_at_once_read_the_key_once(self, bench, keys):
        keep(keys, "example.test", "s1", RSA)
        it = await bench()
        keyring = it.plugin.signing.keyring
        rings = await asyncio.gather(*(keyring.find("example.test") for _ in range(100)))
        assert all(ring is rings[0] for ring in rings)

    async def test_many_in_parallel(self, bench, keys):
        keep(keys, "example.test", "s1", RSA)
        keep(keys, "example.test", "ed", ED25519)
        it = await bench()
        contents = [MESSAGE.replace(b"hello", f"hello {n}".encode()) for n in range(100)]
        answers = await asyncio.gather(*(it.enqueue(content) for content in contents))
        for content, answer in zip(contents, answers, strict=True):
            assert verdicts(apply(content, answer.edits), ZONE) == [True, True]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"selector": "s1"}, "need one another"),
        ({"private_key": "/x"}, "need one another"),
        ({"private_key": "/x", "selector": "s1"}, "needs domains to sign for"),
        ({"selector": "a b", "private_key": "/x", "domains": ["a.test"]}, "not a selector"),
        ({"domains": ["a b"]}, "domain is not valid"),
        ({"domains": ["[192.0.2.1]"]}, "not a domain"),
        ({"signers": {"example.test": []}}, "at least one"),
        ({"signers": {"*": ["*"]}}, "not valid"),
        ({"signers": {"*.": ["a.test"]}}, "not valid"),
        ({"sign_for": ["everyone"]}, "sign_for"),
        ({"check_every": 0}, "check_every"),
    ],
)
def test_settings_that_cannot_be(settings, problem):
    with pytest.raises(ValueError, match=problem):
        OnlySigning.Settings.model_validate(settings)
