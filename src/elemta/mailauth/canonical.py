"""Header fields in the two canonical forms of RFC 6376 §3.4: "simple" as they are, "relaxed"."""

import re

SIMPLE = "simple"
RELAXED = "relaxed"

_SIGNATURE = re.compile(rb"((?:^|;)[ \t\r\n]*b[ \t\r\n]*=)[^;]*")


def canonical_field(octets: bytes, how: str) -> bytes:
    """Give a field as it is hashed, CRLF included.

    Args:
        octets: Name, colon and value with all folds; the CRLF at the end may be missing.
        how: "simple" or "relaxed".
    """
    if how == SIMPLE:
        return octets if octets.endswith(b"\r\n") else octets + b"\r\n"
    name, _, value = octets.partition(b":")
    return b"%b:%b\r\n" % (name.rstrip(b" \t").lower(), _relax(value))


def blank_signature(octets: bytes) -> bytes:
    """Empty the `b=` of a signature field, with all space around its value (RFC 6376 §3.7)."""
    name, colon, value = octets.partition(b":")
    return name + colon + _SIGNATURE.sub(rb"\1", value, count=1)


def canonical_signature(octets: bytes, how: str) -> bytes:
    """Give a signature field as it is hashed in itself: `b=` empty, and no CRLF at the end."""
    return canonical_field(blank_signature(octets), how).removesuffix(b"\r\n")


def _relax(value: bytes) -> bytes:
    value = value.replace(b"\r\n", b"").replace(b"\t", b" ")
    if b"  " in value:
        return b" ".join(filter(None, value.split(b" ")))
    return value.strip(b" ")
