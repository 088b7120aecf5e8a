"""Questions to a shard's database; each is one read transaction, short, in a thread."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import apsw
from msgspec import convert

from elemta.mail.errors import CorruptError, SpoolError
from elemta.mail.ids import QueueId, format_queue_id, parse_queue_id
from elemta.mail.message import State
from elemta.queue.spool.content import MemoryContent, SpooledContent
from elemta.queue.spool.spool import content_file
from elemta.queue.sqlite.edits import FAILED_BEFORE
from elemta.queue.sqlite.rows import Found, numbers, read_page
from elemta.queue.sqlite.schema import CODES, PACKED, PACKED_FILE, PLAIN_FILE, STATES
from elemta.queue.store import Filter, Stats

ACTIVE = Filter(states=(State.ACTIVE,))

_STATES = "SELECT state, count(*) FROM recipient GROUP BY state"
_TOTALS = "SELECT count(*), coalesce(sum(size), 0), min(received_at) FROM message"
_GREATEST = """
    SELECT coalesce(max(id), 0) FROM (
        SELECT max(id) AS id FROM message
        UNION ALL SELECT max(id) FROM content
        UNION ALL SELECT max(id) FROM recipient)
"""
_NEXT_DUE = "SELECT min(next_at) FROM recipient WHERE state IN (1, 2)"
_FAILED = f"SELECT DISTINCT id FROM recipient WHERE {FAILED_BEFORE} LIMIT 1000"  # noqa: S608
_SPOOLED = "SELECT id FROM message WHERE id IN carray(?) AND form >= 2"
_CONTENT = """
    SELECT m.size, m.crc, m.form, c.body FROM message m LEFT JOIN content c ON c.id = m.id
    WHERE m.id = ?
