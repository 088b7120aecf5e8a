"""What is said of a login, and what it costs."""

import asyncio
import threading
import time
from ipaddress import ip_network

import pytest
from accounts.desk import ARGON2, BOUND, PEER, Desk

from elemta.accounts import Account, AppPassword, Claim, Peer, Result
from elemta.accounts.app_passwords import digest_of, make_secret
from elemta.accounts.hashes import Argon2Settings, verify
from elemta.accounts.hashing import Workshop
from elemta.accounts.passwords import Keeping
from elemta.accounts.rules import Rule
from elemta.accounts.source import RegisterSource
from elemta.mail.hours import parse_hours
from elemta.testing.accounts import FakeDirectory, MemoryRegister

NEW = Keeping(Argon2Settings(memory=128, passes=1), 8192)


async def test_right_and_wrong(desk):
    desk.add("me@example.test", "hunter2", groups=("staff",))
    verdict = await desk.say("Me@Example.Test", "hunter2")
    assert verdict.result is Result.OK
    assert (verdict.account.name, verdict.account.groups) == ("me@example.test", ("staff",))
    for login, password, reason in (
        ("me@example.test", "hunter3", "the password is wrong"),
        ("me@example.tes", "hunter2", "there is no such account"),
        ("a b", "hunter2", "the name is empty, too long or has spaces in it"),
        ("me@example.test", "a\x01b", "the password has control characters in it"),
    ):
        verdict = await desk.say(login, password)
        assert (verdict.result, verdict.account, verdict.reason) == (Result.WRONG, None, reason)


