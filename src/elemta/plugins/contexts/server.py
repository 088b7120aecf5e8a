"""What plugins are told of the server itself, and of those who attack it."""

from collections.abc import Sequence

from elemta.plugins.contexts.context import Context


class ServerContext(Context):
    """The life of the server.

    Attributes:
        hostname, version: Of this server.
        worker: Number of the worker this runs in, from 0: each has its own plugins.
    """

    __slots__ = ("hostname", "version", "worker")

    def __init__(self, hook: str, hostname: str, version: str, worker: int) -> None:
        super().__init__(hook)
        self.hostname = hostname
        self.version = version
        self.worker = worker


class ConfigContext(ServerContext):
    """A configuration that has been read.

    Attributes:
        changed: Names of settings that a reload has changed ("queue.max_age"); () at the start.
    """

    __slots__ = ("changed",)

    def __init__(
        self, hook: str, hostname: str, version: str, worker: int, changed: Sequence[str] = ()
    ) -> None:
        super().__init__(hook, hostname, version, worker)
        self.changed = tuple(changed)


class SecurityContext(Context):
    """An attack, or what only a badly broken peer does; a limit, a ban; what a plugin has noticed.

    Attributes:
        kind: What ("early_talk", "bare_newline"...), as in the log; "limit_reached",
            "connection_refused" and "banned" are the server's, too; or what a plugin has reported.
        detail: In words; of a limit its name, of a refusal the limit or "ban".
        session_id, client_ip: Who.
    """

    __slots__ = ("client_ip", "detail", "kind", "session_id")

    def __init__(self, hook: str, kind: str, detail: str, session_id: str, client_ip: str) -> None:
        super().__init__(hook)
        self.kind = kind
        self.detail = detail
        self.session_id = session_id
        self.client_ip = client_ip
