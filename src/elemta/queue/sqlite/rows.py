"""Rows of a shard's database read back as values.

A whole page comes as one JSON text made by SQLite: one call that runs without the GIL, where
a call for each row would take the GIL back each time, from a loop that is busy. Only when such
a page cannot be read is it taken apart, message by message.

A message that cannot be read is given all the same, so that an operator sees it and can
delete it: with what is legible, all recipients `corrupt`, and what is wrong.
"""

import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import apsw
import msgspec

from elemta.mail.address import Address
from elemta.mail.ids import format_queue_id
from elemta.mail.message import NO_FACTS, Facts, Message, Priority, Recipient, State
from elemta.queue.sqlite.schema import STATES
from elemta.queue.store import Stored

UNREADABLE = Address("unreadable", "invalid")  # .invalid names nobody: RFC 2606 §2


class _RecipientRow(msgspec.Struct, array_like=True, gc=False):
    id: int
    index: int
    local: str
    domain: str
    state: int
    attempts: int
    next_at: float
    reply: str
    remote: str


class _MessageRow(msgspec.Struct, array_like=True, gc=False):
    id: int
    sender_local: str | None
    sender_domain: str | None
    received_at: float
    size: int
    priority: int
    facts: str


_RECIPIENTS = """
    SELECT json_group_array(json_array(
        id, idx, local, domain, state, attempts, next_at, reply, remote))
    FROM (SELECT r.* FROM recipient r {where})
"""
_MESSAGES = """
    SELECT json_group_array(json_array(
        id, sender_local, sender_domain, received_at, size, priority, hex(facts)))
    FROM message WHERE id IN carray(?)
"""
_decode_recipients = msgspec.json.Decoder(list[_RecipientRow]).decode
_decode_messages = msgspec.json.Decoder(list[_MessageRow]).decode
_decode_facts = msgspec.msgpack.Decoder(Facts).decode
_encode_facts = msgspec.msgpack.Encoder().encode
_PRIORITIES = {int(priority): priority for priority in Priority}


@dataclass(frozen=True, slots=True)
class Found:
    """A message as it was read.

    Attributes:
        problem: Why it cannot be read; "" where all is well.
    """

    number: int
    stored: Stored
    problem: str = ""


def numbers(ids: Iterable[int]) -> "apsw.CArrayBinding":
    """Numbers for `IN carray(?)`: one parameter, however many they are."""
    return apsw.carray(array.array("q", ids))


def pack_facts(facts: Facts) -> bytes:
    """Facts as a column."""
    return b"" if facts is NO_FACTS else _encode_facts(facts)


def read_page(
    connection: apsw.Connection, where: str, values: Sequence["apsw.Binding"]
) -> list[Found]:
    """Read recipients and their messages.

    Args:
        connection: Best in a transaction, so that both are of one instant.
        where: What follows `FROM recipient r`: joins, conditions, order and limit.
        values: For its question marks.

    Returns:
        Messages in the order in which their first recipients come.
    """
    try:
        text = connection.execute(_RECIPIENTS.format(where=where), values).get
        rows = _decode_recipients(text)
        by_message: dict[int, list[_RecipientRow]] = {}
        for row in rows:
            by_message.setdefault(row.id, []).append(row)
        if not by_message:
            return []
        text = connection.execute(_MESSAGES, (numbers(by_message),)).get
        messages = {row.id: row for row in _decode_messages(text)}
    except (UnicodeDecodeError, msgspec.MsgspecError):
        return _read_apart(connection, where, values)
    return [_found(number, messages.get(number), rows) for number, rows in by_message.items()]


def _read_apart(
    connection: apsw.Connection, where: str, values: Sequence["apsw.Binding"]
) -> list[Found]:
    """The slow way, by message: something in this page is not text, or not the right type."""
    by_message: dict[int, list[int]] = {}
    query = f"SELECT r.id, r.idx FROM recipient r {where}"  # noqa: S608 - of our own making
    keys = msgspec.convert(connection.execute(query, values).fetchall(), list[tuple[int, int]])
    for number, index in keys:
        by_message.setdefault(number, []).append(index)
    return [_read_one(connection, *item) for item in by_message.items()]


def _read_one(connection: apsw.Connection, number: int, indexes: list[int]) -> Found:
    where = "WHERE r.id = ? AND r.idx IN carray(?) ORDER BY r.idx"
    try:
        text = connection.execute(_RECIPIENTS.format(where=where), (number, numbers(indexes))).get
        rows = _decode_recipients(text)
        problem = ""
    except (UnicodeDecodeError, msgspec.MsgspecError) as error:
        rows = [_RecipientRow(number, index, "", "", -1, 0, 0.0, "", "") for index in indexes]
        problem = f"recipient: {error}"
    try:
        text = connection.execute(_MESSAGES, (numbers((number,)),)).get
        message = next(iter(_decode_messages(text)), None)
    except (UnicodeDecodeError, msgspec.MsgspecError) as error:
        message = None
        problem = f"message: {error}"
    found = _found(number, message, rows)
    return replace(found, problem=problem) if problem else found


def _found(number: int, row: _MessageRow | None, rows: list[_RecipientRow]) -> Found:
    problem = ""
    try:
        message = _message(number, row)
    except (ValueError, msgspec.MsgspecError) as error:
        problem = f"message: {error}"
        received_at = (number >> 20) / 1000  # an id says when it was made
        message = Message(format_queue_id(number), None, row.size if row else 0, received_at)
    recipients = []
    for recipient in rows:
        try:
            recipients.append(_recipient(recipient))
        except ValueError as error:
            problem = f"recipient {recipient.index}: {error}"
            recipients.append(Recipient(recipient.index, UNREADABLE))
    if problem:
        recipients = [replace(recipient, state=State.CORRUPT) for recipient in recipients]
    return Found(number, Stored(message, tuple(recipients)), problem)


def _message(number: int, row: _MessageRow | None) -> Message:
    if row is None:
        raise ValueError("its row is missing")
    sender = None
    if row.sender_local is not None or row.sender_domain is not None:
        sender = _address(row.sender_local, row.sender_domain)
    priority = _PRIORITIES.get(row.priority)
    if priority is None:
        raise ValueError(f"priority {row.priority} is unknown")
    facts = _decode_facts(bytes.fromhex(row.facts)) if row.facts else NO_FACTS
    return Message(format_queue_id(number), sender, row.size, row.received_at, priority, facts)


def _recipient(row: _RecipientRow) -> Recipient:
    if not 0 <= row.state < len(STATES):
        raise ValueError(f"state {row.state} is unknown")
    return Recipient(
        row.index,
        _address(row.local, row.domain),
        STATES[row.state],
        row.attempts,
        row.next_at,
        row.reply,
        row.remote,
    )


def _address(local: str | None, domain: str | None) -> Address:
    if not local or domain is None:
        raise ValueError("an address has no local part")
    return Address(local, domain)
