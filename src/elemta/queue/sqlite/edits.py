"""What a transaction does to a shard's tables, for many messages at once.

Few calls into SQLite do the work of many: messages go in by the dozen with one statement, numbers
as one array. Each call lets go of the GIL and has to get it back from a busy loop, so that
calls, not rows, are what is saved. Statements have bounded lengths, and are compiled once.
"""

import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import apsw

from elemta.mail.errors import SpoolError
from elemta.mail.ids import QueueId, format_queue_id, parse_queue_id
from elemta.mail.message import Facts, Recipient, State
from elemta.queue.quarantine import released_message
from elemta.queue.spool.content import MemoryContent, SpooledContent
from elemta.queue.sqlite.rows import Found, numbers, pack_facts, read_page
from elemta.queue.sqlite.schema import CODES, PACKED, PACKED_FILE, PLAIN, PLAIN_FILE
from elemta.queue.states import may_move, sources
from elemta.queue.store import Change, Stored, Submission

_MOST_ROWS = 64  # of a statement
_KEEPS_GIL = 5 * 1024  # octets: zlib lets go of the GIL for more
Values = list["apsw.Binding"]
Statement = tuple[str, Values]


@dataclass(frozen=True, slots=True)
class Settlement:
    """What `Store.settle` was told."""

    number: int
    changes: Sequence[Change]
    submissions: Sequence[Submission]
    facts: Facts | None


Key = tuple[int, int]  # number of a message, index of a recipient


def insert(connection: apsw.Connection, submissions: Iterable[Submission]) -> None:
    """Add messages with their recipients and, where it is small, their content."""
    for statement, values in insertion(submissions):
        connection.execute(statement, values)


def insertion(submissions: Iterable[Submission]) -> list[Statement]:
    """The statements of `insert`: one, unless messages are very many or have more recipients."""
    arrivals: Values = []
    others: Values = []
    for submission in submissions:
        message = submission.message
        number = parse_queue_id(message.queue_id)
        body, crc, form = _content_columns(submission)
        sender = message.sender
        arrivals += (
            number,
            sender.local if sender is not None else None,
            sender.domain if sender is not None else None,
            message.received_at,
            message.size,
            int(message.priority),
            pack_facts(message.facts),
            crc,
            form,
            body,
        )
        rows = arrivals
        for recipient in submission.recipients:
            if rows is others:
                others.append(number)
            rows += (
                recipient.index,
                recipient.address.local,
                recipient.address.domain,
                CODES[recipient.state],
                recipient.attempts,
                recipient.next_at,
                recipient.reply,
                recipient.remote,
            )
            rows = others
    statements = [(_insert("arrival", 18, n), some) for n, some in _in_lengths(arrivals, 18)]
    statements += [(_insert("recipient", 9, n), some) for n, some in _in_lengths(others, 9)]
    return statements


def _content_columns(submission: Submission) -> tuple[bytes | None, int, int]:
    """Body, sum and form; no body where it is in a file."""
    content = submission.content
    if isinstance(content, SpooledContent):
        if content.name != submission.message.queue_id:
            raise SpoolError(f"the content of {submission.message.queue_id} is in another file")
        return None, content.crc, PACKED_FILE if content.is_compressed else PLAIN_FILE
    data = content.data
    if data is None:
        raise SpoolError("content that is neither in memory nor in the spool cannot be kept")
    packed = content.packed if isinstance(content, MemoryContent) else None
    if packed is not None:
        return packed, _checksum(data), PACKED
    return data, _checksum(data), PLAIN


def _checksum(data: bytes) -> int:
    """Give the CRC-32, in steps so short that zlib keeps the GIL.

    Where it lets go of it, for a microsecond of work, a busy loop takes up to half a millisecond to
    give it back: for each message of a commit.
    """
    crc, view = 0, memoryview(data)
    for at in range(0, len(data), _KEEPS_GIL):
        crc = zlib.crc32(view[at : at + _KEEPS_GIL], crc)
    return crc


