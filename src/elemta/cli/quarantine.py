"""`elemta quarantine`: mail that plugins have set aside, to be looked at, let go or removed."""

from pathlib import Path
from typing import TypedDict, Unpack

import click

from elemta.cli.filters import QueueIdType, Selection, make_filter, selecting_mail
from elemta.cli.options import config_option
from elemta.cli.output import JsonList, Table, fail, json_option, put_json
from elemta.cli.preview import MAX_READ, Preview, make_preview
from elemta.cli.queue_orders import OrderOptions, give_order, order_options, user
from elemta.cli.queue_read import ask, short_size
from elemta.cli.queue_text import age, instant, mailbox, message_json
from elemta.cli.queue_view import QueueView
from elemta.mail.ids import QueueId
from elemta.mail.message import Recipient, State
from elemta.mail.reply import clean_text
from elemta.net.clock import SystemClock
from elemta.queue.admin import Verb
from elemta.queue.quarantine import find_note, find_plugin
from elemta.queue.store import Filter, Stored

IN_QUARANTINE = (State.QUARANTINE.value,)
MAX_PREVIEW = 1024  # KiB


class ListOptions(Selection):
    """The options of `elemta quarantine list`."""

    config_path: Path | None
    as_json: bool


@click.command("list")
@selecting_mail
@config_option
@json_option
def list_quarantine(**options: Unpack[ListOptions]) -> None:
    """List what is in quarantine, the oldest first, one line a message.

    All conditions that are given must hold; without any, everything is listed.
    """
    options["states"] = IN_QUARANTINE
    where = make_filter(options)
    put = _list_json if options["as_json"] else _list_text
    ask(options["config_path"], lambda view: put(view, where, options["limit"]))


async def _list_json(view: QueueView, where: Filter, limit: int | None) -> None:
    listing = JsonList()
    async for stored in view.find(where, limit):
        listing.add(quarantine_json(stored))
    listing.close()


async def _list_text(view: QueueView, where: Filter, limit: int | None) -> None:
    table = Table("ID", "AGE", "SIZE", "SENDER", "RECIPIENTS", "PLUGIN", "REASON")
    now = SystemClock().now()
    async for stored in view.find(where, limit):
        message, recipients = stored.message, stored.recipients
        first = recipients[0]
        more = f" and {len(recipients) - 1} more" if len(recipients) > 1 else ""
        table.add(
            message.queue_id,
            age(now - message.received_at),
            short_size(message.size),
            mailbox(message.sender),
            f"{first.address}{more}",
            find_plugin(first.reply) or "-",
            find_note(first.reply),
        )
    table.close()


def quarantine_json(stored: Stored) -> dict[str, object]:
    """A message in quarantine with those recipients that are there, for programs."""
    facts = message_json(stored)
    first = stored.recipients[0]
    facts |= {"plugin": find_plugin(first.reply), "reason": find_note(first.reply)}
    facts["released_from"] = list(stored.message.facts.released)
    return facts


class ShowOptions(TypedDict):
    """The options of `elemta quarantine show`."""

    queue_id: QueueId
    preview: int
    config_path: Path | None
    as_json: bool


@click.command("show")
@click.argument("queue_id", metavar="ID", type=QueueIdType())
@click.option(
    "--preview",
    metavar="KIB",
    type=click.IntRange(0, MAX_PREVIEW),
    default=16,
    show_default=True,
    help="So much text of the message at most, in KiB; 0 for none.",
)
@config_option
@json_option
def show(**options: Unpack[ShowOptions]) -> None:
    """Show why a message is in quarantine, and what is in it, as text that is safe to look at.

    HTML is shown as its words, links cannot be clicked, attachments are named. Nothing of the
    message is opened or fetched.
    """
    ask(options["config_path"], lambda view: _show(view, options))


