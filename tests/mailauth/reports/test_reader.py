"""What an independent reader makes of reports."""

from dataclasses import replace

from mailauth.reports.reporting import BEGIN, PUBLISHED, report, row
from servers.reports import read_report

from elemta.mail.address import parse_address
from elemta.mailauth.reports import DkimResult, Reason, write_files, write_letter

ROW = row(
    "2001:db8::1",
    disposition="none",
    dkim_aligned=False,
    header_from="sub.a.test",
    reasons=(Reason("policy_test_mode"), Reason("local_policy", "set <for> this domain & more")),
    dkim=(
        DkimResult("b.test", "sel", "pass"),
        DkimResult("a.test", "old", "fail", "body hash differs"),
    ),
)


def test_a_file_is_read(tmp_path):
    published = replace(PUBLISHED, is_testing=True, discovery="treewalk")
    whole = report((ROW, 2), (row(), 40), published=published, error="two things")
    (file,) = write_files(whole, 25_000_000)
    path = tmp_path / file.name
    path.write_bytes(file.packed)
    _check(read_report(path), file.report_id)


def test_a_letter_is_read(tmp_path):
    published = replace(PUBLISHED, is_testing=True, discovery="treewalk")
    whole = report((ROW, 2), (row(), 40), published=published, error="two things")
    (file,) = write_files(whole, 25_000_000)
    addresses = map(parse_address, ("reports@rx.test", "reports@a.test"))
    path = tmp_path / "letter.eml"
    path.write_bytes(write_letter(whole, file, *addresses, BEGIN, 0))
    _check(read_report(path), file.report_id)


def _check(found, report_id):
    assert found["xml_namespace"] == "urn:ietf:params:xml:ns:dmarc-2.0"
    about = found["report_metadata"]
    assert about["org_name"] == "Receiver & Sons"
    assert about["org_email"] == "reports@rx.test"
    assert about["report_id"] == report_id
    assert about["errors"] == ["two things"]
    assert about["generator"] == "Elemta 1"
    published = found["policy_published"]
    assert published["domain"] == "a.test"
    told = {name: published[name] for name in ("p", "sp", "np", "adkim", "aspf", "fo")}
    assert told == {
        "p": "reject",
        "sp": "quarantine",
        "np": "none",
        "adkim": "s",
        "aspf": "r",
        "fo": "1:d",
    }
    assert published["testing"] == "y"
    assert published["discovery_method"] == "treewalk"
    first, second = sorted(found["records"], key=lambda each: each["count"])
    assert first["source"]["ip_address"] == "2001:db8::1"
    assert first["count"] == 2
    assert first["identifiers"]["header_from"] == "sub.a.test"
    assert first["identifiers"]["envelope_from"] == "bounce.a.test"
    assert first["policy_evaluated"] == {
        "disposition": "none",
        "dkim": "fail",
        "spf": "fail",
        "policy_override_reasons": [
            {"type": "policy_test_mode", "comment": None},
            {"type": "local_policy", "comment": "set <for> this domain & more"},
        ],
    }
    signatures = first["auth_results"]["dkim"]
    dkim = [(each["domain"], each["selector"], each["result"]) for each in signatures]
    assert dkim == [("b.test", "sel", "pass"), ("a.test", "old", "fail")]
    assert second["policy_evaluated"]["disposition"] == "pass"
    assert second["alignment"] == {"spf": False, "dkim": True, "dmarc": True}
