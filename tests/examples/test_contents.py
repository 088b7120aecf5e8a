"""Example plugins that judge messages."""

import base64

import pytest
from pydantic import ValidationError

from tests.examples.stage import Stage, said


def mail(body: str | bytes, *fields: str, subject: str = "Hello") -> bytes:
    head = "\r\n".join([f"Subject: {subject}", *fields])
    data = body if isinstance(body, bytes) else body.encode()
    return head.encode() + b"\r\n\r\n" + data + b"\r\n"


def part(body: str | bytes, *fields: str) -> bytes:
    data = body if isinstance(body, bytes) else body.encode()
    return "\r\n".join(fields).encode() + b"\r\n\r\n" + data + b"\r\n"


def multipart(*parts: bytes, boundary: str = "b1", subject: str = "Hello", top: bool = True):
    """Parts in a multipart: a whole message, or a part of another."""
    joined = b"".join(b"--%s\r\n%s" % (boundary.encode(), each) for each in parts)
    body = joined + b"--%s--\r\n" % boundary.encode()
    field = f'Content-Type: multipart/mixed; boundary="{boundary}"'
    return mail(body, field, subject=subject) if top else part(body, field)


def encoded(text: str) -> str:
    return base64.encodebytes(text.encode()).decode().replace("\n", "\r\n")


HTML = "Content-Type: text/html; charset=utf-8"
BASE64 = "Content-Transfer-Encoding: base64"
DEEP = b"".join(
    b'Content-Type: multipart/mixed; boundary="%d"\r\n\r\n--%d\r\n' % (n, n) for n in range(300)
)

HIDDEN = [
    mail("Be a WINNER today"),
    mail("nothing", subject="You are a winner"),
    mail("nothing", subject="=?utf-8?b?" + base64.b64encode(b"The winner").decode() + "?="),
    mail("you win=\r\nner", "Content-Transfer-Encoding: quoted-printable"),
    mail(encoded("the winner is"), BASE64),
    mail("<p>a win<b></b>ner</p>", HTML),
    mail("&#119;inner", HTML),
    mail(encoded("<i>w</i>inner"), HTML, BASE64),
    mail("winner".encode("utf-16"), "Content-Type: text/plain; charset=utf-16"),
    mail("winner", "Content-Type: text/plain; charset=nonsense"),
    multipart(part("x", "Content-Type: text/plain"), part("the winner", HTML)),
    multipart(multipart(part(encoded("winner"), BASE64), boundary="b2", top=False)),
]
CLEAN = [
    mail("just a letter"),
    mail("win ner"),
    mail("<winner>", HTML),
    mail(encoded("winner"), "Content-Type: application/pdf", BASE64),
    mail(b"\xff\xfe\x00", "Content-Type: text/plain; charset=utf-8"),
    mail("x", "Content-Type: ;;;", "Content-Transfer-Encoding: what"),
    b"\r\n",
]


class TestContentFilter:
    REFUSED = "550 5.7.1 Message contains prohibited content"

    @pytest.mark.parametrize("raw", HIDDEN)
    async def test_found(self, raw):
        async with Stage("content_filter", keywords=["lottery", "Winner"]) as stage:
            decision = await stage.content("on_filter", raw)
            assert said(decision) == self.REFUSED
            assert decision.note == "Winner"
            assert stage.count("rejected_messages", why="keyword") == 1

    @pytest.mark.parametrize("raw", CLEAN)
    async def test_not_found(self, raw):
        async with Stage("content_filter", keywords=["winner"]) as stage:
            assert said(await stage.content("on_filter", raw)) == ""

    async def test_phrases_go_over_lines(self):
        async with Stage("content_filter", keywords=["free  money"]) as stage:
            assert said(await stage.content("on_filter", mail("FREE\r\n  Money"))) == self.REFUSED

    async def test_deep_structures_are_refused_without_a_look(self):
        async with Stage("content_filter", keywords=["winner"]) as stage:
            answer = said(await stage.content("on_filter", DEEP))
            assert answer == "550 5.6.0 Message has too many parts"
            assert stage.count("rejected_messages", why="structure") == 1

    async def test_only_so_much_is_looked_at(self):
        async with Stage("content_filter", keywords=["winner"], max_octets=1000) as stage:
            assert said(await stage.content("on_filter", mail("x" * 2000 + " winner"))) == ""


