"""`elemta why`: what was decided about mail, and why, in plain words."""

import contextlib
import itertools
from pathlib import Path

import click
import msgspec

from elemta.cli.filters import DurationType
from elemta.cli.options import config_option, load_config
from elemta.cli.output import TEMPORARY, JsonList, fail, json_option, warn
from elemta.cli.queue_text import instant
from elemta.mail.errors import SpoolError
from elemta.mail.reply import clean_text
from elemta.mail.why import Why
from elemta.net.clock import SystemClock
from elemta.observe.why import WhyStore, explain, store_path, summarise


@click.command("why")
@click.argument("word", metavar="WORD")
@click.option(
    "--since", type=DurationType(), metavar="DURATION", help="Nothing older: 1h, 2d and so on."
)
@click.option(
    "--limit", type=click.IntRange(1), default=20, show_default=True, help="So many, the latest."
)
@config_option
@json_option
def why(
    word: str, *, since: float | None, limit: int, config_path: Path | None, as_json: bool
) -> None:
    """Tell why mail was taken or refused, the latest first.

    WORD is the id at the end of a reply, a queue id, a session, an IP address, a mail address, a
    domain, a message-id or a login. What happened within the last two seconds may not be there yet.
    """
    path = store_path(Path(load_config(config_path).server.state_dir))
    if not path.exists():
        fail("no record has been written yet")
    after = 0.0 if since is None else SystemClock().now() - since
    try:
        with contextlib.closing(WhyStore(path)) as store:
            found = list(itertools.islice(store.find(word, after), limit + 1))
    except SpoolError as error:
        fail(str(error), TEMPORARY)
    if not found:
        fail(f"no record of {clean_text(word, 100)}")
    _put(found[:limit], as_json=as_json)
    if len(found) > limit:
        warn(f"these are the latest {limit}; there are more (--limit)")


def _put(found: list[Why], *, as_json: bool) -> None:
    if not as_json:
        for each in found:
            head, *lines = explain(each)
            click.echo(f"{instant(each.at)}  {head}")
            for line in lines:
                click.echo(line)
        return
    items = JsonList()
    for each in found:
        items.add(why_json(each))
    items.close()


def why_json(record: Why) -> dict[str, object]:
    """A record, for programs."""
    fields = {
        name: {key: getattr(value, key) for key in value.__struct_fields__}
        if isinstance(value, msgspec.Struct)
        else value
        for name in record.__struct_fields__
        for value in (getattr(record, name),)
    }
    heard = [{key: getattr(each, key) for key in each.__struct_fields__} for each in record.heard]
    return fields | {"at": instant(record.at), "heard": heard, "summary": summarise(record)}
