"""The cases of ValiMail's suite for validators; where it follows a draft, RFC 8617 goes before."""

import os
from pathlib import Path

import pytest
import yaml
from mailauth.arc.chains import judge

from elemta.mailauth import AuthStatus

CASES = Path(__file__).resolve().parents[4] / "shared/conformance/arc-draft-validation-tests.yml"

# An AMS has the syntax and semantics of a DKIM-Signature but for its name, v= and i=:
# RFC 8617 §4.1.2. What the drafts before said otherwise is named here.
FAILS_BY_RFC = {
    # without c= both forms are "simple" (RFC 6376 §3.5); the case takes them for "relaxed"
    "ams_fields_c_na",
    # h= must not be empty, and must list From (RFC 6376 §3.5 and §5.4)
    "ams_fields_h_empty",
    # a name of a field has at least one character (RFC 6376 §3.5: hdr-name)
    "ams_fields_h_mis_hdr",
}
# The suite does not care for chains that say that they have failed: RFC 8617 §5.2, step 2 and 3C.
FAILED_BEFORE = {"cv_fail_i1_as_cv_fail", "cv_fail_i2_as2_fail", "cv_fail_i2_as1_fail"}


class Loader(yaml.SafeLoader):
    """Some cases have the name of another one: none of them is left out."""


def read_mapping(loader: Loader, node: yaml.MappingNode) -> dict:
    mapping: dict = {}
    for key, value in loader.construct_pairs(node, deep=True):
        mapping[f"{key}_again" if key in mapping else key] = value
    return mapping


Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, read_mapping)


def read_cases() -> list:
    if not CASES.exists():
        return []
    cases = []
    for document in filter(None, yaml.load_all(CASES.read_text(), Loader)):
        zone = {name: {"TXT": [text]} for name, text in document["txt-records"].items()}
        for name, case in document["tests"].items():
            raw = case["message"].replace("\n", "\r\n").encode()
            cases.append(pytest.param(name, raw, zone, (case["cv"] or "").strip(), id=name))
    return cases


def test_the_suite_is_there():
    if not CASES.exists():
        assert not os.environ.get("CI"), f"{CASES} is missing"
        pytest.skip(f"{CASES} is missing")
    assert len(read_cases()) == 175


@pytest.mark.parametrize(("name", "raw", "zone", "expected"), read_cases())
async def test_case(name, raw, zone, expected):
    verdict = await judge(raw, zone)
    if name in FAILS_BY_RFC:
        assert expected == "Pass"
        expected = "Fail"
    if name in FAILED_BEFORE:
        assert expected == ""
        expected = "Fail"
    assert verdict.status == AuthStatus(expected.lower()), verdict
