"""Whether the name of an address leads back to it (RFC 8601 §3)."""

from ipaddress import ip_address

from elemta.mail.errors import LookupFailed
from elemta.mailauth.resolving import Resolver
from elemta.mailauth.verdicts import AuthStatus, IprevVerdict

MAX_NAMES = 5  # of one address that are looked up: whoever has more of them has no more rights


async def check_iprev(resolver: Resolver, ip: str) -> IprevVerdict:
    """Look for a name of an address that has this very address.

    Args:
        resolver: Answers questions.
        ip: The address, IPv4 or IPv6.
    """
    try:
        address = ip_address(ip.partition("%")[0])
    except ValueError:
        return IprevVerdict(AuthStatus.PERMERROR, problem="not an IP address")
    try:
        found = await resolver.query(address.reverse_pointer, "PTR")
    except LookupFailed as error:
        return IprevVerdict(AuthStatus.TEMPERROR, problem=str(error))
    names = [name for name in found.records if name != "."]
    if not names:
        return IprevVerdict(AuthStatus.PERMERROR, problem="the address has no name")
    trouble = ""
    for name in names[:MAX_NAMES]:
        try:
            known = await resolver.query(name, "A" if address.version == 4 else "AAAA")
        except LookupFailed as error:
            trouble = trouble or str(error)
            continue
        if any(ip_address(each) == address for each in known.records):
            return IprevVerdict(AuthStatus.PASS, name)
    if trouble:
        return IprevVerdict(AuthStatus.TEMPERROR, names[0], trouble)
    return IprevVerdict(AuthStatus.FAIL, names[0], "no name leads back to the address")
