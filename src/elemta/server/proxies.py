"""Proxies that speak for other clients: XCLIENT and XFORWARD (Postfix), and the PROXY protocol.

Only hosts that the operator names may do so. What they say by XCLIENT or PROXY counts for policy
from then on; XFORWARD is for the log alone.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from elemta.accounts import Account
from elemta.net.proxy import ProxyError, ProxyHeader, read_header
from elemta.net.stream import Stream

MAX_HEADER = 8192  # octets; no PROXY header is as long
PROXY_TIMEOUT = 5.0  # seconds for it to come
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII).fullmatch
_LOGIN = re.compile(r"[!-~]{1,255}", re.ASCII).fullmatch


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a client is, as its proxy says.

    Attributes:
        client, server: IP addresses of both ends; None: unchanged.
        login: Whom the proxy has let log in; "": nobody; None: unchanged, where the client is.
        account: That login's, where there is one here.
    """

    client: str | None = None
    client_port: int = 0
    server: str | None = None
    server_port: int = 0
    login: str | None = None
    account: Account | None = None


def read_identity(attributes: Mapping[str, str | None]) -> Identity | None:
    """Make sense of the attributes of XCLIENT; None where they make none.

    NAME, HELO and PROTO are passed over: names are looked up here, and the client says hello
    again. A client whose address the proxy does not know has no identity: it must not pass for the
    proxy itself.
    """
    if "ADDR" in attributes and attributes["ADDR"] is None:
        return None
    try:
        client = _read_address(attributes.get("ADDR"))
        server = _read_address(attributes.get("DESTADDR"))
        client_port = _read_port(attributes.get("PORT"))
        server_port = _read_port(attributes.get("DESTPORT"))
    except ValueError:
        return None
    login = attributes.get("LOGIN")
    if "LOGIN" not in attributes:
        return Identity(client, client_port, server, server_port)
    if login is not None and not _LOGIN(login):
        return None
    return Identity(client, client_port, server, server_port, login or "")


def _read_address(text: str | None) -> str | None:
    if text is None:
        return None
    found = ip_address(text[5:] if text[:5].upper() == "IPV6:" else text)
    if "%" in text:
        raise ValueError("zones mean nothing to others")
    return str(getattr(found, "ipv4_mapped", None) or found)


def _read_port(text: str | None) -> int:
    if text is None:
        return 0
    if not _PORT(text) or int(text) > 65535:
        raise ValueError("a port is expected")
    return int(text)


async def receive_header(stream: Stream) -> ProxyHeader:
    """Read the header of the PROXY protocol, and give the stream the addresses that it names.

    What comes behind the header stays to be read.

    Raises:
        ProxyError: There is none, or it is broken.
        OSError: The connection is lost; TimeoutError: its deadline has passed.
    """
    data = b""
    while (found := read_header(data)) is None:
        piece = await stream.read()
        data += piece
        if not piece or len(data) > MAX_HEADER:
            raise ProxyError("no PROXY header")
    header, size = found
    stream.unread(data[size:])
    if header.client:
        stream.rename(header.client, header.client_port, header.server, header.server_port)
    return header
