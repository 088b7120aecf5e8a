"""Knot, an authoritative name server, with zones of a test's own."""

import contextlib
import socket
import struct
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from servers.process import free_port, program, start

SOA = "@ 3600 IN SOA ns.test. hostmaster.test. 1 3600 600 86400 {negative_ttl}\n@ IN NS ns.test.\n"
SOA_TYPE = 6


def resolves(port: int, *questions: tuple[str, int, int]) -> Callable[[], bool]:
    """A probe: a name server has an answer to each of these names, types and classes.

    Its port is open before it has read its zones, and those who ask then may not wait so long.
    """

    def is_answered(client: socket.socket, name: str, rdtype: int, rdclass: int) -> bool:
        labels = b"".join(bytes([len(each)]) + each for each in name.encode().split(b"."))
        head = struct.pack("!6H", port, 0x0100, 1, 0, 0, 0)
        client.sendto(head + labels + struct.pack("!xHH", rdtype, rdclass), ("127.0.0.1", port))
        answer = client.recv(4096)
        number, flags, _, found = struct.unpack_from("!4H", answer)
        return number == port and not flags & 0xF and found > 0

    def probe() -> bool:
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
        ):
            client.settimeout(1)
            return all(is_answered(client, *each) for each in questions)
        return False

    return probe


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
    ready = resolves(port, *((name, SOA_TYPE, 1) for name in zones))
    with start([knotd, "-c", config], ready=ready, log=home / "knot.log"):
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
