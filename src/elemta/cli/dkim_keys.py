"""`elemta dkim generate` and `elemta dkim rotate`: new keys, and the change from old ones."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict, Unpack

import click

from elemta.cli.dkim_places import DomainType, Places, places
from elemta.cli.dkim_read import key_json
from elemta.cli.options import config_option
from elemta.cli.output import TEMPORARY, fail, json_option, put_json, warn
from elemta.mailauth.keys import MIN_RSA_BITS, NEW_RSA_BITS, PrivateKey
from elemta.net.clock import SystemClock
from elemta.plugins.builtin.dkim.keystore import Entries, KeyEntry, KeyState, KeyStoreError
from elemta.plugins.builtin.dkim.making import ALGORITHMS, MAX_BITS, choose_selector, describe
from elemta.plugins.builtin.dkim.publishing import Publication, zone_lines
from elemta.plugins.builtin.dkim.rotation import activate, active, pending, ready

BOTH = "both"

domain_argument = click.argument("domain", type=DomainType(), metavar="DOMAIN")
selector_option = click.option(
    "--selector", default="", help="Its name in the DNS; else algorithm and day."
)
bits_option = click.option(
    "--bits",
    default=NEW_RSA_BITS,
    show_default=True,
    type=click.IntRange(MIN_RSA_BITS, MAX_BITS),
    help="Of an RSA key.",
)
algorithm_choice = click.Choice([*ALGORITHMS, BOTH])


class GenerateOptions(TypedDict):
    """The options of `elemta dkim generate`."""

    selector: str
    algorithm: str
    bits: int
    config_path: Path | None
    as_json: bool


class RotateOptions(TypedDict):
    """The options of `elemta dkim rotate`."""

    selector: str
    algorithm: str | None
    bits: int
    is_activating: bool
    is_forced: bool
    config_path: Path | None
    as_json: bool


@click.command("generate")
@domain_argument
@selector_option
@click.option(
    "--algorithm",
    default="rsa",
    show_default=True,
    type=algorithm_choice,
    help="Every verifier knows RSA; both together sign every message twice.",
)
@bits_option
@config_option
@json_option
def generate(domain: str, **options: Unpack[GenerateOptions]) -> None:
    """Make the first key of DOMAIN, and print what its zone is to have.

    It signs once the DNS shows it: the server that runs looks for it, or `elemta dkim rotate
    --activate` does.
    """
    algorithms = _algorithms(options["algorithm"])
    with places(options["config_path"]) as where:
        there = [each for each in where.store.entries(domain) if each.state is not KeyState.RETIRED]
        taken = sorted({each.algorithm for each in there} & set(algorithms))
        if taken:
            fail(f"{domain} has a key ({', '.join(taken)}): `elemta dkim rotate {domain}`")
        made = _make(where, domain, algorithms, options["selector"], options["bits"])
    _report(where, domain, made, as_json=options["as_json"])


@click.command("rotate")
@domain_argument
@selector_option
@click.option("--algorithm", type=algorithm_choice, help="Which key; else all that sign.")
@bits_option
@click.option(
    "--activate",
    "is_activating",
    is_flag=True,
    help="Let keys that wait sign now, if the DNS has shown them for long enough.",
)
@click.option("--force", "is_forced", is_flag=True, help="With --activate: do not ask the DNS.")
@config_option
@json_option
def rotate(domain: str, **options: Unpack[RotateOptions]) -> None:
    """Make a new key for DOMAIN in place of the one that signs, and print what its zone is to have.

    The old key signs until the DNS shows the new one and the TTL has passed, and stays in the DNS
    for a while after that: `elemta dkim show` says which records are needed.
    """
    if options["is_forced"] and not options["is_activating"]:
        raise click.UsageError("--force goes with --activate")
    with places(options["config_path"]) as where:
        entries = where.store.entries(domain)
        if not entries:
            fail(f"{domain} has no keys: `elemta dkim generate {domain}`")
        if options["is_activating"]:
            _activate(where, domain, is_forced=options["is_forced"], as_json=options["as_json"])
            return
        if pending(entries):
            names = ", ".join(each.selector for each in pending(entries))
            fail(f"{domain} has keys that wait for the DNS already: {names}")
        algorithms = _algorithms(options["algorithm"]) or [
            name for name in ALGORITHMS if name in {each.algorithm for each in active(entries)}
        ]
        made = _make(where, domain, algorithms or ["rsa"], options["selector"], options["bits"])
    _report(where, domain, made, as_json=options["as_json"])


def _algorithms(choice: str | None) -> list[str]:
    if choice is None:
        return []
    return list(ALGORITHMS) if choice == BOTH else [choice]


def _make(
    where: Places, domain: str, algorithms: Sequence[str], selector: str, bits: int
) -> Entries:
    """Make keys, and put them where the server finds them.

    Raises:
        KeyStoreError: That cannot be.
    """
    now = SystemClock().now()
    taken = {each.selector for each in where.store.entries(domain)}
    fresh: list[KeyEntry] = []
    secrets: dict[str, bytes] = {}
    for algorithm in algorithms:
        name = choose_selector(algorithm, now, taken)
        if selector:
            name = selector if len(algorithms) == 1 else f"{selector}-{algorithm}"
        if name in taken:
            raise KeyStoreError(f"{domain} has had the selector {name}: choose another one")
        key = PrivateKey.generate(algorithm, bits)
        secrets[name] = key.pem()
        fresh.append(describe(key, name, now))

    def add(entries: Entries) -> Entries:
        if {each.selector for each in entries} & secrets.keys():
            raise KeyStoreError(f"{domain} has got the same selector meanwhile: try again")
        return (*entries, *fresh)

    where.store.edit(domain, add, secrets)
    return tuple(fresh)


def _report(where: Places, domain: str, made: Entries, *, as_json: bool) -> None:
    if as_json:
        put_json([key_json(domain, each, where.store) for each in made])
        return
    for entry in made:
        click.echo(f"; {where.store.key_path(domain, entry.selector)}")
        for line in zone_lines(domain, entry):
            click.echo(line)
    warn(f"publish this; `elemta dkim check {domain}` looks for it, and so does the server")


def _activate(where: Places, domain: str, *, is_forced: bool, as_json: bool) -> None:
    waiting = pending(where.store.entries(domain))
    if not waiting:
        fail(f"{domain} has no key that waits")
    now = SystemClock().now()
    if is_forced:
        chosen = frozenset(each.selector for each in waiting)
    else:
        sightings = where.look_up([(domain, each) for each in waiting])
        shown = {
            each.selector
            for each, sighting in zip(waiting, sightings, strict=True)
            if sighting.publication is Publication.PUBLISHED
        }
        chosen = ready(where.store.entries(domain), now) & shown
    if not chosen:
        text = f"the DNS has not shown the key for long enough: `elemta dkim check {domain}`"
        fail(f"{domain}: {text}", TEMPORARY)
    after = where.store.edit(domain, lambda entries: activate(entries, chosen, now))
    if as_json:
        put_json([key_json(domain, each, where.store) for each in after])
        return
    for entry in after:
        click.echo(f"{entry.selector}: {entry.state}")
