"""`elemta queue retry`, `hold`, `release` and `delete`: orders about queued mail."""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypeVar, Unpack

import click

from elemta.cli.filters import QueueIdType, Selection, make_filter, selecting, with_ids
from elemta.cli.operators import user
from elemta.cli.options import config_option, load_config
from elemta.cli.orders import Carried, carry_out
from elemta.cli.output import OK, PROBLEM, TEMPORARY, count, fail, json_option, put_json, warn
from elemta.cli.queue_view import QueueView
from elemta.config import Config
from elemta.mail.errors import SpoolError
from elemta.mail.ids import QueueId
from elemta.net.clock import SystemClock
from elemta.queue.admin import Order, Verb, find_subject


class OrderOptions(Selection):
    """The options of all orders; `yes` is there for `delete` alone."""

    more_ids: tuple[QueueId, ...]
    everything: bool
    dry_run: bool
    yes: NotRequired[bool]
    reason: str | None
    config_path: Path | None
    as_json: bool


F = TypeVar("F", bound=Callable[..., Any])


def ordering(command: F) -> F:
    """Give a command what all orders have in common."""
    return order_options(selecting(command))


def order_options(command: F) -> F:
    """Give a command what orders have in common beside the conditions."""
    for option in (
        json_option,
        config_option,
        click.option("--reason", help="Shown in the log beside what was done."),
        click.option("--dry-run", is_flag=True, help="Count what it would be, and do nothing."),
        click.option("--all", "everything", is_flag=True, help="Whatever is in the queue."),
        click.argument("more_ids", metavar="[ID]...", nargs=-1, type=QueueIdType()),
    ):
        command = option(command)
    return command


@click.command("retry")
@ordering
def retry(**options: Unpack[OrderOptions]) -> None:
    """Try messages again at once: those that wait, have failed, or were corrupt."""
    give_order(Verb.RETRY, options)


@click.command("hold")
@ordering
def hold(**options: Unpack[OrderOptions]) -> None:
    """Keep messages in the queue until they are released."""
    give_order(Verb.HOLD, options)


@click.command("release")
@ordering
def release(**options: Unpack[OrderOptions]) -> None:
    """Let messages go on that are held or in quarantine."""
    give_order(Verb.RELEASE, options)


@click.command("delete")
@click.option("--yes", is_flag=True, help="Do not ask.")
@ordering
def delete(**options: Unpack[OrderOptions]) -> None:
    """Remove messages for good; nobody is told.

    What is chosen by conditions is counted first, and has to be confirmed.
    """
    give_order(Verb.DELETE, options)


@dataclass(frozen=True, slots=True)
class Matched:
    """What an order is about, counted."""

    messages: int
    recipients: int

    def __str__(self) -> str:
        return f"{count(self.recipients, 'recipient')} of {count(self.messages, 'message')}"


def give_order(verb: Verb, options: OrderOptions) -> None:
    """Carry out an order, say what was done, and end the command."""
    where = make_filter(options, options["more_ids"])
    if where.is_everything and not options["everything"]:
        raise click.UsageError("give ids, conditions, or --all")
    config = load_config(options["config_path"])
    try:
        order = Order(verb, where, options["reason"] or f"ordered by {user()}")
        order, matched = asyncio.run(_look(config, order, options["limit"]))
        if not matched.recipients or options["dry_run"]:
            _report(verb, matched, None, as_json=options["as_json"])
            raise SystemExit(OK if matched.recipients or not where.ids else PROBLEM)
        if verb is Verb.DELETE and not options.get("yes"):
            _confirm(matched, order, by_id=_is_by_id(options))
        carried = asyncio.run(carry_out(config, order, SystemClock()))
    except SpoolError as error:
        fail(str(error), TEMPORARY)
    _report(verb, matched, carried, as_json=options["as_json"])
    if carried.errors:
        raise SystemExit(PROBLEM)
    raise SystemExit(TEMPORARY if carried.silent else OK)


async def _look(config: Config, order: Order, limit: int | None) -> tuple[Order, Matched]:
    """Count what an order is about; with a limit, narrow it to these messages."""
    messages = recipients = 0
    ids = []
    where = find_subject(order)
    if where is not None:
        with QueueView(config.server.state_dir) as view:
            async for stored in view.find(where, limit):
                messages, recipients = messages + 1, recipients + len(stored.recipients)
                if limit is not None:
                    ids.append(stored.message.queue_id)
    if ids:
        narrowed = with_ids(order.where, tuple(ids))
        order = Order(order.verb, narrowed, order.reason)
    return order, Matched(messages, recipients)


def _is_by_id(options: OrderOptions) -> bool:
    """Whether messages were named one by one."""
    return bool(options["ids"] or options["more_ids"])


def _confirm(matched: Matched, order: Order, *, by_id: bool) -> None:
    """Have a deletion confirmed, unless every message was named."""
    if by_id:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"this would {order.verb} {matched}: confirm with --yes")
    click.confirm(f"{order.verb.capitalize()} {matched}?", abort=True, err=True)


_DONE = {
    Verb.RETRY: "tried now",
    Verb.HOLD: "held",
    Verb.RELEASE: "released",
    Verb.DELETE: "deleted",
}


def _report(verb: Verb, matched: Matched, carried: Carried | None, *, as_json: bool) -> None:
    """Say what was done; without `carried` only what it would be."""
    if as_json:
        facts: dict[str, object] = {
            "order": verb.value,
            "matched": {"messages": matched.messages, "recipients": matched.recipients},
            "changed": carried.count if carried is not None else 0,
        }
        if carried is not None:
            facts |= {"errors": carried.errors, "unanswered": carried.silent}
        put_json(facts)
        return
    if carried is None:
        would_be = "would be " if matched.recipients else ""
        click.echo(f"{matched} {would_be}{_DONE[verb]}")
        return
    click.echo(f"{count(carried.count, 'recipient')} {_DONE[verb]}")
    for error in carried.errors:
        warn(error)
    for who in carried.silent:
        warn(f"{who} did not answer")
