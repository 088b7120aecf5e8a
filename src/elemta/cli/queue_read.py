"""`elemta queue list`, `show` and `stats`: what is in the queue, whether the server runs or not."""

import asyncio
import base64
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypedDict, TypeVar, Unpack

import click

from elemta.cli.filters import QueueIdType, Selection, make_filter, selecting
from elemta.cli.operators import record
from elemta.cli.options import config_option, load_config
from elemta.cli.output import PROBLEM, TEMPORARY, JsonList, Table, fail, json_option, put_json
from elemta.cli.queue_text import (
    age,
    due,
    instant,
    mailbox,
    message_json,
    priority,
)
from elemta.cli.queue_view import QueueView
from elemta.cli.tally import GROUPS, Tally, put_tally
from elemta.mail.errors import CorruptError, SpoolError
from elemta.mail.headers import find_header_end
from elemta.mail.ids import QueueId
from elemta.mail.message import State
from elemta.mail.reply import clean_text
from elemta.net.clock import SystemClock
from elemta.queue.store import Filter, Stats, Stored

T = TypeVar("T")
HEADER_LIMIT = 1 << 20  # octets of a header section that are shown


def ask(config_path: Path | None, question: Callable[[QueueView], Coroutine[Any, Any, T]]) -> T:
    """Ask the queue of a configuration something, or say why it cannot be answered."""
    state_dir = load_config(config_path).server.state_dir
    try:
        with QueueView(state_dir) as view:
            return asyncio.run(question(view))
    except CorruptError as error:
        fail(str(error), PROBLEM)
    except SpoolError as error:
        fail(str(error), TEMPORARY)


class ListOptions(Selection):
    """The options of `elemta queue list`."""

    config_path: Path | None
    as_json: bool


@click.command("list")
@selecting
@config_option
@json_option
def list_messages(**options: Unpack[ListOptions]) -> None:
    """List what is in the queue, the oldest first, one line a recipient.

    All conditions that are given must hold; without any, everything is listed.
    """
    put_list(options, make_filter(options), message_json, _COLUMNS, _rows)


_COLUMNS = ("ID", "STATE", "AGE", "SIZE", "SENDER", "RECIPIENT", "TRIES", "NEXT", "REPLY")


def _rows(stored: Stored, now: float) -> Iterator[tuple[str, ...]]:
    message = stored.message
    for recipient in stored.recipients:
        yield (
            message.queue_id,
            recipient.state,
            age(now - message.received_at),
            short_size(message.size),
            mailbox(message.sender),
            str(recipient.address),
            str(recipient.attempts),
            due(recipient, now),
            recipient.reply,
        )


def put_list(
    options: ListOptions,
    where: Filter,
    as_item: Callable[[Stored], object],
    columns: Sequence[str],
    as_rows: Callable[[Stored, float], Iterable[tuple[str, ...]]],
) -> None:
    """List messages: an item each in JSON, or rows of a table, which are given the time."""

    async def put(view: QueueView) -> None:
        listing = JsonList() if options["as_json"] else None
        table, now = Table(*columns), SystemClock().now()
        async for stored in view.find(where, options["limit"]):
            if listing is not None:
                listing.add(as_item(stored))
            else:
                for row in as_rows(stored, now):
                    table.add(*row)
        (table if listing is None else listing).close()

    ask(options["config_path"], put)


