"""`python -m bench.scanners`: mail that clamd and Rspamd judge, and whose the CPU time is.

Both are real. Rspamd has its stock rules, without those that ask the Internet. The signatures of
clamd's makers cannot be had without the Internet either: it has made-up ones, a hundred thousand;
with the real ones, which are eighty times as many, it takes longer. They run on the same machine
and share its cores with Elemta and the load; whoever takes most is what to add machines for.
"""

import contextlib
import os
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.auth import Bench
from bench.load import find_tool
from bench.loopback import HOST, free_port, give_back
from bench.options import Case, Mode
from bench.peers import Elemta, Server
from bench.processes import BenchError, start, stop
from bench.run import Run, Stand, measure, pilot
from bench.spool import open_spool
from bench.turns import parse, report, usable

SIZES = (10_240, 102_400)
_TICKS = os.sysconf("SC_CLK_TCK")
_CLAMD = """\
LocalSocket {socket}
DatabaseDirectory {folder}/signatures
TemporaryDirectory {folder}
Foreground yes
MaxThreads 8
ConcurrentDatabaseReload no
"""
_SIGNATURES = 100_000
_SEED = 20_261_121
_OVERRIDES = {
    "options.inc": 'dns {{ nameserver = ["{host}:{port}"]; timeout = 0.01s; retransmits = 1; }}\n'
    "local_addrs = [];\n",
    "worker-normal.inc": 'bind_socket = "{socket} mode=0600"; count = 1;\n',
    "logging.inc": 'type = "console"; level = "error";\n',
    "redis.conf": "enabled = false;\n",
}
_OFF = (
    *("antivirus", "arc", "asn", "bimi", "clickhouse", "dcc", "dkim", "dkim_signing", "dmarc"),
    *("external_services", "fuzzy_check", "greylist", "history_redis", "maillist", "mid"),
    *("metric_exporter", "mx_check", "neural", "p0f", "phishing", "ratelimit", "rbl"),
    *("reputation", "rspamd_update", "spamassassin", "spf", "surbl", "url_redirector"),
)
_CONTROLLERS = ("worker-controller.inc", "worker-proxy.inc", "worker-fuzzy.inc")
_PLUGIN = '[plugins.{name}]\nservers = ["{socket}"]\nprobe_every = 0\nmax_size = 30000000\n'


@dataclass(frozen=True, slots=True)
class Family:
    """A process and its descendants."""

    first: int

    def pids(self) -> list[int]:
        """Give those that live."""
        parents = {pid: parent for pid, parent, _cpu in _processes()}
        found = {self.first} & parents.keys()
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return sorted(found)

    def cpu(self) -> float:
        """Give the CPU seconds that they have taken."""
        ours = set(self.pids())
        return sum(cpu for pid, _parent, cpu in _processes() if pid in ours)


