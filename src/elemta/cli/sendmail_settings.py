"""What `elemta sendmail` has to know of the configuration: little, for anybody may call it.

Whoever calls it need not be able to read the secrets that other settings refer to, so that only
its own settings are looked at.
"""

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from elemta.config.models import ServerConfig
from elemta.config.sections import Section
from elemta.config.submission import SubmissionConfig
from elemta.mail.errors import ConfigError

PLACE = Path("/etc/elemta/elemta.toml")  # where neither -C nor ELEMTA_CONFIG names a file


@dataclass(frozen=True, slots=True)
class SendmailSettings:
    """Where mail goes, and what it is completed with."""

    socket: str
    pickup: Path
    local_domain: str
    max_message_size: int


def read_settings(path: Path | None) -> SendmailSettings:
    """Read the settings from a file.

    Raises:
        ConfigError: It cannot be read, or there is no socket for users of this machine.
    """
    place = path or Path(os.environ.get("ELEMTA_CONFIG") or PLACE)
    try:
        data = tomllib.loads(place.read_text())
    except OSError as error:
        raise ConfigError(str(place), str(error.strerror)) from error
    except ValueError as error:
        raise ConfigError(str(place), f"not valid TOML: {error}") from error
    server = _section(ServerConfig, data, "server", place)
    submission = _section(SubmissionConfig, data, "submission", place)
    if not submission.socket:
        raise ConfigError(str(place), "[submission] socket is not set: nobody may send mail so")
    return SendmailSettings(
        submission.socket,
        Path(submission.pickup or server.state_dir / "pickup"),
        submission.local_domain or server.hostname,
        server.max_message_size,
    )


S = TypeVar("S", bound=Section)
WANTED = frozenset(
    {"hostname", "state_dir", "max_message_size", "socket", "pickup", "local_domain"}
)


def _section(model: type[S], data: dict[str, object], name: str, place: Path) -> S:
    table = data.get(name, {})
    found = table if isinstance(table, dict) else {}
    own = {key: value for key, value in found.items() if key in WANTED}
    try:
        return model.model_validate(own, context={"folder": place.absolute().parent})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{place}: [{name}] {where}", str(first["msg"])) from error
