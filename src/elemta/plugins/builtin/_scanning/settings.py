"""The settings that all scanners have."""

from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, StringConstraints

from elemta.plugins import SessionInfo, Settings
from elemta.plugins.builtin._elsewhere import OnFailure, PlaceText

Servers = Annotated[tuple[PlaceText, ...], Field(min_length=1, max_length=16)]
Listener = Annotated[str, StringConstraints(pattern="^(mta|submission|submissions|lmtp)$")]


class Terms(NamedTuple):
    """What holds for one message: seconds in all and for one server, and what if it is not scanned.

    Attributes: as in `ScanningSettings`.
    """

    limit: float
    server_timeout: float
    on_failure: OnFailure
    on_too_big: OnFailure


class ListenerSettings(Settings):
    """What is otherwise for mail that comes in by one kind of listener."""

    limit: float | None = Field(default=None, gt=0, le=600, description="Instead of `limit`.")
    server_timeout: float | None = Field(
        default=None, gt=0, le=600, description="Instead of `server_timeout`."
    )
    on_failure: OnFailure | None = Field(default=None, description="Instead of `on_failure`.")
    on_too_big: OnFailure | None = Field(default=None, description="Instead of `on_too_big`.")


_AS_FOR_ALL = ListenerSettings()


def told_of_servers(who: str) -> str:
    """Describe the setting that says where servers of a kind are."""
    return (
        f'Where {who}: "/path/of/socket" or "host:port". The first that works is asked, the '
        "others when it does not."
    )


class ScanningSettings(Settings):
    """Where scanners are, whose mail they see, and what happens when they do not answer."""

    servers: Servers = Field(default=("127.0.0.1:783",), description=told_of_servers("it listens"))
    where: Literal["dialogue", "queue"] = Field(
        default="dialogue",
        description='"dialogue": while the client waits for the reply to its message. "queue": '
        "after the 250, before the first attempt to deliver.",
    )
    scan_trusted: bool = Field(
        default=True,
        description="Also scan mail of clients in `relay.trusted_networks`, and of those that "
        "speak LMTP.",
    )
    scan_logged_in: bool = Field(default=True, description="Also scan mail of who has logged in.")
    limit: float = Field(
        default=25.0,
        gt=0,
        le=600,
        description="Seconds for a message in all, with waiting for its turn and further tries. "
        "`timeout` of the plugin must be longer.",
    )
    server_timeout: float = Field(
        default=15.0, gt=0, le=600, description="Seconds that one server may take for a message."
    )
    connect_timeout: float = Field(
        default=3.0, gt=0, le=60, description="Seconds until a server has taken the connection."
    )
    tries: int = Field(
        default=2,
        ge=1,
        le=16,
        description="How often a message is shown at most until there is an answer: to another "
        "server each time, as long as there is one.",
    )
    max_scans: int = Field(
        default=20,
        ge=1,
        le=1000,
        description="Connections of one worker at a time; further messages wait for their turn.",
    )
    failures: int = Field(
        default=5,
        ge=1,
        le=1000,
        description="Failures in a row after which a server is left alone.",
    )
    pause: float = Field(
        default=10.0,
        gt=0,
        le=3600,
        description="Seconds for which it is; then one message tries it again.",
    )
    on_failure: OnFailure = Field(
        default="defer",
        description="What becomes of a message when no server has an answer: `defer` (451), "
        "`continue` (it is taken, and marked as not scanned), `quarantine` or `reject`.",
    )
    max_size: int = Field(
        default=25 * 1024 * 1024,
        ge=1,
        description="Octets of a message that is shown; the servers must take as much.",
    )
    on_too_big: OnFailure = Field(
        default="quarantine", description="What becomes of a message that is larger."
    )
    late_refusal: Literal["quarantine", "discard"] = Field(
        default="quarantine",
        description="What stands for `reject` once a message is in the queue: whoever is named as "
        "its sender gets no notification.",
    )
    listeners: Mapping[Listener, ListenerSettings] = Field(
        default={},
        description="Tables for kinds of listeners, `mta`, `submission`, `submissions` or `lmtp`: "
        "what is otherwise there.",
    )
    tag: bool = Field(
        default=True,
        description="Write what was found into a header field, in place of one that came with "
        "the message.",
    )
    probe_every: float = Field(
        default=300.0,
        ge=0,
        le=86_400,
        description="Seconds between probes of all servers by each worker; 0 for none.",
    )
    self_test: Literal["off", "report", "require"] = Field(
        default="report",
        description="Whether a probe shows the server a message that it must object to. "
        '"require": a server that does not is not asked any more.',
    )

    def concern(self, session: SessionInfo) -> bool:
        """Whether mail of this session is scanned."""
        if session.username or session.listener.startswith("submission"):
            return self.scan_logged_in
        return self.scan_trusted or (session.listener == "mta" and not session.is_trusted)

    def terms(self, listener: str) -> Terms:
        """What holds for mail that came in by a kind of listener; "" where that is not known."""
        own = self.listeners.get(listener, _AS_FOR_ALL)
        return Terms(
            self.limit if own.limit is None else own.limit,
            self.server_timeout if own.server_timeout is None else own.server_timeout,
            own.on_failure or self.on_failure,
            own.on_too_big or self.on_too_big,
        )
