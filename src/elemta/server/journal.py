"""What one worker has decided lately, on the way to where it is written down: see `observe.why`.

Every refusal gets an id here, and the client is told it. What is decided again within a second,
for the same client and in the same words, is counted and told the same id: who sends the same a
thousand times a second leaves one record. Where too many different ones come at once, those that
the same plugin or rule has refused share one.

Nothing here waits or raises; all is in memory, and bounded.
"""

import secrets
from collections.abc import Callable

import msgspec

from elemta.mail.clock import Clock
from elemta.mail.reply import Reply, clean_text
from elemta.mail.why import Mail, Ruling, Who, Why
from elemta.mailauth import Authentication
from elemta.plugins.contexts import SessionInfo

MAX_REFUSED = 10_000  # records of refusals that wait; beyond them they are told apart no more
MAX_WAITING = 20_000  # records in all; beyond them mail that is taken leaves none
MAX_KEPT = 5_000  # of these once the disk has not taken them: that can last
MAX_SESSIONS = 10  # named in one record beside the first
MAX_RECIPIENTS = 20  # likewise
MAX_NOTES = 2000  # characters of what plugins have left with a message
MAX_NOTE = 1000  # characters
ALIKE_FOR = 1.0  # seconds
MANY = "of many clients: there were too many refusals at once to tell them apart"
ACCEPTED = Ruling("accept", "message")
HELD = Ruling("hold", "message", note="its route holds it")
SILENT = Reply(421, "")
"""In place of a reply, where a connection ends without one."""


class Case(msgspec.Struct, frozen=True):
    """What is to be decided.

    Attributes:
        stage: When: "connect", "mail", "rcpt", "message" and so on.
        plugin: Which decides, "" where the server does; `note` is for the operator.
        info: What plugins know of the session.
        rule: By which the server decides; "" is the one behind the reply.
    """

    who: Who
    mail: Mail
    stage: str
    plugin: str = ""
    note: str = ""
    info: SessionInfo | None = None
    rule: str = ""


class Journal:
    """Gathers records; `take` gives them away.

    Args:
        clock: Says when something was decided.
        find_rule: Names the rule of the server behind a reply.

    Attributes:
        lost: Records for which there was no room, ever.
    """

    def __init__(self, clock: Clock, find_rule: Callable[[Reply], str]) -> None:
        self._clock = clock
        self._find_rule = find_rule
        self._records: list[Why] = []
        self._refused = 0
        self._seen: dict[object, tuple[Why, Reply]] = {}
        self._seen_at = 0.0
        self._held: dict[str, Case] = {}
        self.lost = 0

    def refuse(self, reply: Reply, case: Case) -> Reply:
        """Write a refusal down; gives the reply with its id."""
        now = self._clock.monotonic()
        if now - self._seen_at >= ALIKE_FOR:
            self._seen.clear()
            self._seen_at = now
        who, mail = case.who, case.mail
        key: object
        key = who.address, case.stage, case.plugin, reply, reply.id, _alike(mail)
        seen = self._seen.get(key)
        if seen is None and self._refused >= MAX_REFUSED:
            key = case.stage, case.plugin, case.rule or self._find_rule(reply)
            many = Who(listener=who.listener)
            case = msgspec.structs.replace(case, who=many, mail=Mail(), note=MANY, info=None)
            seen = self._seen.get(key)
        if seen is None:
            why = self._record(reply, case)
            told = Reply(reply.code, reply.text, reply.enhanced, why.id)
            self._seen[key] = why, told
            return told
        why, told = seen
        why.count += 1
        if who.session_id not in (why.who.session_id, *why.sessions[-MAX_SESSIONS:]):
            why.sessions = [*why.sessions, who.session_id][:MAX_SESSIONS]
        return told if told == reply else Reply(reply.code, reply.text, reply.enhanced, why.id)

    def decide(self, case: Case, ruling: Ruling, ms: float = 0.0) -> None:
        """Write down what is no refusal: it is found by its queue id."""
        if ruling is ACCEPTED and case.mail.queue_id in self._held:
            del self._held[case.mail.queue_id]
            ruling = HELD
        if len(self._records) >= MAX_WAITING:
            self.lost += 1
            return
        why = Why(case.mail.queue_id, self._clock.now(), case.who, case.mail, ruling, ms=ms)
        if case.info is not None:
            _add_facts(why, case.info)
        self._records.append(why)

    def hold(self, case: Case) -> None:
        """Take note that a message begins on hold; it is about to be accepted, which says so."""
        self._held[case.mail.queue_id] = case

    def take(self) -> list[Why]:
        """Give what has gathered; nothing of it changes any more."""
        unaccepted, self._held = self._held, {}
        for case in unaccepted.values():
            self.decide(case, HELD)
        records, self._records = self._records, []
        self._refused = 0
        self._seen.clear()
        return records

    def give_back(self, records: list[Why]) -> None:
        """Take what could not be written, to be given again; without room the oldest go."""
        room = max(0, min(MAX_KEPT, MAX_WAITING) - len(self._records))
        self.lost += max(0, len(records) - room)
        self._records[:0] = records[len(records) - min(room, len(records)) :]
        self._refused = len(self._records)

    def _record(self, reply: Reply, case: Case) -> Why:
        said = "" if reply is SILENT else str(Reply(reply.code, reply.text, reply.enhanced))
        rule = "" if case.plugin else case.rule or self._find_rule(reply)
        outcome = "reject" if reply.is_permanent else "defer"
        note = clean_text(case.note, MAX_NOTE)
        ruling = Ruling(outcome, case.stage, said, case.plugin, rule, note)
        why = Why(reply.id or secrets.token_hex(4), self._clock.now(), case.who, case.mail, ruling)
        if case.info is not None:
            _add_facts(why, case.info)
        self._records.append(why)
        self._refused += 1
        return why


def _alike(mail: Mail) -> tuple[object, ...]:
    return mail.sender, mail.recipients, mail.message_id  # every attempt has another queue id


def _add_facts(why: Why, info: SessionInfo) -> None:
    """Add what plugins have said, and what they have found out."""
    why.heard = tuple(info.heard)
    room = MAX_NOTES
    for name, note in (info.gather_notes() or {}).items():
        room -= len(name) + len(note)
        if room > 0:
            why.notes[name] = note
    authentication = info.find_authentication()
    if authentication is not None:
        why.authentication = in_short(authentication)


def in_short(found: Authentication) -> str:
    """Write what checks have found: "spf=pass dkim=pass (example.org) dmarc=pass"."""
    words = [
        f"{name}={verdict.status}"
        for name, verdict in (
            ("iprev", found.iprev),
            ("spf", found.spf),
            ("dmarc", found.dmarc),
            ("arc", found.arc),
        )
        if verdict is not None
    ]
    words += [f"dkim={each.status} ({each.domain})" for each in found.dkim[:5]]
    return clean_text(" ".join(words), MAX_NOTE)
