"""The same verdicts as authheaders, which follows RFC 7489, where the two RFCs agree.

Left out is what it does otherwise: it takes `sp=` for the organization itself, too, and wants `p=`.
"""

import itertools
from types import SimpleNamespace

import authheaders
import pytest
from mailauth.dmarc.cases import dkim, judge, spf, zone

AUTHORS = ["example.co.uk", "a.example.co.uk", "b.a.example.co.uk"]
IDENTIFIERS = ["example.co.uk", "a.example.co.uk", "c.example.co.uk", "other.co.uk"]
POLICIES = ["none", "quarantine", "reject"]
RECORDS = [
    f"v=DMARC1; p={p}; aspf={aspf}; adkim={adkim}"
    for p, aspf, adkim in itertools.product(POLICIES, "rs", "rs")
]
PLACES = ["example.co.uk", "a.example.co.uk"]


def ask(
    records: dict[str, str], author: str, by_spf: str | None, by_dkim: str | None
) -> tuple[str, str]:
    """Ask authheaders: the result and the policy."""
    result, _, _, policy = authheaders.dmarc_per_from(
        author,
        spf_result=by_spf and SimpleNamespace(result="pass", smtp_mailfrom=f"x@{by_spf}"),
        dkim_result=by_dkim and SimpleNamespace(result="pass", header_d=by_dkim),
        dnsfunc=lambda name: records.get(name.removeprefix("_dmarc.")),
    )
    return result, policy


@pytest.fixture(autouse=True)
def read_the_list_once(monkeypatch: pytest.MonkeyPatch):
    # it reads its copy of the list for each question
    known: dict[str, str] = {}
    original = authheaders.get_org_domain

    def get_org_domain(domain: str) -> str:
        if domain not in known:
            known[domain] = original(domain)
        return known[domain]

    monkeypatch.setattr("authheaders.get_org_domain", get_org_domain)
    monkeypatch.setattr("authheaders.dmarc_lookup.get_org_domain", get_org_domain)


@pytest.mark.parametrize("author", AUTHORS)
@pytest.mark.parametrize("place", PLACES)
async def test_alignment_and_policy(author: str, place: str):
    seen = set()
    for record, by_spf, by_dkim in itertools.product(
        RECORDS, [None, *IDENTIFIERS], [None, *IDENTIFIERS]
    ):
        records = {place: record}
        verdict = (
            await judge(
                zone(dict(records)),
                author,
                spf(by_spf) if by_spf else None,
                *([dkim(by_dkim)] if by_dkim else []),
                discovery="psl",
            )
        ).verdict
        assert (str(verdict.status), verdict.published) == ask(records, author, by_spf, by_dkim)
        seen.add(str(verdict.status))
    # a record below the organization is nobody's but its own domain's
    assert seen == ({"pass", "fail"} if place in {author, PLACES[0]} else {"none"})


@pytest.mark.parametrize("author", AUTHORS)
async def test_the_walk_finds_the_same_below_a_record_of_the_organization(author: str):
    for record, by_spf, by_dkim in itertools.product(
        RECORDS, [None, *IDENTIFIERS], [None, *IDENTIFIERS]
    ):
        records = {"example.co.uk": record}
        verdict = (
            await judge(
                zone(dict(records)),
                author,
                spf(by_spf) if by_spf else None,
                *([dkim(by_dkim)] if by_dkim else []),
            )
        ).verdict
        assert (str(verdict.status), verdict.published) == ask(records, author, by_spf, by_dkim)


@pytest.mark.parametrize(("p", "sp"), list(itertools.product(POLICIES, POLICIES)))
async def test_policy_of_subdomains(p: str, sp: str):
    records = {"example.co.uk": f"v=DMARC1; p={p}; sp={sp}"}
    for discovery in ("psl", "treewalk"):
        verdict = (await judge(zone(dict(records)), "a.example.co.uk", discovery=discovery)).verdict
        assert (str(verdict.status), verdict.published) == ask(
            records, "a.example.co.uk", None, None
        )
