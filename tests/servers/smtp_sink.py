"""Postfix's smtp-sink: a fast next hop that takes everything and keeps nothing."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from servers.process import free_port, listens, program, start


@contextlib.contextmanager
def run_smtp_sink(folder: Path, *options: str) -> Iterator[int]:
    """Serve SMTP, or LMTP with the option "-L"; gives the port on 127.0.0.1."""
    sink = program("smtp-sink", "postfix")
    port = free_port()
    user = ("-u", "nobody") if os.geteuid() == 0 else ()
    argv = [sink, *user, *options, f"127.0.0.1:{port}", "128"]
    with start(argv, ready=listens(port), log=folder / "smtp-sink.log"):
        yield port
