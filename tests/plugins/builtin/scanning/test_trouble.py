"""Scanners that hang, die, lie or are not there: never a message that counts as clean."""

import asyncio
import json
import socket

import pytest
from servers.clamd import EICAR, run_clamd
from servers.process import free_port

from elemta.plugins import Action, ScanStatus
from elemta.plugins.builtin.clamav import Clamav
from elemta.plugins.builtin.rspamd import Rspamd
from elemta.plugins.builtin.spamassassin import Spamassassin
from elemta.testing import PluginBench
from tests.plugins.builtin.scanning.between import answering, between

CLEAN = b"Subject: hello\r\n\r\nhello\r\n"
INFECTED = b"Subject: hello\r\n\r\n" + EICAR + b"\r\n"
LARGE = CLEAN + b"a line of a large message\r\n" * 120_000


def bench(kind, *servers, **settings):
    return PluginBench(
        kind, {"servers": [str(each) for each in servers], "probe_every": 0} | settings
    )


def port_of(clamd) -> int:
    return int(clamd.tcp.rpartition(":")[2])


async def ask(it, content=CLEAN):
    await it.mail_from()
    return await it.filter(content)


async def test_a_scanner_that_is_killed_while_it_is_shown_a_message(tmp_path):
    with run_clamd(tmp_path) as clamd:
        async with (
            between(port_of(clamd), enough=300_000) as proxy,
            bench(Clamav, proxy.address, tries=1) as it,
        ):
            clamd.pause()
            asked = asyncio.ensure_future(ask(it, LARGE))
            await proxy.begun.wait()
            clamd.process.kill()
            answer = await asked
            assert str(answer.reply).startswith("451 4.3.0 The message cannot be scanned")
            assert proxy.address in answer.note
            assert it.session.message.notes["clamav.error"] == answer.note


@pytest.mark.parametrize("what", ["defer", "continue", "quarantine", "reject"])
async def test_what_becomes_of_mail_when_nobody_answers(what):
    place = f"127.0.0.1:{free_port()}"
    async with bench(Clamav, place, on_failure=what) as it:
        answer = await ask(it)
        assert answer.action == what
        assert f"{place}: " in answer.note or what == "continue"
        if what == "continue":
            (mark,) = answer.edits
            assert mark.value == "Not scanned (the scanner did not answer)"
        assert place in it.session.message.notes["clamav.error"]
        assert it.count("scans", result="error") == 1
        assert it.count("failures", server=place) == 2  # it is tried twice


@pytest.mark.parametrize("where", ["dialogue", "queue"])
@pytest.mark.parametrize(
    ("listener", "seconds", "action", "large"),
    [("mta", 0.4, "defer", "quarantine"), ("submission", 0.3, "continue", "reject")],
)
async def test_listeners_have_patience_of_their_own(where, listener, seconds, action, large):
    own = {"server_timeout": 0.3, "on_failure": "continue", "on_too_big": "reject"}
    settings = {"server_timeout": 0.4, "listeners": {"submission": own}, "max_size": len(CLEAN)}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"127.0.0.1:{silent.getsockname()[1]}"
        async with bench(Clamav, place, where=where, tries=1, **settings) as it:
            await it.connect("192.0.2.1", listener=listener)
            for content, wanted in ((CLEAN, action), (LARGE, large)):
                answer = await ask(it, content)
                if where == "queue":
                    answer = await it.pre_delivery(content, queue_id=str(len(content)))
                is_too_late = where == "queue" and wanted == "reject"
                assert answer.action == ("quarantine" if is_too_late else wanted)
            assert f"no answer within {seconds} s" in it.log[0][1]


@pytest.mark.parametrize("kind", [Rspamd, Spamassassin])
async def test_marks_of_what_nobody_has_judged(kind):
    async with bench(kind, f"127.0.0.1:{free_port()}", on_failure="continue") as it:
        status, _flag = (await ask(it)).edits
        assert status.value == "No, not scanned (the scanner did not answer)"


async def test_a_scanner_that_hangs_is_named_and_recovers_by_itself(tmp_path):
    with run_clamd(tmp_path) as clamd:
        about = {"server_timeout": 1, "tries": 1, "failures": 2}
        async with bench(Clamav, clamd.socket, **about) as it:
            clamd.pause()
            for _ in range(2):
                answer = await ask(it)
                assert answer.action is Action.DEFER
                assert f"{clamd.socket}: no answer within 1 s" in answer.note
            clamd.resume()
            answer = await ask(it)
            assert answer.action is Action.DEFER
            assert f"left alone after failures: {clamd.socket}" in answer.note
            it.clock.advance(10)
            assert (await ask(it, INFECTED)).action is Action.REJECT
            said = [text for _, text in it.log]
            assert said == [
                f"{clamd.socket}: no answer within 1 s",
                f"{clamd.socket}: no answer within 1 s",
                f"{clamd.socket} is left alone for 10 s: 2 failures in a row",
                f"{clamd.socket} answers again",
            ]


