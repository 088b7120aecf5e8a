"""Every plugin that the guide shows does what its page says; none is left out."""

import hashlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from plugins.remote.outside import message as outside_message
from plugins.remote.outside import outside
from plugins.remote.servers_of_plugins import PROTO
from servers.process import program

from elemta.plugins import Action, AddHeader, Fate, InsertHeader, RemoveHeader, ReplaceHeader
from elemta.plugins.finding.files import import_file
from elemta.plugins.finding.inspection import find_class
from elemta.plugins.finding.sources import Kind
from elemta.testing import PluginBench

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs/plugins"
NAME = re.compile(r"# (\w+\.py)\n")
ELSEWHERE = {"business_hours", "test_business_hours", "no_programs", "test_no_programs"}
ELSEWHERE |= {"only_with_tls", "test_only_with_tls", "listed", "test_listed"}


def blocks(page: Path, language: str) -> list[str]:
    """What a page shows in a language."""
    text = page.read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def shown() -> dict[str, str]:
    """The files of Python in the guide, by their names without the ending."""
    found = {}
    for page in sorted(GUIDE.glob("*.md")):
        for block in blocks(page, "python"):
            named = NAME.match(block)
            if named is not None:
                assert named[1] not in found
                found[named[1].removesuffix(".py")] = block
    return found


@pytest.fixture
async def bench(tmp_path):
    """Puts a plugin of the guide on a bench, by its name and with its settings."""
    made = []

    def put(name, settings=None, **options):
        path = tmp_path / f"{name}.py"
        path.write_text(shown()[name])
        path.chmod(0o644)
        made.append(PluginBench(find_class(import_file(path)), settings or {}, **options))
        return made[-1]

    yield put
    for each in made:
        await each.close()
        assert all(type(event).__name__ != "PluginError" for event in each.events)


async def test_no_casino(bench):
    it = bench("no_casino")
    assert (await it.mail_from("luck@casino.example")).reply.text == "We do not gamble"
    assert not (await it.mail_from("bob@example.org")).is_refused
    assert not (await it.mail_from("")).is_refused


async def test_no_gambling(bench):
    it = bench("no_gambling", {"domains": ["lottery.example"]})
    answer = await it.mail_from("luck@lottery.example")
    assert (answer.action, answer.note) == (Action.REJECT, "lottery.example")
    for other in ("luck@casino.example", ""):
        assert not (await it.mail_from(other)).is_refused
    assert it.count("refused") == 1


async def test_mark_large(bench):
    it = bench("mark_large")
    assert (await it.data("Subject: hello\n\nsmall\n")).edits == ()
    content = b"Subject: hello\r\nX-Priority: 1\r\n\r\n" + b"x" * 1_000_000 + b"\r\n"
    assert (await it.data(content)).edits == (
        ReplaceHeader("Subject", "[large] hello"),
        AddHeader("X-Size", str(len(content))),
        InsertHeader("X-Seen", "yes", index=0),
        RemoveHeader("X-Priority"),
    )


async def test_seal(bench):
    content = b"Subject: hello\r\n\r\nhello\r\n"
    answer = await bench("seal").run("on_pre_delivery", content=content)
    assert answer.edits == (InsertHeader("X-Seal", hashlib.sha256(content).hexdigest()),)


async def test_count_noops(bench):
    it = bench("count_noops")
    for count in (2, 0):
        await it.connect()
        for line in ("EHLO a.test", *["NOOP"] * count):
            await it.command(line)
        await it.disconnect()
    assert it.observed("noops") == (2, 2)


async def test_remember_helo(bench):
    it = bench("remember_helo")
    await it.helo("client.test")
    await it.mail_from("a@b.test")
    await it.bounced("c@example.test")
    assert it.log == [("info", "01TEST of client.test has failed: 550 5.1.1 No such mailbox")]


async def test_slow_lookup(bench, monkeypatch):
    it = bench("slow_lookup")
    pauses = []

    async def pause(seconds):
        pauses.append(seconds)

    monkeypatch.setattr("asyncio.sleep", pause)
    for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):
        assert (await it.connect(address)).action is Action.CONTINUE
    assert pauses == [0.1, 0.1]


