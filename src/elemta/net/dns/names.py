"""Names as their labels, and as text that can be split at its dots.

Raises:
    ValueError: A name that no zone can hold.
"""

import dns.exception
import dns.name

Labels = tuple[bytes, ...]
"""A name: its labels in small letters, without that of the root."""

_PLAIN = bytes(octet for octet in range(0x21, 0x7F) if octet not in b".\\")


def to_labels(name: str) -> Labels:
    """Give the labels of a name; a final dot may be there, "." is the root."""
    if name == ".":
        return ()
    try:
        labels = tuple(name.removesuffix(".").encode("ascii").lower().split(b"."))
        dns.name.Name((*labels, b""))
    except UnicodeEncodeError as error:
        raise ValueError("not in A-labels") from error
    except dns.exception.DNSException as error:
        raise ValueError(str(error)) from error
    return labels


def to_text(labels: Labels) -> str:
    r"""Give a name as text without a final dot, "." for the root.

    Octets that are no part of any host's name, and dots within a label, become `\ddd`: the text
    has a dot between labels, and nowhere else, which dnspython's has.
    """
    return b".".join(map(_escape, labels)).decode("ascii") or "."


def _escape(label: bytes) -> bytes:
    if not label.translate(None, _PLAIN):
        return label
    return b"".join(b"%c" % each if each in _PLAIN else b"\\%03d" % each for each in label)


def labels_of(name: dns.name.Name) -> Labels:
    """Give the labels of an absolute name."""
    return tuple(map(bytes.lower, name.labels[:-1]))