async def test_only_one_message_tries_a_scanner_again(tmp_path):
    async with answering(lambda _: b"") as place, bench(Clamav, place, tries=1, failures=1) as it:
        await ask(it)
        it.clock.advance(10)
        answers = await asyncio.gather(*(it.filter(CLEAN) for _ in range(5)))
        notes = [answer.note for answer in answers]
        assert sum("left alone" in note for note in notes) == 4
        assert sum("hung up" in note for note in notes) == 1


async def test_another_server_is_asked(tmp_path):
    with run_clamd(tmp_path) as clamd:
        dead = f"127.0.0.1:{free_port()}"
        async with bench(Clamav, dead, clamd.tcp) as it:
            assert (await ask(it, INFECTED)).action is Action.REJECT
            assert it.count("failures", server=dead) == 1


async def test_fifty_messages_share_four_connections(tmp_path):
    with run_clamd(tmp_path) as clamd:
        async with (
            between(port_of(clamd)) as proxy,
            bench(Clamav, proxy.address, max_scans=4) as it,
        ):
            await it.mail_from()
            mails = [CLEAN, INFECTED] * 25
            answers = await asyncio.gather(*(it.filter(each) for each in mails))
            assert [answer.is_refused for answer in answers] == [False, True] * 25
            assert proxy.connections == 50
            assert proxy.most == 4


async def test_who_waits_too_long_for_its_turn(tmp_path):
    with run_clamd(tmp_path) as clamd:
        clamd.pause()
        own = {"server_timeout": 20, "limit": 20}
        about = {"max_scans": 1, "limit": 0.3, "tries": 1, "listeners": {"submission": own}}
        async with between(port_of(clamd)) as proxy, bench(Clamav, proxy.address, **about) as it:
            await it.connect("192.0.2.1", listener="submission")
            first = asyncio.ensure_future(ask(it))  # it has more time
            await proxy.begun.wait()
            await it.connect("192.0.2.1")
            answer = await ask(it)
            assert answer.action is Action.DEFER
            assert "all 1 connections were busy for 0.3 s" in answer.note
            clamd.resume()
            assert not (await first).is_refused


async def test_a_session_that_is_cut_off_gives_its_connection_back(tmp_path):
    with run_clamd(tmp_path) as clamd:
        async with (
            between(port_of(clamd)) as proxy,
            bench(Clamav, proxy.address, max_scans=1) as it,
        ):
            clamd.pause()
            asked = asyncio.ensure_future(ask(it))
            await proxy.begun.wait()
            asked.cancel()
            await asyncio.wait([asked])
            clamd.resume()
            assert (await ask(it, INFECTED)).action is Action.REJECT
            assert it.count("failures", server=proxy.address) == 0


NONSENSE = [
    b"",
    b"\0",
    b"\r\n\r\n",
    b"stream: OK",
    b"stream: OK but\0",
    b"OK\0",
    b"x" * 10_000,
    b"HTTP/1.1 200 OK\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    b'HTTP/1.1 500 Broken\r\nContent-Length: 22\r\n\r\n{"action":"no action"} ',
    b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"action":"no action"}',
    b'HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{"action":"strange"}',
    b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"action": 1}',
    b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + b"[" * 50_000,
    b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + b" " * 9_000_000,
    b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000,
    b"SPAMD/1.1 0 EX_OK\r\n\r\n",
    b"SPAMD/1.1 76 EX_PROTOCOL\r\n\r\n",
    b"SPAMD/1.1 0 EX_OK\r\nSpam: False ; . / .\r\n\r\n",
    b"SPAMD/1.1 0 EX_OK\r\nSpam: Perhaps ; 1 / 5\r\n\r\n",
    b"SPAMD/1.1 0 EX_OK\r\nContent-length: 10\r\nSpam: False ; 1 / 5\r\n\r\nx",
    b"SPAMD/1.1 0 EX_OK\r\n" + b"x" * 5_000_000,
]


@pytest.mark.parametrize("kind", [Clamav, Rspamd, Spamassassin])
@pytest.mark.parametrize("nonsense", NONSENSE, ids=lambda each: str(each[:60]))
async def test_nonsense_says_nothing_about_a_message(kind, nonsense):
    async with answering(lambda _: nonsense) as place, bench(kind, place, tries=1) as it:
        answer = await ask(it)
        assert answer.action is Action.DEFER
        assert not answer.error
        assert str(answer.reply).startswith("451 4.3.0")
        (check,) = await it.plugin.check_servers()
        assert check.result == "down"


