"""Policy records: what they say, what is passed over, what cannot be used (RFC 9989 §4.7, §4.8)."""

import pytest

from elemta.mailauth.dmarc import DmarcRecord, RecordError, find_record, parse_record
from elemta.mailauth.dmarc.record import RECORD_LIMIT, URI_LIMIT


def uris(record: DmarcRecord) -> list[str]:
    return [uri.uri for uri in record.rua]


def test_reads_all_tags():
    record = parse_record(
        b"v=DMARC1; p=reject; sp=quarantine; np=none; t=y; psd=n; adkim=s; aspf=s; fo=1:d:s; "
        b"rua=mailto:a@example.com, mailto:b@example.net!10m; ruf=mailto:c@example.com"
    )
    assert (record.p, record.sp, record.np) == ("reject", "quarantine", "none")
    assert (record.t, record.psd, record.adkim, record.aspf) == (True, "n", "s", "s")
    assert record.fo == "1:d:s"
    assert [(str(uri.address), uri.size_limit) for uri in record.rua] == [
        ("a@example.com", None),
        ("b@example.net", 10 << 20),
    ]
    assert uris(record) == ["mailto:a@example.com", "mailto:b@example.net"]
    assert [str(uri.address) for uri in record.ruf] == ["c@example.com"]
    assert not record.error
    assert record.problems == ()


def test_has_the_defaults_of_the_rfc():
    assert parse_record(b"v=DMARC1; p=none") == DmarcRecord(
        p="none", sp="", np="", t=False, psd="u", adkim="r", aspf="r", fo="0"
    )


@pytest.mark.parametrize(
    "text",
    [
        "v=DMARC1;p=reject",
        "v = DMARC1 ; p = reject",
        "V=DMARC1;\tp\t=\treject\t;",
        "v=DMARC1; P=REJECT",
        "v=DMARC1; adkim=r; p=reject",
        "v=DMARC1;;; p=reject;;",
        "v=DMARC1; future=1; p=reject; x",
        "v=DMARC1; p=reject; p=none",
        "v=DMARC1; p=reject; adkim=strict; aspf=; t=maybe; psd=yes; fo=0:1",
    ],
)
def test_small_faults_do_not_matter(text: str):
    record = parse_record(text.encode())
    assert (record.p, record.error) == ("reject", "")
    assert (record.adkim, record.aspf, record.t, record.psd, record.fo) == (
        "r",
        "r",
        False,
        "u",
        "0",
    )


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"v=spf1 -all",
        b"p=reject; v=DMARC1",
        b" v=DMARC1; p=reject",
        b"v=dmarc1; p=reject",
        b"v=DMARC2; p=reject",
        b"v=DMARC1p=reject",
        b"v=DMARC1 p=reject",
        b'"v=DMARC1; p=reject"',
        b"\xff\xfe\x00",
    ],
)
def test_what_does_not_begin_with_the_version_is_no_record(text: bytes):
    assert find_record((text,)) is None
    with pytest.raises(RecordError):
        parse_record(text)


def test_several_records_count_as_none():
    texts = (b"v=DMARC1; p=reject", b"v=DMARC1; p=none")
    assert find_record(texts) is None
    assert find_record((b"v=spf1 -all", *texts[:1], b"")) == parse_record(texts[0])
    assert find_record(()) is None


@pytest.mark.parametrize("tag", ["p=monitor", "p=", "p=reject; sp=no", "p=reject; np=\xe9"])
def test_a_broken_policy_is_none_where_reports_are_wanted(tag: str):
    record = parse_record(f"v=DMARC1; pct=5; {tag}; rua=mailto:a@example.com".encode("latin-1"))
    assert (record.p, record.sp, record.np, record.error) == ("none", "", "", "")
    assert "is no policy" in record.problems[0]
    assert uris(record) == ["mailto:a@example.com"]


@pytest.mark.parametrize("rua", ["", "; rua=", "; rua=a@example.com", "; ruf=mailto:a@example.com"])
@pytest.mark.parametrize("tag", ["p=monitor", "p=", "p=reject; sp=no", "p=reject; np=no"])
def test_a_broken_policy_without_reports_cannot_be_used(tag: str, rua: str):
    assert "is no policy" in parse_record(f"v=DMARC1; {tag}{rua}".encode()).error


@pytest.mark.parametrize("text", [b"v=DMARC1", b"v=DMARC1;", b"v=DMARC1; sp=reject"])
def test_no_policy_is_the_policy_none(text: bytes):
    # RFC 9989 §4.7: "treated as if it included p=none"
    record = parse_record(text)
    assert (record.p, record.error) == ("none", "")


@pytest.mark.parametrize("tag", ["pct=0", "pct=50", "rf=afrf", "ri=86400", "pct=many"])
def test_tags_of_before_have_no_effect(tag: str):
    record = parse_record(f"v=DMARC1; p=reject; {tag}".encode())
    assert record.p == "reject"
    assert record.problems == (f"{tag.partition('=')[0]}= has no meaning any more",)


