"""What each listener asks of its clients, from the configuration."""

from typing import Literal

from elemta.config import Config
from elemta.config.models import ListenerConfig
from elemta.server import Door

TlsMode = Literal["none", "starttls", "implicit"]


def make_door(config: Config, listener: ListenerConfig) -> Door:
    """Tell the server room of a listener."""
    return Door(
        kind=listener.kind,
        tls=tls_mode(config, listener),
        requires_login=listener.kind in config.auth.required_on,
        clear_login=listener.clear_auth,
        proxies=listener.proxy_protocol,
        xclient=listener.xclient,
        xforward=listener.xforward,
    )


def tls_mode(config: Config, listener: ListenerConfig) -> TlsMode:
    """How TLS begins on a listener: as it says, else as its kind has it where that can be."""
    if listener.tls is not None:
        return listener.tls
    if not config.tls.certificate or listener.kind == "lmtp":
        return "none"
    return "implicit" if listener.kind == "submissions" else "starttls"
