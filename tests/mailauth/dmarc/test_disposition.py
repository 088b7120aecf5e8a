"""What is done about a message: the policy of its domain, and ours."""

from dataclasses import replace

import pytest

from elemta.mailauth import ArcVerdict, AuthStatus, DmarcVerdict
from elemta.mailauth.dmarc import Disposition, DmarcSettings, OverrideReason, decide

LOCAL = OverrideReason.LOCAL_POLICY
FAILED = DmarcVerdict(
    AuthStatus.FAIL, "a.example.com", "example.com", policy="reject", published="reject"
)
TRUSTING = DmarcSettings(trusted_sealers=frozenset({"list.example", "relay.example"}))
VOUCHED = ArcVerdict(
    AuthStatus.PASS,
    instances=2,
    sealers=("list.example", "relay.example"),
    dmarc_passed="a.example.com",
)


@pytest.mark.parametrize("policy", ["none", "quarantine", "reject"])
def test_the_policy_of_the_domain(policy: str):
    verdict = replace(FAILED, policy=policy, published=policy)
    assert decide(verdict, DmarcSettings()) == Disposition(policy)


@pytest.mark.parametrize("status", [status for status in AuthStatus if status != "fail"])
def test_only_a_fail_is_acted_upon(status: AuthStatus):
    settings = DmarcSettings(overrides={"example.com": "reject"})
    assert decide(replace(FAILED, status=status), settings) == Disposition("none")


@pytest.mark.parametrize(
    ("published", "policy"), [("reject", "quarantine"), ("quarantine", "none")]
)
def test_a_domain_that_tries(published: str, policy: str):
    verdict = replace(FAILED, published=published, policy=policy, is_testing=True)
    assert decide(verdict, DmarcSettings()) == Disposition(policy, OverrideReason.POLICY_TEST_MODE)
    assert decide(replace(verdict, published=policy), DmarcSettings()) == Disposition(policy)


@pytest.mark.parametrize(
    ("policy", "limit", "expected"),
    [
        ("reject", "reject", Disposition("reject")),
        ("reject", "quarantine", Disposition("quarantine", LOCAL)),
        ("reject", "none", Disposition("none", LOCAL)),
        ("quarantine", "reject", Disposition("quarantine")),
        ("quarantine", "quarantine", Disposition("quarantine")),
        ("quarantine", "none", Disposition("none", LOCAL)),
        ("none", "reject", Disposition("none")),
        ("none", "quarantine", Disposition("none")),
        ("none", "none", Disposition("none")),
    ],
)
def test_a_limit_never_makes_more_of_a_policy(policy: str, limit: str, expected: Disposition):
    verdict = replace(FAILED, policy=policy, published=policy)
    assert decide(verdict, DmarcSettings(policy_limit=limit)) == expected


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"a.example.com": "none"}, Disposition("none", LOCAL, "set for this domain")),
        ({"example.com": "quarantine"}, Disposition("quarantine", LOCAL, "set for this domain")),
        ({"com": "none", "a.example.com": "reject"}, Disposition("reject")),
        ({"b.example.com": "none", "xample.com": "none", "": "none"}, Disposition("reject")),
    ],
)
def test_overrides_of_a_domain(overrides: dict[str, str], expected: Disposition):
    assert decide(FAILED, DmarcSettings(overrides=overrides)) == expected


def test_an_override_can_make_more_of_a_policy_and_is_above_all_else():
    weak = replace(FAILED, policy="none", published="none")
    settings = replace(TRUSTING, policy_limit="none", overrides={"example.com": "reject"})
    expected = Disposition("reject", LOCAL, "set for this domain")
    assert decide(weak, settings, VOUCHED) == expected


def test_trusted_sealers():
    assert decide(FAILED, TRUSTING, VOUCHED) == Disposition(
        "none", LOCAL, "arc=pass as[2].d=relay.example as[1].d=list.example"
    )
    weak = replace(FAILED, policy="none", published="none")
    assert decide(weak, TRUSTING, VOUCHED) == Disposition("none")


@pytest.mark.parametrize(
    "arc",
    [
        None,
        replace(VOUCHED, status=AuthStatus.FAIL),
        replace(VOUCHED, sealers=()),
        replace(VOUCHED, sealers=("evil.example", "relay.example")),
        replace(VOUCHED, sealers=("list.example", "evil.example")),
        replace(VOUCHED, sealers=("sub.list.example",)),
        replace(VOUCHED, dmarc_passed=""),
        replace(VOUCHED, dmarc_passed="example.com"),
    ],
)
def test_who_is_not_trusted(arc: ArcVerdict | None):
    assert decide(FAILED, TRUSTING, arc) == Disposition("reject")
    assert decide(FAILED, DmarcSettings(), VOUCHED) == Disposition("reject")


@pytest.mark.parametrize("policy", ["reject", "quarantine", "none"])
def test_trusted_sealers_whose_seals_cannot_be_judged_for_now(policy: str):
    arc = replace(VOUCHED, status=AuthStatus.TEMPERROR, dmarc_passed="")
    verdict = replace(FAILED, policy=policy, published=policy)
    assert decide(verdict, TRUSTING, arc) == Disposition(policy, is_open=True)
    assert decide(verdict, DmarcSettings(), arc) == Disposition(policy)
    unknown = replace(arc, sealers=("list.example", "evil.example"))
    assert decide(verdict, TRUSTING, unknown) == Disposition(policy)
    own = replace(TRUSTING, overrides={"example.com": "reject"})
    assert not decide(verdict, own, arc).is_open


def test_a_decision_is_recorded():
    verdict = Disposition("none", LOCAL).recorded_in(FAILED)
    assert (verdict.override, verdict.disposition) == ("local_policy", "none")
    tested = Disposition("quarantine", OverrideReason.POLICY_TEST_MODE).recorded_in(FAILED)
    assert (tested.override, tested.disposition) == ("", "quarantine")
    assert replace(tested, disposition="") == FAILED
