"""Unbound, a validating resolver, in front of a Knot with zones of a test's own."""

import contextlib
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from servers.knot import find_anchor, resolves, run_knot
from servers.process import free_port, program, start

FALSE = "0" * 64  # a digest that no key has
VERSION = ("version.bind", 16, 3)  # which it answers by itself, and keeps nothing for it
CONFIG = """
server:
    interface: 127.0.0.1
    port: {port}
    do-daemonize: no
    username: ""
    chroot: ""
    directory: "{home}"
    pidfile: "{home}/pid"
    use-syslog: no
    logfile: ""
    access-control: 127.0.0.0/8 allow
    do-not-query-localhost: no
{avoided}
    module-config: "{modules}"
    trust-anchor-file: "{home}/anchors"
    local-zone: "test." nodefault
    local-zone: "127.in-addr.arpa." nodefault
    root-hints: ""
    num-threads: 1
    ede: {ede}
{insecure}
remote-control:
    control-enable: no
"""


@dataclass(frozen=True)
class Names:
    """Where names are looked up.

    Attributes:
        validating: Address and port of the resolver, `authoritative` those of Knot behind it.
    """

    validating: tuple[str, int]
    authoritative: tuple[str, int]


@contextlib.contextmanager
def run_unbound(
    folder: Path,
    zones: Mapping[str, str],
    *,
    signed: Collection[str] = (),
    bogus: Collection[str] = (),
    validates: bool = True,
    ede: bool = True,
    avoids: Collection[str] = (),
) -> Iterator[Names]:
    """Serve zones through a resolver that validates them; of other names it knows nothing.

    Args:
        folder: For what the servers keep.
        zones: Name to text, as for `run_knot`.
        signed: Zones whose keys the resolver knows.
        bogus: Zones that are signed, by other keys than the resolver knows.
        validates: Whether it looks at signatures at all.
        ede: Whether it says why something is bogus.
        avoids: Addresses of name servers that it does not ask: what they have fails at once.
    """
    unbound = program("unbound", "unbound")
    home = folder / "unbound"
    home.mkdir()
    port = free_port()
    with run_knot(folder, zones, signed=(*signed, *bogus)) as authoritative:
        anchors = [_anchor(folder, zone) for zone in signed]
        for zone in bogus:
            words = _anchor(folder, zone).split()
            anchors.append(" ".join([*words[:-1], FALSE]))
        (home / "anchors").write_text("\n".join(anchors) + "\n")
        plain = [zone for zone in zones if zone not in {*signed, *bogus}]
        text = CONFIG.format(
            port=port,
            home=home,
            modules="validator iterator" if validates else "iterator",
            ede="yes" if ede else "no",
            avoided="\n".join(f"    do-not-query-address: {address}" for address in avoids),
            insecure="\n".join(f'    domain-insecure: "{zone}."' for zone in plain),
        )
        for zone in (".", *zones):  # Knot refuses what it does not know: nobody else is asked
            text += f'stub-zone:\n    name: "{zone}"\n    stub-addr: 127.0.0.1@{authoritative[1]}\n'
        config = home / "unbound.conf"
        config.write_text(text)
        ready = resolves(port, VERSION)
        with start([unbound, "-d", "-c", config], ready=ready, log=home / "log"):
            yield Names(("127.0.0.1", port), authoritative)


def _anchor(folder: Path, zone: str) -> str:
    """The DS record of a zone, once it has been signed."""
    limit = time.monotonic() + 40
    while not (anchor := find_anchor(folder, zone)):
        if time.monotonic() > limit:
            pytest.fail(f"{zone} is not signed; the log of Knot is in {folder}")
        time.sleep(0.05)
    return anchor
