"""Verdicts: what passes, which policy is asked for, and what an outage comes to."""

import itertools

import pytest
from mailauth.dmarc.cases import asked, dkim, judge, spf, zone

from elemta.mailauth import AuthStatus, DkimVerdict, DmarcVerdict
from elemta.mailauth.dmarc import (
    Author,
    AuthorProblem,
    DmarcChecker,
    DmarcJudgement,
    find_author,
)
from elemta.mailauth.dmarc.check import SIGNER_LIMIT
from elemta.testing import FakeResolver

REJECT = "v=DMARC1; p=reject"
OTHERS = [status for status in AuthStatus if status not in {"pass", "temperror"}]
AUTHORS: dict[str, str | list[str] | None] = {
    "strict.example": REJECT,
    "mild.example": "v=DMARC1; p=quarantine",
    "weak.example": "v=DMARC1; p=none",
    "down.example": None,
}
ORDER = {"none": "none", "quarantine": "none", "reject": "quarantine"}


async def test_a_verdict_in_whole():
    judgement = await judge(
        zone({"example.com": "v=DMARC1; p=reject; sp=quarantine; t=y"}),
        "News.Example.com",
        spf("bounce.example.com"),
        dkim("esp.example.net"),
    )
    assert judgement.verdict == DmarcVerdict(
        AuthStatus.PASS,
        author_domain="news.example.com",
        policy_domain="example.com",
        organizational_domain="example.com",
        policy="none",
        published="quarantine",
        is_testing=True,
        spf_aligned=True,
        dkim_aligned=False,
        discovery="treewalk",
    )
    assert judgement.record is not None
    assert (judgement.record.p, judgement.record.sp) == ("reject", "quarantine")


@pytest.mark.parametrize("author", ["example.com", "a.example.com"])
@pytest.mark.parametrize("identifier", ["example.com", "a.example.com", "b.example.com"])
@pytest.mark.parametrize("mode", ["r", "s"])
@pytest.mark.parametrize("method", ["spf", "dkim"])
async def test_alignment(author: str, identifier: str, mode: str, method: str):
    tags = {"spf": f"aspf={mode}; adkim=s", "dkim": f"adkim={mode}; aspf=s"}[method]
    resolver = zone({"example.com": f"v=DMARC1; p=reject; {tags}"})
    verdicts = {"spf": (spf(identifier),), "dkim": (None, dkim(identifier))}[method]
    verdict = (await judge(resolver, author, *verdicts)).verdict
    expected = mode == "r" or author == identifier
    assert verdict.status == ("pass" if expected else "fail")
    assert verdict.spf_aligned == (expected and method == "spf")
    assert verdict.dkim_aligned == (expected and method == "dkim")


async def test_the_organization_of_an_author_without_a_record():
    resolver = zone({"example.com": REJECT})
    verdict = (await judge(resolver, "a.example.com", spf("a.example.com"))).verdict
    assert (verdict.status, verdict.organizational_domain) == ("pass", "example.com")


@pytest.mark.parametrize("status", OTHERS)
async def test_only_a_pass_counts(status: str):
    resolver = zone({"example.com": REJECT})
    verdict = (
        await judge(
            resolver, "example.com", spf("example.com", status), dkim("example.com", status)
        )
    ).verdict
    assert (verdict.status, verdict.spf_aligned, verdict.dkim_aligned) == ("fail", False, False)


async def test_only_the_sender_of_mail_counts():
    resolver = zone({"example.com": REJECT})
    assert (await judge(resolver, "example.com", spf("example.com", identity="helo"))).verdict == (
        DmarcVerdict(AuthStatus.FAIL, "example.com", "example.com", "", "reject", "reject")
    )


async def test_a_key_that_is_tested_counts():
    # RFC 9989 §4.4.1: a signature that validates is enough
    tested = DkimVerdict(AuthStatus.PASS, "example.com", is_testing=True)
    assert (
        await judge(zone({"example.com": REJECT}), "example.com", None, tested)
    ).verdict.dkim_aligned


async def test_one_of_many_signatures_is_enough():
    resolver = zone({"example.com": REJECT})
    others = [dkim(f"d{n}.example.net") for n in range(50)]
    verdict = (await judge(resolver, "example.com", None, *others, dkim("Example.Com"))).verdict
    assert verdict.status == "fail"  # 10 domains are looked at
    others = others[: SIGNER_LIMIT - 1] * 20
    verdict = (await judge(resolver, "example.com", None, *others, dkim("Example.Com"))).verdict
    assert verdict.status == "pass"


