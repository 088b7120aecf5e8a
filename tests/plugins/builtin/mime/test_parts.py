"""The parts of a message: names, octets, and where it is too much or not clear."""

import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plugins.builtin.mime.bombs import many_parts, nested_messages, nested_multiparts
from plugins.builtin.mime.letters import attached

from elemta.plugins.builtin._mime import Budget, Limits, TooMuch, Unclear, decode_text, read_parts
from elemta.plugins.builtin._mime.words import extensions, find_names, is_turned


def budget(**limits) -> Budget:
    return Budget(Limits(**limits))


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (b"attachment; filename=a.exe", "a.exe"),
        (b'attachment; filename="a b.exe"', "a b.exe"),
        (b'attachment; x="; filename=no"; FileName = "a.exe"', "a.exe"),
        (b"attachment;\r\n filename*=utf-8'en'r%C3%A4.exe", "r\u00e4.exe"),
        (b"attachment; filename*0=\"a.\";\r\n filename*1=ex; filename*2=e", "a.exe"),
        (b"attachment; filename*1=%65xe; filename*0*=iso-8859-1''%E4.; filename*2*=%21",
         "\u00e4.%65xe!"),
        (b'attachment; filename="=?utf-8?B?YS5leGU=?="', "a.exe"),
        (b'attachment; filename="=?utf-8?q?a?=  =?utf-8?q?=2Eexe?="', "a.exe"),
        (b"attachment; filename*0=\"=?utf-8?B?YS5\"; filename*1=\"leGU=?=\"", "a.exe"),
        (b'attachment; filename="a\\.exe"', "a.exe"),
        (b'attachment; filename="a.exe', "a.exe"),
        ("attachment; filename=\u00e4.exe".encode(), "\u00e4.exe"),
        ("attachment; filename=\u00e4.exe".encode("latin-1"), "\u00e4.exe"),
    ],
)  # fmt: skip
def test_names(value, name):
    assert name in find_names(value, b"filename")


def test_both_names_of_a_part_and_others_are_found():
    assert find_names(b"a; filename=a.txt; filename*=''b.exe; filename=c", b"filename") == [
        "a.txt", "b.exe", "c",
    ]  # fmt: skip
    assert "x.exe" in find_names(b'a; filename="a; filename=x.exe; b', b"filename")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a.EXE", ["exe"]),
        ("a.exe. ", ["exe"]),
        ("a.tar.gz", ["gz", "tar"]),
        ("C:\\x.y\\a.exe", ["exe"]),
        ("../../a.d/b", []),
        ("a.e\u200bxe", ["exe"]),
        ("a.exe::$DATA", ["exe"]),
        ("a\u202efdp.exe", ["exe"]),
        ("exe", []),
    ],
)
def test_extensions(name, found):
    assert list(extensions(name)) == found
    assert is_turned(name) == ("\u202e" in name)


def test_parts_are_decoded():
    message = attached(b"MZ\0data", "filename=a.exe")
    text, file = read_parts(message, budget())
    assert (text.type, text.names, text.decode(message)) == (
        "text/plain", (), b"See the attachment.",
    )  # fmt: skip
    assert (file.type, file.names) == ("application/octet-stream", ("a.exe",))
    assert file.decode(message) == b"MZ\0data"
    assert message[file.at : file.body_at].startswith(b"Content-Type: application/octet")
    assert (file.is_whole, file.is_sealed) == (False, False)


@pytest.mark.parametrize(
    ("encoding", "body", "data"),
    [
        ("base64", b"TV!o=", b"MZ"),
        ("base64", b"TVo", b"MZ"),
        ("base64", b"TVoA=", b"MZ\0"),
        ("base64", b"TVoAB", b"MZ\0"),
        ("quoted-printable", b"M=5A=\r\n!", b"MZ!"),
        ("x-uuencode", b"begin 644 a\r\n\"35H \r\n`\r\nend\r\n", b"MZ"),
        ("8bit", b"\xff", b"\xff"),
        ("unheard-of", b"x", b"x"),
    ],
)  # fmt: skip
def test_transfer_encodings(encoding, body, data):
    message = f"Content-Transfer-Encoding: {encoding}\r\n\r\n".encode() + body
    (part,) = read_parts(message, budget())
    assert part.decode(message) == data


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("base64", b"QQ==TVo="),
        ("base64", b"=A" * 2000),
        ("x-uuencode", b"MZ"),
        ("x-uuencode", b"begin 644 a\r\n#35H\r\n"),
        ("x-uuencode", b"begin 644 a\r\n~~~\r\nend\r\n"),
    ],
)
def test_what_readers_take_differently(encoding, body):
    message = f"Content-Transfer-Encoding: {encoding}\r\n\r\n".encode() + body
    (part,) = read_parts(message, budget())
    with pytest.raises(Unclear):
        part.decode(message)


@pytest.mark.parametrize(
    "message",
    [
        many_parts(10_000),
        many_parts(501),
        nested_multiparts(1000),
        nested_messages(1000),
        b"Content-Type: x/y; name=" + b"a" * 300_000 + b"\r\n\r\n",
        b"".join(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" for _ in range(2000)),
    ],
)
def test_too_much(message):
    with pytest.raises((TooMuch, Unclear)):
        read_parts(message, budget())


def test_limits_are_met_and_not_passed():
    assert len(read_parts(many_parts(499), budget())) == 499
    assert len(read_parts(nested_messages(40), budget())) == 1
    with pytest.raises(TooMuch, match="more than 500 parts"):
        read_parts(many_parts(500), budget())
    with pytest.raises(TooMuch, match="within parts"):
        read_parts(nested_multiparts(51), budget())


@pytest.mark.parametrize(
    "message",
    [
        b"Content-Type: multipart/mixed\r\n\r\n",
        b"Content-Type: text/plain\r\nContent-Type: text/html\r\n\r\n",
        b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nYTo=",
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\n--b\r\n",
    ],
)
def test_a_structure_that_is_not_clear(message):
    with pytest.raises(Unclear):
        read_parts(message, budget())


def test_parts_of_what_is_signed():
    message = attached(b"x").replace(b"multipart/mixed", b"multipart/signed")
    assert [part.is_sealed for part in read_parts(message, budget())] == [True, True]


@given(st.binary(), st.sampled_from(["utf-8", "utf-7", "idna", "uu", "rot13", "\0", "hex", "big5"]))
def test_any_octets_are_text(data, charset):
    assert isinstance(decode_text(data, charset), str)


@given(st.text(), st.binary(max_size=200))
def test_no_field_raises(text, octets):
    for value in (text.encode("utf-8", "replace"), octets, b"a; filename*0*=" + octets):
        for name in find_names(value, b"filename"):
            list(extensions(name))


@given(
    st.lists(
        st.sampled_from(
            [b"--b", b"--b--", b"\r\n", b"Content-Type: multipart/mixed; boundary=b", b"\n", b"x",
             b"Content-Type: message/rfc822", b"Content-Transfer-Encoding: base64", b"=", b"\0",
             b"Content-Transfer-Encoding: x-uuencode", b"begin 644 a", b"end", b"TVo=", b"\r"]
        ),
        max_size=40,
    )
)  # fmt: skip
def test_no_message_raises(pieces):
    message = b"".join(pieces)
    with contextlib.suppress(Unclear, TooMuch):
        for part in read_parts(message, budget()):
            assert 0 <= part.body_at <= part.end + 2 <= len(message) + 4
            assert len(part.decode(message)) <= len(message) + len(base64.b64encode(message))
