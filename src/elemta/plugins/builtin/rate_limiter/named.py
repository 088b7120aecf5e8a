"""Parts of keys as an operator names them, in the form in which they are counted."""

from collections.abc import Callable, Mapping
from typing import get_args

from elemta.mail.address import parse_address, parse_domain
from elemta.mail.errors import AddressError, PluginError
from elemta.net.addresses import network_of, parse_ip
from elemta.plugins.builtin.rate_limiter.keys import write
from elemta.plugins.builtin.rate_limiter.settings import Part

_FORMS: Mapping[str, Callable[[str], str]] = {
    "asn": lambda number: number.upper().removeprefix("AS"),
    "country": str.upper,
    "helo": str.lower,
    "tenant": str.lower,
}


def complete(words: Mapping[str, str], ipv4_prefix: int, ipv6_prefix: int) -> dict[str, str]:
    """Give all parts that follow from some: the network of an address, the domain of a sender.

    Raises:
        PluginError: A part is not what its name says.
    """
    parts = {name: words[name] for name in get_args(Part) if words.get(name)}
    try:
        for name in ("network", "address"):
            if name in parts:
                address = parts[name].partition("/")[0]
                parts["network"] = network_of(address, ipv4_prefix, ipv6_prefix)
        if "address" in parts:
            parts["address"] = str(parse_ip(parts["address"]))
        for name in ("sender", "recipient"):
            if name in parts:
                mailbox = parse_address(parts[name])
                parts[name] = write(mailbox)
                parts.setdefault(f"{name}_domain", mailbox.domain)
            if f"{name}_domain" in parts:
                parts[f"{name}_domain"] = parse_domain(parts[f"{name}_domain"])
    except (ValueError, AddressError) as error:
        raise PluginError(f"not a part of a key: {error}") from None
    return {name: _FORMS.get(name, str)(value) for name, value in parts.items()}
