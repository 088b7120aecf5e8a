"""What settings are made of beside numbers and words: endpoints, networks, patterns, folders.

Each `parse_` function takes the value as the file has it and raises ValueError with what is
expected; the value itself is not repeated in the text, whoever reports it knows where it
came from.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainValidator, ValidationInfo

from elemta.config.units import (
    format_duration,
    format_rate,
    format_size,
    parse_duration,
    parse_rate,
    parse_size,
)
from elemta.mail.address import parse_address, parse_domain
from elemta.mail.errors import AddressError
from elemta.mail.rate import Rate

_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)
_FIELD = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to listen or to connect: an IP address and a port, or the path of a unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def is_unix(self) -> bool:
        return bool(self.path)

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Kind:
    """Says of a type of setting what to call it in the documentation, and how to show a value."""

    name: str
    show: Callable[..., str] = str


def parse_endpoint(value: object) -> Endpoint:
    """Read "127.0.0.1:25", "[::1]:25" or "unix:/path"."""
    if isinstance(value, Endpoint):
        return value
    text = _text(value)
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if path.startswith("/") and "\0" not in path:
            return Endpoint(path=path)
        raise ValueError('a socket needs an absolute path, such as "unix:/run/elemta/lmtp"')
    host, colon, port = text.rpartition(":")
    if colon and _PORT.fullmatch(port) and int(port) < 65536:
        bracketed = host.startswith("[") and host.endswith("]")
        address = _ip_or_none(host[1:-1] if bracketed else host)
        if address is not None and (":" in address) == bracketed:
            return Endpoint(address, int(port))
    raise ValueError('an IP address and a port are expected, such as "127.0.0.1:25" or "[::1]:25"')


def parse_listen(value: object) -> str:
    """Read an endpoint to its normal form as text."""
    return str(parse_endpoint(value))


def parse_endpoint_or_none(value: object) -> Endpoint | None:
    """Read as `parse_endpoint`, without sockets; "" is None."""
    if value is None or value == "":
        return None
    endpoint = parse_endpoint(value)
    if endpoint.is_unix:
        raise ValueError("a unix socket cannot be used here")
    return endpoint


def parse_nameserver(value: object) -> Endpoint:
    """Read an IP address with or without a port."""
    if isinstance(value, Endpoint):
        return value
    text = _text(value)
    address = _ip_or_none(text.removeprefix("[").removesuffix("]"))
    if address is not None:
        return Endpoint(address, 53)
    try:
        endpoint = parse_endpoint(text)
    except ValueError:
        endpoint = Endpoint(path=text)
    if endpoint.is_unix:
        raise ValueError('an IP address is expected, such as "192.0.2.53" or "127.0.0.1:5353"')
    return endpoint


def parse_network(value: object) -> IPv4Network | IPv6Network:
    """Read a network in CIDR form; an address alone is a network of one."""
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    text = _text(value)
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError('a network is expected, such as "192.0.2.0/24" or "::1/128"') from None
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped is not None:
        raise ValueError("write IPv4 networks as such, not within ::ffff:0:0/96")
    if "/" in text and ip_address(text.partition("/")[0]) != network.network_address:
        raise ValueError(f'bits of the host are set; the network is "{network}"')
    return network


def parse_domain_name(value: object) -> str:
    """Read a domain to its normal form: lower-case A-labels."""
    text = _text(value)
    if text == "*":
        raise ValueError("one domain is expected, not all of them")
    try:
        return parse_domain(text)
    except AddressError as error:
        raise ValueError(f'a domain is expected, such as "example.test": {error}') from None


def parse_pattern(value: object) -> str:
    """Read a pattern of domains: "*", "example.test" or "*.example.test"."""
    text = _text(value)
    if text == "*":
        return text
    try:
        if text.startswith("*."):
            return f"*.{parse_domain(text[2:])}"
        return parse_domain(text)
    except AddressError as error:
        raise ValueError(f'"*", "example.test" or "*.example.test" is expected: {error}') from None


def parse_sender_pattern(value: object) -> str:
    """Read a pattern of senders: one of domains, a whole address, or "<>" for the null sender."""
    text = _text(value)
    if text == "<>":
        return text
    if "@" not in text:
        return parse_pattern(text)
    try:
        return str(parse_address(text))
    except AddressError as error:
        raise ValueError(f"an address is expected: {error}") from None


def parse_host(value: object) -> str:
    """Read the name or IP address of a host to connect to."""
    text = _text(value)
    if text.startswith("unix:"):
        raise ValueError('for a unix socket set path = "/..." instead of host')
    address = _ip_or_none(text.removeprefix("[").removesuffix("]"))
    if address is not None:
        return address
    try:
        return parse_domain(text)
    except AddressError as error:
        raise ValueError(f"a host name or IP address is expected: {error}") from None


def parse_folder(value: object, info: ValidationInfo) -> Path:
    """Read a path; a relative one begins at the folder of the configuration file."""
    text = str(value) if isinstance(value, Path) else _text(value)
    if not text or "\0" in text:
        raise ValueError("a path is expected")
    return Path(_folder(info), text)


def parse_file(value: object, info: ValidationInfo) -> str:
    """Read as `parse_folder`; "" is no file."""
    return str(parse_folder(value, info)) if value != "" else ""


def show_folder(folder: Path) -> str:
    """Write a path so that it is seen to be one."""
    return str(folder) if folder.is_absolute() else f"./{folder}"


def parse_path_template(value: object, info: ValidationInfo) -> str:
    """Read a path with `{domain}` and `{local}` in it, relative as for `parse_folder`."""
    text = _text(value).removeprefix("unix:")
    if not text or "\0" in text:
        raise ValueError("a path is expected")
    for name in _FIELD.findall(text):
        if name not in {"domain", "local"}:
            raise ValueError(f"only {{domain}} and {{local}} are filled in, not {{{name}}}")
    if set(_FIELD.sub("", text)) & set("{}"):
        raise ValueError("a brace without its partner")
    return str(Path(_folder(info), text))


def parse_workers(value: object) -> int | str:
    """Read a number of processes, or "auto"."""
    if value == "auto":
        return "auto"
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 256:
        return value
    raise ValueError('a number from 1 to 256 or "auto" is expected')


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("text in quotes is expected")  # noqa: TRY004 - pydantic collects ValueErrors
    return value.strip()


def _ip_or_none(text: str) -> str | None:
    try:
        return str(ip_address(text)) if "%" not in text else None
    except ValueError:
        return None


def _folder(info: ValidationInfo) -> Path:
    context = info.context
    return Path(context["folder"] if isinstance(context, dict) else ".").absolute()


Whole = Annotated[int, Field(strict=True), Kind("number")]
Fraction = Annotated[float, Field(strict=True), Kind("number")]
Switch = Annotated[bool, Field(strict=True), Kind("true or false")]
Size = Annotated[int, BeforeValidator(parse_size), Kind("size", format_size)]
Duration = Annotated[float, BeforeValidator(parse_duration), Kind("duration", format_duration)]
RateLimit = Annotated[Rate, PlainValidator(parse_rate), Kind("rate", format_rate)]
Domain = Annotated[str, BeforeValidator(parse_domain_name), Kind("domain")]
Pattern = Annotated[str, BeforeValidator(parse_pattern), Kind("pattern")]
SenderPattern = Annotated[str, BeforeValidator(parse_sender_pattern), Kind("sender pattern")]
Network = Annotated[IPv4Network | IPv6Network, PlainValidator(parse_network), Kind("network")]
Listen = Annotated[str, BeforeValidator(parse_listen), Kind("address and port")]
ListenOrNone = Annotated[
    Endpoint | None, PlainValidator(parse_endpoint_or_none), Kind("address and port")
]
Nameserver = Annotated[Endpoint, PlainValidator(parse_nameserver), Kind("IP address")]
Host = Annotated[str, BeforeValidator(parse_host), Kind("host")]
Folder = Annotated[Path, BeforeValidator(parse_folder), Kind("path", show_folder)]
File = Annotated[str, BeforeValidator(parse_file), Kind("path")]
PathTemplate = Annotated[str, BeforeValidator(parse_path_template), Kind("path")]
Workers = Annotated[int | str, PlainValidator(parse_workers), Kind('number or "auto"')]
