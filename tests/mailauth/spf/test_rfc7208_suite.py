"""The test suite of RFC 7208: every case with its allowed results, and its explanation."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from mailauth.spf.zones import SuiteResolver

from elemta.mailauth.spf import SpfChecker, SpfSettings

SUITE = Path(__file__).resolve().parents[4] / "shared/conformance/rfc7208-tests.yml"


def read_cases() -> list[Any]:
    if not SUITE.exists():
        return []
    return [
        pytest.param(document["zonedata"], case, id=f"{document['description']}: {name}")
        for document in yaml.safe_load_all(SUITE.read_text())
        for name, case in document["tests"].items()
    ]


def test_the_suite_is_there():
    if not SUITE.exists():
        assert not os.environ.get("CI"), f"{SUITE} is missing"
        pytest.skip(f"needs the test suite of RFC 7208 at {SUITE}")
    assert len(read_cases()) == 203


@pytest.mark.parametrize(("zonedata", "case"), read_cases())
async def test_case(zonedata: dict[str, Any], case: dict[str, Any]):
    checker = SpfChecker(SuiteResolver(zonedata), SpfSettings(hostname="receiver.test"))
    sender = case["mailfrom"] or f"postmaster@{case['helo']}"
    domain = sender.rpartition("@")[2]
    verdict = await checker.check(case["host"], domain, sender, case["helo"], now=1.0)
    allowed = case["result"] if isinstance(case["result"], list) else [case["result"]]
    assert verdict.status in allowed, verdict
    if case.get("explanation") is not None:
        expected = case["explanation"]
        assert verdict.explanation == ("" if expected == "DEFAULT" else expected)
