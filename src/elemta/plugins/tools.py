"""What the server lends a plugin: a log, figures, keys and values, a cache, the time, the DNS."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from elemta.mail.clock import Clock
from elemta.mail.errors import PluginError
from elemta.mail.rate import Rate
from elemta.mailauth import Resolver

T = TypeVar("T")

NOT_LENT = "rates are not lent to plugins in processes of their own"


class PluginLog(Protocol):
    """Lines in the plugin's name, in the server's log and in a file of the plugin's own."""

    def debug(self, text: str) -> None: ...
    def info(self, text: str) -> None: ...
    def warning(self, text: str) -> None: ...
    def error(self, text: str) -> None: ...


class Counters(Protocol):
    """Figures of a plugin's own in `/metrics`, as `elemta_plugin_NAME_...`.

    Names, also those of labels, are made of a-z, 0-9 and _.

    Raises:
        ValueError: A name is none, there are more than 8 labels, or a counter would shrink.
    """

    def count(self, name: str, /, amount: float = 1, **labels: str) -> None:
        """Add to a counter; it begins at 0. Of each there are at most 100 sets of labels."""
        ...

    def observe(self, name: str, /, value: float, **labels: str) -> None:
        """Add a value to a histogram."""
        ...


class Store(Protocol):
    """Keys and values of a plugin, on disk, the same for all workers of the node.

    Raises:
        PluginError: It cannot be read or written, a key has more than 512 octets, a value more
            than 64 KiB, or the plugin keeps too much.
    """

    async def get(self, key: str) -> bytes | None: ...
    async def set(self, key: str, value: bytes, *, ttl: float | None = None) -> None:
        """Keep a value, for `ttl` seconds or until it is deleted."""
        ...

    async def delete(self, key: str) -> None: ...
    async def increment(self, key: str, amount: int = 1, *, ttl: float | None = None) -> int:
        """Add to a number at one stroke; `ttl` counts from its first change."""
        ...


class Cache(Protocol):
    """Values this worker need not work out again; bounded, the oldest go first."""

    def get(self, key: str) -> Any:  # noqa: ANN401 - whatever was put in
        """Give a value; None where it is gone."""
        ...

    def set(self, key: str, value: object, ttl: float) -> None:
        """Keep a value for `ttl` seconds at most."""
        ...

    async def fetch(self, key: str, ttl: float, load: Callable[[], Awaitable[T]]) -> T:
        """Give a value, or load it: once, however many want it at the same time.

        A failure is raised for all who wait, and not kept.
        """
        ...


class Rates(Protocol):
    """How much of something has been used lately, by key; the same for all workers of the node.

    No call waits, and all of them together take some microseconds. Memory is bounded: where there
    are too many keys, whoever has used least is forgotten. All is forgotten when the server starts
    anew.

    `rate` is how much is allowed in how many seconds. `burst` is how much of it may come at once,
    the rest evenly (GCRA); with 0 all of it may, and then no more within any such period (a sliding
    window). A key is used with the same rate and burst each time.

    Raises:
        PluginError: None are lent here: the plugin runs in a process of its own.
    """

    def take(self, key: str, cost: float, rate: Rate, *, burst: float = 0) -> float:
        """Use some: 0 where it is allowed, else the seconds after which it will be.

        Nothing is used when it is not allowed. A cost of more than may come at once counts as that.
        """
        ...

    def give_back(self, key: str, cost: float, rate: Rate, *, burst: float = 0) -> None:
        """Take back what has just been taken, because something else has refused."""
        ...

    def peek(self, key: str, rate: Rate, *, burst: float = 0) -> float:
        """Say how much has been used lately."""
        ...

    def forget(self, key: str) -> None:
        """Take it that nothing has been used."""
        ...


class NoRates:
    """Where none are lent: outside of the worker."""

    def take(self, _key: str, _cost: float, _rate: Rate, *, burst: float = 0) -> float:  # noqa: ARG002
        raise PluginError(NOT_LENT)

    def give_back(self, _key: str, _cost: float, _rate: Rate, *, burst: float = 0) -> None:  # noqa: ARG002
        raise PluginError(NOT_LENT)

    def peek(self, _key: str, _rate: Rate, *, burst: float = 0) -> float:  # noqa: ARG002
        raise PluginError(NOT_LENT)

    def forget(self, _key: str) -> None:
        raise PluginError(NOT_LENT)


class Mail(Protocol):
    """Takes mail of a plugin's own into the queue."""

    async def submit(self, sender: str, recipients: Sequence[str], content: bytes, /) -> None:
        """Submit a message; it is in the queue when this returns.

        It is taken as if somebody who may use any address had logged in to submit it: plugins are
        asked about it, the one that signs, too.

        Args:
            sender: "" for the null sender.
            recipients: One at least.
            content: The message, its lines ended by CRLF.

        Raises:
            PluginError: It is not taken, for now or for good.
        """
        ...


class NoMail:
    """Where no mail can be submitted: outside of the worker."""

    async def submit(self, _sender: str, _recipients: Sequence[str], _content: bytes, /) -> None:
        raise PluginError("mail cannot be submitted here")


class Security(Protocol):
    """Tells the log, the figures and all plugins that something has been noticed."""

    def report(
        self, kind: str, detail: str = "", *, session_id: str = "", client_ip: str = ""
    ) -> None:
        """Have `on_security_event` asked, in all plugins of this worker that have it.

        What is reported from within `on_security_event` is in the log, and nobody is asked. Of one
        plugin there are 20 in a second; what is beyond is counted (`security_events_dropped`).

        Args:
            kind: What it is: a-z, 0-9 and _, 50 at most.
            detail: In words.
            session_id: Of the session that it is about, if it is about one.
            client_ip: Likewise, of the client.

        Raises:
            ValueError: The kind is none.
            PluginError: Nothing can be reported here: the plugin runs in a process of its own.
        """
        ...


class NoSecurity:
    """Where nothing can be reported: outside of the worker."""

    def report(self, *_what: str, **_about: str) -> None:
        raise PluginError("security events cannot be reported here")


@dataclass(frozen=True, slots=True)
class Tools:
    """All of them, for one plugin.

    Attributes:
        log: Lines in its name.
        metrics: Its figures.
        kv: Its keys and values.
        cache: What it need not work out again.
        clock: The time.
        dns: The worker's resolver, with the one cache that delivery and all plugins share.
        hostname: What the server calls itself.
        mail: Takes mail of its own; not in a process of its own.
        state_dir: Where the server keeps its state, for a database beside its own.
        rates: What has been used lately, on the whole node; not in a process of its own.
        security: Tells of what has been noticed; not in a process of its own.
    """

    log: PluginLog
    metrics: Counters
    kv: Store
    cache: Cache
    clock: Clock
    dns: Resolver
    hostname: str
    mail: Mail = field(default_factory=NoMail)
    state_dir: Path = Path("var")
    rates: Rates = field(default_factory=NoRates)
    security: Security = field(default_factory=NoSecurity)
