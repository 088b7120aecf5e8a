"""The settings of the plugin."""

from typing import Literal

from pydantic import Field, SecretStr

from elemta.plugins.builtin._scanning import ScanningSettings
from elemta.plugins.builtin._scanning.settings import Place


class RspamdSettings(ScanningSettings):
    """Where Rspamd is, and what becomes of its wishes."""

    servers: tuple[Place, ...] = Field(
        default=("127.0.0.1:11333",),
        min_length=1,
        max_length=16,
        description='Where its workers of type "normal" listen: "/path/of/socket" or "host:port". '
        "The first that works is asked, the others when it does not.",
    )
    max_size: int = Field(
        default=50 * 1024 * 1024,
        ge=1,
        description="Octets of a message that is shown: `max_message` of Rspamd.",
    )
    password: SecretStr = Field(
        default=SecretStr(""), description="The password of the worker, where it wants one."
    )
    settings_id: str = Field(
        default="",
        max_length=200,
        pattern=r"^[\x21-\x7e]*$",
        description="The id of the settings in Rspamd that hold for this mail.",
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
