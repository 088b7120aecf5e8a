"""`elemta plugins metrics` and `logs`: what plugins have come to, and what they say."""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import click
from prometheus_client.parser import text_string_to_metric_families

from elemta.cli.check import is_running
from elemta.cli.options import config_option, load_config
from elemta.cli.output import TEMPORARY, Table, fail, json_option, put_json
from elemta.mail.errors import PluginError
from elemta.mail.reply import clean_text
from elemta.observe.exposition import Exposition
from elemta.plugins.tooling import log_path

LOOK_EVERY = 0.25  # seconds
TAIL = 1 << 20  # octets of each file that are looked at for the last lines
MAX_LINES = 10_000


@click.command("metrics")
@click.argument("name", metavar="[NAME]", required=False)
@config_option
@json_option
def metrics(name: str | None, *, config_path: Path | None, as_json: bool) -> None:
    """Show the figures of plugins, or of one, as `/metrics` has them."""
    state_dir = load_config(config_path).server.state_dir
    if not is_running(state_dir):
        fail("the server does not run", TEMPORARY)
    samples = list(_samples(state_dir, name))
    if as_json:
        put_json(samples)
        return
    table = Table("METRIC", "LABELS", "VALUE")
    for sample in samples:
        if not sample["metric"].endswith("_bucket"):
            labels = ", ".join(f"{key}={value}" for key, value in sample["labels"].items())
            table.add(sample["metric"], labels, f"{sample['value']:g}")
    table.close()


def _samples(state_dir: Path, name: str | None) -> Iterator[dict[str, Any]]:
    content, _ = Exposition(state_dir).render("")
    for family in text_string_to_metric_families(content.decode()):
        for sample in family.samples:
            plugin = sample.labels.get("plugin")
            if plugin is not None and name in {None, plugin}:
                yield {"metric": sample.name, "labels": sample.labels, "value": sample.value}


@click.command("logs")
@click.argument("name", metavar="NAME")
@click.option("-n", "--lines", default=20, type=click.IntRange(0, MAX_LINES), help="How many.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@config_option
@json_option
def logs(name: str, *, lines: int, follow: bool, config_path: Path | None, as_json: bool) -> None:
    """Show the last lines of a plugin's own log.

    With `--follow` and `--json` each line is a document of its own.
    """
    state_dir = load_config(config_path).server.state_dir
    try:
        path = log_path(state_dir, name)
    except PluginError as error:
        fail(str(error))
    if not path.exists() and not follow:
        fail(f"{name} has said nothing yet: there is no {path}")
    with contextlib.closing(Follower(path)) as follower:
        last = follower.last(lines)
        if as_json and not follow:
            put_json([_parse(line) for line in last])
            return
        for line in last:
            _show(line, as_json=as_json)
        while follow:
            for line in follower.more():
                _show(line, as_json=as_json)
            time.sleep(LOOK_EVERY)


def _show(line: bytes, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(_parse(line), ensure_ascii=False))
    else:
        click.echo(clean_text(line.decode("utf-8", "replace"), 4000))


def _parse(line: bytes) -> dict[str, str]:
    """Take a line apart; one that is not of the usual form is all text."""
    text = line.decode("utf-8", "replace")
    at, _, rest = text.partition(" ")
    level, _, said = rest.partition(" ")
    if not at.endswith("Z"):
        return {"time": "", "level": "", "text": text}
    return {"time": at, "level": level.lower(), "text": said.lstrip(" ")}


class Follower:
    """Reads a log file to its end, and on in the one that takes its place."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._rest = b""

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def last(self, count: int) -> list[bytes]:
        """Give the last lines, also of the file before this one; then `more` goes on from there."""
        found = self._tail()
        if len(found) < count:
            older = Path(f"{self._path}.1")
            if older.exists():
                with older.open("rb") as file:
                    found = _last_lines(file) + found
        return found[-count:] if count else []

    def more(self) -> Iterator[bytes]:
        """Give the lines that have come since."""
        if self._file is not None:
            yield from self._lines(self._file.read())
            if self._is_current():
                return
            self.close()
        if self._open():
            yield from self.more()

    def _tail(self) -> list[bytes]:
        return _last_lines(self._file) if self._open() and self._file is not None else []

    def _open(self) -> bool:
        try:
            self._file = self._path.open("rb")
        except FileNotFoundError:
            return False
        return True

    def _is_current(self) -> bool:
        if self._file is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), self._path.stat())
        except FileNotFoundError:
            return False

    def _lines(self, data: bytes) -> list[bytes]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        return lines


def _last_lines(file: BinaryIO) -> list[bytes]:
    """Give the whole lines at the end of a file, and leave it behind them."""
    size = file.seek(0, 2)
    start = max(0, size - TAIL)
    file.seek(start)
    *lines, rest = file.read(size - start).split(b"\n")
    file.seek(-len(rest), 1)
    return lines[1:] if start else lines
