"""Elemta as it is installed in the environment that runs the benchmark: `elemta serve`."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw

from bench.loopback import HOST, free_port, give_back
from bench.options import Mode
from bench.peers.server import Place, Server, Start, running_process

_CONFIG = """\
[server]
hostname = "mx.bench.test"
workers = {workers}
state_dir = {state}

[[listeners]]
address = "{host}:{port}"
kind = "mta"

[relay]
{relay}

[[routes]]
domains = ["*"]
{route}

[metrics]
listen = "{host}:{metrics_port}"

[logging]
level = "info"
"""
_ROUTES = {
    Mode.ACCEPT: 'via = "hold"',
    Mode.RELAY: f'via = "smtp"\nhost = "{HOST}"\nport = {{sink_port}}\ntls = "none"',
}


class Elemta:
    """Elemta with its default settings and some number of workers.

    Args:
        workers: How many.
        patience: Seconds it may take until it greets.
        more: Text to go to the end of its configuration.
        relay: The lines of its table `[relay]`. By default all clients of a benchmark are trusted.
    """

    def __init__(
        self,
        workers: int,
        *,
        patience: float = 30.0,
        more: str = "",
        relay: str = "local_domains = []",
    ) -> None:
        self.name = f"Elemta, {workers} worker{'s' * (workers > 1)}"
        self.workers = workers
        self._patience = patience
        self._more = more
        self._relay = relay

    @contextlib.contextmanager
    def running(self, place: Place, mode: Mode, sink_port: int) -> Iterator[Server]:
        port, metrics_port = free_port(), free_port()
        config = place.folder / "elemta.toml"
        log = place.folder / "elemta.log"
        log.unlink(missing_ok=True)
        state = place.spool / "state"
        state.mkdir(exist_ok=True)
        text = _CONFIG.format(
            workers=self.workers,
            state=json.dumps(str(state)),
            host=HOST,
            port=port,
            metrics_port=metrics_port,
            relay=self._relay,
            route=_ROUTES[mode].format(sink_port=sink_port),
        )
        config.write_text(text + self._more)
        how = Start(
            command=[*command(), "serve", "-c", str(config)],
            port=port,
            log=log,
            patience=self._patience,
        )
        try:
            with running_process(how) as account:
                yield Server(port, account, lambda: count(state))
        finally:
            give_back(port, metrics_port)


def command() -> list[str]:
    """Give the command of this environment: its `elemta`, else the module."""
    script = Path(sys.executable).with_name("elemta")
    return [str(script)] if os.access(script, os.X_OK) else [sys.executable, "-m", "elemta"]


def count(state: Path) -> int:
    """Count the messages in all shards, without asking Elemta."""
    total = 0
    for database in state.glob("queue/shard-*/queue.db"):
        reader = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
        with contextlib.closing(reader):
            for (number,) in reader.execute("SELECT count(*) FROM message"):
                total += int(number)
    return total