def test_mechanisms_are_offered_strongest_first(make_desk):
    desk = make_desk()
    assert desk.auth.mechanisms(PEER) == ("SCRAM-SHA-256", "PLAIN", "LOGIN")
    peer = Peer("192.0.2.1", tls_exporter=b"x", identity="me")
    assert desk.auth.mechanisms(peer)[:3] == ("EXTERNAL", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256")
    only = make_desk(mechanisms=frozenset({"PLAIN", "CRAM-MD5", "SCRAM-SHA-256-PLUS"}))
    assert only.auth.mechanisms(BOUND) == ("SCRAM-SHA-256-PLUS", "CRAM-MD5", "PLAIN")
    assert only.auth.begin("LOGIN", BOUND) is None
    assert only.auth.begin("scram-sha-256-plus", BOUND) is not None
    assert only.auth.begin("NTLM", BOUND) is None


class Gate:
    """Counts the hashes that are verified, in place of none."""

    def __init__(self, monkeypatch):
        self.verified: list[str] = []
        run = Workshop.run

        async def counting(shop, work, *arguments, **more):
            if work.__name__ == "verify":
                self.verified.append(arguments[0])
            return await run(shop, work, *arguments, **more)

        monkeypatch.setattr(Workshop, "run", counting)


async def test_the_same_work_for_who_is_there_and_who_is_not(desk, monkeypatch):
    desk.add("me", "hunter2")
    desk.add("empty")
    desk.add("locked", "hunter2", is_locked=True)
    gate = Gate(monkeypatch)
    for login in ("me", "nobody", "empty", "locked", "a b", "me"):
        gate.verified.clear()
        verdict = await desk.say(login, "wrong")
        assert verdict.result is Result.WRONG
        assert len(gate.verified) == 1, login
        assert gate.verified[0].startswith("$argon2id$v=19$m=64,t=1,p=1$")
    gate.verified.clear()
    assert (await desk.say("locked", "hunter2")).result is Result.WRONG
    assert len(gate.verified) == 1


async def test_times_of_known_and_unknown_logins_are_alike(make_desk):
    """With hashes that take some milliseconds: the medians differ by less than the noise."""
    argon2 = Argon2Settings(memory=8 * 1024, passes=2)
    desk = make_desk(argon2=argon2)
    desk.add("me", "hunter2", Keeping(argon2, 4096))
    times: dict[str, list[float]] = {"me": [], "nobody": []}
    for _ in range(15):
        for login, taken in times.items():
            before = time.process_time()  # what others do on this machine is not in it
            await desk.say(login, "wrong")
            taken.append(time.process_time() - before)
    known, unknown = (sorted(taken)[len(taken) // 2] for taken in times.values())
    assert 0.5 < known / unknown < 2


async def test_a_password_is_remembered_for_a_minute(desk, monkeypatch):
    desk.add("me", "hunter2")
    gate = Gate(monkeypatch)
    for _ in range(5):
        assert (await desk.say("me", "hunter2")).result is Result.OK
    assert len(gate.verified) == 1
    assert (await desk.say("me", "hunter3")).result is Result.WRONG
    assert len(gate.verified) == 2
    desk.clock.advance(60)
    assert (await desk.say("me", "hunter2")).result is Result.OK
    assert len(gate.verified) == 3


async def test_what_is_remembered_is_void_when_the_password_changes(desk):
    desk.add("me", "hunter2")
    assert (await desk.say("me", "hunter2")).result is Result.OK
    desk.add("me", "hunter3")
    assert (await desk.say("me", "hunter2")).result is Result.WRONG
    assert (await desk.say("me", "hunter3")).result is Result.OK
    desk.change_account("me", is_locked=True)
    assert (await desk.say("me", "hunter3")).result is Result.WRONG
    desk.register.edit("me", lambda _: None)
    assert (await desk.say("me", "hunter3")).result is Result.WRONG


async def test_nothing_is_remembered_where_that_is_wanted(make_desk, monkeypatch):
    desk = make_desk(remember_for=0.0)
    desk.add("me", "hunter2")
    gate = Gate(monkeypatch)
    for _ in range(3):
        await desk.say("me", "hunter2")
    assert len(gate.verified) == 3


async def test_locked(desk):
    desk.add("me", "hunter2", is_locked=True)
    verdict = await desk.say("me", "hunter2")
    assert (verdict.result, verdict.reason) == (Result.WRONG, "the account is locked")


async def test_rules(make_desk):
    weekdays = Rule(groups=frozenset({"staff"}), hours=(parse_hours("Mon-Fri 08:00-18:00"),))
    here = Rule(logins=frozenset({"me"}), networks=(ip_network("192.0.2.0/24"),))
    desk = make_desk(rules=(weekdays, here))
    desk.add("me", "hunter2", groups=("staff",))
    desk.add("you", "hunter2")
    desk.clock.set(1_700_000_000.0)  # Tuesday, 22:13
    verdict = await desk.say("me", "hunter2")
    assert verdict.result is Result.WRONG
    assert verdict.reason == "outside the hours allowed: Tue 22:13 in UTC"
    assert (await desk.say("you", "hunter2")).result is Result.OK
    desk.clock.set(1_700_000_000.0 + 12 * 3600)  # Wednesday, 10:13
    verdict = await desk.say("me", "hunter2")
    assert verdict.result is Result.OK
    assert verdict.account.rules == (weekdays, here)
    verdict = await desk.say("me", "hunter2", peer=Peer("198.51.100.1"))
    assert verdict.reason == "outside the networks allowed"
    assert (await desk.say("you", "hunter2", peer=Peer("198.51.100.1"))).result is Result.OK


class TestAuthzid:
    @pytest.fixture(autouse=True)
    def accounts(self, desk):
        desk.add("me", "hunter2", act_as=("shared", "gone", "closed"))
        desk.add("shared", senders=("shared@example.test",))
        desk.add("closed", is_locked=True)
        desk.add("you", "hunter2")

    async def test_its_own_login_is_fine(self, desk):
        for authzid in ("me", "ME", ""):
            assert (await desk.say("me", "hunter2", authzid=authzid)).account.name == "me"

    async def test_another_that_is_allowed(self, desk):
        verdict = await desk.say("me", "hunter2", authzid="Shared")
        assert verdict.account.name == "shared"
        assert verdict.account.senders == ("shared@example.test",)

    @pytest.mark.parametrize("authzid", ["you", "gone", "closed", "nobody", "a b"])
    async def test_others_are_refused(self, desk, authzid):
        verdict = await desk.say("me", "hunter2", authzid=authzid)
        assert (verdict.result, verdict.account) == (Result.WRONG, None)

    async def test_a_wrong_password_is_wrong_first(self, desk):
        verdict = await desk.say("me", "hunter3", authzid="shared")
        assert verdict.reason == "the password is wrong"

    async def test_for_external_too(self, desk):
        peer = Peer("192.0.2.1", identity="me")
        claim = Claim("EXTERNAL", "me", "you", proven=True)
        assert (await desk.auth.judge(claim, peer)).result is Result.WRONG
        claim = Claim("EXTERNAL", "me", "shared", proven=True)
        assert (await desk.auth.judge(claim, peer)).account.name == "shared"


class TestSources:
    """Several of them: the first that knows a login decides."""

    @pytest.fixture
    def registers(self):
        return MemoryRegister(), MemoryRegister()

    @pytest.fixture
    def desk(self, make_desk, registers):
        desk = make_desk([RegisterSource(each) for each in registers])
        for number, register in enumerate(registers):
            desk.register = register
            desk.add("both", f"password{number}")
            desk.add(f"only{number}", "hunter2")
        return desk

    async def test_the_first_that_knows_it_decides(self, desk):
        assert (await desk.say("both", "password0")).result is Result.OK
        assert (await desk.say("both", "password1")).result is Result.WRONG
        assert (await desk.say("only0", "hunter2")).result is Result.OK
        assert (await desk.say("only1", "hunter2")).result is Result.OK

    async def test_the_second_is_down(self, desk, registers):
        registers[1].trouble = "gone"
        assert (await desk.say("only0", "hunter2")).result is Result.OK
        assert (await desk.say("only0", "wrong")).result is Result.WRONG
        for login in ("only1", "nobody"):
            assert (await desk.say(login, "hunter2")).result is Result.DOWN

    async def test_the_first_is_down(self, desk, registers):
        registers[0].trouble = "gone"
        for login in ("only0", "only1", "both", "nobody"):
            verdict = await desk.say(login, "hunter2")
            assert (verdict.result, verdict.account) == (Result.DOWN, None)
            assert verdict.reason == "memory: gone"

    async def test_it_is_told_once(self, make_desk):
        desk = make_desk()
        desk.register.trouble = "gone"
        for _ in range(3):
            await desk.say("me", "hunter2")
        desk.register.trouble = ""
        for _ in range(3):
            await desk.say("me", "hunter2")
        assert [event.detail for event in desk.events] == ["memory: gone", "memory: it is back"]


class TestDirectory:
    """A source that verifies passwords itself, as an LDAP server does."""

    @pytest.fixture
    def directory(self):
        return FakeDirectory()

    @pytest.fixture
    def desk(self, make_desk, directory):
        desk = make_desk([directory])
        desk.add("me")
        record = desk.register.find("me")
        directory.put(record, "hunter2")
        return desk

    async def test_it_decides(self, desk, directory):
        assert (await desk.say("me", "hunter2")).result is Result.OK
        assert (await desk.say("me", "hunter3")).result is Result.WRONG
        assert (await desk.say("me", "hunter2")).result is Result.OK
        assert directory.asked == 2, "a right password is remembered here, too"

    async def test_it_goes_down_in_the_middle(self, desk, directory, monkeypatch):
        look_up = directory.look_up

        async def then_fail(login):
            record = await look_up(login)
            directory.trouble = "gone"
            return record

        monkeypatch.setattr(directory, "look_up", then_fail)
        assert (await desk.say("me", "hunter2")).result is Result.DOWN


class TestRenewal:
    async def test_an_old_hash_is_made_anew_at_login(self, make_desk):
        desk = make_desk(argon2=NEW.argon2, scram_iterations=NEW.scram_iterations)
        old = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"
        desk.add("me")
        desk.change("me", password_hash=old)
        assert (await desk.say("me", "wrong")).result is Result.WRONG
        await desk.auth._aftermath.settle()
        assert desk.register.find("me").password_hash == old
        assert (await desk.say("me", "U*U")).result is Result.OK
        await desk.auth._aftermath.settle()
        record = desk.register.find("me")
        assert record.password_hash.startswith("$argon2id$v=19$m=128,t=1,p=1$")
        assert record.scram.iterations == 8192
        assert (await desk.say("me", "U*U")).result is Result.OK
        await desk.auth._aftermath.settle()
        assert desk.register.find("me") == record

    async def test_a_password_that_was_set_meanwhile_stays(self, make_desk, monkeypatch):
        desk = make_desk(argon2=NEW.argon2)
        desk.add("me", "hunter2")
        edit = RegisterSource.edit

        async def late(source, login, change):
            desk.add("me", "hunter3")
            await edit(source, login, change)

        monkeypatch.setattr(RegisterSource, "edit", late)
        assert (await desk.say("me", "hunter2")).result is Result.OK
        await desk.auth._aftermath.settle()
        assert (await desk.say("me", "hunter3")).result is Result.OK
        assert (await desk.say("me", "hunter2")).result is Result.WRONG

    async def test_a_register_that_is_not_ours_is_left_alone(self, make_desk):
        desk = make_desk(argon2=NEW.argon2)
        desk.register.is_ours = False
        desk.add("me", "hunter2")
        before = desk.register.find("me")
        assert (await desk.say("me", "hunter2")).result is Result.OK
        await desk.auth._aftermath.settle()
        assert desk.register.find("me") == before

    async def test_the_secret_for_cram_goes_when_nobody_wants_it(self, make_desk):
        desk = make_desk(mechanisms=frozenset({"PLAIN"}))
        desk.add("me", "hunter2", Keeping(ARGON2, 4096, keeps_secret=True))
        assert desk.register.find("me").secret == "hunter2"
        await desk.say("me", "hunter2")
        await desk.auth._aftermath.settle()
        assert desk.register.find("me").secret == ""


class TestAppPasswords:
    @pytest.fixture
    def secret(self, desk):
        secret = make_secret()
        app = AppPassword("phone", digest_of(secret), created_at=desk.clock.now())
        desk.add("me", "hunter2")
        desk.change("me", app_passwords=(app,))
        return secret

    def app(self, desk):
        return desk.register.find("me").app_passwords[0]

    def set(self, desk, **changes):
        record = desk.register.find("me")
        (app,) = record.app_passwords
        fields = {name: getattr(app, name) for name in app.__slots__}
        desk.change("me", app_passwords=(AppPassword(**{**fields, **changes}),))

    async def test_it_works_beside_the_password_and_costs_no_hash(self, desk, secret, monkeypatch):
        gate = Gate(monkeypatch)
        verdict = await desk.say("me", secret)
        assert (verdict.result, verdict.app_password) == (Result.OK, "phone")
        assert gate.verified == []
        verdict = await desk.say("me", "hunter2")
        assert (verdict.result, verdict.app_password) == (Result.OK, "")

    async def test_of_somebody_else_or_wrong_it_costs_the_usual(self, desk, secret, monkeypatch):
        desk.add("you", "hunter2")
        gate = Gate(monkeypatch)
        for login, password in (("you", secret), ("nobody", secret), ("me", make_secret())):
            assert (await desk.say(login, password)).result is Result.WRONG
        assert len(gate.verified) == 3

    async def test_when_it_was_used_is_noted_once_a_minute(self, desk, secret):
        begun = desk.clock.now()
        for step, noted in ((0, 0), (59, 0), (1, 60), (3600, 3660)):
            desk.clock.advance(step)
            assert (await desk.say("me", secret)).result is Result.OK
            await desk.auth._aftermath.settle()
            assert self.app(desk).last_used_at == begun + noted

    async def test_it_expires(self, desk, secret):
        self.set(desk, expires_at=desk.clock.now() + 10)
        assert (await desk.say("me", secret)).result is Result.OK
        desk.clock.advance(10)
        verdict = await desk.say("me", secret)
        assert (verdict.result, verdict.reason) == (Result.WRONG, "the app password has expired")

    async def test_networks_and_scope(self, desk, secret):
        self.set(desk, networks=(ip_network("198.51.100.0/24"),))
        assert (await desk.say("me", secret)).result is Result.WRONG
        assert (await desk.say("me", secret, peer=Peer("198.51.100.7"))).result is Result.OK
        self.set(desk, networks=(), scope="queue")
        verdict = await desk.say("me", secret)
        assert verdict.reason == "the app password is not for submit"

    async def test_a_locked_account_has_none(self, desk, secret):
        desk.change_account("me", is_locked=True)
        assert (await desk.say("me", secret)).result is Result.WRONG

    async def test_revoked(self, desk, secret):
        assert (await desk.say("me", secret)).result is Result.OK
        desk.change("me", app_passwords=())
        assert (await desk.say("me", secret)).result is Result.WRONG


class TestVouching:
    """A password that somebody else has checked."""

    @pytest.mark.parametrize("has_sources", [True, False])
    async def test_no_source_need_know_the_account(self, make_desk, has_sources):
        desk = make_desk()
        if not has_sources:
            await desk.auth.reload(desk.auth._settings, [])
        claim = Claim("PLAIN", "Me@Example.test", "ME@example.test", "hunter2")
        verdict = await desk.auth.vouch(claim, PEER)
        assert (verdict.result, verdict.account) == (Result.OK, Account("me@example.test"))
        for login, authzid in (("me", "you"), ("me", "a b"), ("a b", "")):
            verdict = await desk.auth.vouch(Claim("PLAIN", login, authzid, "hunter2"), PEER)
            assert (verdict.result, verdict.account) == (Result.WRONG, None)

    async def test_what_a_source_knows_of_it_holds(self, desk):
        desk.add("boss", "other", act_as=("me",), groups=("staff",))
        desk.add("me", "hunter2", is_locked=True)
        claim = Claim("PLAIN", "boss", password="hunter2")
        verdict = await desk.auth.vouch(claim, PEER)
        assert (verdict.result, verdict.account.groups) == (Result.OK, ("staff",))
        as_other = Claim("PLAIN", "boss", "me", "hunter2")
        verdict = await desk.auth.vouch(as_other, PEER)
        assert verdict.reason == "as whom it wants to act: the account is locked"
        desk.change_account("me", is_locked=False)
        assert (await desk.auth.vouch(as_other, PEER)).account.name == "me"
        desk.change_account("boss", is_locked=True)
        verdict = await desk.auth.vouch(claim, PEER)
        assert (verdict.result, verdict.reason) == (Result.WRONG, "the account is locked")

    async def test_rules_for_everybody_hold(self, make_desk):
        rule = Rule(networks=(ip_network("198.51.100.0/24"),))
        desk = make_desk(rules=(rule,))
        claim = Claim("PLAIN", "me", password="hunter2")
        assert (await desk.auth.vouch(claim, PEER)).result is Result.WRONG
        near = Peer("198.51.100.7")
        assert (await desk.auth.vouch(claim, near)).account.rules == (rule,)

    async def test_while_a_source_is_down_nothing_is_decided(self, desk):
        desk.register.trouble = "gone"
        verdict = await desk.auth.vouch(Claim("PLAIN", "me", password="hunter2"), PEER)
        assert verdict.result is Result.DOWN


async def test_beyond_the_cap_logins_are_put_off(make_desk):
    """The loop goes on meanwhile, and nothing is decided for want of threads."""
    desk = make_desk(hash_threads=1, max_waiting=2)
    desk.add("me", "hunter2")
    gate = threading.Event()
    blocked = [asyncio.ensure_future(desk.auth._workshop.run(gate.wait)) for _ in range(3)]
    await asyncio.sleep(0)
    for login in ("me", "nobody"):
        verdict = await desk.say(login, "hunter2")
        assert (verdict.result, verdict.reason) == (Result.DOWN, "passwords: busy")
    gate.set()
    await asyncio.gather(*blocked)
    assert (await desk.say("me", "hunter2")).result is Result.OK


async def test_hashes_are_computed_beside_the_loop(desk, monkeypatch):
    desk.add("me", "hunter2")
    threads = []

    def noting(kept, password):
        threads.append(threading.current_thread())
        return verify(kept, password)

    monkeypatch.setattr("elemta.accounts.authenticator.verify", noting)
    await desk.say("me", "wrong")
    await desk.say("nobody", "wrong")
    assert len(threads) == 2
    assert threading.main_thread() not in threads


async def test_who_gives_up_waiting_makes_no_room_before_the_work_is_done():
    shop = Workshop("test", 1, 0)
    gate = threading.Event()
    task = asyncio.ensure_future(shop.run(gate.wait))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert shop._room == 0
    gate.set()
    await shop.close()
    assert shop._room == 1


async def test_a_reload_changes_all(desk):
    desk.add("me", "hunter2")
    other = Desk(mechanisms=frozenset({"PLAIN"}))
    other.add("you", "hunter2")
    assert (await desk.say("me", "hunter2")).result is Result.OK
    await desk.auth.reload(other.auth._settings, [RegisterSource(other.register)])
    assert desk.auth.mechanisms(BOUND) == ("PLAIN",)
    assert (await desk.say("me", "hunter2")).result is Result.WRONG
    assert (await desk.say("you", "hunter2")).result is Result.OK
    await other.auth.close()


async def test_once_closed_all_is_down(desk):
    desk.add("me", "hunter2")
    await desk.auth.close()
    await desk.auth.close()
    assert (await desk.say("me", "hunter2")).result is Result.DOWN
