"""The settings of the checks of new clients."""

from typing import Annotated, Literal

from elemta.config.sections import Section, live
from elemta.config.units import DAY
from elemta.config.values import Duration, Kind, Network, Switch, Whole

Consequence = Annotated[Literal["off", "ignore", "enforce", "drop"], Kind("consequence")]


class PregreetConfig(Section):
    """Checks of clients that have not been here before: do they speak as mail servers do?

    Who fails a check: "ignore" only tells the log and the figures, "enforce" refuses each
    recipient (550), "drop" ends the session (521); "off" does not check. Trusted networks are
    exempt. Changes hold for sessions that begin after the reload.
    """

    enabled: Annotated[
        Switch,
        live('Check clients on listeners of kind "mta"; `pregreet` of a listener overrides.'),
    ] = False
    early_talker: Annotated[
        Consequence, live("Who talks while the end of the banner is held back.")
    ] = "enforce"
    pipelining: Annotated[
        Consequence,
        live(
            "Who sends more behind a command that has to be the last of its group (RFC 2920). "
            'With "ignore" `smtp.strict_sync` decides.'
        ),
    ] = "enforce"
    bare_newline: Annotated[
        Consequence,
        live("Who ends a line with LF alone. That line is refused anyway."),
    ] = "ignore"
    non_smtp_command: Annotated[
        Consequence,
        live(
            "Who sends a header field for a command. Words of HTTP and TLS always end the session."
        ),
    ] = "drop"
    wait: Annotated[Duration, live("How long the end of the banner is held back.", gt=0, le=60)] = (
        6.0
    )
    stressed_wait: Annotated[
        Duration, live("Likewise, while there is too much to do.", gt=0, le=60)
    ] = 2.0
    teaser: Annotated[
        Switch, live("Begin the banner at once, with a line that is not its last.")
    ] = True
    early_talker_ttl: Annotated[Duration, live("How long who has passed is known.", gt=0)] = DAY
    pipelining_ttl: Annotated[Duration, live("Likewise.", gt=0)] = 30 * DAY
    bare_newline_ttl: Annotated[Duration, live("Likewise.", gt=0)] = 30 * DAY
    non_smtp_command_ttl: Annotated[Duration, live("Likewise.", gt=0)] = 30 * DAY
    exempt: Annotated[
        tuple[Network, ...], live("Clients that are not checked, beside trusted networks.")
    ] = ()
    ipv4_prefix: Annotated[
        Whole, live("How wide a network is that is known as one client.", ge=8, le=32)
    ] = 32
    ipv6_prefix: Annotated[Whole, live("Likewise.", ge=16, le=128)] = 64
