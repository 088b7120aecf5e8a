"""What a domain publishes about mail in its name: DMARC policy records (RFC 9989 §4.7, §4.8).

A record begins with `v=DMARC1`; anything else is none. In the rest, what is not understood is
passed over: unknown tags, values out of the grammar, a tag that comes again. Only a broken policy
is more than that (RFC 9989 §4.10.1): where reports are asked for it counts as "none", so that the
owner hears of it, and otherwise the record cannot be used. Records are remembered by their text.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from elemta.mail.address import Address, parse_address
from elemta.mail.errors import AddressError, ElemtaError

RECORD_LIMIT = 4096  # octets: ten times what is in use; the DNS could carry 64 KiB
URI_LIMIT = 10  # addresses for reports that count, the first ones
_KNOWN_RECORDS = 2048  # at 4 KiB at most: 8 MiB in the worst case
_PROBLEM_LIMIT = 8

POLICIES = ("none", "quarantine", "reject")  # from weak to strong

_is_versioned = re.compile(rb"[vV][ \t]*=[ \t]*DMARC1[ \t]*(?:;|\Z)").match
_TAGS = frozenset({"p", "sp", "np", "t", "psd", "adkim", "aspf", "fo", "rua", "ruf"})
_OLD_TAGS = frozenset({"pct", "rf", "ri"})  # RFC 9989 appendix C.5.2
_FLAGS = {"t": "ny", "psd": "uny", "adkim": "rs", "aspf": "rs"}  # the default first
_is_uri = re.compile(
    r"[A-Za-z][A-Za-z0-9+.\-]*:(?:[A-Za-z0-9._~:/?#\[\]@$&'()*+=\-]|%[0-9A-Fa-f]{2})+"
).fullmatch
_split_size = re.compile(r"([^!]+)!(\d{1,12})([kmgtKMGT]?)").fullmatch
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


class RecordError(ElemtaError, ValueError):
    """A text is no DMARC record."""


@dataclass(frozen=True, slots=True)
class ReportUri:
    """Where a report is wanted.

    Attributes:
        uri: Without the size.
        address: Of a "mailto:"; None for schemes that nobody here sends to.
        size_limit: The octets of a report that were accepted before RFC 9989, which does away
            with it; None for no such wish.
    """

    uri: str
    address: Address | None
    size_limit: int | None = None


@dataclass(frozen=True, slots=True)
class DmarcRecord:
    """A policy record; the attributes have the names of its tags.

    Attributes:
        p: "none", "quarantine" or "reject".
        sp: For subdomains that exist, "" where it is not given.
        np: For subdomains that do not, "" where it is not given.
        t: The domain only tries.
        psd: "y" a public suffix, "n" an organization, "u" neither is said.
        adkim: "r" or "s": how alike a signing domain has to be.
        aspf: The same of the domain in MAIL.
        fo: When failure reports are wanted: "0", "1:d:s"...
        rua: Where aggregate reports go, at most 10.
        ruf: Where failure reports go, at most 10.
        error: Why there can be no DMARC with this record, "" where there can.
        problems: What was passed over in it, for its owner; at most 8.
    """

    p: str = "none"
    sp: str = ""
    np: str = ""
    t: bool = False
    psd: str = "u"
    adkim: str = "r"
    aspf: str = "r"
    fo: str = "0"
    rua: tuple[ReportUri, ...] = ()
    ruf: tuple[ReportUri, ...] = ()
    error: str = ""
    problems: tuple[str, ...] = ()

    def policy_below(self, *, exists: bool) -> str:
        """Give what is asked for a subdomain that has no record of its own."""
        return (not exists and self.np) or self.sp or self.p


def parse_record(text: bytes) -> DmarcRecord:
    """Read a record, the strings of a TXT record joined.

    Raises:
        RecordError: It is of something else than DMARC, or of another version.
    """
    record = find_record((text,))
    if record is None:
        raise RecordError("the text does not begin with v=DMARC1")
    return record


def find_record(texts: Sequence[bytes]) -> DmarcRecord | None:
    """Find the record among the TXT records of a name; several count as none (RFC 9989 §4.10)."""
    found = [text for text in texts if _is_versioned(text)]
    if len(found) != 1:
        return None
    text = found[0]
    if len(text) > RECORD_LIMIT:
        return DmarcRecord(error="the record is too long")
    return _read(text)


@lru_cache(_KNOWN_RECORDS)
def _read(text: bytes) -> DmarcRecord:
    problems: list[str] = []
    tags = _read_tags(text.decode("latin-1"), problems)
    policies = {name: tags[name].lower() for name in ("p", "sp", "np") if name in tags}
    flags = {name: _read_flag(tags, name, problems) for name in _FLAGS}
    rua = _read_uris(tags, "rua", problems)
    ruf = _read_uris(tags, "ruf", problems)
    error = ""
    broken = [name for name, policy in policies.items() if policy not in POLICIES]
    if broken:
        problem = f"{broken[0]}= is no policy"
        problems.insert(0, problem)
        error = "" if rua else problem
        policies = {}
    return DmarcRecord(
        p=policies.get("p", "none"),
        sp=policies.get("sp", ""),
        np=policies.get("np", ""),
        t=flags["t"] == "y",
        psd=flags["psd"],
        adkim=flags["adkim"],
        aspf=flags["aspf"],
        fo=_read_options(tags, problems) if ruf else "0",
        rua=rua,
        ruf=ruf,
        error=error,
        problems=tuple(problems[:_PROBLEM_LIMIT]),
    )


def _read_tags(text: str, problems: list[str]) -> dict[str, str]:
    """Give name (lower case) and value of each tag that counts, the first of a name."""
    tags: dict[str, str] = {}
    for part in text.split(";")[1:]:
        name, equals, value = part.partition("=")
        name, value = name.strip(" \t").lower(), value.strip(" \t")
        if name in _OLD_TAGS:
            problems.append(f"{name}= has no meaning any more")
        elif name in tags:
            problems.append(f"{name}= comes again")
        elif name in _TAGS and equals:
            tags[name] = value if value.isascii() and value.isprintable() else ""
        elif not equals and name:
            problems.append("there is something without a value")
    return tags


def _read_flag(tags: dict[str, str], name: str, problems: list[str]) -> str:
    allowed = _FLAGS[name]
    value = tags.get(name, allowed[0]).lower()
    if len(value) == 1 and value in allowed:
        return value
    problems.append(f"{name}= has no value that is known")
    return allowed[0]


def _read_options(tags: dict[str, str], problems: list[str]) -> str:
    value = tags.get("fo", "0").lower()
    options = [option.strip(" \t") for option in value.split(":")]
    is_known = len(options) <= 3 and {*options} <= {"0", "1", "d", "s"}
    if is_known and len({*options}) == len(options) and not {"0", "1"} <= {*options}:
        return ":".join(options)
    problems.append("fo= has no value that is known")
    return "0"


def _read_uris(tags: dict[str, str], name: str, problems: list[str]) -> tuple[ReportUri, ...]:
    found: list[ReportUri] = []
    if name not in tags:
        return ()
    for text in tags[name].split(","):
        uri = _read_uri(text.strip(" \t"))
        if uri is None:
            problems.append(f"{name}= has something that is no URI")
        elif uri not in found:
            found.append(uri)
        if len(found) == URI_LIMIT or len(problems) > _PROBLEM_LIMIT:
            break
    return tuple(found)


def _read_uri(text: str) -> ReportUri | None:
    size: int | None = None
    sized = _split_size(text)
    if sized is not None:
        text, digits, unit = sized.groups()
        size = int(digits) * _UNITS[unit.lower()]
    if not _is_uri(text):
        return None
    scheme, _, rest = text.partition(":")
    if scheme.lower() != "mailto":
        return ReportUri(text, None, size)
    try:
        address = parse_address(unquote_to_bytes(rest.partition("?")[0]).decode())
    except (AddressError, UnicodeDecodeError):
        return None
    # mail to a bare "postmaster" or to an address literal would end where its reader is
    if not address.domain or address.domain.startswith("["):
        return None
    return ReportUri(text, address, size)
