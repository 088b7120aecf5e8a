"""What is written about a message, and what is removed from it."""

import authres
import pytest

from elemta.mailauth import (
    ArcVerdict,
    AuthStatus,
    DkimVerdict,
    DmarcVerdict,
    IprevVerdict,
    SpfVerdict,
)
from elemta.plugins import Action, InsertHeader, RemoveHeader
from elemta.plugins.builtin.authentication_results import MAX_REMOVED, AuthenticationResults
from elemta.testing import PluginBench

FIELD = "Authentication-Results"
PASS, FAIL = AuthStatus.PASS, AuthStatus.FAIL
FORGED = "Authentication-Results: mx.example.test; spf=pass\r\n"
FOREIGN = "Authentication-Results: other.test; spf=pass\r\n"


def bench(**settings):
    return PluginBench(AuthenticationResults, settings)


async def test_all_results_in_one_field():
    async with bench() as it:
        await it.connect("192.0.2.7")
        await it.helo("mx.sender.test")
        await it.mail_from("ann@sender.test")
        about = it.session.message.authentication
        about.iprev = IprevVerdict(PASS, "mx.sender.test")
        about.spf_helo = SpfVerdict(AuthStatus.NONE, "mx.sender.test", "helo")
        about.spf = SpfVerdict(PASS, "sender.test")
        about.dkim = (
            DkimVerdict(PASS, "sender.test", "s1", algorithm="rsa-sha256", key_bits=2048),
            DkimVerdict(FAIL, "list.test", "s2", problem="the body; or (not) \r\n it"),
        )
        about.dmarc = DmarcVerdict(PASS, "sender.test", published="reject", policy="reject")
        about.arc = ArcVerdict(FAIL, 2, problem="x")
        answer = await it.data("Subject: hello\r\n\r\n")
        (edit,) = answer.edits
        assert (answer.action, edit.name, edit.index) == (Action.CONTINUE, FIELD, 0)
        assert it.session.metadata["authentication-results"] == edit.value
        found = authres.AuthenticationResultsHeader.parse(f"{FIELD}: {edit.value}")
        assert found.authserv_id == "mx.example.test"
        assert [(each.method, each.result) for each in found.results] == [
            ("iprev", "pass"),
            ("spf", "none"),
            ("spf", "pass"),
            ("dkim", "pass"),
            ("dkim", "fail"),
            ("dmarc", "pass"),
            ("arc", "fail"),
        ]


async def test_nothing_is_written_where_nothing_is_known():
    async with bench() as it:
        await it.mail_from()
        assert (await it.data("Subject: hello\r\n\r\n")).edits == ()
        assert "authentication-results" not in it.session.metadata


async def test_who_has_logged_in():
    for shown, value in (
        (True, "mx.example.test; auth=pass smtp.auth=ann@example.test"),
        (False, ""),
    ):
        async with bench(show_login=shown) as it:
            await it.connect("192.0.2.7", username="ann@example.test")
            await it.mail_from()
            await it.data("Subject: hello\r\n\r\n")
            assert it.session.metadata.get("authentication-results", "") == value


async def test_what_was_written_before_is_forgotten():
    async with bench() as it:
        await it.mail_from()
        it.session.message.authentication.spf = SpfVerdict(PASS, "sender.test")
        await it.data("Subject: hello\r\n\r\n")
        assert it.session.metadata["authentication-results"]
        await it.mail_from()
        await it.data("Subject: hello\r\n\r\n")
        assert "authentication-results" not in it.session.metadata


async def test_forged_fields_are_removed_by_their_numbers():
    async with bench() as it:
        await it.mail_from()
        answer = await it.data(f"{FORGED}{FOREIGN}Subject: x\r\n{FORGED.upper()}\r\n")
        assert answer.edits == (RemoveHeader(FIELD, 3), RemoveHeader(FIELD, 1))
        assert it.count("removed") == 2


async def test_of_a_flood_nothing_stays():
    async with bench() as it:
        await it.mail_from()
        answer = await it.data(FORGED * (MAX_REMOVED + 1) + FOREIGN + "\r\n")
        assert answer.edits == (RemoveHeader(FIELD),)


async def test_under_another_name():
    async with bench(authserv_id="Example.TEST") as it:
        await it.mail_from()
        it.session.message.authentication.spf = SpfVerdict(PASS, "sender.test")
        answer = await it.data(f"{FORGED}{FOREIGN}\r\n")
        removed, inserted = answer.edits
        assert removed == RemoveHeader(FIELD, 1)  # below our name
        assert isinstance(inserted, InsertHeader)
        assert inserted.value.startswith("example.test; spf=pass")


@pytest.mark.parametrize("name", ["two words", "a;b", "-", "a..b"])
async def test_what_is_no_name(name):
    with pytest.raises(ValueError, match="authserv_id"):
        bench(authserv_id=name)


async def test_fields_of_our_other_servers_may_stay():
    async with bench(keep_trusted=True) as it:
        await it.connect("192.0.2.7", is_trusted=True)
        await it.mail_from()
        assert (await it.data(f"{FORGED}\r\n")).edits == ()
        await it.connect("192.0.2.7")
        await it.mail_from()
        assert len((await it.data(f"{FORGED}\r\n")).edits) == 1
