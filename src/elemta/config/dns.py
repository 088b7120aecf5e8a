"""The settings of look-ups of names."""

from typing import Annotated, Literal

from elemta.config.sections import Section, fixed
from elemta.config.units import DAY
from elemta.config.values import Duration, Nameserver, Whole


class DnsConfig(Section):
    """Look-ups of names."""

    nameservers: Annotated[
        tuple[Nameserver, ...],
        fixed('Whom to ask: "address" or "address:port"; empty: those of the system.'),
    ] = ()
    timeout: Annotated[Duration, fixed("For one look-up, retries included.", gt=0)] = 5.0
    cache_size: Annotated[
        Whole, fixed("Records kept by each worker; 256 octets of text count as one.", ge=100)
    ] = 20_000
    min_ttl: Annotated[Duration, fixed("Answers are kept at least so long.")] = 5.0
    max_ttl: Annotated[Duration, fixed("Answers are kept at most so long.", gt=0)] = DAY
    trust_ad: Annotated[
        Literal["loopback", "always", "never"],
        fixed(
            "Which name servers may say that DNSSEC vouches for an answer (the AD bit): those on"
            " this machine; all, where the way to them is safe; none."
        ),
    ] = "loopback"
