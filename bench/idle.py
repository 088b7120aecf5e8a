"""Many sessions that say nothing: what each of them costs in memory."""

import contextlib
import resource
import time
from collections.abc import Callable

from bench.dialogue import Dialogue
from bench.options import Mode
from bench.peers import Elemta, Place
from bench.processes import BenchError
from bench.sampler import Peak, Sampler

_SPARE = 200  # file descriptors for anything else


def measure_idle(place: Place, sessions: int, tell: Callable[[str], None]) -> None:
    """Open sessions, greet in each, and tell how far memory rose.

    Raises:
        BenchError: So many are not allowed, or one was refused.
    """
    allow_files(sessions + _SPARE)
    with Elemta(1).running(place, Mode.ACCEPT, 0) as server:
        for _ in range(50):
            _open(server.port).close()
        time.sleep(2)
        before = _look(Sampler(server.account))
        with contextlib.ExitStack() as stack:
            begin = time.monotonic()
            for _ in range(sessions):
                stack.callback(_open(server.port).close)
            took = time.monotonic() - begin
            time.sleep(3)
            after = _look(Sampler(server.account))
    each = (after.biggest - before.biggest) / sessions / 1024
    tell(
        f"{sessions:,} idle sessions after EHLO: {each:.1f} KiB each (worker's RSS "
        f"{before.biggest / 2**20:,.1f} -> {after.biggest / 2**20:,.1f} MiB, whole server's PSS "
        f"{before.pss / 2**20:,.1f} -> {after.pss / 2**20:,.1f} MiB), opened in {took:.1f} s"
    )


def allow_files(count: int) -> None:
    """Raise the limit of open files of this process and those it starts.

    Raises:
        BenchError: The hard limit is lower.
    """
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise BenchError(f"ulimit -Hn is {hard}, {count} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (count if hard < 0 else hard, hard))


def _open(port: int) -> Dialogue:
    session = Dialogue(port)
    session.say("EHLO client.bench.test", b"250")
    return session


def _look(sampler: Sampler) -> Peak:
    sampler.look(pss=True)
    return sampler.peak
