"""`python -m bench.chain`: what it takes from ACCEPT to find out who sent each message.

All checks of `[authentication]` are on: iprev, SPF, DKIM, ARC and DMARC, and their results are
written down. Messages come signed (RSA-2048, smtp-source sends the same one again and again) and
unsigned. A Knot of our own answers for their domain; after the first message the answers are
remembered.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from bench.auth import Bench
from bench.knot import running_knot
from bench.loopback import HOST
from bench.options import Case, Mode
from bench.peers import Elemta
from bench.profiler import unwatched
from bench.run import Stand
from bench.spool import open_spool
from bench.turns import Medians, parse, report, take_turns

SIZES = (1024, 10240)
_ZONES = {
    "client.test": """\
@ TXT "v=spf1 ip4:192.0.2.0/24 ip4:198.51.100.0/24 include:_spf.client.test -all"
_spf TXT "v=spf1 ip4:203.0.113.0/24 ip4:127.0.0.0/8 -all"
_dmarc TXT "v=DMARC1; p=reject; adkim=r; aspf=r"
{selector}._domainkey TXT {key}
""",
    "bench.test": 'client A 127.0.0.1\nclient TXT "v=spf1 a -all"\n',
    "127.in-addr.arpa": "1.0.0 PTR client.bench.test.\n",
}
_CHECKS = """
[dns]
nameservers = ["{host}:{port}"]
[authentication]
iprev_enabled = true
spf_enabled = true
dkim_enabled = true
arc_enabled = true
dmarc_enabled = true
[plugins.iprev]
judge_trusted = true
[plugins.spf]
judge_trusted = true
[plugins.dkim]
judge_trusted = true
sign = false
[plugins.arc]
judge_trusted = true
[plugins.dmarc]
judge_trusted = true
"""


def _zones(bench: Bench) -> dict[str, str]:
    key = " ".join(f'"{part}"' for part in _split(bench.key.record()))
    return {
        name: records.format(selector=bench.selector, key=key) for name, records in _ZONES.items()
    }


def _split(record: str) -> Iterator[str]:
    """Cut into strings of a TXT record."""
    for at in range(0, len(record), 250):
        yield record[at : at + 250]


def _write_signed(folder: Path, size: int) -> tuple[Bench, Path]:
    """Write a signed message of that size, as smtp-source wants it."""
    bench = Bench(domain="client.test", size=size)
    file = folder / f"signed-{size}"
    file.write_bytes((bench.signed + bench.body).replace(b"\r\n", b"\n"))
    return bench, file


def main() -> int:
    """Measure kept connections without and with the checks, in turn."""
    given = parse("bench.chain", __doc__, SIZES)

    def compare(folder: Path) -> None:
        for size in given.sizes:
            _compare(folder, size, given.runs, given.seconds)

    return report(given.dir, compare)


def _compare(folder: Path, size: int, runs: int, seconds: float) -> None:
    bench, file = _write_signed(folder, size)
    spool = open_spool(folder, loop=True, size=4 << 30)
    try:
        with running_knot(folder / f"dns-{size}", _zones(bench)) as port:
            stand = Stand(folder, spool, unwatched)
            peers = [Elemta(1), Elemta(1, more=_CHECKS.format(host=HOST, port=port))]
            for content in (None, file):
                case = Case(Mode.ACCEPT, size, keep=True, sessions=50, content=content)
                _tell(case, *take_turns(stand, peers, case, runs, seconds))
    finally:
        spool.close()


def _tell(case: Case, plain: Medians, checked: Medians) -> None:
    print(
        f"{case}, {'signed' if case.content else 'unsigned'}: {plain.rate:,.0f}/s without checks, "
        f"{checked.rate:,.0f}/s with them ({100 * checked.rate / plain.rate:.0f} %, target: 40), "
        f"{checked.cpu / plain.cpu:.2f} times the CPU",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
