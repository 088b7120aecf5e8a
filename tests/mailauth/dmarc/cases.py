"""Small zones and verdicts for tests of DMARC."""

from elemta.mailauth import AuthStatus, DkimVerdict, SpfVerdict
from elemta.mailauth.dmarc import DmarcChecker, DmarcJudgement, DmarcSettings
from elemta.testing import FakeResolver


def zone(records: dict[str, str | list[str] | None]) -> FakeResolver:
    """A DNS in which these domains have these policy records; None: it cannot be looked up."""
    return FakeResolver(
        {
            f"_dmarc.{domain}": None
            if texts is None
            else {"TXT": [texts] if isinstance(texts, str) else texts}
            for domain, texts in records.items()
        }
    )


def spf(domain: str, status: str = "pass", identity: str = "mailfrom") -> SpfVerdict:
    return SpfVerdict(AuthStatus(status), domain, identity)


def dkim(domain: str, status: str = "pass") -> DkimVerdict:
    return DkimVerdict(AuthStatus(status), domain, "sel")


async def judge(
    resolver: FakeResolver,
    author: str,
    spf: SpfVerdict | None = None,
    *dkim: DkimVerdict,
    discovery: str = "treewalk",
) -> DmarcJudgement:
    return await DmarcChecker(resolver, DmarcSettings(discovery)).check(author, spf, dkim)


def asked(resolver: FakeResolver) -> list[str]:
    """Which domains were asked about policies so far."""
    return [name.removeprefix("_dmarc.") for name, _ in resolver.questions if name[0] == "_"]