@pytest.mark.parametrize(
    ("sp", "np", "t"), list(itertools.product(["", "none", "reject"], ["", "none", "reject"], "ny"))
)
@pytest.mark.parametrize("place", ["own", "existing", "ancestor", "missing"])
async def test_policies(sp: str, np: str, t: str, place: str):
    tags = [f"{name}={value}" for name, value in (("sp", sp), ("np", np)) if value]
    resolver = zone({"example.com": "; ".join(["v=DMARC1; p=quarantine", *tags, f"t={t}"])})
    resolver.zone["existing.example.com"] = {"A": ["192.0.2.1"]}
    resolver.zone["_dmarc.ancestor.example.com"] = {}
    author = "example.com" if place == "own" else f"{place}.example.com"
    published = {
        "own": "quarantine",
        "existing": sp or "quarantine",
        "ancestor": sp or "quarantine",
        "missing": np or sp or "quarantine",
    }[place]
    verdict = (await judge(resolver, author)).verdict
    assert (verdict.status, verdict.published) == ("fail", published)
    assert verdict.policy == (ORDER[published] if t == "y" else published)
    assert verdict.is_testing == (t == "y")
    # what is below exists; and nobody asks where it does not matter
    about_existence = [name for name, _ in resolver.questions if not name.startswith("_")]
    matters = place in {"existing", "missing"} and np not in {"", sp or "quarantine"}
    assert about_existence == ([author] if matters else [])


@pytest.mark.parametrize("record", ["v=DMARC1; p=bad", "v=DMARC1; p=reject; sp=bad; rua=nonsense"])
async def test_a_record_that_cannot_be_used(record: str):
    resolver = zone({"example.com": record})
    for author in ("example.com", "a.example.com"):
        judgement = await judge(resolver, author, spf(author), dkim(author))
        verdict = judgement.verdict
        assert (verdict.status, verdict.policy, verdict.published) == ("permerror", "none", "")
        assert verdict.policy_domain == "example.com"
        assert "is no policy" in verdict.problem
        assert judgement.record is not None


async def test_a_broken_record_with_reports_asks_for_nothing():
    resolver = zone({"example.com": "v=DMARC1; p=bad; rua=mailto:a@example.com"})
    verdict = (await judge(resolver, "example.com")).verdict
    assert (verdict.status, verdict.policy) == ("fail", "none")


async def test_without_a_record_there_is_no_verdict():
    judgement = await judge(zone({}), "example.com", spf("example.com"), dkim("example.com"))
    assert judgement == DmarcJudgement(DmarcVerdict(AuthStatus.NONE, "example.com"))


class TestOutage:
    """Where the DNS does not answer."""

    @pytest.mark.parametrize("failing", ["a.b.example.com", "b.example.com", "example.com", "com"])
    async def test_of_the_policy(self, failing: str):
        resolver = zone({failing: None})
        judgement = await judge(resolver, "a.b.example.com", spf("a.b.example.com"))
        verdict = judgement.verdict
        assert (verdict.status, verdict.policy, judgement.record) == ("temperror", "none", None)
        assert failing in verdict.problem
        assert asked(resolver)[-1] == failing

    async def test_above_the_policy(self):
        resolver = zone({"b.example.com": REJECT, "example.com": None})
        verdict = (await judge(resolver, "a.b.example.com", spf("b.example.com"))).verdict
        assert verdict.status == "temperror"  # another organization, and another policy, may be
        verdict = (await judge(resolver, "a.b.example.com")).verdict
        assert verdict.status == "temperror"
        verdict = (await judge(resolver, "a.b.example.com", spf("a.b.example.com"))).verdict
        # whatever the policy is, this is aligned
        assert (verdict.status, verdict.organizational_domain) == ("pass", "")

    async def test_of_the_organization_of_the_author(self):
        resolver = zone({"example.com": REJECT, "com": None})
        assert (await judge(resolver, "example.com", spf("example.com"))).verdict.status == "pass"
        assert (await judge(resolver, "example.com", spf("a.example.com"))).verdict.status == (
            "temperror"
        )
        # nothing above can make these two one
        assert (await judge(resolver, "example.com", spf("example.net"))).verdict.status == "fail"
        assert (await judge(resolver, "example.com")).verdict.status == "fail"

    @pytest.mark.parametrize("method", ["spf", "dkim"])
    async def test_of_an_identifier(self, method: str):
        resolver = zone({"example.com": REJECT, "sub.example.com": None})
        verdicts = {"spf": (spf("sub.example.com"),), "dkim": (None, dkim("sub.example.com"))}
        verdict = (await judge(resolver, "example.com", *verdicts[method])).verdict
        assert (verdict.status, verdict.policy) == ("temperror", "reject")
        assert (verdict.spf_aligned, verdict.dkim_aligned) == (False, False)

    async def test_is_met_once(self):
        resolver = zone({"example.com": REJECT, "x.example.com": None})
        signers = [dkim(f"{name}.x.example.com") for name in "abc"]
        verdict = (await judge(resolver, "example.com", spf("x.example.com"), *signers)).verdict
        assert verdict.status == "temperror"
        assert asked(resolver).count("x.example.com") == 1

    async def test_does_not_matter_where_something_passes(self):
        resolver = zone({"example.com": REJECT, "sub.example.com": None})
        verdicts = (spf("example.com"), dkim("sub.example.com", "temperror"))
        assert (await judge(resolver, "example.com", *verdicts)).verdict.status == "pass"
        assert asked(resolver) == ["example.com"]

    async def test_of_one_identifier_while_another_passes(self):
        resolver = zone({"example.com": REJECT, "sub.example.com": None})
        for verdicts in (
            (spf("sub.example.com"), dkim("example.com")),
            (spf("ok.example.com"), dkim("sub.example.com")),
            (None, dkim("sub.example.com"), dkim("ok.example.com")),
        ):
            verdict = (await judge(resolver, "example.com", *verdicts)).verdict
            assert (verdict.status, verdict.problem) == ("pass", "")

    async def test_strict_alignment_asks_nobody(self):
        resolver = zone({"example.com": REJECT + "; aspf=s; adkim=s", "sub.example.com": None})
        verdict = (
            await judge(resolver, "example.com", spf("sub.example.com"), dkim("sub.example.com"))
        ).verdict
        assert verdict.status == "fail"
        assert asked(resolver) == ["example.com"]

    @pytest.mark.parametrize("method", ["spf", "dkim"])
    async def test_of_spf_or_dkim_themselves(self, method: str):
        resolver = zone({"example.com": REJECT})
        for domain, status in (
            ("example.com", "temperror"),
            ("sub.example.com", "temperror"),
            ("example.net", "fail"),  # would not count anyway
        ):
            verdicts = {
                "spf": (spf(domain, "temperror"),),
                "dkim": (None, dkim(domain, "temperror")),
            }[method]
            assert (await judge(resolver, "example.com", *verdicts)).verdict.status == status
        verdict = (
            await judge(
                resolver, "example.com", spf("example.com", "temperror"), dkim("example.com")
            )
        ).verdict
        assert verdict.status == "pass"

    async def test_of_whether_the_author_exists(self):
        resolver = zone({"example.com": "v=DMARC1; p=none; np=reject"})
        resolver.zone["a.example.com"] = None
        verdict = (await judge(resolver, "a.example.com")).verdict
        assert (verdict.status, verdict.policy) == ("temperror", "none")
        verdict = (await judge(resolver, "a.example.com", spf("a.example.com"))).verdict
        assert (verdict.status, verdict.policy) == ("pass", "none")


