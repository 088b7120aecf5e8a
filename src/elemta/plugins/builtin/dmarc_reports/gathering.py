"""Notices what DMARC says of each message, whatever becomes of it, and counts what is alike.

Plugins are asked no more about a message that is refused, so a message is remembered when its
header section is there. Its row is made when it is about to be queued, or, if that does not come,
when the next message of the session begins, the session ends, or it is time to write down.

A message counts as one of people unless it says that a program has sent it, has the null sender,
or brings a report. The others are in reports, too, but cause none: else two receivers would
report to each other on their reports, for ever.
"""

import re
from dataclasses import dataclass

from elemta.mailauth.reports import observe
from elemta.plugins import MessageContext, MessageInfo
from elemta.plugins.builtin.dmarc_reports.store import Seen, Tally

MAX_WAITING = 20_000  # rows in memory
MAX_UNDER_WAY = 50_000  # messages

_by_program = re.compile(
    rb"^(?:auto-submitted[ \t]*:(?![ \t]*no\b)|subject[ \t]*:[ \t]*report domain:)",
    re.IGNORECASE | re.MULTILINE,
).search


@dataclass(slots=True)
class _UnderWay:
    """A message that has not been counted yet."""

    message: MessageInfo
    source_ip: str
    envelope_from: str
    is_by_program: bool


class Gatherer:
    """Counts messages in memory.

    Attributes:
        lost: Messages that there was no room for.
    """

    def __init__(self, interval: int) -> None:
        self.lost = 0
        self._interval = interval
        self._under_way: dict[str, _UnderWay] = {}
        self._seen: dict[Seen, Tally] = {}

    def begin(self, ctx: MessageContext, now: float) -> None:
        """Remember a message; what the session brought before is at its end."""
        session = ctx.session
        self.end(session.session_id, now)
        if not session.client_ip or session.username:
            return
        if len(self._under_way) >= MAX_UNDER_WAY:
            self.lost += 1
            return
        sender = ctx.sender
        self._under_way[session.session_id] = _UnderWay(
            ctx.message,
            session.client_ip,
            sender.domain if sender is not None else "",
            sender is None or _by_program(ctx.headers.raw) is not None,
        )

    def end(self, session_id: str, now: float) -> None:
        """Count the message of a session, if it has one that was judged."""
        under_way = self._under_way.pop(session_id, None)
        if under_way is not None:
            self._count(under_way, now)

    def take(self, now: float) -> dict[Seen, Tally]:
        """Give what has been counted, and begin anew; messages that are judged are among it."""
        judged = [
            session_id
            for session_id, each in self._under_way.items()
            if each.message.authentication.dmarc is not None
        ]
        for session_id in judged:
            self.end(session_id, now)
        seen, self._seen = self._seen, {}
        return seen

    def put_back(self, seen: dict[Seen, Tally]) -> None:
        """Take again what could not be written down."""
        for each, tally in seen.items():
            self._add(each, tally)

    def _count(self, under_way: _UnderWay, now: float) -> None:
        about = under_way.message.authentication
        record = about.dmarc_record
        if about.dmarc is None or record is None or not record.rua:
            return  # nobody wants to know
        row = observe(about, under_way.source_ip, under_way.envelope_from)
        if row is None:
            return
        begin = int(now) - int(now) % self._interval
        seen = Seen(begin, about.dmarc.policy_domain, about.dmarc.discovery, row)
        self._add(seen, Tally(1, 0 if under_way.is_by_program else 1))

    def _add(self, seen: Seen, more: Tally) -> None:
        tally = self._seen.get(seen)
        if tally is None:
            if len(self._seen) >= MAX_WAITING:
                self.lost += more.messages
                return
            tally = self._seen[seen] = Tally()
        tally.messages += more.messages
        tally.people += more.people