def settle(connection: apsw.Connection, settlements: Sequence[Settlement]) -> list[QueueId]:
    """Record what attempts came to.

    Returns:
        Messages that are gone, whose content may have been in a file.
    """
    gone: list[Key] = []
    changed: dict[State, Values] = {}
    for settlement in settlements:
        number = settlement.number
        for change in settlement.changes:
            if change.state is None:
                gone.append((number, change.index))
            else:
                values = changed.setdefault(change.state, [])
                values += (number, change.index, change.attempts, change.next_at)
                values += (change.reply, change.remote)
        if settlement.facts is not None:
            connection.execute(
                "UPDATE message SET facts = ? WHERE id = ?", (pack_facts(settlement.facts), number)
            )
        if settlement.submissions:
            insert(connection, settlement.submissions)
    for state, values in changed.items():
        for count, some in _in_lengths(values, 6):
            connection.execute(_update(state, count), some)
    return remove(connection, gone) if gone else []


def remove(connection: apsw.Connection, keys: Iterable[Key]) -> list[QueueId]:
    """Remove recipients, and the messages that have none left.

    Returns:
        As `settle`.
    """
    keys = list(keys)
    _for_keys(connection, "DELETE FROM recipient", (), keys)
    return _remove_empty(connection, {number for number, _ in keys})


def remove_failed(
    connection: apsw.Connection, gone: list[QueueId], touched: Collection[int], before: float
) -> int:
    """Remove those recipients of some messages that failed before an instant; give how many."""
    connection.execute(
        f"DELETE FROM recipient WHERE {FAILED_BEFORE} AND id IN carray(?)",  # noqa: S608
        (before, numbers(touched)),
    )
    count = connection.changes()
    gone += _remove_empty(connection, touched)
    return count


def take_due(connection: apsw.Connection, now: float, limit: int) -> list[Found]:
    """Make recipients that are due active; they are given as they were, the oldest due first.

    Messages that cannot be read are made `corrupt` instead, they are among the answer.
    """
    found = read_page(connection, f"WHERE {_DUE}", (now, limit))
    if found:
        connection.execute(_MAKE_ACTIVE, (now, limit))
        for message in found:
            if message.problem:
                mark_corrupt(connection, message.number)
    return found


def move(
    connection: apsw.Connection, picked: Mapping[int, Collection[int]], to: State
) -> list[Stored]:
    """Move recipients where the table of states allows it; give those, as they were.

    Why they were in quarantine is forgotten when they are let go: it is not for the sender, who may
    be told of the last reply. The message remembers who had put it there.
    """
    moved = []
    for found in _read_picked(connection, picked):
        recipients = tuple(
            recipient
            for recipient in found.stored.recipients
            if recipient.index in picked[found.number] and may_move(recipient.state, to)
        )
        if recipients and not found.problem:
            moved.append(Stored(found.stored.message, recipients))
            if to is State.ACTIVE:
                _remember_release(connection, found, recipients)
    kept = CODES[State.QUARANTINE] if to is State.ACTIVE else None
    change = "UPDATE recipient SET state = ?, reply = iif(state = ?, '', reply)"
    _for_keys(connection, change, (CODES[to], kept), _keys(moved))
    return moved


def _remember_release(
    connection: apsw.Connection, found: Found, recipients: Sequence[Recipient]
) -> None:
    before = found.stored.message
    after = released_message(before, recipients)
    if after is not before:
        statement = "UPDATE message SET facts = ? WHERE id = ?"
        connection.execute(statement, (pack_facts(after.facts), found.number))


def delete(
    connection: apsw.Connection, picked: Mapping[int, Collection[int]], gone: list[QueueId]
) -> list[Stored]:
    """Remove recipients by an order; give them as they were."""
    deleted = []
    for found in _read_picked(connection, picked):
        recipients = tuple(
            recipient
            for recipient in found.stored.recipients
            if recipient.index in picked[found.number]
        )
        deleted.append(Stored(found.stored.message, recipients))
    gone += remove(connection, _keys(deleted))
    return deleted


def mark_corrupt(connection: apsw.Connection, number: int) -> bool:
    """Make all recipients of a message `corrupt`; False if they are already, or gone."""
    connection.execute(_MAKE_CORRUPT, (number,))
    return connection.changes() > 0


