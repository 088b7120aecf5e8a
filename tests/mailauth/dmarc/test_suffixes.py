"""The public suffix list instead of the tree walk (RFC 7489 §3.2)."""

import os
import re
from pathlib import Path

import pytest
from mailauth.dmarc.cases import asked, dkim, judge, spf, zone

from elemta.mail.address import parse_domain
from elemta.mail.errors import AddressError
from elemta.mailauth.dmarc import DmarcChecker, DmarcSettings
from elemta.mailauth.dmarc.discovery import registered_domain

CASES = Path(__file__).resolve().parents[4] / "shared/conformance/test_psl.txt"
_CASE = re.compile(r"^checkPublicSuffix\((null|'[^']*'), (null|'[^']*')\);", re.MULTILINE)


def read_cases() -> list[tuple[str, str | None]]:
    if not CASES.exists():
        return []
    found = _CASE.findall(CASES.read_text("utf-8"))
    return [
        (name.strip("'"), None if expected == "null" else expected.strip("'"))
        for name, expected in found
        if name != "null"
    ]


def test_the_cases_are_there():
    if not CASES.exists():
        assert not os.environ.get("CI"), f"{CASES} is missing"
        pytest.skip(f"needs the cases of the public suffix list at {CASES}")
    assert len(read_cases()) > 70


@pytest.mark.parametrize(("name", "expected"), read_cases())
def test_case(name: str, expected: str | None):
    try:
        domain = parse_domain(name)
    except AddressError:  # a dot in front
        assert expected is None
        return
    assert registered_domain(domain) == (expected and parse_domain(expected))


async def test_the_list_decides():
    resolver = zone({"example.co.uk": "v=DMARC1; p=reject; sp=quarantine"})
    judgement = await judge(
        resolver,
        "a.b.example.co.uk",
        spf("c.example.co.uk"),
        dkim("other.co.uk"),
        discovery="psl",
    )
    verdict = judgement.verdict
    assert (verdict.status, verdict.spf_aligned, verdict.dkim_aligned) == ("pass", True, False)
    assert (verdict.policy_domain, verdict.published) == ("example.co.uk", "quarantine")
    assert verdict.organizational_domain == "example.co.uk"
    assert verdict.discovery == "psl"
    assert asked(resolver) == ["a.b.example.co.uk", "example.co.uk"]


async def test_records_elsewhere_and_their_psd_do_not_matter():
    resolver = zone(
        {
            "uk": "v=DMARC1; p=reject",
            "co.uk": "v=DMARC1; p=reject",
            "b.example.co.uk": "v=DMARC1; p=reject; psd=n",
        }
    )
    verdict = (await judge(resolver, "a.b.example.co.uk", discovery="psl")).verdict
    assert (verdict.status, verdict.discovery) == ("none", "psl")
    author = "b.example.co.uk"
    verdict = (await judge(resolver, author, spf("example.co.uk"), discovery="psl")).verdict
    assert (verdict.status, verdict.organizational_domain) == ("pass", "example.co.uk")


async def test_a_suffix_stands_for_itself():
    resolver = zone({"co.uk": "v=DMARC1; p=reject"})
    verdict = (await judge(resolver, "co.uk", spf("example.co.uk"), discovery="psl")).verdict
    assert (verdict.status, verdict.organizational_domain) == ("fail", "co.uk")
    checker = DmarcChecker(resolver, DmarcSettings("psl"))
    assert await checker.organizational_domain("co.uk") == "co.uk"
    assert await checker.organizational_domain("www.xn--85x722f.xn--55qx5d.cn") == (
        "xn--85x722f.xn--55qx5d.cn"
    )


@pytest.mark.parametrize("failing", ["a.example.co.uk", "example.co.uk"])
async def test_an_outage(failing: str):
    resolver = zone({failing: None})
    verdict = (
        await judge(resolver, "a.example.co.uk", spf("a.example.co.uk"), discovery="psl")
    ).verdict
    assert verdict.status == "temperror"
    assert failing in verdict.problem
