"""Who gets reports."""

import pytest

from elemta.mailauth.dmarc import parse_record
from elemta.mailauth.dmarc.discovery import SuffixList
from elemta.mailauth.reports import find_destinations
from elemta.mailauth.reports.destinations import MAX_DESTINATIONS
from elemta.testing import FakeResolver

CONSENT = {"TXT": ["v=DMARC1"]}


async def find(rua, zone=None, domain="a.test", discovery=None):
    resolver = FakeResolver(
        {"_dmarc.a.test": {"TXT": ["v=DMARC1; p=none"]}, "rx.test": {}, **(zone or {})}
    )
    record = parse_record(f"v=DMARC1; p=none; rua={rua}".encode())
    found = await find_destinations(record, domain, resolver, discovery)
    return found, resolver


def names(found):
    return [str(each.address) for each in found.allowed]


async def test_the_domain_itself_needs_no_consent():
    found, resolver = await find("mailto:x@a.test")
    assert names(found) == ["x@a.test"]
    assert resolver.questions == []


@pytest.mark.parametrize(
    ("domain", "host"),
    [("a.test", "mail.a.test"), ("mail.a.test", "a.test"), ("b.a.test", "c.a.test")],
)
async def test_the_same_organization_needs_no_consent(domain, host):
    found, _ = await find(f"mailto:x@{host}", domain=domain)
    assert names(found) == [f"x@{host}"]


async def test_another_organization_has_to_agree():
    found, resolver = await find("mailto:x@rx.test")
    assert names(found) == []
    why = "rx.test does not say that it wants reports on a.test"
    assert found.refused == (("mailto:x@rx.test", why),)
    assert not found.is_unsure
    assert ("a.test._report._dmarc.rx.test", "TXT") in resolver.questions
    found, _ = await find("mailto:x@rx.test", {"a.test._report._dmarc.rx.test": CONSENT})
    assert names(found) == ["x@rx.test"]


async def test_consent_to_one_domain_is_none_to_another():
    zone = {"a.test._report._dmarc.rx.test": CONSENT, "_dmarc.b.test": CONSENT}
    found, _ = await find("mailto:x@rx.test", zone, domain="b.test")
    assert names(found) == []


@pytest.mark.parametrize(
    "texts",
    [
        [],
        ["v=spf1 -all"],
        ["v=DMARC2"],
        ["V=DMARC"],
        [" "],
        ["p=none; v=DMARC1"],
        [b"\xff\xfe"],
    ],
)
async def test_what_is_no_consent(texts):
    zone = {"a.test._report._dmarc.rx.test": {"TXT": texts}}
    assert names((await find("mailto:x@rx.test", zone))[0]) == []


@pytest.mark.parametrize("texts", [["v=DMARC1;"], ["v = DMARC1 ; "], ["x", "v=DMARC1", "v=DMARC1"]])
async def test_what_is_consent(texts):
    zone = {"a.test._report._dmarc.rx.test": {"TXT": texts}}
    assert names((await find("mailto:x@rx.test", zone))[0]) == ["x@rx.test"]


async def test_consent_may_name_another_address_there():
    zone = {"a.test._report._dmarc.rx.test": {"TXT": ["v=DMARC1; rua=mailto:y@rx.test!1k"]}}
    found, _ = await find("mailto:x@rx.test", zone)
    assert names(found) == ["y@rx.test"]
    assert found.allowed[0].max_size == 1024


@pytest.mark.parametrize("rua", ["mailto:y@victim.test", "mailto:x@rx.test,mailto:y@victim.test"])
async def test_consent_names_no_other_host(rua):
    zone = {"a.test._report._dmarc.rx.test": {"TXT": [f"v=DMARC1; rua={rua}"]}}
    found, _ = await find("mailto:x@rx.test", zone)
    assert names(found) == []
    assert found.refused == (("mailto:x@rx.test", "its consent names another host"),)


async def test_an_outage_is_no_answer():
    found, _ = await find("mailto:x@rx.test", {"a.test._report._dmarc.rx.test": None})
    assert names(found) == []
    assert found.is_unsure
    found, _ = await find("mailto:x@rx.test,mailto:y@a.test", {"_dmarc.rx.test": None})
    assert names(found) == ["y@a.test"]
    assert found.is_unsure


async def test_the_size_of_old_records_is_heeded():
    found, _ = await find("mailto:x@a.test!10m, mailto:y@a.test!5,mailto:z@a.test")
    assert [each.max_size for each in found.allowed] == [10 * 1024 * 1024, 5, None]


@pytest.mark.parametrize(
    "rua",
    [
        "https://a.test/reports",
        "mailto:",
        "mailto:x",
        "mailto:x@[127.0.0.1]",
        "mailto:x@a.test%0d%0aRCPT%20TO:%3Cv@victim.test%3E",
        "mailto:%22x%20y%22@a.test",
        "mailto:x%00@a.test",
        "mailto:%C3%A9@a.test",
        "mailto:x@a.test\r\nBcc: v@victim.test",
        "x@a.test",
        "file:///etc/passwd",
        "mailto:" + "x" * 300 + "@a.test",
    ],
)
async def test_hostile_addresses_get_nothing(rua):
    found, _ = await find(rua)
    assert names(found) == []


async def test_there_are_five_at_most_and_few_questions():
    rua = ",".join(f"mailto:x{number}@h{number}.test" for number in range(99))
    zone = {f"a.test._report._dmarc.h{number}.test": CONSENT for number in range(99)}
    found, resolver = await find(rua, zone)
    assert names(found) == [f"x{number}@h{number}.test" for number in range(MAX_DESTINATIONS)]
    assert len(resolver.questions) < 60


async def test_each_address_gets_one():
    found, _ = await find("mailto:x@a.test,mailto:x@A.test,mailto:X@a.test?subject=y")
    assert names(found) == ["x@a.test", "X@a.test"]


async def test_a_name_can_be_too_long_for_the_dns():
    domain = ".".join(["a" * 60] * 4)
    found, _ = await find("mailto:x@rx.test", {"_dmarc." + domain: {}}, domain=domain)
    assert found.refused[0][1] == "the name of its consent is too long for the DNS"


async def test_organizations_by_the_list_of_suffixes():
    found, resolver = await find("mailto:x@b.a.co.uk", domain="a.co.uk", discovery=SuffixList())
    assert names(found) == ["x@b.a.co.uk"]
    assert resolver.questions == []
    found, _ = await find("mailto:x@b.co.uk", domain="a.co.uk", discovery=SuffixList())
    assert names(found) == []
