"""The tree walk: what is asked, and which domain stands for the organization (RFC 9989 §4.10)."""

import pytest
from mailauth.dmarc.cases import asked, judge, spf, zone

from elemta.mail.errors import LookupFailed
from elemta.mailauth.dmarc import DmarcChecker
from elemta.mailauth.dmarc.survey import WALK_LIMIT, walk_names

P, N, Y = "v=DMARC1; p=reject", "v=DMARC1; p=reject; psd=n", "v=DMARC1; p=reject; psd=y"


@pytest.mark.parametrize(
    ("domain", "names"),
    [
        ("com", ["com"]),
        ("example.com", ["example.com", "com"]),
        ("a.mail.example.com", ["a.mail.example.com", "mail.example.com", "example.com", "com"]),
        (
            "1.2.3.4.5.6.7",
            [
                "1.2.3.4.5.6.7",
                "2.3.4.5.6.7",
                "3.4.5.6.7",
                "4.5.6.7",
                "5.6.7",
                "6.7",
                "7",
            ],
        ),
        (
            "1.2.3.4.5.6.7.8",
            [
                "1.2.3.4.5.6.7.8",
                "2.3.4.5.6.7.8",
                "3.4.5.6.7.8",
                "4.5.6.7.8",
                "5.6.7.8",
                "6.7.8",
                "7.8",
                "8",
            ],
        ),
        (  # the example of RFC 9989 §4.10
            "a.b.c.d.e.f.g.h.i.j.mail.example.com",
            [
                "a.b.c.d.e.f.g.h.i.j.mail.example.com",
                "g.h.i.j.mail.example.com",
                "h.i.j.mail.example.com",
                "i.j.mail.example.com",
                "j.mail.example.com",
                "mail.example.com",
                "example.com",
                "com",
            ],
        ),
        (  # the example of RFC 9989 §5.1.8: b.c.d.e.f.g.example.com is left out
            "mail.a.b.c.d.e.f.g.example.com",
            [
                "mail.a.b.c.d.e.f.g.example.com",
                "c.d.e.f.g.example.com",
                "d.e.f.g.example.com",
                "e.f.g.example.com",
                "f.g.example.com",
                "g.example.com",
                "example.com",
                "com",
            ],
        ),
        (
            ".".join("x" * 120),
            [".".join("x" * 120), *(".".join("x" * n) for n in range(7, 0, -1))],
        ),
    ],
)
def test_names_of_a_walk(domain: str, names: list[str]):
    assert walk_names(domain) == names
    assert len(names) <= WALK_LIMIT


@pytest.mark.parametrize(
    ("records", "domain", "organization", "queries"),
    [
        ({}, "a.mail.example.com", "a.mail.example.com", 4),
        ({}, "com", "com", 1),
        # the three examples of RFC 9989 §4.10.2
        ({"mail.example.com": P, "example.com": P}, "a.mail.example.com", "example.com", 4),
        ({"mail.example.com": N, "example.com": P}, "a.mail.example.com", "mail.example.com", 2),
        ({"com": Y}, "a.mail.example.com", "example.com", 4),
        # the shortest name wins, whatever lies between
        ({"example.com": P, "com": P}, "mail.example.com", "com", 3),
        ({"a.mail.example.com": P}, "a.mail.example.com", "a.mail.example.com", 4),
        ({"mail.example.com": P}, "a.mail.example.com", "mail.example.com", 4),
        # psd=n ends the walk, wherever
        ({"a.example.com": N, "example.com": P}, "a.example.com", "a.example.com", 1),
        ({"a.example.com": P, "example.com": N, "com": P}, "a.example.com", "example.com", 2),
        ({"com": N}, "example.com", "com", 2),
        # psd=y does, too; where the walk began it is no suffix of anybody
        ({"example.com": Y, "com": P}, "example.com", "example.com", 1),
        ({"com": Y}, "com", "com", 1),
        ({"com": Y}, "example.com", "example.com", 2),
        ({"example.com": P, "com": Y}, "a.b.example.com", "example.com", 4),
        ({"b.example.com": Y, "example.com": P}, "x.a.b.example.com", "a.b.example.com", 3),
        ({"a.b.example.com": N, "b.example.com": Y}, "x.a.b.example.com", "a.b.example.com", 2),
        ({"x.a.b.example.com": P, "b.example.com": Y}, "x.a.b.example.com", "a.b.example.com", 3),
        # psd=u and what is not understood say nothing
        ({"example.com": P + "; psd=u", "com": P + "; psd=x"}, "a.example.com", "com", 3),
        # several records at a name, and texts of something else, are none
        ({"a.example.com": [P, N], "example.com": P}, "a.example.com", "example.com", 3),
        ({"a.example.com": "v=spf1 -all", "example.com": P}, "a.example.com", "example.com", 3),
        ({"a.example.com": [P, "hello"], "example.com": N}, "a.example.com", "example.com", 2),
        # of long names some are never asked (RFC 9989 §5.1.8)
        ({"2.3.4.5.6.7.8.9": N}, "1.2.3.4.5.6.7.8.9", "1.2.3.4.5.6.7.8.9", 8),
        ({"3.4.5.6.7.8.9": N}, "1.2.3.4.5.6.7.8.9", "3.4.5.6.7.8.9", 2),
        ({"3.4.5.6.7.8.9": Y}, "1.2.3.4.5.6.7.8.9", "2.3.4.5.6.7.8.9", 2),
    ],
)
async def test_organizational_domain(
    records: dict[str, str | list[str] | None], domain: str, organization: str, queries: int
):
    resolver = zone(records)
    assert await DmarcChecker(resolver).organizational_domain(domain) == organization
    assert asked(resolver) == walk_names(domain)[:queries]


