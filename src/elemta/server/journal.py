"""What one worker has decided lately, on the way to where it is written down: see `observe.why`.

Every refusal gets an id here, and the client is told it. What is decided again within a second,
for the same client and in the same words, is counted and told the same id: who sends the same a
thousand times a second leaves one record. Where too many different ones come at once, those that
the same plugin or rule has refused share one.

Of mail that is taken, the usual case, each record is written as it comes: its octets lie behind one
another, and nothing else of it is kept. Other records can still change until they are given away.

Nothing here waits or raises; all is in memory, and bounded.
"""

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from elemta.mail.clock import Clock
from elemta.mail.events import MessageReceived
from elemta.mail.message import Facts
from elemta.mail.reply import Reply, clean_text
from elemta.mail.why import PACK, Heard, Mail, Packed, Packer, Ruling, Who, Why, encode_into
from elemta.mailauth import Authentication
from elemta.plugins.contexts import SessionInfo

if TYPE_CHECKING:
    from elemta.mail.wording import Wording

MAX_REFUSED = 10_000  # records of refusals that wait; beyond them they are told apart no more
MAX_OTHERS = 20_000  # of these and what is neither a refusal nor simply taken
MAX_PACKS = 256  # of records, 64 KiB each: about 80,000; beyond them the latest leave none
MAX_KEPT = 64  # of these once the disk has not taken them: that can last
MAX_SESSIONS = 10  # named in one record beside the first
MAX_RECIPIENTS = 20  # likewise
MAX_NOTES = 2000  # characters of what plugins have left with a message
MAX_NOTE = 1000  # characters
ALIKE_FOR = 1.0  # seconds
MANY = "of many clients: there were too many refusals at once to tell them apart"
HELD = Ruling("hold", "message", note="its route holds it")
SILENT = Reply(421, "")
"""In place of a reply, where a connection ends without one."""
_NO_NOTES: dict[str, str] = {}
_NOTHING: tuple[tuple[Heard, ...], str] = (), ""
_TAKEN = msgspec.Raw(msgspec.msgpack.encode(("accept", "message")))  # a short `Ruling`


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
        wording: What clients are told in other words; None for nothing.
    """

    def __init__(self, clock: Clock, find_rule: Callable[[Reply], str]) -> None:
        self._clock = clock
        self._now = clock.now
        self._find_rule = find_rule
        self._packer = Packer()
        self._packs: list[Packed] = []
        self._records: list[Why] = []  # that can change until they are taken
        self._refused = 0
        self._seen: dict[object, tuple[Why, Reply]] = {}
        self._seen_at = 0.0
        self._held: dict[str, Case] = {}
        self.lost = 0
        self.wording: Wording | None = None

    def refuse(self, reply: Reply, case: Case) -> Reply:
        """Write a refusal down; gives the reply with its id, and in the words of the operator."""
        if self.wording is not None and reply is not SILENT:
            rule = case.plugin or case.rule or self._find_rule(reply)
            reply = self.wording.reword(reply, rule, case.stage, case.who, case.mail)
            case = msgspec.structs.replace(case, rule=rule)
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

    def accept(
        self,
        said: MessageReceived,
        facts: Facts,
        listener: str,
        tls: str,
        info: SessionInfo | None,
    ) -> None:
        """Write down that a message was taken, and nobody had it put aside.

        Args:
            said: What the log is told.
            facts: What the queue knows of it.
            listener: The kind of listener.
            tls: The version of TLS, "" in clear.
            info: What plugins know of the session.
        """
        # each message comes through here: what is written out costs less than calls
        packer, queue_id, at = self._packer, said.queue_id, self._now()
        octets = packer.octets
        size = len(octets)
        ruling = self._ruling(queue_id) if self._held else _TAKEN
        names, notes = said.to_envelope, facts.notes or _NO_NOTES
        if said.recipient_count > MAX_RECIPIENTS:
            names = names[:MAX_RECIPIENTS]
        found = _NOTHING if info is None else _find(info)
        address, login = facts.client_address or "unix", facts.login
        record = (  # a `Why`
            queue_id,
            at,
            (facts.session_id, address, listener, facts.helo, facts.protocol, tls, login),
            (said.from_envelope, names, queue_id, facts.message_id, said.message_size),
            ruling,
            found[0],
            found[1],
            _within_room(notes) if notes else notes,
            said.processing_time_ms,
        )
        try:
            encode_into(record, octets, size)
        except UnicodeEncodeError:
            packer.mend(record, size)
        if not packer.count:
            packer.first_at = at
        packer.count += 1
        if size >= PACK:
            self._seal()

    def _ruling(self, queue_id: str) -> Ruling | msgspec.Raw:
        return _TAKEN if self._held.pop(queue_id, None) is None else HELD

    def decide(self, case: Case, ruling: Ruling, ms: float = 0.0) -> None:
        """Write down what is no refusal: it is found by its queue id."""
        if len(self._records) >= MAX_OTHERS:
            self.lost += 1
            return
        why = Why(case.mail.queue_id, self._now(), case.who, case.mail, ruling, ms=ms)
        if case.info is not None:
            _add_facts(why, case.info)
        self._records.append(why)

    def hold(self, case: Case) -> None:
        """Take note that a message begins on hold; it is about to be accepted, which says so."""
        self._held[case.mail.queue_id] = case

    def take(self) -> list[Packed]:
        """Give what has gathered; nothing of it changes any more."""
        unaccepted, self._held = self._held, {}
        for case in unaccepted.values():
            self.decide(case, HELD)
        for why in self._records:
            self._packer.add(why)
            if len(self._packer.octets) >= PACK:
                self._seal()
        if self._packer.count:
            self._seal()
        self._records.clear()
        self._seen.clear()
        self._refused = 0
        packs, self._packs = self._packs, []
        return packs

    def give_back(self, packs: list[Packed]) -> None:
        """Take what could not be written, to be given again; without room the oldest go."""
        surplus = max(0, len(packs) - MAX_KEPT)
        self.lost += sum(pack.count for pack in packs[:surplus])
        self._packs[:0] = packs[surplus:]

    def _seal(self) -> None:
        pack = self._packer.seal(self._now())
        if len(self._packs) < MAX_PACKS:
            self._packs.append(pack)
        else:
            self.lost += pack.count

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
    why.heard, why.authentication = _find(info)
    why.notes = _within_room(info.gather_notes() or _NO_NOTES)


def _find(info: SessionInfo) -> tuple[tuple[Heard, ...], str]:
    """Give what plugins have said, and what checks have found."""
    found = info.find_authentication()
    return tuple(info.heard), "" if found is None else in_short(found)


def _within_room(notes: dict[str, str]) -> dict[str, str]:
    """Give the notes for which there is room in a record, as far as that goes."""
    room, kept = MAX_NOTES, {}
    for name, note in notes.items():
        room -= len(name) + len(note)
        if room > 0:
            kept[name] = note
    return kept


def in_short(found: Authentication) -> str:
    """Write what checks have found: "spf=pass dkim=pass (example.org) dmarc=pass"."""
    words = ""
    if found.iprev is not None:
        words = f" iprev={found.iprev.status}"
    if found.spf is not None:
        words += f" spf={found.spf.status}"
    if found.dmarc is not None:
        words += f" dmarc={found.dmarc.status}"
    if found.arc is not None:
        words += f" arc={found.arc.status}"
    for each in found.dkim[:5]:
        words += f" dkim={each.status} ({each.domain})"
    return clean_text(words[1:], MAX_NOTE) if words else ""
