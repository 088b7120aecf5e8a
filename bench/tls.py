"""`python -m bench.tls`: what TLS costs on reception.

The load speaks no TLS, so HAProxy stands between it and Elemta both times: it passes octets on in
clear, or encrypts them on the way. What is compared is thus Elemta's side alone.
"""

import argparse
import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bench import machine
from bench.load import find_tool
from bench.loopback import HOST, await_banner, free_port, give_back
from bench.options import Case, Mode
from bench.peers import Elemta, Place, Server
from bench.peers.elemta import command
from bench.processes import BenchError, end, interrupt_once, start
from bench.profiler import unwatched
from bench.run import Run, Stand, measure, pilot
from bench.spool import open_spool, temporary_folder

_PROXY = """\
global
    nbthread 1
    maxconn 2000
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen mail
    bind {host}:{port}
    server elemta {host}:{behind} {how}
"""
_TLS = "ssl verify none ssl-min-ver TLSv1.3"
_LISTENER = """
[[listeners]]
address = "{host}:{port}"
kind = "mta"
tls = "implicit"
[tls]
certificate = "{folder}/certificate.pem"
key = "{folder}/key.pem"
"""


class Proxied:
    """Elemta behind HAProxy.

    Args:
        folder: Where its certificate is.
        is_encrypted: TLS 1.3 between the two.
    """

    def __init__(self, folder: Path, *, is_encrypted: bool) -> None:
        self.name = "TLS 1.3" if is_encrypted else "clear"
        self.workers = 1
        self._folder = folder
        self._is_encrypted = is_encrypted

    @contextlib.contextmanager
    def running(self, place: Place, mode: Mode, sink_port: int) -> Iterator[Server]:
        """Run both; the server has HAProxy's port."""
        behind, front = free_port(), free_port()
        more = _LISTENER.format(host=HOST, port=behind, folder=self._folder)
        try:
            with Elemta(1, more=more).running(place, mode, sink_port) as server:
                to = behind if self._is_encrypted else server.port
                with _proxy(place.folder, front, to, _TLS if self._is_encrypted else ""):
                    yield replace(server, port=front)
        finally:
            give_back(behind, front)


@contextlib.contextmanager
def _proxy(folder: Path, port: int, behind: int, how: str) -> Iterator[None]:
    config = folder / "haproxy.cfg"
    config.write_text(_PROXY.format(host=HOST, port=port, behind=behind, how=how))
    process = start([find_tool("haproxy"), "-db", "-f", str(config)], folder / "haproxy.out")
    try:
        await_banner(port, process, 10)
        yield
    finally:
        end(process)


def main() -> int:
    """Measure kept connections in clear and under TLS in turn."""
    given = _parser().parse_args()
    interrupt_once()
    print(f"{time.strftime('%Y-%m-%d %H:%M')}, {machine.describe()}", flush=True)
    try:
        with temporary_folder(given.dir) as folder:
            _compare(folder, given.runs, given.seconds)
    except BenchError as error:
        print(f"FAILED: {error}", flush=True)
        return 1
    return 0


def _compare(folder: Path, runs: int, seconds: float) -> None:
    make = [*command(), "tls", "selfsigned", "mx.bench.test"]
    make += ["--certificate", str(folder / "certificate.pem"), "--key", str(folder / "key.pem")]
    subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
    peers = [Proxied(folder, is_encrypted=is_encrypted) for is_encrypted in (False, True)]
    spool = open_spool(folder, loop=True, size=4 << 30)
    try:
        stand = Stand(folder, spool, unwatched)
        for size in (1024, 10240):
            case = Case(Mode.ACCEPT, size, keep=True, sessions=50)
            counts = [int(seconds * pilot(stand, peer, case)) for peer in peers]
            made = [
                _measure(stand, peer, case, count)
                for _ in range(runs)
                for peer, count in zip(peers, counts, strict=True)
            ]
            _tell(case, made[0::2], made[1::2])
    finally:
        spool.close()


def _measure(stand: Stand, peer: Proxied, case: Case, count: int) -> Run:
    run = measure(stand, peer, case, count)
    if run.problem:
        raise BenchError(run.problem)
    print(f"{case}, {peer.name}: {run.rate:,.0f}/s, {run.cpu_per_1000:.3f} CPU s/1,000", flush=True)
    return run


def _tell(case: Case, clear: list[Run], encrypted: list[Run]) -> None:
    rates = [statistics.median(run.rate for run in runs) for runs in (clear, encrypted)]
    costs = [statistics.median(run.cpu_per_1000 for run in runs) for runs in (clear, encrypted)]
    print(
        f"{case}: TLS keeps {100 * rates[1] / rates[0]:.0f} % of the rate, "
        f"and takes {costs[1] / costs[0]:.2f} times the CPU",
        flush=True,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.tls", description=__doc__)
    add = parser.add_argument
    add("--runs", type=int, default=3, help="runs of each kind (3)")
    add("--seconds", type=float, default=5.0, help="length of a measured load (5)")
    add("--dir", type=Path, help="make the temporary folder in this one")
    return parser


if __name__ == "__main__":
    sys.exit(main())