@pytest.mark.parametrize(
    ("sp", "np", "existing", "missing"),
    [
        ("", "", "reject", "reject"),
        ("none", "", "none", "none"),
        ("", "none", "reject", "none"),
        ("quarantine", "none", "quarantine", "none"),
    ],
)
def test_policies_of_subdomains(sp: str, np: str, existing: str, missing: str):
    record = DmarcRecord(p="reject", sp=sp, np=np)
    assert record.policy_below(exists=True) == existing
    assert record.policy_below(exists=False) == missing


@pytest.mark.parametrize(
    ("written", "address", "size"),
    [
        ("mailto:a@example.com", "a@example.com", None),
        ("MAILTO:a@EXAMPLE.com", "a@example.com", None),
        ("mailto:a%2Bb@example.com", "a+b@example.com", None),
        ("mailto:a%21b@example.com", "a!b@example.com", None),
        ("mailto:a@example.com?subject=x", "a@example.com", None),
        ("mailto:a@b%C3%BCcher.example", "a@xn--bcher-kva.example", None),
        ("mailto:a@example.com!500", "a@example.com", 500),
        ("mailto:a@example.com!2K", "a@example.com", 2048),
        ("mailto:a@example.com!3g", "a@example.com", 3 << 30),
        ("mailto:a@example.com!1t", "a@example.com", 1 << 40),
        ("https://example.com/r", "None", None),
    ],
)
def test_addresses_of_reports(written: str, address: str, size: int | None):
    record = parse_record(f"v=DMARC1; p=none; rua={written}".encode())
    assert [(str(uri.address), uri.size_limit) for uri in record.rua] == [(address, size)]
    assert record.problems == ()


@pytest.mark.parametrize(
    "written",
    [
        "a@example.com",
        "mailto:",
        "mailto:example.com",
        "mailto:postmaster",
        "mailto:a@[192.0.2.1]",
        "mailto:a@b@example.com",
        "mailto:a@example.com!",
        "mailto:a@example.com!9x",
        "mailto:a@example.com!1!2",
        "mailto:a@example.com!9999999999999",
        "mailto:a%0D%0ABcc:b@example.com",
        "mailto:a%FF@example.com",
        "mailto:%@example.com",
        "mailto:a@exa mple.com",
        "mailto:<a@example.com>",
        "1mailto:a@example.com",
    ],
)
def test_what_is_no_address_of_reports(written: str):
    record = parse_record(f"v=DMARC1; p=reject; rua={written}, mailto:b@example.com".encode())
    assert uris(record) == ["mailto:b@example.com"]
    assert record.problems == ("rua= has something that is no URI",)


def test_failure_options_need_an_address():
    assert parse_record(b"v=DMARC1; p=none; fo=1").fo == "0"
    with_address = b"v=DMARC1; p=none; ruf=mailto:a@example.com; fo="
    options = {b"1": "1", b"D:S": "d:s", b"d:0": "d:0", b"s:d:1": "s:d:1", b"0 : d": "0:d"}
    for written, read in options.items():
        assert parse_record(with_address + written).fo == read
    for wrong in (b"", b"0:1", b"d:d", b"x", b"1:d:s:s", b"1:"):
        record = parse_record(with_address + wrong)
        assert record.fo == "0"
        assert record.problems == ("fo= has no value that is known",)


def test_a_record_is_parsed_once():
    text = b"v=DMARC1; p=reject; rua=mailto:once@example.com"
    assert parse_record(text) is parse_record(bytes(bytearray(text)))


def test_a_huge_record_cannot_be_used():
    text = b"v=DMARC1; p=reject; x=" + b"y" * RECORD_LIMIT
    record = parse_record(text)
    assert record == DmarcRecord(error="the record is too long")
    assert parse_record(text[:RECORD_LIMIT]).p == "reject"


def test_bombs_stay_small():
    many = ",".join(f"mailto:a{n}@example.com" for n in range(150))
    record = parse_record(f"v=DMARC1; p=none; rua={many}".encode())
    assert len(record.rua) == URI_LIMIT
    same = ",".join(["mailto:a@example.com"] * 150)
    assert len(parse_record(f"v=DMARC1; p=none; rua={same}".encode()).rua) == 1
    tags = "; ".join(f"p{'q' * (n % 7)}=x;t=" for n in range(300))
    assert len(parse_record(f"v=DMARC1; p=none; {tags}".encode()).problems) == 8
    wrong = "," * 4000
    assert len(parse_record(f"v=DMARC1; p=none; rua={wrong}".encode()).problems) == 8
    spaces = " " * 4000
    assert parse_record(f"v=DMARC1; p={spaces}\x01".encode()).error == "p= is no policy"
    assert parse_record(f"v=DMARC1{spaces}; p=reject".encode()).p == "reject"
    digits = "9" * 4000
    assert parse_record(f"v=DMARC1; p=none; rua=mailto:a@b.example!{digits}".encode()).rua == ()
