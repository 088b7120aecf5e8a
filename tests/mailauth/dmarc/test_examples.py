"""The examples of RFC 9989: table 1, appendix B."""

import pytest
from mailauth.dmarc.cases import asked, dkim, judge, spf, zone

from elemta.mailauth.dmarc import Author, DmarcChecker, find_author, parse_record

RELAXED, STRICT = "v=DMARC1; p=reject", "v=DMARC1; p=reject; adkim=s; aspf=s"


@pytest.mark.parametrize(
    ("identifier", "relaxed", "strict"),
    [
        ("foo.example.com", True, False),
        ("news.example.com", True, True),
        ("foo.example.net", False, False),
    ],
)
async def test_table_1(identifier: str, relaxed: bool, strict: bool):
    for record, expected in ((RELAXED, relaxed), (STRICT, strict)):
        resolver = zone({"example.com": record})
        by_spf = (await judge(resolver, "news.example.com", spf(identifier))).verdict
        by_dkim = (await judge(resolver, "news.example.com", None, dkim(identifier))).verdict
        assert by_spf.spf_aligned is by_dkim.dkim_aligned is expected
        assert by_spf.status == by_dkim.status == ("pass" if expected else "fail")


@pytest.mark.parametrize(
    ("author", "identifier", "relaxed", "strict"),
    [
        ("example.com", "example.com", True, True),  # B.1.1 and B.1.2, example 1
        ("example.com", "child.example.com", True, False),  # B.1.1, example 2
        ("child.example.com", "example.com", True, False),  # B.1.2, example 2
        ("child.example.com", "example.net", False, False),  # example 3 of both
    ],
)
async def test_appendix_b_1(author: str, identifier: str, relaxed: bool, strict: bool):
    section = f"From: sender@{author}\r\nTo: receiver@example.org\r\n\r\n".encode()
    assert find_author(section) == Author((author,))
    for record, expected in ((RELAXED, relaxed), (STRICT, strict)):
        resolver = zone({"example.com": record, "example.net": record})
        verdict = (await judge(resolver, author, spf(identifier), dkim(identifier))).verdict
        assert (verdict.spf_aligned, verdict.dkim_aligned) == (expected, expected)


def test_appendix_b_2():
    feedback = "dmarc-feedback@example.com"
    record = parse_record(f"v=DMARC1; p=none; rua=mailto:{feedback}".encode())
    assert (record.p, record.t) == ("none", False)
    assert [str(uri.address) for uri in record.rua] == [feedback]

    outside = "auth-reports@thirdparty.example.net"
    record = parse_record(f"v=DMARC1; p=none; rua=mailto:{feedback}; ruf=mailto:{outside}".encode())
    assert [str(uri.address) for uri in record.ruf] == [outside]
    assert not parse_record(b"v=DMARC1;").error  # B.2.3: who accepts reports of others

    record = parse_record(
        b"v=DMARC1; p=quarantine; rua=mailto:dmarc-feedback@example.com,"
        b"mailto:tld-test@thirdparty.example.net; t=y"
    )
    assert (record.p, record.t) == ("quarantine", True)
    assert [str(uri.address) for uri in record.rua] == [feedback, "tld-test@thirdparty.example.net"]


async def test_appendix_b_3_1():
    resolver = zone(
        {"example.com": "v=DMARC1; p=reject; aspf=r; rua=mailto:dmarc-feedback@example.com"}
    )
    judgement = await judge(resolver, "example.com", spf("mail.example.com"), dkim("example.com"))
    verdict = judgement.verdict
    assert (verdict.status, verdict.spf_aligned, verdict.dkim_aligned) == ("pass", True, True)
    assert judgement.record is not None
    assert [uri.uri for uri in judgement.record.rua] == ["mailto:dmarc-feedback@example.com"]


async def test_appendix_b_4_1():
    resolver = zone({"example.com": RELAXED, "signing.example.com": RELAXED})
    verdict = (
        await judge(resolver, "example.com", spf("example.com"), dkim("signing.example.com"))
    ).verdict
    assert (verdict.spf_aligned, verdict.dkim_aligned) == (True, True)
    assert verdict.organizational_domain == verdict.policy_domain == "example.com"
    assert asked(resolver) == ["example.com", "com", "signing.example.com"]


async def test_appendix_b_4_2():
    resolver = zone({"example.com": RELAXED, "signing.example.com": RELAXED})
    author = "a.b.c.d.e.f.g.h.i.j.k.example.com"
    verdict = (
        await judge(resolver, author, spf("example.com"), dkim("signing.example.com"))
    ).verdict
    assert (verdict.spf_aligned, verdict.dkim_aligned) == (True, True)
    assert verdict.organizational_domain == verdict.policy_domain == "example.com"
    assert asked(resolver) == [
        author,
        "g.h.i.j.k.example.com",
        "h.i.j.k.example.com",
        "i.j.k.example.com",
        "j.k.example.com",
        "k.example.com",
        "example.com",
        "com",
        "signing.example.com",
    ]


async def test_appendix_b_4_3():
    resolver = zone({"bank.example": RELAXED + "; psd=y", "giant.bank.example": RELAXED})
    judgement = await judge(
        resolver,
        "giant.bank.example",
        spf("mail.giant.bank.example"),
        dkim("mail.mega.bank.example"),
    )
    verdict = judgement.verdict
    assert (verdict.status, verdict.spf_aligned, verdict.dkim_aligned) == ("pass", True, False)
    assert verdict.organizational_domain == verdict.policy_domain == "giant.bank.example"
    checker = DmarcChecker(resolver)
    assert await checker.organizational_domain("mail.mega.bank.example") == "mega.bank.example"


async def test_an_organization_below_a_careless_suffix_can_defend_itself():
    # RFC 9989 §11.8
    careless = {"com": "v=DMARC1; p=none", "example.com": RELAXED}
    verdict = (await judge(zone(careless), "example.com", spf("evil.com"))).verdict
    assert verdict.status == "pass"
    careful = careless | {"example.com": RELAXED + "; psd=n"}
    verdict = (await judge(zone(careful), "example.com", spf("evil.com"))).verdict
    assert verdict.status == "fail"
