"""Reads a report as strictly as RFC 9990 describes it: names, order, numbers, words."""

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass

NAMESPACE = "{urn:ietf:params:xml:ns:dmarc-2.0}"

POLICY = {"none", "quarantine", "reject"}
PASSED = {"pass", "fail"}
DKIM = {"none", "pass", "fail", "policy", "neutral", "temperror", "permerror"}
TEXT = re.compile(r"[^\x00-\x1f\x7f-\x9f]{0,500}").fullmatch
NUMBER = re.compile(r"[0-9]{1,15}").fullmatch
ADDRESS = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){3}|[0-9a-f]*:[0-9a-f:]*").fullmatch


@dataclass
class Some:
    """An element: how often it comes, and what it may hold."""

    least: int
    most: int
    content: object


def one(content):
    return Some(1, 1, content)


def maybe(content):
    return Some(0, 1, content)


# in the order of the tables of RFC 9990 §3.1.1
FEEDBACK = {
    "version": maybe({"1.0"}),
    "report_metadata": one(
        {
            "org_name": one(TEXT),
            "email": one(TEXT),
            "extra_contact_info": maybe(TEXT),
            "report_id": one(TEXT),
            "date_range": one({"begin": one(NUMBER), "end": one(NUMBER)}),
            "error": maybe(TEXT),
            "generator": maybe(TEXT),
        }
    ),
    "policy_published": one(
        {
            "domain": one(TEXT),
            "discovery_method": maybe({"psl", "treewalk"}),
            "p": one(POLICY),
            "sp": maybe(POLICY),
            "np": maybe(POLICY),
            "fo": maybe(re.compile(r"[01ds](:[01ds])*").fullmatch),
            "adkim": maybe({"r", "s"}),
            "aspf": maybe({"r", "s"}),
            "testing": maybe({"y", "n"}),
        }
    ),
    "record": Some(
        1,
        1 << 30,
        {
            "row": one(
                {
                    "source_ip": one(ADDRESS),
                    "count": one(NUMBER),
                    "policy_evaluated": one(
                        {
                            "disposition": one(POLICY | {"pass"}),
                            "dkim": one(PASSED),
                            "spf": one(PASSED),
                            "reason": Some(
                                0,
                                1 << 30,
                                {
                                    "type": one(
                                        {
                                            "local_policy",
                                            "mailing_list",
                                            "other",
                                            "policy_test_mode",
                                            "trusted_forwarder",
                                        }
                                    ),
                                    "comment": maybe(TEXT),
                                },
                            ),
                        }
                    ),
                }
            ),
            "identifiers": one(
                {
                    "header_from": one(TEXT),
                    "envelope_from": maybe(TEXT),
                    "envelope_to": maybe(TEXT),
                }
            ),
            "auth_results": one(
                {
                    "dkim": Some(
                        0,
                        100,
                        {
                            "domain": one(TEXT),
                            "selector": one(TEXT),
                            "result": one(DKIM),
                            "human_result": maybe(TEXT),
                        },
                    ),
                    "spf": maybe(
                        {
                            "domain": one(TEXT),
                            "scope": maybe({"mfrom"}),
                            "result": one(DKIM | {"softfail"}),
                            "human_result": maybe(TEXT),
                        }
                    ),
                }
            ),
        },
    ),
}


def read_feedback(xml: bytes) -> dict:
    """Read a report into dicts, lists and texts; whatever the form does not allow is an error."""
    assert b"<!" not in xml  # neither a document type nor entities of its own
    root = ET.fromstring(xml)
    assert root.tag == f"{NAMESPACE}feedback", root.tag
    return _read(root, FEEDBACK)


def _read(element, form):
    assert not element.attrib
    if not isinstance(form, dict):
        text = element.text or ""
        assert not list(element), element.tag
        assert text in form if isinstance(form, set) else form(text), (element.tag, text)
        return text
    assert not (element.text or "").strip()
    names = list(form)
    found: dict[str, list] = {name: [] for name in names}
    last = 0
    for child in element:
        assert not (child.tail or "").strip()
        assert child.tag.startswith(NAMESPACE), child.tag
        name = child.tag.removeprefix(NAMESPACE)
        assert name in names, name
        assert names.index(name) >= last, f"{name} comes too late"
        last = names.index(name)
        found[name].append(_read(child, form[name].content))
    result: dict[str, object] = {}
    for name, some in form.items():
        assert some.least <= len(found[name]) <= some.most, (name, len(found[name]))
        if some.most > 1:
            result[name] = found[name]
        elif found[name]:
            result[name] = found[name][0]
    return result
