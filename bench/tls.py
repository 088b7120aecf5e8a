"""`python -m bench.tls`: what TLS costs on reception.

The load speaks no TLS, so HAProxy stands between it and Elemta both times: it passes octets on in
clear, or encrypts them on the way. What is compared is thus Elemta's side alone.
"""

import argparse
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bench.load import find_tool
from bench.loopback import HOST, await_banner, free_port, give_back
from bench.options import Case, Mode
from bench.peers import Elemta, Place, Server
from bench.peers.elemta import command
from bench.processes import end, start
from bench.profiler import unwatched
from bench.run import Stand
from bench.spool import open_spool
from bench.turns import Medians, report, take_turns

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
    return report(given.dir, lambda folder: _compare(folder, given.runs, given.seconds))


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
            _tell(case, *take_turns(stand, peers, case, runs, seconds))
    finally:
        spool.close()


def _tell(case: Case, clear: Medians, encrypted: Medians) -> None:
    print(
        f"{case}: {clear.rate:,.0f}/s in clear, {encrypted.rate:,.0f}/s with TLS 1.3, which keeps "
        f"{100 * encrypted.rate / clear.rate:.0f} % of the rate, "
        f"and takes {encrypted.cpu / clear.cpu:.2f} times the CPU",
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
