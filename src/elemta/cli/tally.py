"""Recipients counted by what they have in common and by age: where the queue is stuck."""

import re
from collections.abc import Callable, Mapping
from itertools import pairwise

from elemta.cli.output import Table, put_json
from elemta.cli.queue_text import mailbox
from elemta.mail.message import Recipient
from elemta.queue.store import Stored

AGES = (5, 10, 20, 40, 80, 160, 320, 640, 1280)  # minutes; each column doubles the wait

_REPLY_CLASS = re.compile(r"[245][0-9]{2}(?: [245]\.[0-9]{1,3}\.[0-9]{1,3})?", re.ASCII)


def _reply_class(_stored: Stored, recipient: Recipient) -> str:
    """What kind of answer the last attempt had: the codes, without their words."""
    found = _REPLY_CLASS.match(recipient.reply)
    return found[0] if found else recipient.reply[:60] or "none yet"


GROUPS: Mapping[str, Callable[[Stored, Recipient], str]] = {
    "domain": lambda _, recipient: recipient.address.domain,
    "sender": lambda stored, _: mailbox(stored.message.sender),
    "reply": _reply_class,
    "state": lambda _, recipient: recipient.state.value,
}


class Tally:
    """Counts recipients by group and age."""

    def __init__(self, by: str, now: float) -> None:
        self.by = by
        self.messages = 0
        self.groups: dict[str, list[int]] = {}
        self._key = GROUPS[by]
        self._now = now

    def add(self, stored: Stored) -> None:
        """Count the recipients of a message."""
        self.messages += 1
        minutes = (self._now - stored.message.received_at) / 60
        column = sum(minutes >= limit for limit in AGES)
        for recipient in stored.recipients:
            counts = self.groups.setdefault(self._key(stored, recipient), [0] * (len(AGES) + 1))
            counts[column] += 1

    @property
    def recipients(self) -> int:
        return sum(sum(counts) for counts in self.groups.values())

    def greatest(self, top: int) -> list[tuple[str, list[int]]]:
        """The groups with the most recipients."""
        return sorted(self.groups.items(), key=lambda group: (-sum(group[1]), group[0]))[:top]


def put_tally(tally: Tally, top: int, *, as_json: bool) -> None:
    """Print it: one row a group, one column an age."""
    names = [f"<{AGES[0]}m", *(f"{low}-{high}m" for low, high in pairwise(AGES)), f">{AGES[-1]}m"]
    if as_json:
        groups = [
            {
                tally.by: name,
                "recipients": sum(counts),
                "ages": dict(zip(names, counts, strict=True)),
            }
            for name, counts in tally.greatest(top)
        ]
        total = {"messages": tally.messages, "recipients": tally.recipients}
        put_json({**total, "by": tally.by, "groups": groups})
        return
    table = Table(tally.by.upper(), "TOTAL", *names)
    for name, counts in tally.greatest(top):
        table.add(name, str(sum(counts)), *(str(count) if count else "." for count in counts))
    total_counts = [sum(column) for column in zip(*tally.groups.values(), strict=True)]
    if total_counts:
        table.add("all", str(tally.recipients), *(str(c) if c else "." for c in total_counts))
    table.close()
