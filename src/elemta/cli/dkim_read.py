"""`elemta dkim show` and `elemta dkim check`: keys, their records, and what the DNS has of them."""

from pathlib import Path

import click

from elemta.cli.dkim_places import DomainType, places
from elemta.cli.options import config_option
from elemta.cli.output import OK, PROBLEM, TEMPORARY, Table, fail, json_option, put_json
from elemta.cli.queue_text import age, instant
from elemta.net.clock import SystemClock
from elemta.plugins.builtin.dkim.keystore import KeyEntry, KeyState, KeyStore
from elemta.plugins.builtin.dkim.publishing import (
    Publication,
    Sighting,
    record_name,
    record_text,
    zone_lines,
)
from elemta.plugins.builtin.dkim.rotation import retires_at

domain_argument = click.argument("domain", type=DomainType(), metavar="[DOMAIN]", required=False)


@click.command("show")
@domain_argument
@click.option("--revoked", is_flag=True, help="Retired keys, too, with records that revoke them.")
@click.option("--ttl", default=3600, show_default=True, type=click.IntRange(0), help="Of records.")
@config_option
@json_option
def show(
    domain: str | None, *, revoked: bool, ttl: int, config_path: Path | None, as_json: bool
) -> None:
    """Show keys and what the zone of DOMAIN, or of each domain, is to have for them.

    It is text for a zone file, with comments. Retired keys need no record; one that revokes tells
    verifiers not to believe in old mail.
    """
    with places(config_path) as where:
        keys = where.keys(domain)
        _refuse_none(domain, keys)
    if as_json:
        put_json([key_json(name, entry, where.store) for name, entry in keys])
        return
    for name, entry in keys:
        click.echo(f"; {name}: {entry.selector} ({_kind(entry)}) {_state(entry)}")
        is_gone = entry.state is KeyState.RETIRED
        if not is_gone or revoked:
            for line in zone_lines(name, entry, ttl, is_revoked=is_gone):
                click.echo(line)
        if entry.state is KeyState.RETIRING:
            until = instant(retires_at(entry, where.settings.retire_after))
            click.echo(f"; it is needed until {until}")


@click.command("check")
@domain_argument
@config_option
@json_option
def check(domain: str | None, *, config_path: Path | None, as_json: bool) -> None:
    """Ask the DNS whether it shows the keys of DOMAIN, or all keys.

    Exit status: 0 all are published; 1 one is absent, revoked or different; 75 one is not known
    to all caches yet, or nobody answers.
    """
    with places(config_path) as where:
        keys = [each for each in where.keys(domain) if each[1].state is not KeyState.RETIRED]
        _refuse_none(domain, keys)
        sightings = where.look_up(keys)
        fresh = {(name, entry.selector): entry for name, entry in where.keys(domain)}
    now = SystemClock().now()
    found = [
        (name, entry, _judged(fresh.get((name, entry.selector), entry), sighting, now))
        for (name, entry), sighting in zip(keys, sightings, strict=True)
    ]
    if as_json:
        put_json(
            [
                key_json(name, entry, where.store)
                | {"dns": sighting.publication, "detail": sighting.detail}
                for name, entry, sighting in found
            ]
        )
    else:
        table = Table("DOMAIN", "SELECTOR", "KEY", "STATE", "DNS", "DETAIL")
        for name, entry, sighting in found:
            cells = (name, entry.selector, _kind(entry), entry.state)
            table.add(*cells, sighting.publication, sighting.detail)
        table.close()
    raise SystemExit(_status([sighting.publication for _, _, sighting in found]))


def _judged(entry: KeyEntry, sighting: Sighting, now: float) -> Sighting:
    """Say of a key that waits, and is there, how long it has to wait still."""
    if entry.state is not KeyState.PENDING or sighting.publication is not Publication.PUBLISHED:
        return sighting
    left = entry.seen_at + entry.wait - now
    if left <= 0:
        return Sighting(Publication.PUBLISHED, sighting.ttl, "it may sign now")
    return Sighting(Publication.WAITING, sighting.ttl, f"caches may not know it for {age(left)}")


def _status(found: list[Publication]) -> int:
    bad = {Publication.ABSENT, Publication.DIFFERENT, Publication.REVOKED}
    if bad & set(found):
        return PROBLEM
    return TEMPORARY if {Publication.WAITING, Publication.UNKNOWN} & set(found) else OK


def _refuse_none(domain: str | None, keys: list[tuple[str, KeyEntry]]) -> None:
    if keys:
        return
    if domain is None:
        fail("there are no keys: `elemta dkim generate DOMAIN`")
    fail(f"{domain} has no keys: `elemta dkim generate {domain}`")


def _kind(entry: KeyEntry) -> str:
    return entry.algorithm if entry.algorithm == "ed25519" else f"{entry.algorithm} {entry.bits}"


def _state(entry: KeyEntry) -> str:
    since = {
        KeyState.PENDING: entry.created_at,
        KeyState.ACTIVE: entry.activated_at,
        KeyState.RETIRING: entry.retiring_at,
        KeyState.RETIRED: entry.retired_at,
    }[entry.state]
    return f"{entry.state} since {instant(since)}" if since else str(entry.state)


def key_json(domain: str, entry: KeyEntry, store: KeyStore) -> dict[str, object]:
    """A key for programs, without its secret."""
    times = ("created_at", "activated_at", "retiring_at", "retired_at", "seen_at")
    return {
        "domain": domain,
        "selector": entry.selector,
        "algorithm": entry.algorithm,
        "bits": entry.bits,
        "state": entry.state,
        "name": record_name(domain, entry.selector),
        "record": record_text(entry),
        "revoked_record": record_text(entry, is_revoked=True),
        "file": str(store.key_path(domain, entry.selector)),
        **{name: instant(at) if (at := getattr(entry, name)) else None for name in times},
    }