def _processes() -> Iterator[tuple[int, int, float]]:
    """Give process id, that of the parent, and CPU seconds of all processes."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(") ")[2].split()
            yield int(path.parent.name), int(fields[1]), sum(map(int, fields[11:13])) / _TICKS


@dataclass(frozen=True, slots=True)
class Scanner:
    """A running scanner: its socket and its processes."""

    path: Path
    family: Family


@dataclass
class Watch:
    """Looks at scanners while a load is measured.

    Attributes:
        cores: What each of them has taken in the last one, by name.
    """

    scanners: dict[str, Family] = field(default_factory=dict)
    cores: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def __call__(self, _server: Server, _run: Run) -> Iterator[None]:
        before, begin = self._cpu(), time.monotonic()
        yield
        took = time.monotonic() - begin
        after = self._cpu()
        self.cores = {name: (after[name] - before[name]) / took for name in after}

    def _cpu(self) -> dict[str, float]:
        return {name: family.cpu() for name, family in self.scanners.items()}


@contextlib.contextmanager
def _running(command: Sequence[str], path: Path, log: Path) -> Iterator[Family]:
    process = start(command, log)
    family = Family(process.pid)
    try:
        _await_socket(path, process)
        yield family
    finally:
        stop(process, family, process.pid, 10)


def _await_socket(path: Path, process: subprocess.Popen[bytes]) -> None:
    end_at = time.monotonic() + 90
    while time.monotonic() < end_at and process.poll() is None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            return
        time.sleep(0.05)
    raise BenchError(f"nothing listens at {path}")


@contextlib.contextmanager
def running_clamd(folder: Path) -> Iterator[Scanner]:
    """Run clamd."""
    home = folder / "clamd"
    (home / "signatures").mkdir(parents=True)
    with (home / "signatures" / "bench.ndb").open("w") as file:
        source = random.Random(_SEED)
        file.writelines(f"B{n}:0:*:{source.randbytes(40).hex()}\n" for n in range(_SIGNATURES))
    path = home / "socket"
    (home / "conf").write_text(_CLAMD.format(socket=path, folder=home))
    command = [find_tool("clamd"), "-c", str(home / "conf")]
    with _running(command, path, home / "log") as family:
        yield Scanner(path, family)


@contextlib.contextmanager
def running_rspamd(folder: Path) -> Iterator[Scanner]:
    """Run Rspamd; nobody answers what it asks the DNS."""
    port, home = free_port(), folder / "rspamd"
    override, path = home / "local" / "override.d", home / "socket"
    override.mkdir(parents=True)
    for name, text in _OVERRIDES.items():
        (override / name).write_text(text.format(host=HOST, port=port, socket=path))
    for name in (*(f"{module}.conf" for module in _OFF), *_CONTROLLERS):
        (override / name).write_text("enabled = false;\n")
    command = [find_tool("rspamd"), "-f", "-i", "-c", "/etc/rspamd/rspamd.conf"]
    command.append(f"--var=LOCAL_CONFDIR={home / 'local'}")
    command += [f"--var={name}={home}" for name in ("DBDIR", "RUNDIR", "LOGDIR")]
    try:
        with _running(command, path, home / "log") as family:
            yield Scanner(path, family)
    finally:
        give_back(port)


def main() -> int:
    """Measure kept connections without scanners, with each of them, and with both."""
    given = parse("bench.scanners", __doc__, SIZES)
    sizes, runs, seconds = given.sizes, given.runs, given.seconds
    return report(given.dir, lambda folder: _compare(folder, sizes, runs, seconds))


def _compare(folder: Path, sizes: Sequence[int], runs: int, seconds: float) -> None:
    spool = open_spool(folder, loop=True, size=4 << 30)
    try:
        with running_clamd(folder) as clamd, running_rspamd(folder) as rspamd:
            known = {"clamav": clamd, "rspamd": rspamd}
            watch = Watch({name: scanner.family for name, scanner in known.items()})
            stand = Stand(folder, spool, watch)
            for size in sizes:
                content = _write_message(folder, size)
                case = Case(Mode.ACCEPT, size, keep=True, sessions=50, content=content)
                for names in ((), ("clamav",), ("rspamd",), ("clamav", "rspamd")):
                    asked = {name: known[name].path for name in names}
                    _measure(stand, watch, case, asked, (runs, seconds))
    finally:
        spool.close()


def _measure(
    stand: Stand, watch: Watch, case: Case, asked: dict[str, Path], given: tuple[int, float]
) -> None:
    runs, seconds = given
    peer = Elemta(1, more=_configure(asked))
    count = max(50, int(seconds * pilot(stand, peer, case)))
    rates, cores = [], []
    for _ in range(runs):
        run = usable(measure(stand, peer, case, count))
        rates.append(run.rate)
        cores.append({"Elemta": run.cpu / run.took} | watch.cores)
    taken = {name: statistics.median(each[name] for each in cores) for name in cores[0]}
    shown = ", ".join(f"{name} {number:.2f}" for name, number in taken.items())
    most = max(taken, key=lambda name: taken[name])
    print(
        f"{case}, {' and '.join(asked) or 'no scanner'}: {statistics.median(rates):,.0f}/s; "
        f"cores: {shown}; the most: {most}",
        flush=True,
    )


def _configure(asked: dict[str, Path]) -> str:
    names = ", ".join(f'"{name}"' for name in asked)
    tables = (_PLUGIN.format(name=name, socket=path) for name, path in asked.items())
    return "\n".join([f"[plugins]\nplugins = [{names}]", *tables])


def _write_message(folder: Path, size: int) -> Path:
    """Write a message of words of that size, as smtp-source wants it."""
    message = Bench(domain="client.test", size=size)
    file = folder / f"message-{size}"
    file.write_bytes((message.head + message.body).replace(b"\r\n", b"\n"))
    return file


if __name__ == "__main__":
    sys.exit(main())
