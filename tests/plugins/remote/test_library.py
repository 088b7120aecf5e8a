"""Shared libraries: the examples in C do what they say, and a hostile one gets nowhere."""

import asyncio
import contextlib
import ctypes
import re

import pytest
from plugins.remote.gcc import EXAMPLES, build
from plugins.remote.outside import HOSTILE, envelope, message, outside
from servers.clamd import EICAR, STREAM_LIMIT, VIRUS, run_clamd

from elemta.mail.errors import PluginError
from elemta.plugins import ReplaceHeader
from elemta.plugins import edits as ed
from elemta.plugins.finding.sources import Kind
from elemta.plugins.remote import library as abi
from elemta.plugins.remote import native
from elemta.plugins.remote.library import HOOK_TYPES
from elemta.plugins.remote.link import LinkLost
from elemta.plugins.remote.native import header_path
from elemta.plugins.result import Action
from tests.examples.outside import stand_in

SPAM = b"Subject: x\r\n\r\nViagra casino WINNER free money click here\r\n"
HAM = b"Subject: x\r\n\r\nThe winner of the casino.\r\n"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    return build(HOSTILE / "hostile_c.c", tmp_path_factory.mktemp("hostile"))


def library(folder, path, **options):
    return outside(folder, path, kind=Kind.LIBRARY, **options)


@pytest.fixture
def spam_filter(tmp_path):
    return build(EXAMPLES / "spam_filter.c", tmp_path)


async def test_the_spam_filter_counts_words(tmp_path, spam_filter):
    async with library(tmp_path, spam_filter, name="spam-filter") as it:
        assert it.plugin.metadata.license == "MIT"
        context = message(SPAM)
        result = await it.plugin.on_filter(context)
        assert result.action is Action.REJECT
        assert str(result.reply) == "550 5.7.1 Message looks like spam"
        assert result.note == "5.0"
        assert context.metadata == {"spam_score": "5.0", "is_spam": "true"}
        result = await it.plugin.on_filter(message(HAM))
        assert result.action is Action.CONTINUE
        assert result.edits == (ReplaceHeader("X-Spam-Score", "2.0"),)
        assert it.said() == ["spam"]


async def test_the_spam_filter_has_settings(tmp_path, spam_filter):
    config = {"spam_threshold": 2.0, "quarantine": True}
    async with library(tmp_path, spam_filter, config=config) as it:
        assert (await it.plugin.on_filter(message(HAM))).action is Action.QUARANTINE
    with pytest.raises(PluginError, match="init has returned 1"):
        async with library(tmp_path, spam_filter, config={"spam_threshold": "much"}):
            pass


async def test_a_nul_hides_nothing(tmp_path, spam_filter):
    async with library(tmp_path, spam_filter) as it:
        result = await it.plugin.on_filter(message(SPAM.replace(b"Viagra", b"\0Viagra")))
        assert result.action is Action.REJECT


async def test_the_rate_limiter_counts_by_domain(tmp_path):
    path = build(EXAMPLES / "rate_limiter.c", tmp_path)
    async with library(tmp_path, path, config={"limit": 3}) as it:
        for _ in range(3):
            assert await it.plugin.on_data(message(HAM, "on_data")) is None
        context = message(HAM, "on_data")
        result = await it.plugin.on_data(context)
        assert result.action is Action.DEFER
        assert result.reply.code == 451
        assert context.metadata == {"rate_limit_exceeded": "true"}


def virus_scanner(folder, socket):
    """The scanner, made for a clamd at this place."""
    return build(EXAMPLES / "virus_scanner.c", folder, f'-DCLAMD_SOCKET="{socket}"')


async def test_the_virus_scanner_asks_clamd(tmp_path, clamd):
    content = HAM + (b"x" * 70 + b"\r\n") * 40_000
    async with library(tmp_path, virus_scanner(tmp_path, clamd.socket)) as it:
        context = message(content)
        assert await it.plugin.on_filter(context) is None
        assert context.get_metadata("virus_name") is None
        context = message(content + EICAR)
        result = await it.plugin.on_filter(context)
        assert (result.action, result.note) == (Action.QUARANTINE, VIRUS)
        assert context.metadata == {"infected": "true", "virus_name": VIRUS}
        with pytest.raises(PluginError, match="returned -1"):
            await it.plugin.on_filter(message(HAM + b"x" * (2 * STREAM_LIMIT)))


async def test_when_clamd_has_stopped_nothing_passes(tmp_path):
    with contextlib.ExitStack() as stack:
        scanner = stack.enter_context(run_clamd(tmp_path))
        async with library(tmp_path, virus_scanner(tmp_path, scanner.socket)) as it:
            assert await it.plugin.on_filter(message(HAM)) is None
            stack.close()
            with pytest.raises(PluginError, match="returned -1"):
                await it.plugin.on_filter(message(HAM))


@pytest.mark.parametrize("answer", [b"", b"\0", b"OK", b"stream: OK", b"x" * 5000, b"FOUND\0"])
async def test_a_scanner_that_talks_nonsense_lets_nothing_pass(tmp_path, answer):
    socket = tmp_path / "clamd"
    async with (
        stand_in(socket, answer=answer),
        library(tmp_path, virus_scanner(tmp_path, socket)) as it,
    ):
        with pytest.raises(PluginError, match="returned -1"):
            await it.plugin.on_filter(message(HAM))


async def test_for_a_slow_scanner_nothing_passes(tmp_path):
    socket = tmp_path / "clamd"
    async with (
        stand_in(socket, is_slow=True) as scanner,
        library(tmp_path, virus_scanner(tmp_path, socket), timeout=0.3) as it,
    ):
        asked = asyncio.create_task(it.plugin.on_filter(message(HAM)))
        async with asyncio.timeout(25):
            while not scanner.scanned:
                await asyncio.sleep(0.01)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await asked
        assert scanner.scanned == [HAM]