class TestSpamFilter:
    WORDS = "Viagra, casino, a winner, free money: click here"

    async def test_spam_is_put_aside(self):
        async with Stage("spam_filter") as stage:
            decision = await stage.content("on_filter", mail(self.WORDS))
            assert decision.action == "quarantine"
            assert decision.note == "score 5: viagra, casino, winner, free money, click here"
            assert [edit.encode() for edit in decision.edits] == [b"X-Spam-Score: 5\r\n"]
            assert stage.session.metadata.get("spam_score") == "5"
            assert stage.session.metadata.get("is_spam") == "true"
            assert stage.count("spam_messages") == 1

    async def test_or_refused(self):
        async with Stage("spam_filter", quarantine=False) as stage:
            answer = said(await stage.content("on_filter", mail(self.WORDS)))
            assert answer == "550 5.7.1 Message looks like spam"

    async def test_less_is_only_marked(self):
        async with Stage("spam_filter") as stage:
            decision = await stage.content("on_filter", mail("a winner in a casino"))
            assert decision.action == "continue"
            assert [edit.value for edit in decision.edits] == ["2"]
            assert stage.session.metadata.get("is_spam") == "false"

    @pytest.mark.parametrize("raw", HIDDEN)
    async def test_words_are_found_decoded(self, raw):
        settings = {"spam_threshold": 1.0, "blacklist_keywords": ["winner"]}
        async with Stage("spam_filter", **settings) as stage:
            assert said(await stage.content("on_filter", raw)) == "quarantine"

    async def test_the_whitelist(self):
        async with Stage("spam_filter", whitelist=["example.com"]) as stage:
            raw = mail(self.WORDS)
            assert said(await stage.content("on_filter", raw, sender="a@Example.com")) == ""
            for sender in ('"a@example.com"@spam.test', "a@x.example.com", ""):
                assert said(await stage.content("on_filter", raw, sender=sender)) == "quarantine"

    async def test_deep_structures_are_refused_without_a_look(self):
        async with Stage("spam_filter") as stage:
            assert said(await stage.content("on_filter", DEEP)).startswith("550 5.6.0")

    @pytest.mark.parametrize("settings", [{"spam_threshold": 0}, {"auto_learn": True}])
    def test_bad_settings(self, settings):
        with pytest.raises(ValidationError):
            Stage("spam_filter", **settings)


class TestMessageSize:
    async def test_limits(self):
        async with Stage("message_size", max_size=100, domains={"Big.test": 200}) as stage:
            small, large, huge = (b"x" * size for size in (100, 101, 201))
            refused = "552 5.3.4 Message is larger than 100 octets"
            assert said(await stage.content("on_data", small)) == ""
            assert said(await stage.content("on_data", large)) == refused
            assert said(await stage.content("on_data", large, sender="")) == refused
            assert said(await stage.content("on_data", large, sender="a@big.test")) == ""
            assert said(await stage.content("on_data", huge, sender="a@big.test")).startswith("552")
            assert stage.count("rejected_messages") == 3


class TestDomainRate:
    async def test_each_domain_has_its_own(self):
        async with Stage("domain_rate", max_messages=2) as stage:
            for sender in ("a@one.test", "b@ONE.test", "", "", ""):
                assert said(await stage.content("on_data", b"x", sender=sender)) == ""
            later = "451 4.7.1 Too many messages from your domain"
            assert said(await stage.content("on_data", b"x", sender="c@one.test")) == later
            assert stage.session.metadata.get("rate_limit_exceeded") == "true"
            assert said(await stage.content("on_data", b"x", sender='"a@one.test"@two.test')) == ""
            stage.clock.advance(3601)
            assert said(await stage.content("on_data", b"x", sender="a@one.test")) == ""
            assert stage.count("deferred_messages") == 1


def attached(*fields: str) -> bytes:
    return multipart(part("text", "Content-Type: text/plain"), part("AAAA", *fields))


