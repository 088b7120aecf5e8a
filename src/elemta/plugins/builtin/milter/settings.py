"""What an operator can set of milters."""

import re
from typing import Literal

from pydantic import Field, field_validator

from elemta.plugins import Settings
from elemta.plugins.builtin._elsewhere import OnFailure, parse_place

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}", re.ASCII)
Moment = Literal["on_data", "on_validated", "on_filter", "on_enqueue"]


def _seconds(default: float, description: str) -> float:
    return Field(default=default, gt=0, le=3600, description=description)


class MilterServer(Settings):
    """One milter."""

    address: str = Field(
        description='Where it listens: "unix:/run/opendkim/opendkim.sock", "127.0.0.1:8891", or '
        'as milters write it, "inet:8891@127.0.0.1".'
    )
    name: str = Field(default="", description="Its name in log and figures; empty: its address.")
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
    breaker_failures: int = Field(
        default=5,
        ge=0,
        le=1000,
        description="After so many failures in a row it is left alone for a while; 0: never.",
    )
    breaker_pause: float = _seconds(30.0, "Seconds for which it is left alone then.")

    @field_validator("address")
    @classmethod
    def _check_address(cls, value: str) -> str:
        parse_place(value)
        return value

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if value and not _NAME.fullmatch(value):
            raise ValueError("a name has at most 32 letters, digits, dots, - and _")
        return value

    @property
    def title(self) -> str:
        """What it is called."""
        return self.name or self.address


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
        titles = [each.title for each in value]
        if len(set(titles)) < len(titles):
            raise ValueError("two milters have the same name")
        return value
