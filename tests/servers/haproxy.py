"""HAProxy in front of a server: it passes connections on, with a header of the PROXY protocol."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from servers.process import free_port, listens, program, start

_CONFIG = """
global
  log stderr format raw local0
defaults
  mode tcp
  timeout connect 5s
  timeout client 20s
  timeout server 20s
  timeout check 10s
listen mail
  bind 127.0.0.1:{port}
  server elemta 127.0.0.1:{target} {options}
"""


@dataclass(frozen=True)
class Haproxy:
    """A running proxy: the port where clients connect."""

    port: int


@contextlib.contextmanager
def haproxy(folder: Path, target: int, options: str) -> Iterator[Haproxy]:
    """Pass connections on to a port of 127.0.0.1; `options` are those of a `server` line."""
    port = free_port()
    config = folder / f"haproxy-{port}.cfg"
    config.write_text(_CONFIG.format(port=port, target=target, options=options))
    argv = [program("haproxy", "haproxy"), "-db", "-f", config]
    with start(argv, ready=listens(port), log=folder / "haproxy.log"):
        yield Haproxy(port)
