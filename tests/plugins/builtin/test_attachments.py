"""Attachments: what is found in them, and what is done about it."""

import base64
import gzip
from email import message_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plugins.builtin.mime.bombs import (
    MIB,
    flagged,
    forty_two,
    gzipped_in_gzip,
    many_parts,
    nested_messages,
    nested_multiparts,
    tarred,
    zipped,
)
from plugins.builtin.mime.letters import attached

from elemta.plugins import Action, ReplaceBody, ReplaceHeader
from elemta.plugins.builtin._mime import Budget, Limits
from elemta.plugins.builtin.attachments import Attachments
from elemta.plugins.builtin.attachments.inspecting import MAX_FINDINGS, Inspection
from elemta.plugins.builtin.attachments.settings import AttachmentsSettings
from elemta.testing import PluginBench

PE = b"MZ" + bytes(58) + b"\x40\0\0\0" + b"PE\0\0" + bytes(100)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(50)
EXE = 'filename="a.exe"'


def two_types(rest: bytes) -> bytes:
    """A message of which readers take one type or the other."""
    return b"Content-Type: text/plain\r\nContent-Type: text/html\r\n" + rest


def forwarded(name: str, inner: bytes = b"Subject: inner\r\n\r\nhello\r\n") -> bytes:
    """A message with another one, which is named by its subject."""
    return (
        b"Content-Type: multipart/mixed; boundary=outer\r\n\r\n--outer\r\n"
        b'Content-Type: message/rfc822; name="' + name.encode() + b'"\r\n'
        b'Content-Disposition: attachment; filename="' + name.encode() + b'"\r\n\r\n'
        + inner + b"\r\n--outer--\r\n"
    )  # fmt: skip


async def ask(content: bytes, **settings):
    async with PluginBench(Attachments, settings) as it:
        await it.mail_from()
        answer = await it.filter(content)
        assert not answer.error
        return answer


def header(answer) -> str:
    (value,) = [each.value for each in answer.edits if isinstance(each, ReplaceHeader)]
    return value


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (attached(b"x", EXE), "executable: extension exe"),
        (attached(b"x", 'filename="invoice.pdf.EXE"'), "executable: extension exe"),
        (attached(b"x", 'filename="Re: a.exe"'), "executable: extension exe"),
        (attached(b"x", "filename*0*=utf-8''a.%65; filename*1=xe"), "executable: extension exe"),
        (attached(b"x", 'filename="=?utf-8?B?YS5leGU=?="'), "executable: extension exe"),
        (attached(b"x", type_='text/plain; name="a.scr"'), "executable: extension scr"),
        (attached(b"x", type_="application/x-msdownload"), "type application/x-msdownload"),
        (attached(PE, 'filename="a.txt"'), "executable: begins as pe"),
        (attached(b"\x7fELF\2"), "executable: begins as elf"),
        (attached(zipped({"x/a.exe": b""})), "executable: extension exe"),
        (attached(zipped({"x": PE})), "executable: begins as pe"),
        (attached(zipped({"x": PE}), 'filename="a.docx"'), "executable: begins as pe"),
        (attached(tarred({"a.js": b""})), "executable: extension js"),
        (attached(gzip.compress(tarred({"b": zipped({"a.vbs": b""})}))), "extension vbs"),
        (attached(gzip.compress(b"x"), 'filename="a.exe.gz"'), "executable: extension exe"),
        (attached(flagged(zipped({"a.exe": b"x"}))), "executable: extension exe"),
        (attached(PNG + zipped({"a.exe": b""})), "executable: extension exe"),
        (attached(attached(b"x", EXE), 'filename="a.eml"'), "executable: extension exe"),
        (attached(zipped({"a.eml": attached(b"x", EXE)})), "executable: extension exe"),
        (b"Content-Type: message/rfc822\r\n\r\n" + attached(b"", EXE), "extension exe"),
        (b"Content-Disposition: attachment; filename=a.bat\r\n\r\nx", "executable: extension bat"),
    ],
)
async def test_files_that_can_be_run_are_refused(content, note):
    answer = await ask(content)
    assert str(answer.reply) == "550 5.7.1 Attachments of this type are not taken"
    assert note in answer.note


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (attached(b"x", 'filename="a.exe.pdf"'), "disguised"),
        (attached(b"x", "filename*=utf-8''a%E2%80%AEcod.pdf"), "disguised"),
        (attached(PNG, 'filename="a.pdf"'), "mismatch"),
        (attached(zipped({}), 'filename="a.jpg"'), "mismatch"),
        (attached(flagged(zipped({"a.txt": b"x"}))), "encrypted"),
        (attached(b"7z\xbc\xaf\x27\x1c"), "opaque"),
        (attached(zipped({"a": b"Rar!\x1a\x07"})), "opaque"),
    ],
)
async def test_what_is_only_marked(content, what):
    answer = await ask(content)
    assert (answer.action, header(answer)) == (Action.CONTINUE, what)
    assert (await ask(content, **{f"on_{what}": "continue"})).edits == ()
    assert (await ask(content, **{f"on_{what}": "reject"})).is_refused
    assert str((await ask(content, **{f"on_{what}": "defer"})).reply).startswith("451 4.7.1 ")
    kept = await ask(content, **{f"on_{what}": "quarantine"})
    assert (kept.action, header(kept)) == (Action.QUARANTINE, what)


