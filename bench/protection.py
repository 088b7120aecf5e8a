"""`python -m bench.protection`: what the protection that asks nobody takes from ACCEPT.

The clients are strangers, to whom all of it applies: limits of connections, messages and bytes by
address, network and sender; a hundred thousand entries in lists of rules; a greylist that knows
them; two lists in the DNS, whose answers are remembered. A Knot of our own answers the first
questions.
"""

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench.dialogue import Dialogue
from bench.knot import running_knot
from bench.load import DOMAIN
from bench.loopback import HOST
from bench.options import Case, Mode
from bench.peers import Elemta, Place, Server
from bench.profiler import unwatched
from bench.run import Stand
from bench.spool import open_spool
from bench.turns import Medians, parse, report, take_turns

SIZES = (1024, 10240)
_ENTRIES = 100_000
_ZONES = {
    "client.test": '@ A 127.0.0.1\n@ TXT "v=spf1 ip4:127.0.0.0/8 -all"\n',
    "one.lists.test": "2.0.0.127 A 127.0.0.2\n",
    "two.lists.test": "2.0.0.127 A 127.0.0.2\n",
}
_RELAY = f'local_domains = ["{DOMAIN}"]\ntrusted_networks = []'
_PROTECTION = """
[dns]
nameservers = ["{host}:{port}"]

[plugins]
plugins = ["rate-limiter", "dnsbl", "rules", "greylist"]

[[plugins.rate-limiter.limits]]
name = "connections"
of = "connections"
rate = "10000000/m"

[[plugins.rate-limiter.limits]]
name = "messages"
by = ["network"]
rate = "10000000/m"

[[plugins.rate-limiter.limits]]
name = "senders"
by = ["address", "sender_domain"]
rate = "10000000/m"

[[plugins.rate-limiter.limits]]
name = "bytes"
of = "bytes"
rate = "100000GB/d"

[[plugins.dnsbl.lists]]
zone = "one.lists.test"

[[plugins.dnsbl.lists]]
zone = "two.lists.test"

[plugins.greylist]
delay = 1
auto_allow = 0

[plugins.rules]
files = ["{folder}/rules.toml"]
"""
_RULES = """[[lists]]
name = "networks"
kind = "address"
use = "deny"
file = "networks.txt"

[[lists]]
name = "senders"
kind = "mail"
use = "deny"
file = "senders.txt"

[[rule]]
name = "night"
hook = "rcpt"
when = 'recipient_domain == "night.test" && !in_hours("Mon-Fri 09:00-17:00", "UTC")'
then = "defer"

[[rule]]
name = "subject"
hook = "data"
when = 'subject.matches("(?i)cheap.{0,20}watches") || has_header("X-Unwanted")'
then = "quarantine"
"""


class Protected(Elemta):
    """Elemta that has met the sender before it is measured: else its mail would have to wait."""

    @contextlib.contextmanager
    def running(self, place: Place, mode: Mode, sink_port: int) -> Iterator[Server]:
        with super().running(place, mode, sink_port) as server:
            for code in (b"450", b"250"):
                _ask(server.port, code)
                time.sleep(1.1)  # the greylist wants it
            yield server


def _ask(port: int, code: bytes) -> None:
    """Come as far as RCPT; smtp-source will say the same."""
    session = Dialogue(port)
    try:
        session.say("EHLO client.bench.test", b"250")
        session.say("MAIL FROM:<a@client.test>", b"250")
        session.say(f"RCPT TO:<b@{DOMAIN}>", code)
        session.say("QUIT", b"221")
    finally:
        session.close()


def _write_rules(folder: Path) -> None:
    half = _ENTRIES // 2
    networks = (f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}/32\n" for n in range(half))
    (folder / "networks.txt").write_text("".join(networks))
    senders = (f"sender{n}@unwanted{n % 977}.test\n" for n in range(_ENTRIES - half))
    (folder / "senders.txt").write_text("".join(senders))
    (folder / "rules.toml").write_text(_RULES)


def main() -> int:
    """Measure kept and fresh connections without and with protection, in turn."""
    given = parse("bench.protection", __doc__, SIZES)

    def compare(folder: Path) -> None:
        _write_rules(folder)
        spool = open_spool(folder, loop=True, size=4 << 30)
        try:
            with running_knot(folder / "dns", _ZONES) as port:
                more = _PROTECTION.format(host=HOST, port=port, folder=folder)
                peers = [Elemta(1), Protected(1, more=more, relay=_RELAY)]
                stand = Stand(folder, spool, unwatched)
                for size in given.sizes:
                    for keep in (True, False):
                        case = Case(Mode.ACCEPT, size, keep=keep, sessions=50)
                        _tell(case, *take_turns(stand, peers, case, given.runs, given.seconds))
        finally:
            spool.close()

    return report(given.dir, compare)


def _tell(case: Case, plain: Medians, protected: Medians) -> None:
    print(
        f"{case}: {plain.rate:,.0f}/s as it is, {protected.rate:,.0f}/s with protection "
        f"({100 * protected.rate / plain.rate:.0f} %, target: 60), "
        f"{protected.cpu / plain.cpu:.2f} times the CPU",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
