"""Whatever the DNS and a message say, there is a verdict, after a bounded number of queries."""

import asyncio
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from elemta.mail.reply import clean_text
from elemta.mailauth import AuthStatus, DkimVerdict, SpfVerdict
from elemta.mailauth.dmarc import (
    DmarcChecker,
    DmarcSettings,
    decide,
    find_author,
    find_record,
)
from elemta.mailauth.dmarc.check import SIGNER_LIMIT
from elemta.mailauth.dmarc.record import POLICIES, RECORD_LIMIT, URI_LIMIT
from elemta.mailauth.dmarc.survey import WALK_LIMIT
from elemta.testing import FakeResolver

tags = st.sampled_from(["p", "sp", "np", "t", "psd", "adkim", "aspf", "fo", "rua", "ruf", "x", ""])
values = st.sampled_from(
    [
        *["none", "quarantine", "reject", "y", "n", "u", "r", "s", "1:d", "", "\xff", "a=b"],
        *["mailto:a@example.com", "mailto:a@example.com!1m,https://x", "mailto:%00@[::1]", ",!,"],
    ]
)
records = st.one_of(
    st.lists(st.tuples(tags, values), max_size=6).map(
        lambda pairs: ("v=DMARC1;" + ";".join("=".join(pair) for pair in pairs)).encode("latin-1")
    ),
    st.binary(max_size=60),
    st.binary(max_size=60).map(lambda rest: b"v=DMARC1;" + rest),
)
labels = st.sampled_from(["a", "b", "com", "xn--bcher-kva", "-", "", "_", "x" * 63])
names = st.one_of(
    st.lists(labels, max_size=12).map(".".join), st.text(max_size=20), st.just("a.b.com")
)
relatives = st.lists(st.sampled_from("abcdef"), max_size=10).map(
    lambda parts: ".".join([*parts, "b", "com"])
)
domains = st.one_of(relatives, relatives, names)
statuses = st.sampled_from(list(AuthStatus))
zones = st.dictionaries(
    st.one_of(relatives, st.sampled_from(["com", "b.com", "a.b.com", "c.b.com"])).map(
        lambda name: f"_dmarc.{name}"
    ),
    st.one_of(st.none(), st.lists(records, max_size=2).map(lambda texts: {"TXT": texts})),
    max_size=6,
)


@given(
    zone=zones,
    author=domains,
    spf=st.none() | st.builds(SpfVerdict, statuses, domains),
    dkim=st.lists(st.builds(DkimVerdict, statuses, domains), max_size=15),
    discovery=st.sampled_from(["treewalk", "psl"]),
)
def test_there_is_always_a_verdict(zone, author, spf, dkim, discovery):
    resolver = FakeResolver(zone)
    settings = DmarcSettings(discovery)
    checker = DmarcChecker(resolver, settings)
    steps: list[str] = []
    judgement = asyncio.run(checker.check(author, spf, dkim, steps=steps))
    verdict = judgement.verdict
    questions = Counter(resolver.questions)
    assert not questions or max(questions.values()) == 1  # nothing is asked twice
    # the author, whether it exists, the sender, those who signed or may have
    walks = 1 + (spf is not None) + 2 * min(len(dkim), SIGNER_LIMIT)
    assert len(resolver.questions) <= walks * WALK_LIMIT + 1
    if not spf and not dkim:
        assert len([name for name, _ in questions if name.startswith("_dmarc.")]) <= WALK_LIMIT
    assert verdict.policy in POLICIES
    assert verdict.discovery == discovery
    assert (verdict.status == "pass") == (verdict.spf_aligned or verdict.dkim_aligned)
    assert verdict.status in {"none", "pass", "fail", "temperror", "permerror"}
    assert not (verdict.status == "pass" and judgement.record is None)
    assert decide(verdict, settings).policy in POLICIES
    assert all(line == clean_text(line, 400) for line in steps)
    passed = [v for v in (spf, *dkim) if v and v.status == "pass"]
    assert verdict.status != "pass" or passed


@given(zone=zones, author=domains, spf=domains, dkim=domains, failing=st.data())
def test_an_outage_never_decides(zone, author, spf, dkim, failing):
    """Without one of its answers a verdict is the same, or a temporary error."""
    zone = {name: texts for name, texts in zone.items() if texts is not None}
    verdicts = (SpfVerdict(AuthStatus.PASS, spf), [DkimVerdict(AuthStatus.PASS, dkim)])
    whole = FakeResolver(zone)
    before = asyncio.run(DmarcChecker(whole).check(author, *verdicts)).verdict
    asked = [name for name, _ in whole.questions]
    lost = failing.draw(st.sampled_from(asked))
    after = asyncio.run(
        DmarcChecker(FakeResolver(zone | {lost: None})).check(author, *verdicts)
    ).verdict
    assert after.status in {before.status, "temperror"}
    if after.status == "fail":
        assert after.policy == before.policy


@given(st.lists(st.binary(max_size=80) | records, max_size=4))
def test_any_text_is_read(texts):
    record = find_record(texts)
    if record is not None:
        assert {record.p, record.sp or "none", record.np or "none"} <= {*POLICIES}
        assert max(len(record.rua), len(record.ruf)) <= URI_LIMIT
        assert not record.error or record.p == "none"


@given(st.binary(max_size=200) | st.binary(max_size=80).map(lambda raw: b"From:" + raw))
def test_any_header_section_has_an_author_or_a_problem(section):
    author = find_author(section)
    assert bool(author.domain) != bool(author.problem)
    resolver = FakeResolver({})
    judgement = asyncio.run(DmarcChecker(resolver).check_author(author, None, []))
    assert judgement.verdict.status in {"none", "permerror"}


def test_thousands_of_records_at_a_name():
    texts = [b"v=DMARC1; p=reject"] * 10_000
    assert find_record(texts) is None
    others = [b"x" * 200] * 10_000
    record = find_record([*others, texts[0]])
    assert record is not None
    assert record.p == "reject"
    assert find_record([b"v=DMARC1;" + b"p=reject;" * RECORD_LIMIT]).error