"""


@dataclass(frozen=True, slots=True)
class Condition:
    """A `Filter` in SQL: what follows `FROM recipient r`, and the values in it."""

    joins: str
    terms: tuple[str, ...]
    values: tuple["apsw.Binding", ...]

    def page(self, rest: str, *more: "apsw.Binding") -> tuple[str, tuple["apsw.Binding", ...]]:
        """Add a last condition, order and limit with their values."""
        terms = " AND ".join((*self.terms, rest))
        return f"{self.joins} WHERE {terms}", (*self.values, *more)


def compile_filter(where: Filter) -> Condition:
    """Say it in SQL; what an operator typed is in the values only."""
    terms: list[str] = []
    values: list[apsw.Binding] = []
    if where.states:
        codes = ", ".join(str(CODES[state]) for state in where.states)
        unknown = f"OR r.state NOT BETWEEN 0 AND {len(STATES) - 1}"
        is_any = State.CORRUPT in where.states  # a number that means nothing is a damage too
        terms.append(f"(r.state IN ({codes}) {unknown if is_any else ''})")
    if where.recipient is not None:
        terms.append("(r.local || '@' || r.domain) LIKE ? ESCAPE '\\'")
        values.append(_like(where.recipient))
    if where.domain is not None:
        terms.append("r.domain = ?")
        values.append(where.domain.lower())
    if where.ids:
        terms.append("r.id IN carray(?)")
        values.append(numbers([parse_queue_id(queue_id) for queue_id in where.ids]))
    count = len(terms)
    _compile_message(where, terms, values)
    joins = "CROSS JOIN message m ON m.id = r.id" if len(terms) > count else ""
    return Condition(joins, tuple(terms), tuple(values))


def _compile_message(where: Filter, terms: list[str], values: list["apsw.Binding"]) -> None:
    if where.sender == "<>":
        terms.append("m.sender_local IS NULL")
    elif where.sender is not None:
        terms.append("(m.sender_local || '@' || m.sender_domain) LIKE ? ESCAPE '\\'")
        values.append(_like(where.sender))
    for term, instant in (("m.received_at < ?", where.before), ("m.received_at >= ?", where.after)):
        if instant is not None:
            terms.append(term)
            values.append(instant)
    if where.login is not None:  # few messages have it anywhere, and of these all are read
        terms.append("instr(m.facts, CAST(? AS BLOB)) > 0 AND login_of(m.facts) = ?")
        values += (where.login, where.login)


def _like(pattern: str) -> str:
    """An address pattern for LIKE: only the star is special."""
    for letter in "\\%_":
        pattern = pattern.replace(letter, "\\" + letter)
    return pattern.replace("*", "%")


def find_page(
    connection: apsw.Connection, where: Filter, after: QueueId | None, limit: int
) -> list[Found]:
    """The next messages with recipients that match; the last of them is whole."""
    condition = compile_filter(where)
    start = -1 if after is None else parse_queue_id(after)
    with connection:
        page = read_page(
            connection, *condition.page("r.id > ? ORDER BY r.id, r.idx LIMIT ?", start, limit)
        )
        if sum(len(found.stored.recipients) for found in page) >= limit:
            last = page[-1].number
            page[-1:] = read_page(connection, *condition.page("r.id = ? ORDER BY r.idx", last))
    return page


def read_message(connection: apsw.Connection, number: int) -> Found | None:
    """A message with all its recipients."""
    with connection:
        found = read_page(connection, "WHERE r.id = ? ORDER BY r.idx", (number,))
    return found[0] if found else None


def read_stats(connection: apsw.Connection) -> Stats:
    """Count everything: two scans of tables without bodies."""
    with connection:
        counted = convert(connection.execute(_STATES).fetchall(), list[tuple[int, int]])
        totals = convert(connection.execute(_TOTALS).fetchone(), tuple[int, int, float | None])
    recipients: dict[State, int] = {}
    for code, count in counted:
        state = STATES[code] if 0 <= code < len(STATES) else State.CORRUPT
        recipients[state] = recipients.get(state, 0) + count
    return Stats(recipients, *totals)


def read_next_due(connection: apsw.Connection) -> float | None:
    """When the next recipient is due."""
    return convert(connection.execute(_NEXT_DUE).get, float | None)


def read_failed(connection: apsw.Connection, before: float) -> list[int]:
    """Some messages with recipients that failed before an instant."""
    rows = convert(connection.execute(_FAILED, (before,)).fetchall(), list[tuple[int]])
    return [number for (number,) in rows]


def read_greatest(connection: apsw.Connection) -> int:
    """The number of the youngest message, whatever is left of it; 0 if there is none."""
    return convert(connection.execute(_GREATEST).get, int)


def read_spooled(connection: apsw.Connection, ids: Sequence[int]) -> set[QueueId]:
    """Which of these messages have their content in a file."""
    if not ids:
        return set()
    rows = convert(connection.execute(_SPOOLED, (numbers(ids),)).fetchall(), list[tuple[int]])
    return {format_queue_id(number) for (number,) in rows}


def read_content(
    connection: apsw.Connection, folder: Path, number: int
) -> MemoryContent | SpooledContent:
    """The content of a message; from a row it is verified here, from a file while it is read.

    Raises:
        SpoolError: There is no such message, or its file cannot be read for now.
        CorruptError: The content is missing, or not what was written.
    """
    size, crc, form, body = _content_row(connection, number)
    if form in {PLAIN_FILE, PACKED_FILE}:
        file = content_file(folder, format_queue_id(number))
        content = SpooledContent(file, size, crc, is_compressed=form == PACKED_FILE)
        try:
            content.check_exists()
        except CorruptError:
            _content_row(connection, number)  # it may have gone meanwhile: first row, then file
            raise
        return content
    if body is None:
        raise CorruptError("the content's row is missing")
    data = _unpacked(body, size) if form == PACKED else body
    if len(data) != size or zlib.crc32(data) != crc:
        raise CorruptError(f"{len(data)} octets of content are not the {size} that were written")
    return MemoryContent(data)


def _content_row(connection: apsw.Connection, number: int) -> tuple[int, int, int, bytes | None]:
    row = connection.execute(_CONTENT, (number,)).fetchone()
    if row is None:
        raise SpoolError(f"there is no message {format_queue_id(number)}")
    return convert(row, tuple[int, int, int, bytes | None])


def _unpacked(body: bytes, size: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(body, size + 1)
    except zlib.error as error:
        raise CorruptError(f"content: {error}") from error
