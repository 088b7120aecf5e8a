"""Example plugins that talk to others: a virus scanner, and a log elsewhere."""

import asyncio
import base64
import contextlib
import re
import shutil

import pytest
from plugins.remote.outside import message
from plugins.workshop import Workshop
from pydantic import ValidationError
from servers.clamd import EICAR, STREAM_LIMIT, VIRUS, run_clamd

from elemta.mail.errors import PluginError
from elemta.plugins import FamilyInfo, ScanResult, ScanStatus
from elemta.plugins.settings import PluginSettings
from elemta.testing import PluginBench
from tests.examples.outside import endpoint, stand_in
from tests.examples.stage import EXAMPLES, Stage, find_example, said

CLEAN = b"Subject: x\r\n\r\nclean\r\n"
BAD = b"Subject: x\r\n\r\n" + EICAR + b"\r\n"
ATTACHED = b"Subject: x\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(EICAR)


class TestVirusScanner:
    @pytest.mark.parametrize("is_tcp", [True, False])
    async def test_verdicts(self, clamd, is_tcp):
        place = clamd.tcp if is_tcp else str(clamd.socket)
        async with Stage("virus_scanner", clamav_socket=place) as stage:
            assert said(await stage.content("on_filter", CLEAN)) == ""
            assert "infected" not in stage.session.metadata
            for content in (BAD, ATTACHED):
                answer = await stage.content("on_filter", content)
                assert (said(answer), answer.note) == ("quarantine", VIRUS)
            assert stage.session.metadata["infected"] == "true"
            assert stage.session.metadata["virus_name"] == VIRUS
            assert stage.count("clean_messages") == 1
            assert stage.count("infected_messages") == 2

    async def test_infected_mail_can_be_refused(self, clamd):
        settings = {"clamav_socket": str(clamd.socket), "infected": "reject"}
        async with Stage("virus_scanner", **settings) as stage:
            answer = said(await stage.content("on_filter", BAD))
            assert answer == "554 5.7.1 Message is infected"

    async def test_large_messages_are_scanned_to_the_end(self, clamd):
        raw = CLEAN + (b"x" * 70 + b"\r\n") * 40_000
        async with Stage("virus_scanner", clamav_socket=str(clamd.socket)) as stage:
            assert said(await stage.content("on_filter", raw)) == ""
            assert said(await stage.content("on_filter", raw + EICAR)) == "quarantine"

    async def test_all_is_sent_in_pieces(self):
        raw = CLEAN + b"x" * 3_000_000
        async with stand_in() as scanner:
            async with Stage("virus_scanner", clamav_socket=scanner.place) as stage:
                assert said(await stage.content("on_filter", raw)) == ""
            assert scanner.scanned == [raw]
            assert scanner.largest <= 256 * 1024

    async def test_what_is_too_long_for_clamd_waits(self, clamd):
        raw = CLEAN + b"x" * (2 * STREAM_LIMIT) + b"\r\n"
        async with Stage("virus_scanner", clamav_socket=str(clamd.socket)) as stage:
            answer = await stage.run("on_filter", content=raw)
            assert said(answer).startswith("451 4.3.0")
            assert re.search("size limit exceeded|StreamMaxLength", answer.error)

    async def test_when_clamd_has_stopped_the_message_waits(self, tmp_path):
        with contextlib.ExitStack() as stack:
            scanner = stack.enter_context(run_clamd(tmp_path))
            async with Stage("virus_scanner", clamav_socket=str(scanner.socket)) as stage:
                assert said(await stage.content("on_filter", CLEAN)) == ""
                stack.close()
                answer = await stage.run("on_filter", content=CLEAN)
                assert said(answer).startswith("451 4.3.0")
                assert re.search("FileNotFoundError|ConnectionRefusedError", answer.error)

    @pytest.mark.parametrize(
        ("about", "error"),
        [
            ({"answer": b"stream: Can't allocate memory ERROR\0"}, "Can't allocate memory"),
            ({"answer": b"stream: OK FOUNDER\0"}, "clamd says"),
            ({"answer": b"x" * 200_000}, "LimitOverrunError"),
            ({"answer": b"stream: OK"}, "IncompleteReadError"),
            ({"answer": b""}, "IncompleteReadError"),
            ({"limit": 5}, "size limit exceeded|StreamMaxLength"),
        ],
    )
    async def test_without_a_verdict_the_message_waits(self, about, error):
        async with (
            stand_in(**about) as scanner,
            Stage("virus_scanner", clamav_socket=scanner.place) as stage,
        ):
            answer = await stage.run("on_filter", content=BAD)
            assert said(answer).startswith("451 4.3.0")
            assert re.search(error, answer.error)

    async def test_for_a_slow_one_the_message_waits(self):
        async with (
            stand_in(is_slow=True) as scanner,
            PluginBench(
                find_example("virus_scanner"), {"clamav_socket": scanner.place}, timeout=1
            ) as bench,
        ):
            answer = await bench.filter(CLEAN)
            assert said(answer).startswith("451 4.3.0")
            assert "no answer within 1 s" in answer.error
            assert scanner.scanned == [CLEAN]


