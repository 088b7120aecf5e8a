"""ClamAV as a plugin, with a real clamd."""

import pytest
from servers.clamd import EICAR, STREAM_LIMIT, VIRUS

from elemta.plugins import Action, AntivirusPlugin, RemoveHeader, ReplaceHeader
from elemta.plugins.builtin.clamav import Clamav
from elemta.testing import PluginBench

CLEAN = b"Subject: hello\r\nX-Virus-Status: Clean, trust me\r\n\r\nhello\r\n"
INFECTED = b"Subject: hello\r\n\r\n" + EICAR + b"\r\n"
LARGE = CLEAN + b"a line of a large message\r\n" * (STREAM_LIMIT // 20)


def bench(place, **settings):
    return PluginBench(Clamav, {"servers": [str(place)], "probe_every": 0} | settings)


@pytest.mark.parametrize("by", ["socket", "tcp"])
async def test_infected_mail_is_refused_and_the_note_names_the_virus(clamd, by):
    async with bench(getattr(clamd, by)) as it:
        await it.mail_from()
        answer = await it.filter(INFECTED)
        assert str(answer.reply) == "550 5.7.1 The message is infected"
        assert answer.note == f"virus: {VIRUS}"
        assert it.session.message.notes["clamav.virus"] == VIRUS
        assert it.session.metadata["clamav.virus"] == VIRUS
        assert it.count("scans", result="infected") == 1
        await it.mail_from()
        answer = await it.filter(CLEAN)
        assert answer.action is Action.CONTINUE
        assert answer.edits == (ReplaceHeader("X-Virus-Status", "Clean"),)
        assert it.session.metadata["clamav.virus"] == ""  # it is not of this message


@pytest.mark.parametrize("what", ["quarantine", "discard", "defer", "continue"])
async def test_what_else_becomes_of_it(clamd, what):
    async with bench(clamd.socket, on_infected=what) as it:
        await it.mail_from()
        answer = await it.filter(INFECTED)
        assert answer.action == what
        if what in {"quarantine", "continue"}:
            marked = ReplaceHeader("X-Virus-Status", f"Infected ({VIRUS})")
            assert answer.edits == (marked,)


async def test_without_tags_what_is_forged_is_removed_from_what_is_kept(clamd):
    async with bench(clamd.socket, on_infected="quarantine", tag=False) as it:
        await it.mail_from()
        assert (await it.filter(INFECTED)).edits == (RemoveHeader("X-Virus-Status"),)


@pytest.mark.parametrize("by", ["socket", "tcp"])
async def test_what_clamd_finds_too_large_is_never_clean(clamd, by):
    async with bench(getattr(clamd, by)) as it:
        await it.mail_from()
        answer = await it.filter(LARGE)
        assert answer.action is Action.QUARANTINE
        assert "StreamMaxLength" in answer.note
        assert it.count("failures", server=str(getattr(clamd, by))) == 0


async def test_what_is_too_large_is_not_shown(clamd):
    async with bench(clamd.socket, max_size=len(CLEAN), on_too_big="reject") as it:
        await it.mail_from()
        answer = await it.filter(INFECTED)
        assert str(answer.reply) == "552 5.3.4 The message is too large to be scanned"
        assert not (await it.filter(CLEAN)).is_refused


async def test_whose_mail_is_scanned(clamd):
    async with bench(clamd.socket, scan_trusted=False, scan_logged_in=False) as it:
        for about in ({"is_trusted": True}, {"username": "a@example.test"}, {"listener": "lmtp"}):
            await it.connect("192.0.2.1", **about)
            await it.mail_from()
            assert not (await it.filter(INFECTED)).is_refused
        await it.connect("192.0.2.1")
        await it.mail_from()
        assert (await it.filter(INFECTED)).is_refused


async def test_it_is_of_the_family(clamd):
    async with bench(clamd.socket) as it:
        assert isinstance(it.plugin, AntivirusPlugin)
        info = it.plugin.get_info()
        assert (info.name, info.type) == ("clamav", "antivirus")


async def test_the_only_server_is_its_socket(clamd):
    settings = {"socket": str(clamd.socket), "probe_every": 0}
    async with PluginBench(Clamav, settings) as it:
        await it.mail_from()
        assert (await it.filter(INFECTED)).is_refused
    with pytest.raises(ValueError, match="either socket or servers"):
        bench(clamd.tcp, socket=str(clamd.socket))


async def test_the_self_test(clamd):
    async with bench(clamd.socket) as it:
        (check,) = await it.plugin.check_servers()
        assert (check.server, check.result, check.details) == (str(clamd.socket), "ok", VIRUS)
        assert it.count("probes", server=str(clamd.socket), result="ok") == 1
        assert it.log == []