@pytest.mark.parametrize(
    ("records", "author", "policy_domain", "policy"),
    [
        # its own record, that of the organization, that of the suffix, in this order
        ({"a.example.com": "none", "example.com": "reject"}, "a.example.com", "a.example.com", "p"),
        ({"example.com": "reject"}, "a.example.com", "example.com", "sp"),
        ({"com": "none; psd=y"}, "a.example.com", "com", "sp"),
        ({"example.com": "none", "com": "reject; psd=y"}, "a.example.com", "example.com", "sp"),
        ({"example.com": "none", "com": "reject; psd=y"}, "example.com", "example.com", "p"),
        # a record between the author and its organization is nobody's policy
        (
            {"b.example.com": "none", "example.com": "reject"},
            "a.b.example.com",
            "example.com",
            "sp",
        ),
        ({"b.example.com": "none", "com": "reject; psd=y"}, "a.b.example.com", "com", "sp"),
        # a suffix is the author itself, or one label short of it
        ({"com": "reject; psd=y"}, "com", "com", "p"),
        ({"com": "reject; psd=y"}, "example.com", "com", "sp"),
        ({"example.com": "none; psd=n", "com": "reject"}, "a.example.com", "example.com", "sp"),
        ({}, "a.example.com", "", ""),
        ({"other.com": "reject"}, "a.example.com", "", ""),
    ],
)
async def test_where_the_policy_is(
    records: dict[str, str], author: str, policy_domain: str, policy: str
):
    resolver = zone({name: f"v=DMARC1; sp=quarantine; p={p}" for name, p in records.items()})
    verdict = (await judge(resolver, author)).verdict
    assert verdict.policy_domain == policy_domain
    own = records.get(policy_domain, "").partition(";")[0]
    assert verdict.published == {"p": own, "sp": "quarantine", "": ""}[policy]
    assert (verdict.status == "none") == (not policy_domain)


async def test_an_author_with_a_record_needs_one_query():
    resolver = zone({"mail.example.com": P})
    judgement = await judge(resolver, "mail.example.com", spf("mail.example.com"))
    assert judgement.verdict.status == "pass"
    assert asked(resolver) == ["mail.example.com"]
    # RFC 9989 §4.10.2: a domain that is the same all over is the organization
    assert judgement.verdict.organizational_domain == "mail.example.com"


async def test_nobody_is_asked_about_domains_that_have_nothing_in_common():
    resolver = zone({"example.com": P})
    assert (await judge(resolver, "example.com", spf("example.net"))).verdict.status == "fail"
    assert asked(resolver) == ["example.com"]
    assert (await judge(resolver, "example.com", spf("sender.com"))).verdict.status == "fail"
    assert asked(resolver) == ["example.com", "example.com", "com"]


async def test_an_organization_that_cannot_be_looked_up():
    with pytest.raises(LookupFailed):
        await DmarcChecker(zone({"com": None})).organizational_domain("example.com")
    assert await DmarcChecker(zone({"example.com": N, "com": None})).organizational_domain(
        "a.example.com"
    )


async def test_steps_tell_what_was_asked():
    steps: list[str] = []
    resolver = zone(
        {"b.example.com": [P, P], "example.com": "v=DMARC1; p=reject; np=none; t=y; pct=5"}
    )
    checker = DmarcChecker(resolver)
    await checker.check("a.b.example.com", None, [], steps=steps)
    assert steps == [
        "_dmarc.a.b.example.com: no record",
        "_dmarc.b.example.com: several records, none counts",
        "_dmarc.example.com: p=reject np=none t=y adkim=r aspf=r pct= has no meaning any more",
        "_dmarc.com: no record",
        "a.b.example.com: does not exist",
        "DMARC fail for a.b.example.com: none",
    ]