async def test_without_clamd_nothing_passes(tmp_path):
    async with library(tmp_path, virus_scanner(tmp_path, tmp_path / "nobody")) as it:
        with pytest.raises(PluginError, match="returned -1"):
            await it.plugin.on_filter(message(HAM))


FAILS = {
    "memory": "returned 7",
    "map": "returned 7",
    "fork": "returned 7",
    "exec": "returned 7",
    "system": "returned 7",
    "shadow": "returned 7",
    "connect": "returned 7",
    "kill": "returned 7",
    "crlf": "returned 7",
    "garbage": "returned 4711",
    "nonsense": "no action 'rejoice'",
    "code": "must be 5xx",
}


@pytest.mark.parametrize("deed", FAILS)
async def test_what_a_library_may_not_do_is_refused_to_it(tmp_path, hostile, deed):
    async with library(tmp_path, hostile) as it:
        with pytest.raises(PluginError, match=FAILS[deed]):
            await it.plugin.on_mail_from(envelope(deed))
        assert await it.plugin.on_mail_from(envelope("nothing")) is None


@pytest.mark.parametrize("deed", ["both", "cancel"])
async def test_what_is_blocked_does_not_pass(tmp_path, hostile, deed):
    async with library(tmp_path, hostile) as it:
        assert (await it.plugin.on_mail_from(envelope(deed))).action is Action.REJECT


@pytest.mark.parametrize(
    ("deed", "how"), [("segfault", "SIGSEGV"), ("abort", "SIGABRT"), ("exit", "exited with 0")]
)
async def test_a_library_that_crashes_is_loaded_again(tmp_path, hostile, deed, how):
    async with library(tmp_path, hostile) as it:
        with pytest.raises(LinkLost):
            await it.plugin.on_mail_from(envelope(deed))
        assert await it.plugin.on_mail_from(envelope("nothing")) is None
        assert how in it.troubles()[0]


@pytest.mark.parametrize("deed", ["spin", "hang"])
async def test_a_library_that_hangs_is_killed(tmp_path, hostile, deed):
    async with library(tmp_path, hostile, timeout=1) as it:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):  # by then it has begun
                await it.plugin.on_mail_from(envelope(deed))
        async with asyncio.timeout(25):
            await asyncio.shield(it.plugin._link.lost)
        assert await it.plugin.on_mail_from(envelope("nothing")) is None


async def test_what_is_no_plugin_is_told_so(tmp_path, hostile):
    text = tmp_path / "text.so"
    text.write_text("no library")
    empty = tmp_path / "empty.c"
    empty.write_text("int nothing;\n")
    for path, trouble in (
        (text, "file too short"),
        (build(empty, tmp_path), "smtp_plugin_get_interface"),
    ):
        with pytest.raises(PluginError, match=trouble):
            async with library(tmp_path, path):
                pass
    with pytest.raises(PluginError, match="init has returned"):
        async with library(tmp_path, hostile, config={"refuse": True}):
            pass


def test_the_header_and_ctypes_agree(tmp_path):
    names = ("HookContext", "PluginMetadata", "PluginInterface")
    source = tmp_path / "sizes.c"
    enums = ", ".join(f"SMTP_HOOK_{name.upper()}" for name in HOOK_TYPES)
    sizes = ", ".join(f"sizeof({name})" for name in names)
    source.write_text(
        f"#include <elemta_plugin.h>\nsize_t sizes[] = {{{sizes}}};\nint hooks[] = {{{enums}}};\n"
    )
    built = ctypes.CDLL(str(build(source, tmp_path)))
    told = list((ctypes.c_size_t * len(names)).in_dll(built, "sizes"))
    assert told == [ctypes.sizeof(getattr(abi, name)) for name in names]
    hooks = list((ctypes.c_int * len(HOOK_TYPES)).in_dll(built, "hooks"))
    assert hooks == list(range(len(HOOK_TYPES)))
    assert header_path().name == "elemta_plugin.h"


def test_each_edit_of_the_header_file_is_carried_out():
    header = header_path().read_text()
    numbers = {name: int(number) for name, number in re.findall(r"SMTP_EDIT_(\w+) = (\d+)", header)}
    made = {
        name: native._EDITS[number]("a@b.test", "c@d.test")
        for name, number in numbers.items()
        if "HEADER" not in name
    }
    made |= {
        name: native._EDITS[number]("X-A", "X-B")
        for name, number in numbers.items()
        if "HEADER" in name
    }
    assert set(numbers.values()) == set(native._EDITS)
    settle = ed.SettleRecipient
    assert made == {
        "ADD_HEADER": ed.AddHeader("X-A", "X-B"),
        "REPLACE_HEADER": ed.ReplaceHeader("X-A", "X-B"),
        "REMOVE_HEADER": ed.RemoveHeader("X-A"),
        "RENAME_HEADER": ed.RenameHeader("X-A", "X-B"),
        "ADD_RECIPIENT": ed.AddRecipient("a@b.test"),
        "REMOVE_RECIPIENT": ed.RemoveRecipient("a@b.test"),
        "CHANGE_SENDER": ed.ChangeSender("a@b.test"),
        "QUARANTINE_RECIPIENT": settle.quarantine("a@b.test", note="c@d.test"),
        "REDIRECT_RECIPIENT": settle.redirect("a@b.test", "c@d.test"),
        "REJECT_RECIPIENT": settle.reject("a@b.test", "c@d.test"),
        "DISCARD_RECIPIENT": settle.discard("a@b.test", note="c@d.test"),
    }
