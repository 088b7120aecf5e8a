"""Knot, an authoritative name server, with zones of a test's own."""

import contextlib
import subprocess
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from servers.process import free_port, listens, program, start

SOA = "@ 3600 IN SOA ns.test. hostmaster.test. 1 3600 600 86400 {negative_ttl}\n@ IN NS ns.test.\n"


@contextlib.contextmanager
def run_knot(
    folder: Path, zones: Mapping[str, str], *, negative_ttl: int = 60, signed: Collection[str] = ()
) -> Iterator[tuple[str, int]]:
    """Serve zones (name to text, SOA and NS are added); gives the server's address and port.

    A name outside of the zones is refused, which a resolver reports as a failure. Those of
    `signed` are signed: see `find_anchor`.
    """
    knotd = program("knotd", "knot")
    port = free_port()
    home = folder / "knot"
    home.mkdir()
    lines = [
        f"server:\n    listen: 127.0.0.1@{port}\n    rundir: {home}\n    udp-workers: 1",
        "    tcp-workers: 1\n    background-workers: 1",
        "log:\n  - target: stderr\n    any: info",
        f"database:\n    storage: {home}",
        "policy:\n  - id: p\n    algorithm: ecdsap256sha256\n    single-type-signing: on",
        f'template:\n  - id: default\n    storage: {home}\n    file: "%s.zone"',
        "    zonefile-load: whole\n    zonefile-sync: -1\n    journal-content: none",
        "zone:",
    ]
    for name, text in zones.items():
        head = f"$ORIGIN {name}.\n$TTL 300\n" + SOA.format(negative_ttl=negative_ttl)
        (home / f"{name}.zone").write_text(head + text)
        lines.append(f"  - domain: {name}")
        if name in signed:
            lines.append("    dnssec-signing: on\n    dnssec-policy: p\n    journal-content: all")
    config = home / "knot.conf"
    config.write_text("\n".join(lines) + "\n")
    with start([knotd, "-c", config], ready=listens(port), log=home / "knot.log"):
        yield "127.0.0.1", port


def find_anchor(folder: Path, zone: str) -> str:
    """The DS record of a signed zone, for a server that runs in this folder; "" for not yet."""
    told = subprocess.run(
        [program("keymgr", "knot"), "-c", folder / "knot" / "knot.conf", zone, "ds"],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    lines = [line for line in told.stdout.splitlines() if " 13 2 " in line]
    return lines[0].replace(" DS ", " IN DS ") if lines else ""
