"""What an operator can set of policy servers."""

from typing import Literal

from pydantic import Field, field_validator

from elemta.plugins import Settings
from elemta.plugins.builtin._elsewhere import NamedServer, OnFailure, PlaceText, check_titles

State = Literal["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "END-OF-MESSAGE"]


class PolicyServer(NamedServer):
    """One policy server."""

    address: PlaceText = Field(
        description='Where it listens: "127.0.0.1:10023", "unix:/run/policyd", or as Postfix '
        'writes it, "inet:127.0.0.1:10023".'
    )
    states: tuple[State, ...] = Field(
        default=("RCPT",),
        min_length=1,
        description="The moments at which it is asked: `protocol_state` says which it is. EHLO is "
        "also that of HELO. DATA is when the header section is there, END-OF-MESSAGE when all is.",
    )
    on_failure: OnFailure = Field(
        default="defer",
        description="What becomes of mail when it cannot be asked or is late: `defer` it (451), "
        "`continue` without and leave a note, `quarantine` it, or `reject` it. An answer that "
        "means nothing is always 451.",
    )
    timeout: float = Field(
        default=10.0,
        gt=0,
        le=3600,
        description="Seconds for a try, a new connection included. `timeout` of the plugin should "
        "be longer than all tries together.",
    )
    tries: int = Field(
        default=2, ge=1, le=10, description="How often it is asked when it gives no answer."
    )
    max_requests: int = Field(
        default=0, ge=0, description="Questions on one connection, then a new one; 0: no limit."
    )
    max_connections: int = Field(
        default=50,
        ge=1,
        le=10_000,
        description="Connections of each worker; who finds none free waits, within `timeout`.",
    )
    policy_context: str = Field(
        default="", max_length=200, description="What it is told as `policy_context`."
    )


class PolicySettings(Settings):
    """Which policy servers are asked."""

    servers: tuple[PolicyServer, ...] = Field(
        default=(), max_length=16, description="The servers, in the order they are asked."
    )

    @field_validator("servers")
    @classmethod
    def _check_names(cls, value: tuple[PolicyServer, ...]) -> tuple[PolicyServer, ...]:
        check_titles(value)
        return value
