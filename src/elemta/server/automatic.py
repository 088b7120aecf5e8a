"""Tells mail that no person waits for word of."""

from elemta.mail.headers import find_field


def is_automatic(section: bytes, lowered: bytes) -> bool:
    """Whether no person waits for word of this message (RFC 3834 §2, RFC 2919)."""
    if b"list-id" in lowered and find_field(section, b"list-id") is not None:
        return True
    if b"auto-submitted" in lowered:
        value = find_field(section, b"auto-submitted")
        if value is not None and value.strip().lower() != b"no":
            return True
    if b"precedence" in lowered:
        value = find_field(section, b"precedence")
        return value is not None and value.strip().lower() in {b"bulk", b"list", b"junk"}
    return False
