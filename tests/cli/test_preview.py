"""What is shown of mail in quarantine: text that can do nothing to who reads it."""

import pytest

from elemta.cli.preview import MAX_BOUNDARIES, MAX_LINE, MAX_PARTS, MAX_READ, make_preview

PARTS = b"""MIME-Version: 1.0\r
From: =?utf-8?q?Zo=C3=AB?= <zoe@example.test>\r
Subject: see http://bad.test/x\r
Content-Type: multipart/mixed; boundary=x\r
\r
--x\r
Content-Type: text/plain; charset=iso-8859-1\r
Content-Transfer-Encoding: quoted-printable\r
\r
caf=E9 =1B[31m at https://bad.test/ and www.bad.test\r
--x\r
Content-Type: text/html\r
\r
<html><head><title>no</title><style>p{}</style></head><body><p>Click\r
<a href="javascript:alert(1)">here</a><script>evil()</script> &lt;now&gt;</p></body></html>\r
--x\r
Content-Type: application/zip; name="a.zip"\r
Content-Disposition: attachment; filename="in\x1bvoice.zip"\r
Content-Transfer-Encoding: base64\r
\r
UEsDBAo=\r
--x--\r
"""


def test_text_is_decoded_and_cleaned_and_links_are_dead():
    preview = make_preview(PARTS, 10_000)
    assert "From: Zoë <zoe@example.test>" in preview.header
    assert "Subject: see http[:]//bad.test/x" in preview.header
    assert "café  [31m at https[:]//bad.test/ and www[.]bad.test" in preview.text
    assert "\x1b" not in preview.text
    assert not preview.is_cut


def test_what_is_not_seen_is_shown():
    raw = (
        "Subject: =?utf-8?q?pay=E2=80=8Bpal=E2=80=AE?=\r\n\r\nhttps\u200b://bad.test/\u202etxt\r\n"
    )
    preview = make_preview(raw.encode(), 1000)
    assert preview.header == ["Subject: pay pal "]
    assert preview.text == "https ://bad.test/ txt"


def test_html_is_shown_as_its_words():
    text = make_preview(PARTS, 10_000).text
    assert "[javascript[:]alert(1)] here" in text
    assert "<now>" in text
    assert not any(word in text for word in ("evil", "p{}", "<p>", "title"))


@pytest.mark.parametrize(
    ("raw", "header", "text"),
    [
        (b"Subject: =?\xfftf-8?q?x?=\r\n\r\nhi\r\n", ["Subject: =?\ufffdtf-8?q?x?="], "hi"),
        (b"Content-Type: text/html\r\n\r\na<![odd[ b>c<![endif]>d<![x", None, "acd"),
    ],
    ids=["a character set that is none", "a marked section that is none"],
)
def test_what_libraries_stumble_over_is_shown(raw, header, text):
    preview = make_preview(raw, 1000)
    assert preview.header == (header or preview.header)
    assert preview.text.startswith(text)


def test_attachments_are_named_only():
    (zipped,) = make_preview(PARTS, 10_000).attachments
    assert (zipped.name, zipped.type, zipped.size) == ("in voice.zip", "application/zip", 5)


def test_no_more_than_was_asked_for():
    preview = make_preview(b"Subject: x\r\n\r\n" + b"line\r\n" * 1000, 100)
    assert len(preview.text) == 100
    assert preview.is_cut
    preview = make_preview(b"Subject: x\r\n\r\n" + b"y" * (MAX_LINE * 3), 10_000)
    assert len(preview.text) == MAX_LINE


def nested(depth: int) -> bytes:
    pieces = (
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n)
        for n in range(depth)
    )
    return b"".join(pieces) + b"\r\nat the bottom\r\n"


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "raw",
    [
        b"Content-Type: multipart/mixed; boundary=a\r\n\r\n" + b"--a\r\n\r\nx\r\n" * 200_000,
        nested(60),
        nested(MAX_BOUNDARIES - 10),
        b"Subject: x\r\n\r\n" + b"y\r\n" * MAX_READ,
    ],
    ids=["many parts", "deep", "deeper", "large"],
)
def test_what_is_looked_at_has_bounds(raw):
    preview = make_preview(raw, 1000)
    assert preview.is_cut
    assert len(preview.text) <= 1000
    assert len(preview.attachments) <= MAX_PARTS


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\xfe\x00",
        b"Content-Type: text/plain; charset=nothing-like-it\r\n\r\nhi\r\n",
        b"Subject: =?utf-8?b?!!!?= =?x-none?q?a?=\r\n\r\nhi\r\n",
        b"Content-Type: text/html\r\n\r\n<![CDATA[ <!ELEMENT <a <b <!-- <? \r\n",
        b"Content-Transfer-Encoding: base64\r\n\r\n%%%\r\n",
        b"Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nhi\r\n",
    ],
)
def test_damaged_mail_is_shown_as_far_as_possible(raw):
    preview = make_preview(raw, 1000)
    assert all(letter.isprintable() or letter == "\n" for letter in preview.text)