DISPOSITION = "Content-Disposition: attachment; filename="
BAD = [
    attached(DISPOSITION + "a.exe"),
    attached(DISPOSITION + '"A.EXE"'),
    attached(DISPOSITION + '"invoice.pdf.exe"'),
    attached(DISPOSITION + '"invoice.exe.pdf"'),
    attached(DISPOSITION + '"a.exe. "'),
    attached(DISPOSITION + '"a.exe\x00"'),
    attached(DISPOSITION + '"=?utf-8?b?' + base64.b64encode("ü.exe".encode()).decode() + '?="'),
    attached(DISPOSITION + '"=?utf-8?q?a=2Eexe?="'),
    attached("Content-Disposition: attachment; filename*=utf-8''%C3%BC.%65xe"),
    attached("Content-Disposition: attachment;", "\tfilename*0=a.e;", "\tfilename*1=xe"),
    attached("Content-Type: application/octet-stream; name=a.exe"),
    attached(DISPOSITION + "a.txt", "Content-Type: application/zip; name=a.exe"),
    attached("content-disposition : inline; FILENAME=a.exe"),
    attached("no field at all", DISPOSITION + "a.exe"),
    multipart(multipart(part("x", DISPOSITION + "a.js"), boundary="b1x", top=False)),
    multipart(
        part(mail("x", DISPOSITION + "a.js"), "Content-Type: message/rfc822"),
    ),
    mail("x", DISPOSITION + "a.exe"),
    mail("preamble", DISPOSITION + "a.exe").removesuffix(b"\r\n\r\npreamble\r\n"),
    mail(b"--\xfc\r\n" + part("x", DISPOSITION + "a.exe"), "X: y").replace(
        b"X: y", b"Content-Type: multipart/mixed; boundary=\xfc"
    ),
]
FINE = [
    attached(DISPOSITION + "a.pdf"),
    attached(DISPOSITION + "exe"),
    attached(DISPOSITION + "a.exercise"),
    attached("Content-Type: text/plain; name="),
    mail("Content-Disposition: attachment; filename=a.exe"),
    multipart(part("--b2\r\n" + DISPOSITION + "a.exe\r\n", "Content-Type: text/plain")),
    multipart(part("x", *["X: y"] * 50_000)),
    mail("-- \r\n" + DISPOSITION + "a.exe\r\n", "Content-Type: text/plain; boundary="),
    b"",
]


class TestAttachmentTypes:
    REFUSED = "550 5.7.1 Attachments of this type are not taken"
    COMPLEX = "550 5.6.0 Message has too many parts"

    @pytest.mark.parametrize("raw", BAD)
    async def test_refused(self, raw):
        async with Stage("attachment_types") as stage:
            assert said(await stage.content("on_filter", raw)) == self.REFUSED
            assert stage.count("rejected_messages", why="attachment") == 1

    @pytest.mark.parametrize("raw", FINE)
    async def test_taken(self, raw):
        async with Stage("attachment_types") as stage:
            assert said(await stage.content("on_filter", raw)) == ""

    async def test_the_last_part_of_a_large_message(self):
        text = part("x" * 70 + ("\r\n" + "y" * 70) * 100_000)
        async with Stage("attachment_types") as stage:
            raw = multipart(text, part("x", DISPOSITION + "a.exe"))
            assert said(await stage.content("on_filter", raw)) == self.REFUSED

    async def test_what_is_refused_can_be_set(self):
        async with Stage("attachment_types", extensions=["pdf"]) as stage:
            assert said(await stage.content("on_filter", attached(DISPOSITION + "a.exe"))) == ""
            raw = attached(DISPOSITION + "a.PDF")
            assert said(await stage.content("on_filter", raw)) == self.REFUSED

    @pytest.mark.parametrize(
        "raw",
        [
            DEEP,
            multipart(*[part("x", "X: y")] * 300),
            b"Content-Type: message/rfc822\r\n\r\n" * 300,
            multipart(part("x", "Content-X: " + "y" * 100_000)),
            multipart(part("x", *["Content-X: y"] * 5_000)),
        ],
    )
    async def test_too_much_structure(self, raw):
        async with Stage("attachment_types") as stage:
            assert said(await stage.content("on_filter", raw)) == self.COMPLEX
