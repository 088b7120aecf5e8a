"""What a plugin host is told to do, and what it may do."""

import msgspec

from elemta.plugins.settings import Limits


class Job(msgspec.Struct, frozen=True):
    """One plugin.

    Attributes:
        name: Of the plugin.
        path, module, library: Where its code is: one of them is set; `module` may be "x.y:CLASS".
        network: What it may connect to: see `Metadata.network`.
        files: What it may read and write: see `Metadata.files`.
        limits: See `Limits`.
        body_size: Octets of a body that takes the place of a message's.
        socket: Where to listen.
        parent: Process id of the worker: when that ends, it ends.
    """

    name: str
    path: str = ""
    module: str = ""
    library: str = ""
    network: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    limits: Limits = Limits()
    body_size: int = 25_000_000
    socket: str = ""
    parent: int = 0
