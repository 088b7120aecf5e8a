"""`elemta dns check` and `query`: what name servers can do, and what they say."""

import asyncio
from pathlib import Path
from typing import Any

import click
import idna

from elemta.app import settings as derive
from elemta.cli.options import config_option, load_config
from elemta.cli.output import OK, PROBLEM, TEMPORARY, Table, fail, json_option, put_json, warn
from elemta.mail.errors import LookupFailed
from elemta.mail.reply import clean_text
from elemta.net import Answer, DnsResolver, SystemClock
from elemta.net.dns.cache import RDTYPES
from elemta.net.dns.probe import ROOT, Probe, probe_all
from elemta.net.dns.servers import find_servers

PATIENCE = 5.0  # seconds for each question of a check, at most


@click.command("check")
@click.option("--dnssec", is_flag=True, help="That answers cannot be secure is a problem, too.")
@click.option("--signed", default=ROOT, metavar="ZONE", help="A signed zone; without it the root.")
@click.option("--bogus", metavar="NAME", help="A name whose signatures are wrong.")
@config_option
@json_option
def check(
    *, dnssec: bool, signed: str, bogus: str | None, config_path: Path | None, as_json: bool
) -> None:
    """Ask each name server of the configuration, over UDP and TCP, and whether it validates.

    It validates if it vouches for a signed zone; with `--bogus`, if it refuses that name besides.
    """
    settings = derive.dns_settings(load_config(config_path))
    try:
        servers = find_servers(settings)
        asked = _a_labels(signed), _a_labels(bogus) if bogus is not None else None
        patience = min(settings.timeout, PATIENCE)
        probes = asyncio.run(probe_all(servers, patience, signed=asked[0], bogus=asked[1]))
    except LookupFailed as error:
        fail(str(error))
    except ValueError as error:
        raise click.UsageError(f"no name: {error}") from error
    problems = [f"{each.server}: {each.problem}" for each in probes if each.problem]
    if dnssec:
        problems += [
            f"{each.server}: DNSSEC: {each.why_insecure}" for each in probes if each.why_insecure
        ]
    if as_json:
        put_json({"ok": not problems, "servers": [_probe_json(each) for each in probes]})
    else:
        _show(probes)
    for problem in problems:
        warn(problem)
    raise SystemExit(PROBLEM if problems else OK)


def _show(probes: list[Probe]) -> None:
    table = Table("SERVER", "UDP", "TCP", "EDNS", "VALIDATES", "SECURE ANSWERS")
    for each in probes:
        udp = "no" if each.seconds is None else f"{each.seconds * 1000:.1f} ms"
        table.add(
            str(each.server),
            udp,
            _yes(is_so=each.has_tcp),
            _yes(is_so=each.has_edns),
            each.validation.value,
            f"no: {each.why_insecure}" if each.why_insecure else "yes",
        )
    table.close()


def _yes(*, is_so: bool) -> str:
    return "yes" if is_so else "no"


def _probe_json(each: Probe) -> dict[str, Any]:
    return {
        "server": str(each.server),
        "milliseconds": None if each.seconds is None else round(each.seconds * 1000, 3),
        "tcp": each.has_tcp,
        "edns": each.has_edns,
        "validates": each.validation.value,
        "trusted": each.server.is_trusted,
        "secure_answers": not each.why_insecure,
        "problem": clean_text(each.problem),
    }


@click.command("query")
@click.argument("name", metavar="NAME")
@click.argument("rdtype", metavar="TYPE", type=click.Choice(sorted(RDTYPES), case_sensitive=False))
@config_option
@json_option
def query(name: str, rdtype: str, *, config_path: Path | None, as_json: bool) -> None:
    """Look a name up as the server does, without what it has in its cache.

    TYPE is one of A, AAAA, MX, PTR, TLSA and TXT. The exit status is 1 where there are no records,
    and 75 where nobody can tell.
    """
    settings = derive.dns_settings(load_config(config_path))
    resolver = DnsResolver(settings, SystemClock())
    try:
        answer = asyncio.run(resolver.query(_a_labels(name), rdtype.upper()))
    except ValueError as error:
        raise click.UsageError(f"no name: {error}") from error
    except LookupFailed as error:
        fail(str(error), TEMPORARY)
    if as_json:
        put_json(_answer_json(name, rdtype, answer))
    else:
        for record in answer.records:
            click.echo(clean_text(_record_text(record), 20_000))
        warn(_summary(answer))
    raise SystemExit(OK if answer.records else PROBLEM)


def _a_labels(name: str) -> str:
    """Give a name as the DNS has it.

    Raises:
        ValueError: It has no such form.
    """
    if name.isascii():
        return name.lower().removesuffix(".") or ROOT
    labels = name.removesuffix(".").split(".")
    return ".".join(
        label.lower() if label.isascii() else idna.encode(label, uts46=True).decode()
        for label in labels
    )


def _summary(answer: Answer) -> str:
    what = f"for {answer.ttl:.0f} s, {'secure' if answer.is_secure else 'not secure'}"
    if answer.records:
        return what
    return f"{'no such records' if answer.exists else 'no such name'}, {what}"


def _record_text(record: Any) -> str:  # noqa: ANN401 - as `Answer` has them
    if isinstance(record, tuple):
        return " ".join(each.hex() if isinstance(each, bytes) else str(each) for each in record)
    return record.decode("utf-8", "backslashreplace") if isinstance(record, bytes) else record


def _answer_json(name: str, rdtype: str, answer: Answer) -> dict[str, Any]:
    return {
        "name": name,
        "type": rdtype.upper(),
        "exists": answer.exists,
        "ttl": answer.ttl,
        "secure": answer.is_secure,
        "records": [_record_json(rdtype.upper(), record) for record in answer.records],
    }


def _record_json(rdtype: str, record: Any) -> dict[str, Any] | str:  # noqa: ANN401
    if rdtype == "MX":
        return {"preference": record[0], "host": record[1]}
    if rdtype == "TLSA":
        usage, selector, matching_type, octets = record
        numbers = {"usage": usage, "selector": selector, "matching_type": matching_type}
        return numbers | {"data": octets.hex()}
    return _record_text(record)