def short_size(octets: int) -> str:
    """Write a size as people want to see it in a list."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if octets >= factor:
            return f"{octets / factor:.1f}{unit}"
    return f"{octets}B"


class ShowOptions(TypedDict):
    """The options of `elemta queue show`."""

    queue_id: QueueId
    header: bool
    content: bool
    config_path: Path | None
    as_json: bool


@click.command("show")
@click.argument("queue_id", metavar="ID", type=QueueIdType())
@click.option("--header", is_flag=True, help="Show the header section too.")
@click.option("--content", is_flag=True, help="Write out the message as it is, and nothing else.")
@config_option
@json_option
def show(**options: Unpack[ShowOptions]) -> None:
    """Show all that is known of a message.

    With --content the message itself goes to standard output, octet by octet; on a terminal
    it is cleaned of control characters first.
    """
    ask(options["config_path"], lambda view: _show(view, options))


async def _show(view: QueueView, options: ShowOptions) -> None:
    queue_id = options["queue_id"]
    stored = await view.get(queue_id)
    if stored is None:
        fail(f"{queue_id} is not in the queue")
    wants_all = options["content"]
    raw = None
    if options["header"] or wants_all:
        if any(each.state is State.QUARANTINE for each in stored.recipients):
            record(view.state_dir, "content" if wants_all else "header", queue_id)
        raw = await read_content(view, queue_id, whole=wants_all)
    if options["as_json"]:
        facts = message_json(stored)
        if raw is not None and wants_all:
            facts["content_base64"] = base64.b64encode(raw).decode()
        elif raw is not None:
            facts["header"] = raw.decode("utf-8", "replace")
        put_json(facts)
    elif raw is not None and wants_all:
        put_octets(raw)
    else:
        _show_text(stored)
        if raw is not None:
            click.echo()
            put_octets(raw, is_text=True)


async def read_content(view: QueueView, queue_id: QueueId, *, whole: bool) -> bytes:
    """Read the content of a message, or its header section alone."""
    content = await view.content(queue_id)
    if content is None:
        fail(f"{queue_id} is not in the queue")
    read = bytearray()
    async for piece in content.chunks():
        read += piece
        if not whole:
            end = find_header_end(bytes(read))
            if end >= 0 or len(read) > HEADER_LIMIT:
                return bytes(read[: end if end >= 0 else HEADER_LIMIT])
    return bytes(read)


def put_octets(raw: bytes, *, is_text: bool = False) -> None:
    """Write octets as they are; cleaned of controls where a person will read them."""
    if is_text or sys.stdout.isatty():
        text = raw.decode("utf-8", "replace").replace("\r\n", "\n")
        for line in text.removesuffix("\n").split("\n"):
            click.echo(clean_text(line, len(line)))
    else:
        sys.stdout.buffer.write(raw)


def _show_text(stored: Stored) -> None:
    message, facts, now = stored.message, stored.message.facts, SystemClock().now()
    rows = {
        "id": message.queue_id,
        "sender": mailbox(message.sender),
        "received": f"{instant(message.received_at)} ({age(now - message.received_at)} ago)",
        "size": f"{message.size} octets",
        "priority": priority(message.priority),
        "client": f"{facts.client_address} {facts.helo} {facts.protocol}".strip(),
        "session": facts.session_id,
        "message-id": facts.message_id,
    }
    for name, value in rows.items():
        if value:
            click.echo(f"{name + ':':12}{clean_text(value, 1000)}")
    for name, value in (facts.notes or {}).items():
        click.echo(clean_text(f"note:       {name} = {value}", 1000))
    for recipient in stored.recipients:
        click.echo(f"\nrecipient:  {clean_text(str(recipient.address), 1000)}")
        more = {
            "state": recipient.state.value,
            "attempts": str(recipient.attempts),
            "next": due(recipient, now),
            "remote": recipient.remote,
            "reply": recipient.reply,
        }
        for name, value in more.items():
            if value and value != "-":
                click.echo(f"  {name + ':':10}{clean_text(value, 4000)}")


class StatsOptions(Selection):
    """The options of `elemta queue stats`."""

    by: str | None
    top: int
    config_path: Path | None
    as_json: bool


@click.command("stats")
@click.option("--by", type=click.Choice(sorted(GROUPS)), help="Count by this, and by age.")
@click.option("--top", type=click.IntRange(min=1), default=20, show_default=True)
@selecting
@config_option
@json_option
def stats(**options: Unpack[StatsOptions]) -> None:
    """Show the queue in figures, or what is selected of it.

    With --by, recipients are counted by domain, sender, reply or state, and each row says how
    many have waited for how many minutes: a queue that is stuck is seen at a glance.
    """
    where = make_filter(options)
    path, by = options["config_path"], options["by"]
    limit, as_json = options["limit"], options["as_json"]
    if by is None and where.is_everything and limit is None:
        _put_stats(ask(path, lambda view: view.stats()), as_json=as_json)
    else:
        tally = ask(path, lambda view: _tally(view, where, limit, by or "state"))
        put_tally(tally, options["top"], as_json=as_json)


async def _tally(view: QueueView, where: Filter, limit: int | None, by: str) -> Tally:
    tally = Tally(by, SystemClock().now())
    async for stored in view.find(where, limit):
        tally.add(stored)
    return tally


def _put_stats(figures: Stats, *, as_json: bool) -> None:
    oldest = figures.oldest_at
    if as_json:
        put_json(
            {
                "messages": figures.messages,
                "size": figures.size,
                "oldest_at": instant(oldest) if oldest is not None else None,
                "recipients": {str(state): n for state, n in sorted(figures.recipients.items())},
            }
        )
        return
    rows = [("messages", str(figures.messages)), ("size", short_size(figures.size))]
    if oldest is not None:
        rows.append(("oldest", f"{age(SystemClock().now() - oldest)} ago"))
    rows += [(str(state), str(n)) for state, n in sorted(figures.recipients.items())]
    for name, value in rows:
        click.echo(f"{name:12}{value}")
