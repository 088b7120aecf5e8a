"""What keeps certificates and keys from being used, by the settings that name them."""

from collections.abc import Iterator

from elemta.config import Config, Loaded, Problem
from elemta.config.locate import Path as KeyPath


def find_tls_problems(loaded: Loaded, config: Config) -> Iterator[Problem]:
    """Try the certificates that listeners are to show; nothing is kept."""
    if not config.tls.certificate:
        return
    # not before it is needed: what reads certificates takes as long as all the rest
    from elemta.app.tls import find_problems  # noqa: PLC0415
    from elemta.net.clock import SystemClock  # noqa: PLC0415
    from elemta.net.tls import openssl  # noqa: PLC0415

    for error in find_problems(config, SystemClock()):
        yield loaded.problem(_setting_of(config, error.where), error.problem)
    if config.tls.strict_alpn and not openssl.is_reachable():
        text = "has no effect: this Python hides its OpenSSL"
        yield loaded.problem(("tls", "strict_alpn"), text, is_error=False)


def _setting_of(config: Config, where: str) -> KeyPath:
    """Give the path of the setting that names a file, or that is named itself."""
    tls = config.tls
    for name in ("certificate", "key", "client_ca"):
        if where == getattr(tls, name):
            return ("tls", name)
    for index, each in enumerate(tls.certificates):
        for name in ("certificate", "key"):
            if where == getattr(each, name):
                return ("tls", "certificates", index, name)
    return tuple(where.split("."))
