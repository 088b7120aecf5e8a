"""What the checks of new clients are told; durations in seconds."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from elemta.net.addresses import Networks
from elemta.server.pregreet.checks import Action, Check

DAY = 86400.0


@dataclass(frozen=True, slots=True)
class PregreetSettings:
    """How clients of one listener are checked.

    Attributes:
        actions: What follows for those who fail.
        keep: How long a check counts as passed.
        wait: How long the end of the banner is held back.
        stressed_wait: Likewise, while there is too much to do.
        teases: The banner begins at once, with a line that is not its last.
        exempt: Clients that are never checked, those who speak for others among them.
        proxies: Who may speak for others by XCLIENT.
        ipv4_prefix, ipv6_prefix: How wide a network is that counts as one client.
    """

    actions: Mapping[Check, Action] = field(
        default_factory=lambda: dict.fromkeys(Check, Action.ENFORCE)
    )
    keep: Mapping[Check, float] = field(default_factory=lambda: dict.fromkeys(Check, DAY))
    wait: float = 6.0
    stressed_wait: float = 2.0
    teases: bool = True
    exempt: Networks = ()
    proxies: Networks = ()
    ipv4_prefix: int = 32
    ipv6_prefix: int = 64