async def _show(view: QueueView, options: ShowOptions) -> None:
    queue_id = options["queue_id"]
    stored = await view.get(queue_id)
    kept = [] if stored is None else [r for r in stored.recipients if r.state is State.QUARANTINE]
    if stored is None or not kept:
        fail(f"{queue_id} is not in quarantine")
    stored = Stored(stored.message, tuple(kept))
    preview = make_preview(await _read(view, queue_id), options["preview"] * 1024)
    if options["as_json"]:
        put_json(quarantine_json(stored) | {"preview": _preview_json(preview)})
        return
    _show_message(stored)
    _show_preview(preview, wants_text=options["preview"] > 0)


async def _read(view: QueueView, queue_id: QueueId) -> bytes:
    """Read as much of a message as may be looked at, and an octet more where there is one."""
    content = await view.content(queue_id)
    if content is None:
        fail(f"{queue_id} is not in quarantine")
    read = bytearray()
    async for piece in content.chunks():
        read += piece
        if len(read) > MAX_READ:
            break
    return bytes(read[: MAX_READ + 1])


def _preview_json(preview: Preview) -> dict[str, object]:
    return {
        "header": preview.header,
        "text": preview.text,
        "is_cut": preview.is_cut,
        "attachments": [
            {"name": each.name, "type": each.type, "size": each.size}
            for each in preview.attachments
        ],
    }


def _show_message(stored: Stored) -> None:
    message, facts, now = stored.message, stored.message.facts, SystemClock().now()
    rows = {
        "id": message.queue_id,
        "sender": mailbox(message.sender),
        "received": f"{instant(message.received_at)} ({age(now - message.received_at)} ago)",
        "size": f"{message.size} octets",
        "client": f"{facts.client_address} {facts.helo} {facts.protocol}".strip(),
        "login": facts.login,
    }
    for name, value in rows.items():
        _put_row(name, value)
    for name, value in (facts.notes or {}).items():
        _put_row("verdict", f"{name} = {value}")
    for recipient in stored.recipients:
        _put_row("recipient", _in_words(recipient))


def _in_words(recipient: Recipient) -> str:
    plugin = find_plugin(recipient.reply)
    note = find_note(recipient.reply)
    return f"{recipient.address}: {plugin or 'a plugin'}: {note or 'it gave no reason'}"


def _put_row(name: str, value: str) -> None:
    if value:
        click.echo(f"{name + ':':12}{clean_text(value, 2000)}")


def _show_preview(preview: Preview, *, wants_text: bool) -> None:
    click.echo("\nheader section:")
    for line in preview.header:
        click.echo(f"  {line}")
    if preview.attachments:
        click.echo("\nattachments:")
    for each in preview.attachments:
        click.echo(f"  {each.name or '(no name)'}, {each.type}, {each.size} octets")
    if wants_text:
        click.echo("\ntext:")
        for line in preview.text.split("\n"):
            click.echo(f"  {line}".rstrip())
        if preview.is_cut:
            click.echo("  [there is more]")


@click.command("release")
@order_options
@selecting_mail
def release(**options: Unpack[OrderOptions]) -> None:
    """Let messages go on to their recipients.

    The plugin that has set a message aside does not set it aside again; others may.
    """
    _order(Verb.RELEASE, options)


@click.command("delete")
@click.option("--yes", is_flag=True, help="Do not ask.")
@order_options
@selecting_mail
def delete(**options: Unpack[OrderOptions]) -> None:
    """Remove messages for good; nobody is told.

    What is chosen by conditions is counted first, and has to be confirmed.
    """
    _order(Verb.DELETE, options)


def _order(verb: Verb, options: OrderOptions) -> None:
    """Give an order about what is in quarantine alone; the log says who gave it."""
    options["states"] = ()
    where = make_filter(options, options["more_ids"])
    if where.is_everything and not options["everything"]:
        raise click.UsageError("give ids, conditions, or --all")
    options["states"] = IN_QUARANTINE
    given = f": {options['reason']}" if options["reason"] else ""
    options["reason"] = f"ordered by {user()}{given}"
    give_order(verb, options)
