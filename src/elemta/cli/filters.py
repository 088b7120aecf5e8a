"""Which mail a command is about: options that become a `Filter` of the queue."""

from collections.abc import Callable
from typing import Any, TypedDict, TypeVar

import click
import msgspec

from elemta.config import parse_duration
from elemta.mail.address import parse_domain
from elemta.mail.errors import AddressError
from elemta.mail.ids import QueueId, parse_queue_id
from elemta.mail.message import State
from elemta.mail.reply import clean_text
from elemta.net.clock import SystemClock
from elemta.queue.store import Filter

F = TypeVar("F", bound=Callable[..., Any])


class QueueIdType(click.ParamType[QueueId]):
    """A queue id; lower case is fine."""

    name = "id"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> QueueId:
        text = str(value).upper()
        try:
            parse_queue_id(text)
        except ValueError:
            self.fail(f"not a queue id: {clean_text(str(value), 40)}", param, ctx)
        return QueueId(text)


class DurationType(click.ParamType[float]):
    """A duration, in seconds."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class DomainType(click.ParamType[str]):
    """A domain, in its normal form."""

    name = "domain"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        try:
            return parse_domain(str(value))
        except AddressError as error:
            self.fail(str(error), param, ctx)


class Selection(TypedDict):
    """The options of `selecting`, as they arrive."""

    states: tuple[str, ...]
    sender: str | None
    recipient: str | None
    domain: str | None
    login: str | None
    older_than: float | None
    younger_than: float | None
    ids: tuple[QueueId, ...]
    limit: int | None


def selecting(command: F) -> F:
    """Give a command the options that choose recipients."""
    return click.option(
        "--state",
        "states",
        multiple=True,
        type=click.Choice([state.value for state in State]),
        help="State of the recipient; may be repeated.",
    )(selecting_mail(command))


def selecting_mail(command: F) -> F:
    """Give a command the options that choose recipients, whatever their state."""
    pattern = "* stands for any letters"
    for option in (
        click.option("--limit", type=click.IntRange(min=1), help="At most so many messages."),
        click.option("--id", "ids", multiple=True, type=QueueIdType(), help="May be repeated."),
        click.option("--younger-than", type=DurationType(), help="Received within: 30s, 5m, 1h."),
        click.option("--older-than", type=DurationType(), help="Received before: 30s, 5m, 1h."),
        click.option("--domain", type=DomainType(), help="Domain of the recipient."),
        click.option("--recipient", metavar="PATTERN", help=f"Recipient; {pattern}."),
        click.option("--login", metavar="LOGIN", help="Who sent it, logged in."),
        click.option("--sender", metavar="PATTERN", help=f'Sender; {pattern}; "<>" for none.'),
    ):
        command = option(command)
    return command


def make_filter(selection: Selection, more_ids: tuple[QueueId, ...] = ()) -> Filter:
    """Put the options together."""
    now = SystemClock().now()
    older, younger = selection["older_than"], selection["younger_than"]
    try:
        return Filter(
            states=tuple(State(state) for state in selection["states"]),
            sender=selection["sender"],
            recipient=selection["recipient"],
            domain=selection["domain"],
            login=selection["login"],
            before=now - older if older is not None else None,
            after=now - younger if younger is not None else None,
            ids=(*selection["ids"], *more_ids),
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def with_ids(where: Filter, ids: tuple[QueueId, ...]) -> Filter:
    """The same filter, for these messages only."""
    return msgspec.structs.replace(where, ids=ids)
