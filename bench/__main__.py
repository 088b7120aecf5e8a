"""`python -m bench`: measure Elemta and Postfix in turn and print how they compare."""

import contextlib
import sys
import time

from bench import machine, report
from bench.load import find_tool
from bench.options import RESULTS, Options, parse
from bench.peers import Postfix
from bench.processes import BenchError, interrupt_once
from bench.profiler import Profiler, unwatched
from bench.rounds import MOST, contestants, play
from bench.run import Run, Stand
from bench.spool import open_spool, temporary_folder


def spool_size(options: Options) -> int:
    """Say how many octets the spool needs: a multiple of what the fastest may leave in a run."""
    fastest = 20_000  # messages a second
    left = min(MOST, int(fastest * options.seconds) * max(options.sizes))
    return max(1 << 30, 7 * left >> 20 << 20)


def tell(text: str) -> None:
    """Print at once."""
    print(text, flush=True)


def main() -> int:
    """Run the benchmark; the exit status is 1 where a run was bad."""
    options = parse()
    interrupt_once()
    header: list[str] = []
    runs: list[Run] = []
    stopped = False
    try:
        with contextlib.ExitStack() as stack:
            _play(options, stack, header, runs)
    except BenchError as error:
        tell(f"bench: {error}")
        return 2
    except KeyboardInterrupt:
        tell("bench: stopped; everything that was started has been ended")
        stopped = True
    if runs:
        _conclude(options, header, runs)
    if stopped:
        return 130
    return 0 if runs and not any(run.problem for run in runs) else 1


def _play(
    options: Options, stack: contextlib.ExitStack, header: list[str], runs: list[Run]
) -> None:
    find_tool("smtp-source")
    peers = contestants(options)
    RESULTS.mkdir(exist_ok=True)
    watch = Profiler(RESULTS).watch if options.profile else unwatched
    folder = stack.enter_context(temporary_folder(options.folder))
    spool = open_spool(folder, loop=options.loop, size=spool_size(options))
    stack.callback(spool.close)
    versions = [f"Postfix {peer.version}" for peer in peers if isinstance(peer, Postfix)]
    header += [
        ", ".join([time.strftime("%Y-%m-%d %H:%M"), machine.describe(), *versions]),
        f"Spool: {spool.description}. {options.sessions} sessions; medians of {options.runs} runs "
        f"of about {options.seconds:g} s; load generator and sink on the same machine.",
    ]
    for text in header:
        tell(text)
    runs.extend(play(Stand(folder, spool, watch), peers, options, tell))


def _conclude(options: Options, header: list[str], runs: list[Run]) -> None:
    text = "\n\n".join([*header, report.table(runs)])
    tell("\n" + text)
    name = RESULTS / time.strftime("%Y%m%d-%H%M%S")
    name.with_suffix(".md").write_text(text + "\n")
    for path in (name.with_suffix(".json"), options.json):
        if path is not None:
            report.write_json(path, header, runs)
    tell(f"\nkept as {name}.md and .json")


if __name__ == "__main__":
    sys.exit(main())
