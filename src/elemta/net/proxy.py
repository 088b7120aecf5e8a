"""The PROXY protocol, versions 1 and 2: a proxy tells whose connection it passes on.

The header comes before everything else; what is not exactly one is an error, and the connection
is not to be used then. Source: HAProxy, "The PROXY protocol, versions 1 & 2".
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from struct import Struct

from elemta.mail.errors import ElemtaError

MAX_V1 = 107  # octets, CRLF included
MAX_V2 = 4096  # octets behind the fixed part; proxies in use send a few hundred
_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED = Struct("!12sBBH")
_IPV4 = Struct("!4s4sHH")
_IPV6 = Struct("!16s16sHH")
_UNIX_SIZE = 216
_TLV = Struct("!BH")
_PORT = re.compile(r"0|[1-9][0-9]{0,4}", re.ASCII).fullmatch
_LOCAL, _PROXY = 0x20, 0x21


class ProxyError(ElemtaError):
    """What came is no header, or a broken one."""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """What a proxy says.

    Attributes:
        client, server: Addresses of both ends of the connection it took; "" where it does not say:
            it speaks for itself (a health check), or the client came by other means than IP.
        client_port, server_port: Their ports, 0 likewise.
        extras: What else it says, by type (version 2): 0x02 is the name that TLS asked for,
            0x20 is about TLS, 0x05 a unique id.
    """

    client: str = ""
    server: str = ""
    client_port: int = 0
    server_port: int = 0
    extras: tuple[tuple[int, bytes], ...] = ()


def read_header(data: bytes) -> tuple[ProxyHeader, int] | None:
    """Read a header from the first octets of a connection.

    Returns:
        The header and how many octets it took; None: more are needed.

    Raises:
        ProxyError: It is none.
    """
    if data.startswith(_SIGNATURE):
        return _read_v2(data)
    if data.startswith(b"PROXY "):
        return _read_v1(data)
    if not data or _SIGNATURE.startswith(data) or b"PROXY ".startswith(data):
        return None
    raise ProxyError("no PROXY header")


def _read_v1(data: bytes) -> tuple[ProxyHeader, int] | None:
    end = data.find(b"\r\n", 0, MAX_V1)
    if end < 0:
        if len(data) >= MAX_V1:
            raise ProxyError("a PROXY line without end")
        return None
    if not data[:end].isascii():
        raise ProxyError("a PROXY line that is not ASCII")
    words = data[:end].decode("ascii").split(" ")[1:]
    if words[0] == "UNKNOWN":
        return ProxyHeader(), end + 2
    if words[0] not in {"TCP4", "TCP6"} or len(words) != 5:
        raise ProxyError("a PROXY line of the wrong form")
    kind = IPv4Address if words[0] == "TCP4" else IPv6Address
    if "%" in words[1] + words[2]:
        raise ProxyError("a PROXY line with a zone")
    try:
        client, server = str(kind(words[1])), str(kind(words[2]))
    except ValueError:
        raise ProxyError("a PROXY line with a wrong address") from None
    if not all(_PORT(word) and int(word) < 65536 for word in words[3:]):
        raise ProxyError("a PROXY line with a wrong port")
    return ProxyHeader(_plain(client), _plain(server), int(words[3]), int(words[4])), end + 2


def _read_v2(data: bytes) -> tuple[ProxyHeader, int] | None:
    if len(data) < _FIXED.size:
        return None
    _, command, family, size = _FIXED.unpack_from(data)
    if command not in {_LOCAL, _PROXY}:
        raise ProxyError("a PROXY header of an unknown version or command")
    if size > MAX_V2:
        raise ProxyError("a PROXY header that is too long")
    end = _FIXED.size + size
    if len(data) < end:
        return None
    body = data[_FIXED.size : end]
    if command == _LOCAL:  # whatever else it says is to be passed over
        return ProxyHeader(), end
    return _read_addresses(family, body), end


def _read_addresses(family: int, body: bytes) -> ProxyHeader:
    layouts = {0x11: _IPV4, 0x21: _IPV6}  # TCP; mail does not come by datagrams
    layout = layouts.get(family)
    if layout is None:
        sizes = {0x00: 0, 0x31: _UNIX_SIZE}
        if family not in sizes or len(body) < sizes[family]:
            raise ProxyError("a PROXY header of an unknown family")
        return ProxyHeader(extras=_read_extras(body[sizes[family] :]))
    if len(body) < layout.size:
        raise ProxyError("a PROXY header that is too short")
    client, server, client_port, server_port = layout.unpack_from(body)
    return ProxyHeader(
        _plain(str(ip_address(client))),
        _plain(str(ip_address(server))),
        client_port,
        server_port,
        _read_extras(body[layout.size :]),
    )


def _read_extras(data: bytes) -> tuple[tuple[int, bytes], ...]:
    found = []
    at = 0
    while at < len(data):
        if at + _TLV.size > len(data):
            raise ProxyError("a PROXY header with a broken part")
        kind, size = _TLV.unpack_from(data, at)
        at += _TLV.size + size
        if at > len(data):
            raise ProxyError("a PROXY header with a broken part")
        found.append((kind, data[at - size : at]))
    return tuple(found)


def _plain(address: str) -> str:
    """Write an IPv4 address as such, however it came."""
    found = ip_address(address)
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return str(mapped or found)
