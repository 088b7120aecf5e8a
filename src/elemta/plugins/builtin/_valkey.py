"""What several servers share: scripts that a Valkey or Redis runs, in one round trip each.

Plugins of a worker that name the same store share its connections. A store that fails several
times in a row is left alone for a moment: then one call tries again, and when it is answered all
goes on. Nobody waits longer than the timeout.

The package `valkey` is imported where a store is used, not before: `pip install elemta[valkey]`.

Raises:
    Unavailable: The store has not answered, or not as it should; a script may have run anyway.
"""

import asyncio
import hashlib
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from elemta.mail.clock import Clock
from elemta.mail.errors import PluginError
from elemta.mail.reply import clean_text
from elemta.net.tasks import spawn

FAILURES = 3  # in a row, until the store is left alone
PAUSE = 1.0  # seconds until one call tries again
MISSING = "the Python package valkey is missing: install elemta[valkey]"

_SCHEMES = {
    "redis": "valkey",
    "rediss": "valkeys",
    "valkey": "valkey",
    "valkeys": "valkeys",
    "unix": "unix",
}


class Unavailable(PluginError):  # noqa: N818 - what it is, not what is wrong
    """The store cannot be used now."""


class ValkeySettings(BaseModel):
    """A store that several servers share: Valkey, or Redis from 6.2 on."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    url: SecretStr = Field(
        default=SecretStr("valkey://127.0.0.1:6379/0"),
        description="valkey://HOST:PORT/DATABASE, valkeys:// with TLS, or unix:///PATH; redis:// "
        "and rediss:// mean the same.",
    )
    username: str = Field(default="", description="Who logs in there; empty: the default user.")
    password: SecretStr = Field(
        default=SecretStr(""),
        description='Its password: "env:NAME" or "file:/path" keep it out of the configuration.',
    )
    ca_file: str = Field(
        default="",
        description="PEM file of the authorities for TLS; empty: those of the system.",
    )
    timeout: float = Field(
        default=0.5, gt=0, le=10, description="Seconds until a call is given up."
    )
    connections: int = Field(
        default=16, ge=1, le=1000, description="Connections of one worker at most."
    )
    prefix: str = Field(
        default="elemta:",
        max_length=64,
        description="What all keys begin with. Servers that are to share them have the same.",
    )

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: SecretStr) -> SecretStr:
        text = url.get_secret_value()
        if urlsplit(text).scheme not in _SCHEMES or "://" not in text:
            raise ValueError("valkey://HOST:PORT/DATABASE is expected, or valkeys:// or unix://")
        return url

    @property
    def _identity(self) -> tuple[object, ...]:
        """What two plugins have in common that share connections."""
        secret = self.password.get_secret_value()
        url = self.url.get_secret_value()
        return url, self.username, secret, self.ca_file, self.timeout, self.connections


@dataclass(frozen=True)
class Script:
    """A script in Lua that runs at one stroke.

    Attributes:
        text: Its text; keys are `KEYS`, other values `ARGV`.
        sha: What the store calls it once it knows it.
    """

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        """Work out its name."""
        digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", digest)


class Valkey:
    """A store, for all plugins of a worker that name it; `await Valkey.open(...)` gives one.

    Attributes:
        is_suspended: It is left alone for now.
    """

    _opened: dict[tuple[object, ...], "Valkey"] = {}  # noqa: RUF012 - what the worker shares

    def __init__(
        self,
        key: tuple[object, ...],
        client: Any,  # noqa: ANN401 - imported late
        patience: float,
        clock: Clock,
    ) -> None:
        self._key = key
        self._client = client
        self._patience = patience
        self._clock = clock
        self._errors = importlib.import_module("valkey.exceptions")
        self._tellers: list[Callable[[str], None]] = []
        self._calls: set[asyncio.Task[Any]] = set()
        self._failures = 0
        self._until: float | None = None

    @classmethod
    async def open(
        cls, settings: ValkeySettings, clock: Clock, tell: Callable[[str], None]
    ) -> "Valkey":
        """Give the client of a store; nothing is connected before the first call.

        Args:
            settings: Where the store is.
            clock: The time.
            tell: Told, in a line, when the store fails and when it is back; also what closes it.

        Raises:
            PluginError: The package is missing, or the URL is none.
        """
        key = (asyncio.get_running_loop(), *settings._identity)  # noqa: SLF001 - of this module
        found = cls._opened.get(key)
        if found is None:
            try:
                package = await asyncio.to_thread(importlib.import_module, "valkey.asyncio")
            except ImportError:
                raise PluginError(MISSING) from None
            client = _make_client(package, settings)
            found = cls._opened.setdefault(key, cls(key, client, settings.timeout, clock))
        found._tellers.append(tell)  # noqa: SLF001 - of this class
        return found

    async def close(self, tell: Callable[[str], None]) -> None:
        """Take leave; the last one closes the connections. Idempotent."""
        if tell in self._tellers:
            self._tellers.remove(tell)
            if not self._tellers:
                self._opened.pop(self._key, None)
                if self._calls:  # each ends by itself
                    await asyncio.wait(self._calls)
                await self._client.aclose(close_connection_pool=True)

    @property
    def is_suspended(self) -> bool:
        return self._until is not None

    async def run(
        self, script: Script, keys: Sequence[str | bytes], values: Sequence[str | bytes | int]
    ) -> Any:  # noqa: ANN401 - what the script returns
        """Run a script: one round trip, two where the store does not know the script yet.

        Raises:
            Unavailable: It has not been answered in time, or with an error.
        """
        self._check()
        # never cancelled: a connection in the midst of an answer would be given to the next call
        call = spawn(self._attempt(script, keys, values), "a script of the store")
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        done, _ = await asyncio.wait([call], timeout=self._patience)
        found = call.result() if done else TimeoutError()
        if isinstance(found, Exception):
            raise self._failed(found)
        self._succeeded()
        return found

    async def _attempt(
        self, script: Script, keys: Sequence[str | bytes], values: Sequence[str | bytes | int]
    ) -> Any:  # noqa: ANN401 - what the script returns, or an exception
        try:
            return await self._evaluate(script, keys, values)
        except (TimeoutError, OSError, self._errors.ValkeyError) as error:
            return error
        except (ValueError, RecursionError) as error:  # of what is no answer at all
            return error

    async def _evaluate(
        self, script: Script, keys: Sequence[str | bytes], values: Sequence[str | bytes | int]
    ) -> Any:  # noqa: ANN401 - as above
        run = self._client.execute_command
        try:
            return await run("EVALSHA", script.sha, len(keys), *keys, *values)
        except self._errors.NoScriptError:  # it has started anew, or forgotten all scripts
            return await run("EVAL", script.text, len(keys), *keys, *values)

    # ---- leaving it alone

    def _check(self) -> None:
        if self._until is None:
            return
        now = self._clock.monotonic()
        if now < self._until:
            raise Unavailable("the store is left alone for a moment: it has failed")
        self._until = now + max(PAUSE, self._patience)  # for all others; this call tries

    def _failed(self, error: Exception) -> Unavailable:
        text = clean_text(str(error) or type(error).__name__, 200)
        if isinstance(error, TimeoutError) and not str(error):
            text = f"no answer within {self._patience:g} s"
        self._failures += 1
        if self._failures >= FAILURES:
            if self._until is None:
                self._tell(f"the store fails: {text}")
            self._until = self._clock.monotonic() + PAUSE
        return Unavailable(f"the store fails: {text}")

    def _succeeded(self) -> None:
        self._failures = 0
        if self._until is not None:
            self._until = None
            self._tell("the store is back")

    def _tell(self, text: str) -> None:
        for tell in self._tellers:
            tell(text)


def _make_client(package: Any, settings: ValkeySettings) -> Any:  # noqa: ANN401 - lazily imported
    """Give a client whose connections nobody waits for longer than the timeout.

    Raises:
        PluginError: The URL is none.
    """
    scheme, _, rest = settings.url.get_secret_value().partition("://")
    scheme = _SCHEMES[scheme]
    options: dict[str, Any] = {
        "max_connections": settings.connections,
        "timeout": settings.timeout,
        "socket_timeout": settings.timeout,
        "socket_connect_timeout": settings.timeout,
        "lib_name": None,
        "lib_version": None,
    }
    if settings.username:
        options["username"] = settings.username
    if settings.password.get_secret_value():
        options["password"] = settings.password.get_secret_value()
    if scheme == "valkeys":
        options |= {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
        if settings.ca_file:
            options["ssl_ca_certs"] = settings.ca_file
    try:
        pool = package.BlockingConnectionPool.from_url(f"{scheme}://{rest}", **options)
    except ValueError as error:
        raise PluginError(clean_text(f"the URL of the store is none: {error}", 200)) from None
    return package.Valkey.from_pool(pool)