EVIL = "x\r\nX-Evil: yes\r\n\r\n\0\u2028"
FIELDS = "X-Spam-Report: a\r\n b\0c\r\nX-Spam-\xff: x\r\nX-Spam-A\tB: x\r\n\r\n"


def spoken(verdict) -> bytes:
    body = json.dumps(verdict).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


@pytest.mark.parametrize("on_found", ["continue", "reject", "quarantine"])
@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        (Clamav, "on_infected", f"stream: {EVIL.replace(chr(0), '')} FOUND\0".encode()),
        (Rspamd, "on_reject", spoken({
            "action": "reject", "messages": {"smtp_message": EVIL}, "symbols": {EVIL: {}},
            "subject": EVIL, "dkim-signature": EVIL,
            "milter": {"add_headers": {"X-Ok": EVIL, EVIL: "x"}, "remove_headers": {EVIL: 1}},
        })),
        (Spamassassin, "on_spam", f"SPAMD/1.1 0 EX_OK\r\nSpam: True ; 7 / 5\r\n\r\n{FIELDS}".encode(
            "latin-1")),
    ],
)  # fmt: skip
async def test_nothing_that_it_says_becomes_a_field_or_a_reply_of_its_own(
    kind, settings, said, on_found
):
    more = {"command": "headers"} if kind is Spamassassin else {}
    async with (
        answering(lambda _: said) as place,
        bench(kind, place, **{settings: on_found}, **more) as it,
    ):
        answer = await ask(it)
        assert (answer.action, answer.error) == (on_found, "")
        assert not any(each in answer.note for each in "\r\n\0\u2028")
        assert "\n" not in str(answer.reply)
        for edit in answer.edits:
            assert "evil" not in edit.name.lower()
            assert not any(each in getattr(edit, "value", "") for each in "\r\n\0")
        assert not any("\n" in note for note in it.session.message.notes.values())


async def test_what_was_found_counts_where_there_is_no_room_for_a_note(tmp_path):
    with run_clamd(tmp_path) as clamd:
        async with bench(Clamav, clamd.socket) as it:
            await it.mail_from()
            for number in range(64):
                it.session.message.notes[f"note{number}"] = "x"
            answer = await it.filter(INFECTED)
            assert (answer.action, answer.error) == (Action.REJECT, "")


async def test_what_an_rspamd_wants_changed_and_cannot_be():
    milter = (
        b'{"add_headers": {"a b": "x", "X-Nul": "a\\u0000b", "X-Num": 5, "X-Many": ["a", "b"]},'
        b' "remove_headers": {"": 0, "X-None": -3, "X-Odd": "x"}}'
    )
    body = b'{"action": "no action", "score": 1e3, "milter": %s}' % milter
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    async with answering(lambda _: answer) as place, bench(Rspamd, place, tag=False) as it:
        found = await ask(it)
        assert [(edit.name, edit.value) for edit in found.edits] == [
            ("X-Many", "a"),
            ("X-Many", "b"),
        ]
        assert any("header edit cannot be done" in text for _, text in it.log)


def blind(request: bytes) -> bytes:
    return b"PONG\0" if request.startswith(b"zPING") else b"stream: OK\0"


async def test_a_scanner_that_overlooks_what_it_should_find():
    async with answering(blind) as place:
        async with bench(Clamav, place) as it:
            (check,) = await it.plugin.check_servers()
            assert check.result == "blind"
            assert not (await ask(it)).is_refused
        async with bench(Clamav, place, self_test="require") as it:
            await it.plugin.check_servers()
            answer = await ask(it)
            assert answer.action is Action.DEFER
            assert "self-test" in it.log[0][1]
        async with bench(Clamav, place, self_test="off") as it:
            (check,) = await it.plugin.check_servers()
            assert check.result == "ok"


async def test_probes_are_made_while_it_is_enabled(tmp_path):
    seen = asyncio.Event()

    def answer(request: bytes) -> bytes:
        seen.set()
        return blind(request)

    async with answering(answer) as place:
        async with bench(Clamav, place, probe_every=1):
            await seen.wait()
        assert not [task for task in asyncio.all_tasks() if "probes" in task.get_name()]


async def test_no_score_is_no_zero():
    class Asking(Rspamd):
        async def on_filter(self, ctx):
            assert (await self.scan_message(ctx)).status is ScanStatus.ERROR
            await self.get_score(ctx)

    async with bench(Asking, f"127.0.0.1:{free_port()}") as it:
        answer = await ask(it)
        assert answer.action is Action.DEFER
        assert "there is no score" in answer.error


@pytest.mark.parametrize(
    "place", ["", "nowhere", "host:0", "host:65536", "2001:db8::1:25", "host:port", ":25"]
)
def test_places_that_are_none(place):
    with pytest.raises(ValueError, match="servers"):
        bench(Clamav, place)


def test_the_test_file_is_whole():
    assert EICAR.decode() in Clamav.sample.decode()
