"""One limit as it is asked: its key, its rate, and how often it has been asked and has refused."""

from collections.abc import Collection, Mapping
from typing import Any

from elemta.mail.rate import Rate
from elemta.plugins import Address
from elemta.plugins.builtin.rate_limiter.keys import Read, write
from elemta.plugins.builtin.rate_limiter.settings import RECIPIENT_PARTS, LimitSettings, Part

_JOINT = "\n"  # in no command line, so in no part of a key


class Limit:
    """A limit.

    Args:
        settings: What the operator wants.
        reads: What reads the parts of keys.
        nodes: How many servers share the store.

    Attributes:
        rate, burst: What is allowed, and how much of it at once; 0 is all.
        local_rate, local_burst: What each server allows while the store is lost.
        asked, refused: How often, in this worker since it loaded the limit.
    """

    def __init__(self, settings: LimitSettings, reads: Mapping[Part, Read], nodes: int) -> None:
        self.settings = settings
        self.name = settings.name
        self.rate, self.burst = settings.parsed, settings.burst
        self.local_rate = _part_of(self.rate, nodes)
        self.local_burst = max(1, self.burst // nodes) if self.burst else 0
        self.asked = self.refused = 0
        self.hook = settings.hook
        self.is_shared = settings.store == "valkey"
        self.parts = (
            *(part for part in settings.by if part not in RECIPIENT_PARTS),
            *(part for part in settings.by if part in RECIPIENT_PARTS),
        )
        self.has_recipient = bool(RECIPIENT_PARTS.intersection(self.parts))
        self._has_sender = bool({"sender", "sender_domain"}.intersection(self.parts))
        self._reads = tuple(reads[part] for part in self.parts if part in reads)
        self._recipient_parts = tuple(part for part in self.parts if part in RECIPIENT_PARTS)

    def key(self, context: Any, recipient: Address | None) -> str:  # noqa: ANN401 - of any hook
        """Name whose the limit is; "" where a part is not known, and the limit does not hold."""
        key = self.name
        for read in self._reads:
            part = read(context)
            if not part:
                return ""
            key += _JOINT + part
        for name in self._recipient_parts:
            part = _recipient_part(name, recipient)
            if not part:
                return ""
            key += _JOINT + part
        return key

    def key_of(self, values: Mapping[str, str]) -> str:
        """Name it by parts that an operator has given; "" where one is missing."""
        found = [values.get(part, "") for part in self.parts]
        return _JOINT.join([self.name, *found]) if all(found) else ""

    def spares(self, context: Any, recipient: Address | None, domains: Collection[str]) -> bool:  # noqa: ANN401 - as above
        """Whether the domain of a sender or recipient is exempt, where the limit is about it."""
        sender = context.sender if self._has_sender else None
        if sender is not None and sender.domain in domains:
            return True
        return self.has_recipient and recipient is not None and recipient.domain in domains


def _recipient_part(name: Part, recipient: Address | None) -> str:
    if recipient is None:
        return ""
    return write(recipient) if name == "recipient" else recipient.domain


def _part_of(rate: Rate, nodes: int) -> Rate:
    """Divide a rate: of one that is less than one for each, the time grows."""
    count = max(1, rate.count // nodes)
    return Rate(count, rate.period * nodes * count / rate.count)
