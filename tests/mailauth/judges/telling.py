"""What judges say of a message in words that all of them have, and why they may differ."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from mailauth.judges.corpus import Case
from mailauth.judges.inbound import Verdicts, judge
from mailauth.judges.names import resolver

CHECKS = ("spf", "dkim", "arc", "dmarc")


class Told(NamedTuple):
    """What a judge says; of DKIM what is not right is "no", and DMARC has the policy of a fail."""

    spf: str
    dkim: str
    arc: str
    dmarc: str


class Reason(NamedTuple):
    """Why two may differ in one check, and whether they differ in no other way than that allows."""

    check: str
    text: str
    holds: Callable[[Case, str, str], bool]


def tell(verdicts: Verdicts) -> Told:
    """Our verdicts."""
    dmarc = verdicts.dmarc
    wants = f" {dmarc.policy}" if dmarc.status == "fail" else ""
    return Told(
        verdicts.spf.status,
        " ".join(simplify(each.status) for each in verdicts.dkim),
        verdicts.arc.status,
        f"{dmarc.status}{wants}",
    )


def simplify(status: str) -> str:
    return status if status in {"pass", "none", "temperror"} else "no"


async def ask_us(case: Case, discovery: str = "psl") -> Told:
    now = time.time()
    return tell(await judge(case.raw, case.envelope, resolver(), now=now, discovery=discovery))


def explain(reasons: Sequence[Reason], case: Case, check: str, ours: str, theirs: str) -> str:
    """Why they differ, "" for no good reason."""
    found = (each for each in reasons if each.check == check and each.holds(case, ours, theirs))
    return next((reason.text for reason in found), "")
