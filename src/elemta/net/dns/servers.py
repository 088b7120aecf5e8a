"""Which name servers there are, and whose word on DNSSEC counts."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from elemta.mail.errors import LookupFailed
from elemta.net.dns.cache import DnsSettings, TrustAd

RESOLV_CONF = Path("/etc/resolv.conf")
MAX_RESOLV_CONF = 64 * 1024  # octets
MAX_SERVERS = 8


@dataclass(frozen=True, slots=True)
class Server:
    """A name server.

    Attributes:
        host, port: Where it is.
        is_trusted: Its word on DNSSEC counts.
    """

    host: str
    port: int
    is_trusted: bool

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def find_servers(settings: DnsSettings, resolv_conf: Path = RESOLV_CONF) -> tuple[Server, ...]:
    """Give the name servers of the settings, or the system's.

    Raises:
        LookupFailed: There are none.
    """
    trust = settings.trust_ad
    addresses = settings.nameservers or tuple((host, 53) for host in _read(resolv_conf))
    if not addresses:
        raise LookupFailed(f"{resolv_conf} names no name server")
    return tuple(Server(host, port, _is_trusted(host, trust)) for host, port in addresses)


def _is_trusted(host: str, trust: TrustAd) -> bool:
    """Whether a name server's word on DNSSEC counts: nobody can change it on its way."""
    if trust != "loopback":
        return trust == "always"
    return ipaddress.ip_address(host).is_loopback


def _read(path: Path) -> tuple[str, ...]:
    """Give the addresses of the system's name servers (resolv.conf(5)); none without the file."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            text = file.read(MAX_RESOLV_CONF)
    except OSError:
        return ()
    return tuple(_addresses(line.split() for line in text.split("\n")))[:MAX_SERVERS]


def _addresses(lines: Iterable[list[str]]) -> Iterable[str]:
    for words in lines:
        if len(words) < 2 or words[0] != "nameserver":
            continue
        try:
            ipaddress.ip_address(words[1])
        except ValueError:
            continue
        yield words[1]
