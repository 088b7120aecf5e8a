"""Whether the domain in From stands by a message (RFC 9989 §5.3).

It does where SPF or DKIM passed for it, or, unless the policy record says "strict", for a domain
of the same organization. Of SPF counts the sender of MAIL alone (RFC 9989 §3.2.4), of DKIM every
signature that is valid, also with a key that is still tested: RFC 9989 §4.4.1 asks for no more.

An outage of the DNS makes neither a pass nor a fail of anything (RFC 9989 §5.3.6): where an
answer is missing that could still change the result, the result is "temperror". That holds for
what SPF and DKIM could not look up, too, if they were asked about a domain that would count.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from elemta.mail.errors import LookupFailed
from elemta.mailauth.dmarc.author import AUTHOR_LIMIT, Author
from elemta.mailauth.dmarc.discovery import Discovery, Found, SuffixList, TreeWalk
from elemta.mailauth.dmarc.record import POLICIES, DmarcRecord
from elemta.mailauth.dmarc.survey import Survey
from elemta.mailauth.resolving import Resolver
from elemta.mailauth.verdicts import AuthStatus, DkimVerdict, DmarcVerdict, SpfVerdict

SIGNER_LIMIT = 10  # domains that signed and are looked at; each may cost a walk of 8 queries

_MILDER = {"reject": "quarantine", "quarantine": "none", "none": "none"}
# what a message comes to whose authors come to different things, the first that one of them has
_ORDER = (
    AuthStatus.FAIL,
    AuthStatus.TEMPERROR,
    AuthStatus.PERMERROR,
    AuthStatus.NONE,
    AuthStatus.PASS,
)


@dataclass(frozen=True, slots=True)
class DmarcSettings:
    """How DMARC is done here.

    Attributes:
        discovery: "treewalk" (RFC 9989) or "psl" (the public suffix list of RFC 7489).
        policy_limit: The most that is done about a message that fails: "none", "quarantine" or
            "reject". It never makes more of what a domain asks for (RFC 9989 §5.4).
        overrides: What is done instead, by domain in A-label form; a domain's entry is that of
            its subdomains, too, unless they have their own.
        trusted_sealers: Domains in A-label form that are believed when they say, in a chain of
            ARC seals that is valid, that a message passed where it came from.
    """

    discovery: str = "treewalk"
    policy_limit: str = "reject"
    overrides: Mapping[str, str] = field(default_factory=dict)
    trusted_sealers: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class DmarcJudgement:
    """A verdict, and the record behind it, which reports are about.

    Attributes:
        record: That of `verdict.policy_domain`; None where there is none, or none was found.
    """

    verdict: DmarcVerdict
    record: DmarcRecord | None = None


@dataclass(slots=True)
class _Alignment:
    spf: bool = False
    dkim: bool = False
    problem: str = ""  # why it could still be otherwise


class DmarcChecker:
    """Judges messages.

    It may be shared by all connections: it remembers nothing but its settings.
    """

    def __init__(self, resolver: Resolver, settings: DmarcSettings | None = None):
        self.settings = settings or DmarcSettings()
        self._resolver = resolver
        self._discovery: Discovery = (
            SuffixList() if self.settings.discovery == "psl" else TreeWalk()
        )

    async def check(
        self,
        author_domain: str,
        spf: SpfVerdict | None,
        dkim: Sequence[DkimVerdict],
        *,
        steps: list[str] | None = None,
    ) -> DmarcJudgement:
        """Judge a message.

        Args:
            author_domain: The domain in From, in A-label form.
            spf: What SPF came to for the sender of MAIL; None where nobody looked.
            dkim: All signatures.
            steps: Gets a line for each step, for people.
        """
        survey = Survey(self._resolver, steps)
        return await self._judge(survey, author_domain.lower(), spf, dkim)

    async def check_author(
        self,
        author: Author,
        spf: SpfVerdict | None,
        dkim: Sequence[DkimVerdict],
        *,
        steps: list[str] | None = None,
    ) -> DmarcJudgement:
        """Judge a message whose From may have a problem.

        Each domain in it is judged, at most 4, and the strictest policy of those that fail is
        that of the message (RFC 9989 §11.5). Nothing with a problem passes: what would comes to
        "permerror".
        """
        survey = Survey(self._resolver, steps)
        if author.problem is None:
            return await self._judge(survey, author.domain, spf, dkim)
        words = f"{author.problem}: {author.detail}" if author.detail else f"{author.problem}"
        survey.say(words)
        unclear = DmarcJudgement(DmarcVerdict(AuthStatus.PERMERROR, problem=words))
        judged = [
            await self._judge(survey, domain, spf, dkim) for domain in author.domains[:AUTHOR_LIMIT]
        ]
        return min((unclear, *judged), key=_severity)

    async def organizational_domain(self, domain: str) -> str:
        """Give the domain that stands for the organization of a domain.

        Raises:
            LookupFailed: The DNS does not say.
        """
        return await self._discovery.organizational_domain(Survey(self._resolver), domain)

    async def _judge(
        self,
        survey: Survey,
        author: str,
        spf: SpfVerdict | None,
        dkim: Sequence[DkimVerdict],
    ) -> DmarcJudgement:
        found = await self._discovery.find_policy(survey, author)
        record = found.record
        if record is None or record.error:
            return self._without_policy(author, found)
        alignment = _Alignment(problem=found.problem)
        inquiry = _Inquiry(survey, self._discovery, author, found)
        await _align_spf(inquiry, spf, record.aspf, alignment)
        await _align_dkim(inquiry, dkim, record.adkim, alignment)
        status, problem = AuthStatus.FAIL, ""
        if alignment.spf or alignment.dkim:
            status = AuthStatus.PASS
        elif alignment.problem:
            status, problem = AuthStatus.TEMPERROR, alignment.problem
        published = record.p
        if found.domain != author:
            try:
                published = await _find_policy_below(survey, record, author)
            except LookupFailed as error:
                published = record.policy_below(exists=True)
                if status is AuthStatus.FAIL:
                    status, problem = AuthStatus.TEMPERROR, str(error)
        verdict = DmarcVerdict(
            status,
            author,
            found.domain,
            inquiry.organization,
            _MILDER[published] if record.t else published,
            published,
            record.t,
            alignment.spf,
            alignment.dkim,
            self._discovery.name,
            "",
            problem,
        )
        if survey.steps is not None:
            survey.say(f"DMARC {status} for {author}: {problem or published}")
        return DmarcJudgement(verdict, record)

    def _without_policy(self, author: str, found: Found) -> DmarcJudgement:
        status, problem = AuthStatus.NONE, ""
        if found.problem:
            status, problem = AuthStatus.TEMPERROR, found.problem
        elif found.record is not None:
            status, problem = AuthStatus.PERMERROR, f"{found.domain}: {found.record.error}"
        verdict = DmarcVerdict(
            status, author, found.domain, discovery=self._discovery.name, problem=problem
        )
        return DmarcJudgement(verdict, found.record)


class _Inquiry:
    """Compares domains with that of the author.

    Attributes:
        organization: Of the author, "" as long as nothing depended on it.
    """

    def __init__(self, survey: Survey, discovery: Discovery, author: str, found: Found):
        self.organization = found.organization
        self._has_record = found.domain == author
        self._survey = survey
        self._discovery = discovery
        self._author = author
        self._suffix = author[author.rfind(".") :]

    def is_identical(self, domain: str) -> bool:
        if domain != self._author:
            return False
        if self._has_record and not self.organization:
            self.organization = domain  # no need to look for another one: RFC 9989 §4.10.2
        return True

    async def is_aligned(self, domain: str, mode: str) -> bool:
        """Say whether a domain may speak for the author.

        Raises:
            LookupFailed: The DNS does not say.
        """
        if self.is_identical(domain):
            return True
        # an organization's name ends all names in it: where not even the last label is the same,
        # nobody needs to ask which one it is
        if mode == "s" or not f".{domain}".endswith(self._suffix):
            return False
        organization = await self._discovery.organizational_domain(self._survey, self._author)
        self.organization = organization
        if domain != organization and not domain.endswith(f".{organization}"):
            return False
        return organization == await self._discovery.organizational_domain(self._survey, domain)


async def _align_spf(
    inquiry: _Inquiry, spf: SpfVerdict | None, mode: str, alignment: _Alignment
) -> None:
    if spf is None or spf.identity != "mailfrom" or not spf.domain:
        return
    if spf.status is AuthStatus.PASS:
        alignment.spf = await _ask(inquiry, spf.domain.lower(), mode, alignment)
    elif spf.status is AuthStatus.TEMPERROR and await _ask(
        inquiry, spf.domain.lower(), mode, alignment
    ):
        alignment.problem = alignment.problem or "SPF could not be checked"


async def _align_dkim(
    inquiry: _Inquiry, dkim: Sequence[DkimVerdict], mode: str, alignment: _Alignment
) -> None:
    passed = _domains(dkim, AuthStatus.PASS)
    if any(inquiry.is_identical(domain) for domain in passed):
        alignment.dkim = True
        return
    for domain in passed:
        if await _ask(inquiry, domain, mode, alignment):
            alignment.dkim = True
            return
    if alignment.spf:
        return
    for domain in _domains(dkim, AuthStatus.TEMPERROR):
        if await _ask(inquiry, domain, mode, alignment):
            alignment.problem = alignment.problem or "a signature could not be checked"
            return


async def _ask(inquiry: _Inquiry, domain: str, mode: str, alignment: _Alignment) -> bool:
    try:
        return await inquiry.is_aligned(domain, mode)
    except LookupFailed as error:
        alignment.problem = alignment.problem or str(error)
        return False


async def _find_policy_below(survey: Survey, record: DmarcRecord, author: str) -> str:
    """Give what a record asks for a subdomain; the DNS is asked only if that matters."""
    usual, missing = record.policy_below(exists=True), record.policy_below(exists=False)
    if usual == missing or await survey.exists(author):
        return usual
    return missing


def _domains(dkim: Iterable[DkimVerdict], status: AuthStatus) -> list[str]:
    """Give the domains whose signatures came to this, each once, the first ones."""
    found = dict.fromkeys(v.domain.lower() for v in dkim if v.status is status and v.domain)
    return list(found)[:SIGNER_LIMIT]


def _severity(judgement: DmarcJudgement) -> tuple[int, int]:
    verdict = judgement.verdict
    return _ORDER.index(verdict.status), -POLICIES.index(verdict.policy)
