"""What makes two attempts the same: network, sender and recipient, in a form that stays.

Of a client its network counts: big senders try again from another address of theirs.

Mailing lists and servers that sign bounce addresses write another sender for each message, or for
each attempt (VERP, BATV, SRS). What changes in it is left out.
"""

import re
from functools import lru_cache
from hashlib import blake2b

from elemta.plugins import Address

_KNOWN = 16_384  # senders that need not be worked out again, about 3 MB

_BATV = re.compile(r"(?:ms)?prvs\d?=[^=/]*[=/]")  # prvs=TAG=user, draft-levine-smtp-batv §3
_SRS = re.compile(r"srs[01][=+-].*", re.DOTALL)
_EXTENSION = re.compile(r"(?<=.)\+.*", re.DOTALL)
_VERP = re.compile(r"[^-+.=_]*=.*", re.DOTALL)  # bounce-17-user=example.test
_VARYING = re.compile(r"(?<![^\W_])(?=[a-z]*[0-9])[0-9a-f]{8,}(?![^\W_])|[0-9]+")


@lru_cache(_KNOWN)
def steady(sender: Address | None) -> str:
    """Give what stays of a sender from message to message; "" for the null sender."""
    if sender is None:
        return ""
    local, _, domain = sender.key.rpartition("@")
    local = _BATV.sub("", local, count=1)
    local = _SRS.sub("srs", local)
    local = _EXTENSION.sub("", local)
    local = _VERP.sub("=", local)
    return f"{_VARYING.sub('#', local)}@{domain}"


def triplet_of(network: str, sender: str, recipient: Address) -> str:
    """Hash a triplet: keys are short, and tell no names."""
    text = f"{network}\n{sender}\n{recipient.key}"
    return blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()