@pytest.mark.parametrize(
    "content",
    [
        b"Subject: x\r\n\r\nhello\r\n",
        b"",
        attached(PNG, 'filename="a.png"'),
        attached(zipped({"word/document.xml": b"<x/>"}), 'filename="a.docx"'),
        attached(gzip.compress(b"log"), 'filename="www.example.log.gz"'),
        attached(b"MZ is how some texts begin", 'filename="a.txt"'),
        attached(attached(PNG, "filename=a.png"), 'filename="a.eml"'),
        many_parts(400),
        nested_messages(40),
    ],
)
async def test_ordinary_mail_passes_without_a_trace(content):
    answer = await ask(content)
    assert (answer.action, answer.edits, answer.note) == (Action.CONTINUE, (), "")


@pytest.mark.parametrize(
    "content",
    [
        many_parts(10_000),
        nested_multiparts(1000),
        nested_messages(1000),
        attached(forty_two()),
        attached(zipped({"a": bytes(100 * MIB)})),
        attached(gzipped_in_gzip(1000)),
        attached(zipped(dict.fromkeys(map(str, range(6000)), b""))),
    ],
)
async def test_bombs(content):
    answer = await ask(content)
    assert (answer.action, header(answer)) == (Action.QUARANTINE, "too_complex")
    assert "too_complex: " in answer.note
    assert str((await ask(content, on_too_complex="defer")).reply).startswith("451 4.7.1 ")


@pytest.mark.parametrize(
    "content",
    [
        attached(zipped({"a": b"x" * 100})[:-1]),
        attached(b"PK\x03\x04"),
        attached(b"x").replace(b"eA==", b"=A" * 2000),
        attached(b"x").replace(b"boundary=frontier", b"boundary=frontier; boundary=x"),
        two_types(b"Content-Transfer-Encoding: base64\r\n\r\neA=="),
        two_types(b'Content-Disposition: inline; filename="a.txt"\r\n\r\nx'),
        two_types(b"\r\n\r\n--x\r\nContent-Type: application/zip\r\n\r\nx"),
        two_types(b'\r\nCONTENT-TYPE: text/plain;\r\n name="a.exe"\r\n\r\nx'),
        two_types(b"\r\nx\0"),
        two_types(b"\r\nM=5A=00"),
        two_types(b"\r\nbegin 644 a.exe\r\n"),
    ],
)
async def test_what_is_not_clear(content):
    answer = await ask(content)
    assert (answer.action, header(answer)) == (Action.QUARANTINE, "unclear")
    refused = await ask(content, on_unclear="reject")
    assert str(refused.reply) == "550 5.7.1 The message or a file in it is broken"


@pytest.mark.parametrize(
    "content",
    [
        attached(b"x").replace(b"eA==", b"eA==\r\n-- \r\nA list of ours"),
        two_types(b"\r\nhello\r\n"),
        two_types(b'\r\n<meta http-equiv="content-type" content="text/html">hello\r\n'),
        b"no field\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\n\r\nx\r\n",
    ],
)
async def test_what_is_broken_but_the_same_in_any_reading(content):
    answer = await ask(content)
    assert (answer.action, header(answer)) == (Action.CONTINUE, "malformed")
    refused = await ask(content, on_malformed="reject")
    assert str(refused.reply) == "550 5.7.1 The message is broken"
    assert (await ask(content, on_malformed="continue", on_unclear="reject")).edits == ()


@pytest.mark.parametrize(
    "text",
    [
        base64.b64encode(PE) + b"eA==",  # for who stops at the end
        b"TQ==" + base64.b64encode(PE[1:]),  # for who begins anew behind it
        b"=" + base64.b64encode(PE[:99]) + b"=A",  # for who does not see it
    ],
)
async def test_what_is_broken_is_looked_at_in_each_way(text):
    assert (await ask(attached(b"x").replace(b"eA==", text))).is_refused


@pytest.mark.parametrize("name", ["Re: example.com", "example.com", "news of samoa.ws"])
async def test_a_message_is_no_program_whatever_its_subject(name):
    content = forwarded(name)
    answer = await ask(content)
    assert (answer.action, answer.edits, answer.note) == (Action.CONTINUE, (), "")
    assert (await ask(content.replace(b"message/rfc822", b"application/x"))).is_refused
    assert (await ask(content.replace(b"Subject: inner", b""))).is_refused  # no message at all
    assert (await ask(forwarded(name, attached(b"x", EXE)))).is_refused


