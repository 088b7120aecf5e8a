"""Header fields in the two canonical forms of RFC 6376 §3.4: "simple" as they are, "relaxed"."""

SIMPLE = "simple"
RELAXED = "relaxed"

_SPACE = b" \t\r\n"


def canonical_field(octets: bytes, how: str) -> bytes:
    """Give a field as it is hashed, CRLF included.

    Args:
        octets: Name, colon and value with all folds; the CRLF at the end may be missing.
        how: "simple" or "relaxed".
    """
    if how == SIMPLE:
        return octets if octets.endswith(b"\r\n") else octets + b"\r\n"
    name, _, value = octets.partition(b":")
    value = value.replace(b"\r\n", b"").replace(b"\t", b" ")
    value = b" ".join(filter(None, value.split(b" "))) if b"  " in value else value.strip(b" ")
    return name.rstrip(b" \t").lower() + b":" + value + b"\r\n"


def blank_signature(octets: bytes) -> bytes:
    """Empty the `b=` of a signature field, with all space around its value (RFC 6376 §3.7)."""
    name, colon, value = octets.partition(b":")
    parts = value.split(b";")
    for number, part in enumerate(parts):
        tag, equals, _ = part.partition(b"=")
        if equals and tag.strip(_SPACE) == b"b":
            parts[number] = tag + equals
            break
    return name + colon + b";".join(parts)


def canonical_signature(octets: bytes, how: str) -> bytes:
    """Give a signature field as it is hashed in itself: `b=` empty, and no CRLF at the end."""
    return canonical_field(blank_signature(octets), how).removesuffix(b"\r\n")
