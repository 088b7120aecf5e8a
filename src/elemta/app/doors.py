"""What each listener asks of its clients, from the configuration."""

from typing import Literal

from elemta.app.submission import local_users
from elemta.config import Config
from elemta.config.listeners import ListenerConfig
from elemta.server import Door

TlsMode = Literal["none", "starttls", "implicit"]


def make_door(config: Config, listener: ListenerConfig) -> Door:
    """Tell the server room of a listener."""
    is_local = listener.unix_path is not None and listener.kind == "submission"
    return Door(
        kind=listener.kind,
        tls="none" if is_local else tls_mode(config, listener),
        requires_login=listener.kind in config.auth.required_on,
        clear_login=listener.clear_auth,
        proxies=listener.proxy_protocol,
        xclient=listener.xclient,
        xforward=listener.xforward,
        local=local_users(config) if is_local else None,
    )


def tls_mode(config: Config, listener: ListenerConfig) -> TlsMode:
    """How TLS begins on a listener: as it says, else as its kind has it where that can be."""
    if listener.tls is not None:
        return listener.tls
    if not config.tls.certificate or listener.kind == "lmtp":
        return "none"
    return "implicit" if listener.kind == "submissions" else "starttls"