async def test_talkative(bench):
    it = bench("talkative", log_level="debug")
    await it.rcpt_to("c@example.test", is_relaying=True)
    assert it.log == [("debug", "192.0.2.1: c@example.test, relaying: True")]


async def test_elemta_quiet_hours(bench):
    it = bench("elemta_quiet_hours")  # the clock stands at 22:13
    assert str((await it.connect()).reply).startswith("421 4.7.1 Quiet hours")
    it.clock.advance(2 * 3600)
    assert not (await it.connect()).is_refused
    assert not (await bench("elemta_quiet_hours", {"start": 23}).connect()).is_refused


async def test_apart(bench):
    it = bench("apart")
    names = ("ann", "careful", "left", "small", "trap")
    await it.mail_from("a@b.test")
    for name in names:
        await it.rcpt_to(f"{name}@example.test")
    careful, left, trap = (await it.filter("Subject: hello\n\nsmall\n")).edits
    assert (careful.fate, careful.address) == (Fate.QUARANTINE, "careful@example.test")
    assert (left.fate, left.address, left.to) == (
        Fate.REDIRECT,
        "left@example.test",
        "heir@example.test",
    )
    assert (trap.fate, trap.address) == (Fate.DISCARD, "trap@example.test")
    fates = [each.fate for each in (await it.filter("Subject: x\n\n" + "x" * 1_000_001)).edits]
    assert fates == [Fate.QUARANTINE, Fate.REDIRECT, Fate.REJECT, Fate.DISCARD]


async def test_spam_gate(bench):
    it = bench("spam_gate")
    assert not (await it.mail_from("a@b.test")).is_refused
    it.session.metadata["is_spam"] = "true"
    assert (await it.mail_from("a@b.test")).action is Action.DEFER


def test_no_plugin_is_left_out():
    """Those of the page on testing are run by their own tests, see tests/testing/test_page.py."""
    tests = {name.removeprefix("test_") for name in globals()}
    assert set(shown()) - ELSEWHERE <= tests


def test_no_block_is_without_a_name():
    """The one of the page on isolation is looked at in tests/plugins/remote/test_pages.py."""
    nameless = [
        page.name
        for page in GUIDE.glob("*.md")
        for block in blocks(page, "python")
        if not NAME.match(block)
    ]
    assert nameless == ["isolation.md"]


def shell(script: str, folder: Path) -> str:
    """Run commands of a page; `elemta` and `python` are those of this test."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [program("bash", "bash"), "-euc", script],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_a_library_is_made_as_the_page_says(tmp_path):
    program("cc", "gcc")
    compile_it, _rust = blocks(GUIDE / "native.md", "sh")
    source = ROOT / "examples/plugins/c/spam_filter.c"
    (tmp_path / source.name).write_bytes(source.read_bytes())
    shell(compile_it, tmp_path)
    async with outside(tmp_path, tmp_path / "libspam_filter.so", kind=Kind.LIBRARY) as it:
        result = await it.plugin.on_filter(outside_message(b"Subject: x\r\n\r\ncasino\r\n"))
        assert result.edits == (ReplaceHeader("X-Spam-Score", "1.0"),)


def test_a_plugin_in_javascript_is_started_as_the_page_says(tmp_path):
    """With what is in its folder; it is run in tests/plugins/remote/test_servers_of_plugins.py."""
    (script,) = blocks(GUIDE / "grpc.md", "sh")
    lines = script.replace("\\\n", " ").split("\n")
    assert lines[:2] == ["cd examples/plugins/node", "npm install"]
    (start,) = [line for line in lines if line.startswith("node ")]
    told = shlex.split(shell(f"printf '%q ' {start}", tmp_path))
    assert told == ["node", "plugin.js", "unix:/run/word-filter.sock", str(PROTO)]
    assert (ROOT / "examples/plugins/node/plugin.js").is_file()
