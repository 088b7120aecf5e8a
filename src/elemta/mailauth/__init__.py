"""Who really sent a message: SPF, DKIM, DMARC, ARC and what is said of them in header fields.

Nothing here touches the network, the clock or the event loop: names are looked up through a
`Resolver` that is handed in, the time is an argument, and whoever calls decides in which thread
the expensive parts run.
"""

from elemta.mailauth.resolving import Answer, Resolver
from elemta.mailauth.verdicts import (
    ArcVerdict,
    Authentication,
    AuthStatus,
    BodySpec,
    DkimVerdict,
    DmarcVerdict,
    IprevVerdict,
    SpfVerdict,
)

__all__ = [
    "Answer",
    "ArcVerdict",
    "AuthStatus",
    "Authentication",
    "BodySpec",
    "DkimVerdict",
    "DmarcVerdict",
    "IprevVerdict",
    "Resolver",
    "SpfVerdict",
]
