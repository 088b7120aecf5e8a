"""`elemta tls status`: certificates, handshakes, failures, and who still speaks old TLS."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from prometheus_client.parser import text_string_to_metric_families

from elemta.cli.check import is_running
from elemta.cli.options import config_option, load_config
from elemta.cli.output import TEMPORARY, Table, fail, json_option, put_json
from elemta.observe import catalogue as cat
from elemta.observe.exposition import Exposition

_PARTS = (
    ("certificates", cat.TLS_CERTIFICATE_DAYS, ("FILE", "DAYS LEFT")),
    ("handshakes", cat.TLS_HANDSHAKES, ("LISTENER", "VERSION", "CIPHER", "GROUP", "COUNT")),
    ("failures", cat.TLS_FAILURES, ("LISTENER", "REASON", "COUNT")),
    ("alerts", cat.TLS_ALERTS, ("ALERT", "COUNT")),
    ("old_clients", cat.TLS_OLD_CLIENTS, ("CLIENT", "SPEAKS", "COUNT")),
)


@click.command("status")
@config_option
@json_option
def status(*, config_path: Path | None, as_json: bool) -> None:
    """Show what TLS comes to, since the server has started.

    Last come the clients that know no TLS 1.3: those that `level = "maximum"` would refuse, and
    those that are refused already.
    """
    state_dir = load_config(config_path).server.state_dir
    if not is_running(state_dir):
        fail("the server does not run", TEMPORARY)
    samples = list(_samples(state_dir))
    found = {part: _rows(samples, metric) for part, metric, _ in _PARTS}
    if as_json:
        put_json(found)
        return
    is_first = True
    for part, metric, heading in _PARTS:
        if not found[part]:
            continue
        if not is_first:
            click.echo()
        is_first = False
        table = Table(*heading)
        for row in found[part]:
            table.add(*(row[label] for label in metric.labels), f"{row['value']:.0f}")
        table.close()
    if is_first:
        click.echo("nothing has happened yet")


def _samples(state_dir: Path) -> Iterator[Any]:
    content, _ = Exposition(state_dir).render("")
    for family in text_string_to_metric_families(content.decode()):
        yield from family.samples


def _rows(samples: list[Any], metric: cat.Metric) -> list[dict[str, Any]]:
    """Give the samples of a metric, the largest first."""
    names = {metric.name, f"{metric.name}_total"}
    rows = [{**each.labels, "value": each.value} for each in samples if each.name in names]
    return sorted(rows, key=lambda row: (-row["value"], *(row[name] for name in metric.labels)))
