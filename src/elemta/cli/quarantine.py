"""`elemta quarantine`: mail that plugins have set aside, to be looked at, let go or removed."""

from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict, Unpack

import click
import msgspec

from elemta.cli.filters import DurationType, QueueIdType, make_filter, selecting_mail
from elemta.cli.operators import record, user
from elemta.cli.options import config_option, load_config
from elemta.cli.output import TEMPORARY, JsonList, Table, fail, json_option, put_json
from elemta.cli.preview import MAX_READ, Preview, make_preview
from elemta.cli.quarantine_allow import allow_senders
from elemta.cli.queue_orders import OrderOptions, give_order, order_options
from elemta.cli.queue_read import ListOptions, ask, put_list, short_size
from elemta.cli.queue_text import age, instant, mailbox, message_json
from elemta.cli.queue_view import QueueView
from elemta.mail.errors import SpoolError
from elemta.mail.ids import QueueId
from elemta.mail.message import Recipient, State
from elemta.mail.reply import clean_text
from elemta.net.clock import SystemClock
from elemta.queue import audit
from elemta.queue.admin import Verb
from elemta.queue.quarantine import find_note, find_plugin
from elemta.queue.store import Filter, Stored

IN_QUARANTINE = (State.QUARANTINE.value,)
MAX_PREVIEW = 1024  # KiB


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
    record(load_config(options["config_path"]).server.state_dir, "list", "", in_words(where))
    put_list(options, where, quarantine_json, _COLUMNS, _rows)


_COLUMNS = ("ID", "AGE", "SIZE", "SENDER", "RECIPIENTS", "PLUGIN", "REASON")


def _rows(stored: Stored, now: float) -> Iterator[tuple[str, ...]]:
    message, recipients = stored.message, stored.recipients
    first = recipients[0]
    more = f" and {len(recipients) - 1} more" if len(recipients) > 1 else ""
    yield (
        message.queue_id,
        age(now - message.received_at),
        short_size(message.size),
        mailbox(message.sender),
        f"{first.address}{more}",
        find_plugin(first.reply) or "-",
        find_note(first.reply),
    )


def in_words(where: Filter) -> str:
    """Write down which messages are meant, but for their state."""
    said = msgspec.to_builtins(msgspec.structs.replace(where, states=()))
    for name, value in said.items():
        if isinstance(value, tuple | list):
            said[name] = " ".join(value)
    return ", ".join(f"{name}={value}" for name, value in said.items()) or "all"


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
    record(view.state_dir, "preview", queue_id, f"{options['preview']} KiB")
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


class ReleaseOptions(OrderOptions):
    """The options of `elemta quarantine release`."""

    allow_sender: bool
    allow_for: float


@click.command("release")
@click.option(
    "--allow-sender",
    is_flag=True,
    help="Also write the senders into quarantine.allow_list; only with ids.",
)
@click.option(
    "--allow-for",
    type=DurationType(),
    default="30d",
    show_default=True,
    help="How long they stay there.",
)
@order_options
@selecting_mail
def release(**options: Unpack[ReleaseOptions]) -> None:
    """Let messages go on to their recipients.

    The plugin that has set a message aside does not set it aside again; others may.
    """
    if options["allow_sender"] and not options["dry_run"]:
        ids = (*options["ids"], *options["more_ids"])
        if not ids:
            raise click.UsageError("--allow-sender: name the messages by their ids")
        allow_senders(options["config_path"], ids, options["allow_for"], options["reason"] or "")
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
    if not options["dry_run"]:
        only = where.ids[0] if len(where.ids) == 1 else ""
        state_dir = load_config(options["config_path"]).server.state_dir
        record(state_dir, verb.value, only, f"{in_words(where)}{given}")
    options["reason"] = f"ordered by {user()}{given}"
    give_order(verb, options)


@click.command("audit")
@config_option
@json_option
def show_audit(*, config_path: Path | None, as_json: bool) -> None:
    """Show who has looked at mail in quarantine, and what was done about it, the oldest first."""
    listing = JsonList() if as_json else None
    table = Table("TIME", "OPERATOR", "WHAT", "ID", "DETAIL")
    try:
        for entry in audit.read(load_config(config_path).server.state_dir):
            if listing is not None:
                listing.add(msgspec.to_builtins(entry))
            else:
                table.add(entry.time, entry.operator, entry.what, entry.queue_id, entry.detail)
    except SpoolError as error:
        fail(str(error), TEMPORARY)
    (table if listing is None else listing).close()