# numbers of states as in `schema.STATES`: 0 active, 1 deferred, 2 scheduled, 4 failed, 6 corrupt
FAILED_BEFORE = "state = 4 AND next_at < ?"
# the order has no ties, so that both statements mean the same recipients
_DUE = "state IN (1, 2) AND next_at <= ? ORDER BY next_at, id, idx LIMIT ?"
_MAKE_ACTIVE = """
    UPDATE recipient SET state = 0 WHERE (id, idx) IN (
        SELECT id, idx FROM recipient
        WHERE state IN (1, 2) AND next_at <= ? ORDER BY next_at, id, idx LIMIT ?)
"""
_MAKE_CORRUPT = "UPDATE recipient SET state = 6 WHERE id = ? AND state <> 6"
_DELETE_MESSAGES = """
    DELETE FROM message WHERE id IN carray(?)
    AND NOT EXISTS (SELECT 1 FROM recipient r WHERE r.id = message.id)
"""
_DELETE_CONTENT = """
    DELETE FROM content WHERE id IN carray(?)
    AND NOT EXISTS (SELECT 1 FROM recipient r WHERE r.id = content.id)
"""


def _remove_empty(connection: apsw.Connection, touched: Collection[int]) -> list[QueueId]:
    """Remove messages without recipients; fewer contents than messages: some were in files."""
    if not touched:
        return []
    ids = numbers(touched)
    connection.execute(_DELETE_MESSAGES, (ids,))
    removed = connection.changes()
    connection.execute(_DELETE_CONTENT, (ids,))
    if connection.changes() == removed:
        return []
    rows = connection.execute("SELECT id FROM message WHERE id IN carray(?)", (ids,)).fetchall()
    return [format_queue_id(number) for number in set(touched) - {number for (number,) in rows}]


def _read_picked(connection: apsw.Connection, picked: Collection[int]) -> list[Found]:
    if not picked:
        return []
    return read_page(connection, "WHERE r.id IN carray(?) ORDER BY r.id, r.idx", (numbers(picked),))


def _keys(messages: Iterable[Stored]) -> list[Key]:
    return [
        (parse_queue_id(stored.message.queue_id), recipient.index)
        for stored in messages
        for recipient in stored.recipients
    ]


def _for_keys(
    connection: apsw.Connection,
    statement: str,
    values: tuple["apsw.Binding", ...],
    keys: Iterable[Key],
) -> None:
    """Run a statement for these recipients: all that are their message's first at once."""
    first: list[int] = []
    others: dict[int, list[int]] = {}
    for number, index in keys:
        if index:
            others.setdefault(number, []).append(index)
        else:
            first.append(number)
    if first:
        connection.execute(
            f"{statement} WHERE idx = 0 AND id IN carray(?)", (*values, numbers(first))
        )
    for number, indexes in others.items():
        connection.execute(
            f"{statement} WHERE id = ? AND idx IN carray(?)", (*values, number, numbers(indexes))
        )


def _in_lengths(values: Values, width: int) -> Iterator[tuple[int, Values]]:
    """Cut a run of rows into pieces for one statement each."""
    step = _MOST_ROWS * width
    for start in range(0, len(values), step):
        some = values[start : start + step]
        yield len(some) // width, some


@cache
def _insert(table: str, width: int, count: int) -> str:
    return f"INSERT INTO {table} VALUES {_rows(width, count)}"  # noqa: S608 - names of our own


@cache
def _update(to: State, count: int) -> str:
    """Whoever has been moved elsewhere meanwhile stays there; see `Store.settle`."""
    legal = ", ".join(str(CODES[state]) for state in sorted(sources(to)))
    return f"""
        UPDATE recipient SET
            state = CASE WHEN state IN ({legal}) THEN {CODES[to]} ELSE state END,
            attempts = v.column3, next_at = v.column4, reply = v.column5, remote = v.column6
        FROM (VALUES {_rows(6, count)}) AS v
        WHERE id = v.column1 AND idx = v.column2
    """  # noqa: S608 - numbers of our own


def _rows(width: int, count: int) -> str:
    row = f"({', '.join('?' * width)})"
    return ", ".join([row] * count)
