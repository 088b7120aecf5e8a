"""check_host(): whether an address may send for a domain (RFC 7208 §4)."""

from functools import lru_cache

from elemta.mail.address import DomainError, parse_domain
from elemta.mail.errors import LookupFailed
from elemta.mailauth.resolving import Resolver
from elemta.mailauth.spf.client import find_client
from elemta.mailauth.spf.evaluation import Asked, Evaluation, Unusable
from elemta.mailauth.spf.macros import is_name, printable
from elemta.mailauth.spf.settings import SpfSettings
from elemta.mailauth.verdicts import AuthStatus, SpfVerdict

_SHOWN = 200  # characters of foreign text in a verdict
_LONGEST = 1024  # characters of a domain that are looked at: U-labels may take many octets
_LONGEST_IP = 64  # characters of an address: with a scope


class SpfChecker:
    """Checks senders against the records of their domains; one is enough for all."""

    def __init__(self, resolver: Resolver, settings: SpfSettings | None = None):
        self._resolver = resolver
        self._settings = settings or SpfSettings()

    async def check(  # noqa: PLR0913 - the arguments of check_host()
        self,
        ip: str,
        domain: str,
        sender: str,
        helo: str,
        *,
        identity: str = "mailfrom",
        now: float,
        steps: list[str] | None = None,
    ) -> SpfVerdict:
        """Find out whether a client may send for a domain (RFC 7208 §4.1); nothing is raised.

        How long it may take is the caller's to say: the RFC asks for at least 20 seconds.

        Args:
            ip: The client's address.
            domain: Whose record is read; see `subject_of`.
            sender: "local@domain", without quotes and escapes.
            helo: What the client calls itself.
            identity: "mailfrom" or "helo"; only for the verdict.
            now: Seconds since the epoch, for the macro `t`.
            steps: Gets a line for each question, each record that is read and each term.
        """
        client = find_client(ip[:_LONGEST_IP])
        name = find_name(domain[:_LONGEST])
        if client is None or not name:
            problem = "no fully qualified domain name" if client else "no address of a client"
            shown = name or printable(domain, _SHOWN)
            if steps is not None:
                steps.append(f"{shown}: {problem}: there is nothing to check")
            return SpfVerdict(AuthStatus.NONE, shown, identity, problem=problem)
        asked = Asked(client, sender, helo, now)
        evaluation = Evaluation(self._resolver, self._settings, asked, steps)
        try:
            status, mechanism = await evaluation.check_host(name)
            explanation = await evaluation.explain() if status is AuthStatus.FAIL else ""
        except (LookupFailed, Unusable) as error:
            status, mechanism, explanation = AuthStatus.PERMERROR, "", ""
            if isinstance(error, LookupFailed):
                status = AuthStatus.TEMPERROR
            problem = printable(str(error), _SHOWN)
        else:
            problem = ""
        if steps is not None:
            steps.append(f"{name}: {status}{f': {problem}' if problem else ''}")
        return SpfVerdict(status, name, identity, mechanism, explanation, problem)


@lru_cache(16_384)
def find_name(domain: str) -> str:
    """Give the name to begin with, "" for what is none or has one label only (RFC 7208 §4.3)."""
    if domain.startswith("["):
        return ""
    if not domain.isascii():
        try:
            domain = parse_domain(domain)  # RFC 8616 §4
        except DomainError:
            return ""
    name = domain.lower().removesuffix(".")
    return name if "." in name and " " not in name and is_name(name) else ""
