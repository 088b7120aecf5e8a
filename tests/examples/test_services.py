"""Example plugins that talk to others: a virus scanner, and a log elsewhere."""

import asyncio

import pytest
from pydantic import ValidationError

from tests.examples.outside import EICAR, clamd, endpoint
from tests.examples.stage import Stage, said

CLEAN = b"Subject: x\r\n\r\nclean\r\n"
BAD = b"Subject: x\r\n\r\n" + EICAR + b"\r\n"


class TestVirusScanner:
    @pytest.mark.parametrize("is_tcp", [True, False])
    async def test_verdicts(self, tmp_path, is_tcp):
        async with (
            clamd(None if is_tcp else tmp_path / "clamd") as scanner,
            Stage("virus_scanner", clamav_socket=scanner.place) as stage,
        ):
            assert said(await stage.content("on_filter", CLEAN)) == ""
            answer = await stage.content("on_filter", BAD)
            assert (said(answer), answer.note) == ("quarantine", "Eicar-Signature")
            assert stage.session.metadata["infected"] == "true"
            assert stage.session.metadata["virus_name"] == "Eicar-Signature"
            assert scanner.scanned == [CLEAN, BAD]
            assert stage.count("clean_messages") == 1
            assert stage.count("infected_messages") == 1

    async def test_infected_mail_can_be_refused(self):
        async with clamd() as scanner:
            settings = {"clamav_socket": scanner.place, "infected": "reject"}
            async with Stage("virus_scanner", **settings) as stage:
                answer = said(await stage.content("on_filter", BAD))
                assert answer == "554 5.7.1 Message is infected"

    async def test_large_messages_are_streamed(self):
        raw = CLEAN + b"x" * 3_000_000 + b"\r\n" + EICAR
        async with clamd() as scanner, Stage("virus_scanner", clamav_socket=scanner.place) as stage:
            assert said(await stage.content("on_filter", raw)) == "quarantine"
            assert scanner.scanned == [raw]

    @pytest.mark.parametrize(
        ("about", "error"),
        [
            ({"answer": b"stream: Can't allocate memory ERROR\0"}, "Can't allocate memory"),
            ({"answer": b"stream: OK FOUNDER\0"}, "clamd says"),
            ({"answer": b"x" * 200_000}, "LimitOverrunError"),
            ({"answer": b"stream: OK"}, "IncompleteReadError"),
            ({"answer": b""}, "IncompleteReadError"),
            ({"limit": 5}, "size limit exceeded"),
        ],
    )
    async def test_without_a_verdict_the_message_waits(self, about, error):
        async with (
            clamd(**about) as scanner,
            Stage("virus_scanner", clamav_socket=scanner.place) as stage,
        ):
            answer = await stage.run("on_filter", content=BAD)
            assert said(answer).startswith("451 4.3.0")
            assert error in answer.error

    async def test_without_a_scanner_the_message_waits(self, tmp_path):
        async with Stage("virus_scanner", clamav_socket=str(tmp_path / "none")) as stage:
            answer = await stage.run("on_filter", content=CLEAN)
            assert said(answer).startswith("451 4.3.0")
            assert "FileNotFoundError" in answer.error


async def store(stage: Stage, count: int, first: int = 1) -> None:
    """Have messages stored."""
    for number in range(first, first + count):
        assert said(await stage.run("on_stored", queue_id=f"q{number}")) == ""


async def told(stage: Stage) -> None:
    """Wait until nothing waits to be told."""
    async with asyncio.timeout(10):
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
