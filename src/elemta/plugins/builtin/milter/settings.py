"""What an operator can set of milters."""

from typing import Literal

from pydantic import Field, field_validator

from elemta.plugins import Settings
from elemta.plugins.builtin._elsewhere import NamedServer, OnFailure, PlaceText, check_titles

Moment = Literal["on_data", "on_validated", "on_filter", "on_enqueue"]


def _seconds(default: float, description: str) -> float:
    return Field(default=default, gt=0, le=3600, description=description)


class MilterServer(NamedServer):
    """One milter."""

    address: PlaceText = Field(
        description='Where it listens: "unix:/run/opendkim/opendkim.sock", "127.0.0.1:8891", or '
        'as milters write it, "inet:8891@127.0.0.1".'
    )
    on_failure: OnFailure = Field(
        default="defer",
        description="What becomes of mail when it cannot be asked, is late or answers nonsense: "
        "`defer` it (451), `continue` without and leave a note, `quarantine` it, or `reject` it.",
    )
    connect_timeout: float = _seconds(5.0, "Seconds until it is connected and has negotiated.")
    command_timeout: float = _seconds(
        10.0, "Seconds for each answer about the client and the envelope."
    )
    content_timeout: float = _seconds(
        20.0, "Seconds for each answer about a header field or a piece of the body."
    )
    end_timeout: float = _seconds(
        20.0, "Seconds for each answer at the end of a message; a sign of progress starts it anew."
    )
    message_timeout: float = _seconds(
        25.0,
        "Seconds for the content of a message in all, however much progress it reports. "
        "`timeout` of the plugin should be longer than those of all milters together.",
    )
    reuse: bool = Field(
        default=False,
        description="Use a connection again for other clients, where it speaks version 6 of the "
        "protocol. Rspamd can do that; what is made with libmilter, as OpenDKIM is, does not "
        "answer then.",
    )
    max_idle: int = Field(
        default=10, ge=0, le=1000, description="Connections, in each worker, that are kept open."
    )
    max_answer: int = Field(
        default=64 << 20,
        ge=1024,
        le=1 << 30,
        description="Octets that it may send about one message, a new body included.",
    )


class MilterSettings(Settings):
    """Which milters are asked, and when."""

    milters: tuple[MilterServer, ...] = Field(
        default=(), max_length=16, description="The milters, in the order they are asked."
    )
    content_at: Moment = Field(
        default="on_filter",
        description="The hook in which they get the content. They see what plugins of earlier "
        "hooks have changed; one that signs belongs into `on_enqueue`.",
    )
    daemon_name: str = Field(
        default="",
        max_length=100,
        description="What they are told of the listener as `{daemon_name}`; empty: its kind.",
    )

    @field_validator("milters")
    @classmethod
    def _check_names(cls, value: tuple[MilterServer, ...]) -> tuple[MilterServer, ...]:
        check_titles(value)
        return value
