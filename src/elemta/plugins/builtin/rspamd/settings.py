"""The settings of the plugin."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, SecretStr, StringConstraints

from elemta.plugins.builtin._scanning import Listener, Servers, SpamSettings, told_of_servers

SettingsId = Annotated[str, StringConstraints(max_length=200, pattern=r"^[\x21-\x7e]*$")]


class RspamdSettings(SpamSettings):
    """Where Rspamd is, and what becomes of its wishes."""

    servers: Servers = Field(
        default=("127.0.0.1:11333",),
        description=told_of_servers('its workers of type "normal" listen'),
    )
    max_size: int = Field(
        default=50 * 1024 * 1024,
        ge=1,
        description="Octets of a message that is shown: `max_message` of Rspamd.",
    )
    password: SecretStr = Field(
        default=SecretStr(""), description="The password of the worker, where it wants one."
    )
    settings_id: SettingsId = Field(
        default="", description="The id of the settings in Rspamd that hold for this mail."
    )
    settings_ids: Mapping[Listener, SettingsId] = Field(
        default={}, description='The same for kinds of listeners: `submission = "outgoing"`.'
    )
    on_reject: Literal["reject", "quarantine", "discard", "continue"] = Field(
        default="reject", description='What is done about the action "reject" of Rspamd.'
    )
    on_add_header: Literal["continue", "quarantine", "reject"] = Field(
        default="continue",
        description='What is done about its actions "add header" and "rewrite subject"; the '
        "header section is changed as it wants.",
    )
    on_greylist: Literal["defer", "continue"] = Field(
        default="defer",
        description='What is done about its action "greylist": the client has to come again. '
        "Not in the queue.",
    )
    greylist_delay: float = Field(
        default=300.0,
        ge=1,
        le=86_400,
        description="Seconds after which a message from the same network, sender and recipient is "
        "not sent away again.",
    )
    edit_headers: bool = Field(
        default=True,
        description="Change header fields as Rspamd wants, and its signatures among them.",
    )

    def settings_id_for(self, listener: str) -> str:
        """The id that holds for mail that came in by a kind of listener."""
        return self.settings_ids.get(listener, self.settings_id)
