"""What a plugin host is told to do, and what it may do."""

import msgspec

MIB = 1024 * 1024


class Limits(msgspec.Struct, frozen=True):
    """What a process may take.

    Attributes:
        memory: Octets of address space, Python and gRPC included (they take 170 MB of it).
        cpu: Seconds of computing for one call.
        files: Open at a time.
        file_size: Octets of a file that it may write.
    """

    memory: int = 512 * MIB
    cpu: int = 10
    files: int = 64
    file_size: int = 100 * MIB


class Job(msgspec.Struct, frozen=True):
    """One plugin.

    Attributes:
        name: Of the plugin.
        path, module, library: Where its code is: one of them is set; `module` may be "x.y:CLASS".
        network: What it may connect to: see `Metadata.network`.
        files: What it may read and write: see `Metadata.files`.
        limits: See `Limits`.
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
    socket: str = ""
    parent: int = 0