async def test_others_find_the_scanner_by_its_family(clamd, tmp_path):
    workshop = Workshop(tmp_path)
    shutil.copy(EXAMPLES / "virus_scanner.py", workshop.folder)
    config = {"clamav_socket": str(clamd.socket)}
    roster = await workshop.load(PluginSettings("virus-scanner", config=config))
    scanner = roster.get_antivirus_plugin("virus-scanner")
    assert scanner.get_info() == FamilyInfo("virus-scanner", "1.1.0", "antivirus")
    assert await scanner.scan_message(message(CLEAN)) == ScanResult(ScanStatus.CLEAN)
    assert await scanner.scan_message(message(BAD)) == ScanResult(ScanStatus.INFECTED, VIRUS)
    too_long = await scanner.scan_message(message(CLEAN + b"x" * (STREAM_LIMIT + 1)))
    assert too_long.status is ScanStatus.ERROR
    assert re.search("size limit exceeded|StreamMaxLength", too_long.details)
    with pytest.raises(PluginError, match="does not have the methods of AntispamPlugin"):
        roster.get_antispam_plugin("virus-scanner")
    await roster.close()


async def store(stage: Stage, count: int, first: int = 1) -> None:
    """Have messages stored."""
    for number in range(first, first + count):
        assert said(await stage.run("on_stored", queue_id=f"q{number}")) == ""


async def told(stage: Stage) -> None:
    """Wait until nothing waits to be told."""
    async with asyncio.timeout(25):
        await stage.plugin.waiting.join()


class TestMessageLogger:
    async def test_lines_of_json(self):
        async with endpoint() as there, Stage("message_logger", url=there.url) as stage:
            await stage.run(
                "on_stored",
                queue_id="q1",
                sender="",
                recipients=["ü@example.test", '"a\\"b"@example.test'],
                size=120,
                session_id="0-1-1",
            )
            await told(stage)
            assert there.posts == [
                (
                    "/",
                    [
                        {
                            "@timestamp": "2023-11-14T22:13:20+00:00",
                            "queue_id": "q1",
                            "session_id": "0-1-1",
                            "sender": "",
                            "recipients": ["ü@example.test", '"a\\"b"@example.test'],
                            "size": 120,
                        }
                    ],
                )
            ]
            assert stage.count("told_records") == 1

    async def test_elasticsearch(self):
        async with endpoint() as there:
            settings = {"url": f"{there.url}/_bulk?refresh=false", "index": "mail"}
            async with Stage("message_logger", **settings) as stage:
                await store(stage, 2)
                await told(stage)
            ((target, lines),) = there.posts
            assert target == "/_bulk?refresh=false"
            assert lines[0] == lines[2] == {"index": {"_index": "mail"}}
            assert [line["queue_id"] for line in lines[1::2]] == ["q1", "q2"]

    async def test_mail_goes_on_while_the_endpoint_hangs(self):
        async with endpoint() as there:
            there.may_answer.clear()
            settings = {"url": there.url, "max_waiting": 5, "batch": 2}
            async with Stage("message_logger", **settings) as stage:
                await store(stage, 1)
                await there.wait(1)
                await store(stage, 20, 2)
                assert stage.count("dropped_records") == 15
                there.may_answer.set()
                await told(stage)
                assert stage.count("told_records") == 6
            assert [len(lines) for _, lines in there.posts] == [1, 2, 2, 1]

    @pytest.mark.parametrize("is_away", [True, False])
    async def test_what_cannot_be_told_is_dropped_and_counted(self, is_away):
        async with endpoint(500) as there:
            url = "http://127.0.0.1:1" if is_away else there.url
            async with Stage("message_logger", url=url, pause=0) as stage:
                await store(stage, 3)
                await told(stage)
                assert stage.count("dropped_records") == 3
                ((level, text),) = stage.log
                assert level == "warning"
                assert text.startswith("3 records dropped: ")

    async def test_what_waits_is_told_at_the_end(self):
        async with endpoint() as there:
            async with Stage("message_logger", url=there.url) as stage:
                await store(stage, 3)
            assert [len(lines) for _, lines in there.posts] == [3]

    async def test_the_end_comes_also_without_an_answer(self):
        async with endpoint() as there:
            there.may_answer.clear()
            async with Stage("message_logger", url=there.url, timeout=0.1) as stage:
                await store(stage, 1)
            assert stage.plugin.teller.done()

    async def test_without_an_endpoint_nothing_waits(self):
        async with Stage("message_logger") as stage:
            await store(stage, 5)
            assert stage.plugin.waiting.empty()

    @pytest.mark.parametrize("url", ["ftp://host/", "nonsense", "file:///etc/passwd"])
    def test_what_is_no_url_is_refused(self, url):
        with pytest.raises(ValidationError):
            Stage("message_logger", url=url)
