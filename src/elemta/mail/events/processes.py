"""The server, its processes and its plugins."""

from typing import ClassVar

from elemta.mail.events.base import Event


class ServerStarted(Event, tag="server_started", frozen=True, omit_defaults=True):
    """The supervisor has bound its sockets and started its workers."""

    version: str
    workers: int
    listeners: list[str]


class ServerStopped(Event, tag="server_stopped", frozen=True, omit_defaults=True):
    """Everything is closed."""

    reason: str


class ConfigChanged(Event, tag="config_changed", frozen=True, omit_defaults=True):
    """A reload ended: what was applied, what needs a restart, or why it was refused."""

    applied: list[str]
    needs_restart: list[str]
    error: str = ""


class RestartFailed(Event, tag="restart_failed", frozen=True, omit_defaults=True):
    """A restart came to nothing: the server goes on as it was."""

    LEVEL: ClassVar[str] = "error"
    error: str


class ServerReplaced(Event, tag="server_replaced", frozen=True, omit_defaults=True):
    """Another process is the server now; this one finishes the messages under way, and ends."""

    pid: int


class WorkerStarted(Event, tag="worker_started", frozen=True, omit_defaults=True):
    """A worker is ready."""

    worker: int
    pid: int


class WorkerRestarted(Event, tag="worker_restarted", frozen=True, omit_defaults=True):
    """A worker, or the web process, died and is started again after `delay_s` seconds."""

    LEVEL: ClassVar[str] = "error"
    worker: int
    status: str
    delay_s: float
    process: str = "worker"


class ShardAdopted(Event, tag="shard_adopted", frozen=True, omit_defaults=True):
    """A worker took over the mail of a shard whose own worker is no more."""

    shard: int
    worker: int


class InternalError(Event, tag="internal_error", frozen=True, omit_defaults=True):
    """A defect: an exception that nobody expected, caught where it can hurt least."""

    LEVEL: ClassVar[str] = "error"
    where: str
    error: str
    queue_id: str = ""
    session_id: str = ""


class PluginError(Event, tag="plugin_error", frozen=True, omit_defaults=True):
    """A plugin raised, took too long or answered nonsense; the peer was told `why_id`."""

    LEVEL: ClassVar[str] = "error"
    plugin: str
    hook: str
    error: str
    why_id: str = ""
    queue_id: str = ""
    session_id: str = ""


class PluginShadow(Event, tag="plugin_shadow", frozen=True, omit_defaults=True):
    """What a plugin in shadow mode would have done."""

    plugin: str
    hook: str
    action: str
    reply: str = ""
    reason: str = ""
    queue_id: str = ""
    session_id: str = ""


class PluginChanged(Event, tag="plugin_changed", frozen=True, omit_defaults=True):
    """A plugin was loaded, enabled, disabled, reloaded or closed, or that failed."""

    plugin: str
    change: str
    version: str = ""
    error: str = ""


class PluginLogged(Event, tag="plugin_logged", frozen=True, omit_defaults=True):
    """What a plugin has to say; `level` is its own, and decides whether it is written at all."""

    plugin: str
    level: str
    text: str


class Notice(Event, tag="notice", frozen=True, omit_defaults=True):
    """Something an operator may want to know, in words."""

    LEVEL: ClassVar[str] = "warning"
    subject: str
    detail: str