class TestAuthors:
    """Messages whose From has a problem."""

    async def judge(self, value: str, *signers: str) -> DmarcVerdict:
        checker = DmarcChecker(zone(AUTHORS))
        author = find_author(f"From: {value}\r\n\r\n".encode())
        return (await checker.check_author(author, None, [dkim(s) for s in signers])).verdict

    async def test_one_author(self):
        verdict = await self.judge("a@strict.example", "strict.example")
        assert (verdict.status, verdict.author_domain) == ("pass", "strict.example")

    async def test_the_strictest_policy_that_fails(self):
        verdict = await self.judge("a@weak.example, b@strict.example, c@mild.example")
        assert (verdict.status, verdict.policy) == ("fail", "reject")
        assert verdict.author_domain == "strict.example"
        verdict = await self.judge(
            "a@weak.example, b@strict.example, c@mild.example", "strict.example"
        )
        assert (verdict.status, verdict.author_domain) == ("fail", "mild.example")

    async def test_an_outage_is_no_way_around_a_fail(self):
        verdict = await self.judge("a@down.example, b@mild.example")
        assert (verdict.status, verdict.author_domain) == ("fail", "mild.example")
        assert (await self.judge("a@down.example, b@other.example")).status == "temperror"

    async def test_nothing_with_a_problem_passes(self):
        verdict = await self.judge("a@mild.example, b@weak.example", "mild.example", "weak.example")
        assert (verdict.status, verdict.author_domain) == ("permerror", "")
        assert verdict.problem == "From has several domains: mild.example, weak.example"
        verdict = await self.judge(
            "a@mild.example <b@weak.example>", "mild.example", "weak.example"
        )
        assert (verdict.status, verdict.policy) == ("permerror", "none")
        verdict = await self.judge("nobody")
        assert verdict.status == "permerror"
        assert verdict.problem.startswith("From cannot be read: ")

    async def test_no_author(self):
        judgement = await DmarcChecker(zone({})).check_author(
            Author((), AuthorProblem.MISSING), None, []
        )
        assert judgement.verdict == DmarcVerdict(
            AuthStatus.PERMERROR, problem="there is no From field"
        )

    async def test_a_crowd_costs_little(self):
        resolver = FakeResolver({})
        author = find_author(
            ("From: " + ", ".join(f"a@{n}.b.example" for n in range(99)) + "\r\n").encode()
        )
        verdict = (await DmarcChecker(resolver).check_author(author, None, [])).verdict
        assert verdict.status == "permerror"
        assert len(resolver.questions) == 4 + 2
