"""A name server of our own: Knot, with the zones that a benchmark asks for."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from bench.load import find_tool
from bench.loopback import HOST, await_port, free_port, give_back
from bench.processes import end, start

_SOA = "$TTL 3600\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\n"
_KNOT = """\
server:
    listen: {host}@{port}
    rundir: {folder}
database:
    storage: {folder}
template:
  - id: default
    storage: {folder}
    file: "%s.zone"
    zonefile-sync: -1
    journal-content: none
zone:
"""


@contextlib.contextmanager
def running_knot(folder: Path, zones: Mapping[str, str]) -> Iterator[int]:
    """Run it in a folder that it makes; gives its port.

    Args:
        folder: Of its own.
        zones: The records of each zone, as lines of a zone file; SOA and NS are added.
    """
    port = free_port()
    folder.mkdir()
    text = _KNOT.format(host=HOST, port=port, folder=folder)
    for name, records in zones.items():
        (folder / f"{name}.zone").write_text(_SOA + records)
        text += f"  - domain: {name}\n"
    (folder / "knot.conf").write_text(text)
    process = start([find_tool("knotd"), "-c", str(folder / "knot.conf")], folder / "knot.log")
    try:
        await_port(port, process, 10)
        yield port
    finally:
        end(process)
        give_back(port)