async def test_a_message_that_is_called_like_a_script_is_marked():
    assert header(await ask(forwarded("Re: start.bat"))) == "disguised"


async def test_a_bomb_does_not_hide_what_is_before_it_nor_a_broken_file_what_is_behind():
    evil = zipped({"a.exe": b"", "b": bytes(100 * MIB)})
    assert (await ask(attached(evil))).action is Action.REJECT
    broken = attached(b"PK\x03\x04").removesuffix(b"--frontier--\r\n")
    more = attached(b"x", EXE).partition(b"See the attachment.\r\n")[2]
    assert (await ask(broken + more)).action is Action.REJECT


async def test_more_than_may_be_received_is_too_complex():
    answer = await ask(attached(bytes(30_000)), max_size=20_000)
    assert (answer.action, header(answer)) == (Action.QUARANTINE, "too_complex")


def test_there_are_no_more_findings_than_tell_something():
    names = {f"{n}.x{n}.exe": b"" for n in range(10)} | {f"a.exe.{n}": b"" for n in range(100)}
    settings = AttachmentsSettings()
    found = Inspection(settings.extensions, settings.types, Budget(Limits())).inspect(
        attached(zipped(names))
    )
    assert len(found) == MAX_FINDINGS + 1
    assert found[-1].what == "too_complex"


# ---- taking attachments out


async def test_an_attachment_is_removed_and_the_rest_stays():
    content = attached(PE, 'filename="M\u00fcll %b --frontier.exe"')
    answer = await ask(content, on_executable="strip")
    assert (answer.action, header(answer)) == (Action.CONTINUE, "removed: executable")
    (body,) = [each.body for each in answer.edits if isinstance(each, ReplaceBody)]
    head, before, _ = content.partition(b"\r\n\r\n")
    text, note = message_from_bytes(head + before + body).get_payload()
    assert text.get_payload() == "See the attachment."
    assert note.get_content_type() == "text/plain"
    assert "An attachment was removed here: M_ll %b --frontier.exe." in note.get_payload()
    assert not (await ask(head + before + body, on_executable="reject")).is_refused


async def test_two_attachments_are_removed_also_from_a_message_in_it():
    inner = attached(b"x", EXE).removesuffix(b"--frontier--\r\n")
    second = attached(zipped({"a.exe": PE}), 'filename="b.zip"').partition(b"attachment.\r\n")[2]
    content = b"Content-Type: message/rfc822\r\n\r\n" + inner + second
    answer = await ask(content, on_executable="strip")
    (body,) = [each.body for each in answer.edits if isinstance(each, ReplaceBody)]
    assert body.count(b"An attachment was removed here") == 2
    assert b"removed here: b.zip." in body
    assert body.endswith(b"\r\n--frontier--\r\n")


@pytest.mark.parametrize(
    "content",
    [
        attached(b"x", EXE).replace(b"multipart/mixed", b"multipart/signed"),
        attached(b"x", EXE).replace(b"See", b"S\0e"),
        attached(b"x", EXE).replace(b"See", b"S\ne"),
        b"Content-Disposition: attachment; filename=a.bat\r\n\r\nx",
        attached(b"x").replace(b"boundary=frontier", b'boundary=frontier; name="a.exe"'),
    ],
)
async def test_where_it_would_not_be_safe_the_message_is_kept(content):
    answer = await ask(content, on_executable="strip")
    assert (answer.action, header(answer)) == (Action.QUARANTINE, "executable")
    assert answer.note.startswith("it cannot be removed: ")


# ---- whose mail, and what is counted


@pytest.mark.parametrize(
    ("about", "setting"),
    [
        ({"is_trusted": True}, "inspect_trusted"),
        ({"listener": "lmtp"}, "inspect_trusted"),
        ({"username": "a@example.test"}, "inspect_logged_in"),
    ],
)
async def test_whose_mail_is_looked_at(about, setting):
    for is_wanted in (True, False):
        async with PluginBench(Attachments, {setting: is_wanted}) as it:
            await it.connect(**about)
            await it.mail_from()
            assert (await it.filter(attached(b"x", EXE))).is_refused is is_wanted


async def test_what_is_left_behind():
    async with PluginBench(Attachments, {"on_executable": "tag"}) as it:
        await it.mail_from()
        await it.filter(attached(b"x", EXE))
        assert it.session.message.notes["attachments.found"] == "executable: extension exe"
        assert it.session.metadata["attachments.found"] == "executable: extension exe"
        assert it.count("found", what="executable") == 1


@given(st.binary(max_size=300), st.sampled_from([b"", PE, b"PK\3\4", b"\x1f\x8b", b"BZh91AY&SY"]))
def test_any_file_is_looked_at(data, beginning):
    settings = AttachmentsSettings()
    for message in (attached(beginning + data), beginning + data):
        for limits in (settings.limits, Limits(entries=1, unpacked=10)):
            Inspection(settings.extensions, settings.types, Budget(limits)).inspect(message)
