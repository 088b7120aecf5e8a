"""Which domains a message leads to: the registered part of the hosts of URLs in its texts.

What is looked at is bounded, in time and number: of very many domains those at both ends of the
message count, for what is in between may be there to hide them. Addresses in place of names are
left out: most lists of domains do not know any.
"""

import contextlib
import html
import re
from collections.abc import Iterator
from urllib.parse import unquote

from elemta.mail.errors import AddressError
from elemta.mailauth.dmarc.discovery import registered_domain
from elemta.plugins import parse_domain
from elemta.plugins.builtin._mime import Budget, TooMuch, Unclear, decode_text, read_parts

MAX_TEXT = 1024 * 1024  # octets of text of a message
MAX_FOUND = 2000  # different hosts that are looked at

# a scheme and what may follow it up to the host, or a host that is written without one
_URL = re.compile(
    r"(?:(?:https?|ftp):[/\\]{1,4}|(?<=[\"'=])[/\\]{2}|(?<![\w.@/-])(?=www\.))([^\s/\\?#\"'<>()\[\]{}|^`,;]{4,300})",
    re.IGNORECASE,
)
_UNSEEN = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")


def find_domains(message: bytes, budget: Budget, most: int) -> list[str]:
    """Give the domains, no more than `most`; of what cannot be read, none."""
    found: dict[str, None] = {}
    for host in _find_hosts(message, budget):
        domain = _domain_of(host)
        if domain:
            found[domain] = None
        if len(found) >= MAX_FOUND:
            break
    domains = list(found)
    if len(domains) <= most:
        return domains
    last = most // 2
    return domains[: most - last] + domains[len(domains) - last :]


def _find_hosts(message: bytes, budget: Budget) -> Iterator[str]:
    left = MAX_TEXT
    with contextlib.suppress(TooMuch, Unclear):
        for part in read_parts(message, budget):
            if not part.type.startswith("text/"):
                continue
            with contextlib.suppress(Unclear):
                for octets in part.readings(message):
                    text = decode_text(octets[:left], part.charset)
                    left -= len(octets[:left])
                    if part.type == "text/html":
                        text = html.unescape(text)
                    yield from _URL.findall(_UNSEEN.sub("", text))


def _domain_of(host: str) -> str:
    """Give what is registered of a host as it stands in a URL; "" for an address, or no name."""
    name = unquote(host).rpartition("@")[2].partition(":")[0].rstrip(".")
    try:
        name = parse_domain(name)
    except AddressError:
        return ""
    last = name.rpartition(".")[2]
    if last == name or last.isdigit() or name.startswith("["):
        return ""
    return registered_domain(name) or ""
