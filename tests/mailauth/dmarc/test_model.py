"""The checker, which asks as little as it can, against RFC 9989 §4.10 written down word by word."""

import asyncio

from hypothesis import example, given
from hypothesis import strategies as st
from mailauth.dmarc.cases import dkim, judge, spf, zone

from elemta.mailauth.dmarc import DmarcRecord, parse_record

labels = st.sampled_from("ab")
# a long name and those above it: of these some are never asked
deep = st.integers(1, 11).map(lambda size: ".".join("abbaabbabab"[-size:]))
scattered = st.tuples(st.lists(labels, max_size=9), st.sampled_from(["b", "a.b", "c"])).map(
    lambda parts: ".".join([*parts[0], parts[1]])
)
names = deep | scattered
records = st.builds(
    "v=DMARC1; p={}{}{}{}{}".format,
    st.sampled_from(["none", "quarantine", "reject"]),
    st.sampled_from(["", "; sp=none", "; sp=reject"]),
    st.sampled_from(["", "", "; psd=y", "; psd=n", "; psd=u"]),
    st.sampled_from(["", "", "; aspf=s"]),
    st.sampled_from(["", "", "; adkim=s"]),
)
identifiers = st.lists(names, max_size=3)


class Model:
    """All records of the world, and what the RFC makes of them."""

    def __init__(self, records: dict[str, str]):
        self.records = {name: parse_record(text.encode()) for name, text in records.items()}

    def walk(self, start: str) -> dict[str, DmarcRecord]:
        """Steps 1 to 7 of RFC 9989 §4.10."""
        target, found = start, {}
        while True:
            if target in self.records:
                found[target] = self.records[target]
                if found[target].psd in {"n", "y"}:
                    return found
            labels = target.split(".")
            if target == start and len(labels) >= 8:
                target = ".".join(labels[-7:])
            elif len(labels) == 1:
                return found
            else:
                target = ".".join(labels[1:])

    def organization(self, start: str) -> str:
        """The three rules of RFC 9989 §4.10.2."""
        found = self.walk(start)
        for name, record in sorted(found.items(), key=lambda item: -item[0].count(".")):
            if record.psd == "n":
                return name
            if record.psd == "y" and name != start:
                return ".".join(start.split(".")[-name.count(".") - 2 :])
        return min(found, key=lambda name: name.count("."), default=start)

    def policy_domain(self, author: str) -> str | None:
        """The order of preference of RFC 9989 §4.10.1."""
        found = self.walk(author)
        suffixes = [name for name, record in found.items() if record.psd == "y"]
        for name in (author, self.organization(author), *suffixes):
            if name in found:
                return name
        return None

    def is_aligned(self, author: str, identifier: str, mode: str) -> bool:
        """RFC 9989 §3.2.10."""
        if mode == "s":
            return author == identifier
        return self.organization(author) == self.organization(identifier)


@example({"b": "v=DMARC1; p=reject"}, "a.b", ["b"], ["a.a.b"])
@example({"b": "v=DMARC1; p=reject; psd=y"}, "a.b", ["b.b"], ["a.a.b"])
@given(st.dictionaries(names, records, max_size=6), names, identifiers, identifiers)
def test_the_checker_comes_to_what_the_rfc_says(
    texts: dict[str, str], author: str, senders: list[str], signers: list[str]
):
    model = Model(texts)
    where = model.policy_domain(author)
    judgement = asyncio.run(
        judge(
            zone(dict(texts)),
            author,
            spf(senders[0]) if senders else None,
            *[dkim(signer) for signer in signers],
        )
    )
    verdict = judgement.verdict
    if where is None:
        assert (verdict.status, verdict.policy_domain) == ("none", "")
        return
    record = model.records[where]
    by_spf = any(model.is_aligned(author, each, record.aspf) for each in senders[:1])
    by_dkim = any(model.is_aligned(author, each, record.adkim) for each in signers)
    assert (verdict.policy_domain, judgement.record) == (where, record)
    assert (verdict.spf_aligned, verdict.dkim_aligned) == (by_spf, by_dkim)
    assert verdict.status == ("pass" if by_spf or by_dkim else "fail")
    assert verdict.published == (record.p if where == author else record.sp or record.p)
    if verdict.organizational_domain != author:
        assert verdict.organizational_domain in {"", model.organization(author)}
