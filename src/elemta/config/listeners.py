"""The settings of listeners."""

from typing import Annotated, Literal

from elemta.config.sections import Section, fixed
from elemta.config.tls import ClientCertificates, TlsLevelOrNone
from elemta.config.values import Listen, Network, Switch, parse_endpoint


class ListenerConfig(Section):
    """A place where clients connect; one table for each."""

    address: Annotated[
        Listen,
        fixed(
            'IP address and port; LMTP may also listen on a unix socket: "unix:/run/elemta/lmtp".'
        ),
    ]
    kind: Annotated[
        Literal["mta", "submission", "submissions", "lmtp"],
        fixed(
            '"mta" takes mail by SMTP, "submission" from those who log in (RFC 6409), '
            '"submissions" likewise with TLS from the start (RFC 8314), "lmtp" by LMTP (RFC 2033) '
            "from a server next door."
        ),
    ] = "mta"
    tls: Annotated[
        Literal["none", "starttls", "implicit"] | None,
        fixed(
            '"starttls" offers it, "implicit" begins with it. Without this setting: as its kind '
            "has it where there is a certificate, for LMTP none."
        ),
    ] = None
    tls_level: Annotated[TlsLevelOrNone, fixed("Instead of `level` of `[tls]`.")] = None
    client_certificates: Annotated[
        ClientCertificates | None, fixed("Instead of `client_certificates` of `[tls]`.")
    ] = None
    strict_sni: Annotated[Switch | None, fixed("Instead of `strict_sni` of `[tls]`.")] = None
    clear_auth: Annotated[
        Switch,
        fixed(
            "Offer AUTH without TLS, too: passwords can be read on the way. For development on "
            "one machine."
        ),
    ] = False
    proxy_protocol: Annotated[
        tuple[Network, ...],
        fixed(
            "Proxies in front of it: they begin with a header of the PROXY protocol (1 or 2) that "
            "says whose connection it is, and nobody else gets in. Empty: there is none."
        ),
    ] = ()
    xclient: Annotated[
        tuple[Network, ...],
        fixed("Who may say by XCLIENT that it speaks for another client, and who that is."),
    ] = ()
    xforward: Annotated[
        tuple[Network, ...], fixed("Who may say so by XFORWARD, which only the log is told.")
    ] = ()
    pregreet: Annotated[
        Switch | None,
        fixed(
            "Check new clients as `[pregreet]` says, whatever its `enabled` is. Without this "
            'setting: on listeners of kind "mta" where that is so.'
        ),
    ] = None

    @property
    def host(self) -> str:
        """The IP address; "" for a unix socket."""
        return parse_endpoint(self.address).host

    @property
    def port(self) -> int:
        return parse_endpoint(self.address).port

    @property
    def unix_path(self) -> str | None:
        """The path of a unix socket; None for TCP."""
        return parse_endpoint(self.address).path or None
