"""Shared libraries as plugins: what is asked of a Python class is asked of the library.

A library's functions are called in threads, one after the other unless it allows more. A call
cannot be taken back: whoever does not want to wait any more has the process ended.
"""

import asyncio
import ctypes
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from elemta.mail.errors import PluginError
from elemta.plugins import contexts as ctx
from elemta.plugins import edits as ed
from elemta.plugins.hooks import HOOKS, May, find_hook
from elemta.plugins.plugin import Metadata, Plugin
from elemta.plugins.reading import Readable
from elemta.plugins.remote import library as abi
from elemta.plugins.remote.told import Told
from elemta.plugins.result import Action, Result

MAX_THREADS = 16
MAX_BODY = 1_000_000  # octets of a message that `message_body` gives
_WORDS = ("action", "reply_code", "enhanced_code", "reply_text", "note")
_SEEDED = tuple(hook.name for hook in HOOKS.values() if hook.events)


def header_path() -> Path:
    """Where `elemta_plugin.h` is."""
    return Path(__file__).parent.parent / "include" / "elemta_plugin.h"


class LibrarySettings(BaseModel):
    """Settings that only the library can judge."""

    model_config = ConfigDict(frozen=True, extra="allow")


class LibraryPlugin(Plugin[Any]):
    """Made by `load_library`, with the hooks that the library wants."""

    Settings: ClassVar[type[BaseModel]] = LibrarySettings
    prefetch = MAX_BODY
    library: abi.Library

    async def setup(self) -> None:
        threads = min(max(self.library.said["threads"], 1), MAX_THREADS)
        self._threads = ThreadPoolExecutor(threads, "library")
        config = self.settings.model_dump_json().encode()
        await self._call("init", config)

    async def enable(self) -> None:
        await self._call("enable")

    async def disable(self) -> None:
        await self._call("disable")

    async def close(self) -> None:
        await self._run(lambda: self.library.call("deinit"))

    async def _call(self, name: str, *arguments: object) -> None:
        status = await self._run(lambda: self.library.call(name, *arguments))
        if status:
            raise PluginError(f"{name} has returned {status}")

    async def _run(self, call: Callable[[], Any]) -> Any:  # noqa: ANN401 - what the call gives
        """Run something in a thread; until it is done nobody is told that it is."""
        running = asyncio.get_running_loop().run_in_executor(self._threads, call)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            with suppress(Exception):
                await running
            raise

    async def ask(self, context: ctx.Context) -> Result | None:
        """Ask the library.

        Raises:
            PluginError: What it answers makes no sense.
        """
        told = Told(context, MAX_BODY)
        if isinstance(context, Readable) and context.hook != "on_headers":
            await told.read_body()
        loop = asyncio.get_running_loop()
        asked = _Asked(self, context, told, loop)
        try:
            status = await self._run(asked.execute)
        finally:
            told.close()
        return asked.result(status)


class _Asked:
    """One call, from the side of the library."""

    def __init__(
        self,
        plugin: LibraryPlugin,
        context: ctx.Context,
        told: Told,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._plugin = plugin
        self._context = context
        self._told = told
        self._loop = loop
        self._kept: dict[str, Any] = {}
        self._edits: list[ed.Edit] = []
        self._words: dict[str, str] = {}
        self._is_cancelled = False

    def execute(self) -> int:
        """Call the library; in a thread."""
        name = abi.event_name(
            self._context.hook, is_authenticated=getattr(self._context, "authenticated", None)
        )
        number = abi.HOOK_TYPES.index(name) if name in abi.HOOK_TYPES else 0
        c_context = abi.HookContext(
            number,
            0,
            name.encode(),
            abi.GetMetadata(self._get),
            abi.GetData(self._get_data),
            abi.SetMetadata(self._set),
            abi.MakeEdit(self._edit),
            abi.WriteLog(self._log),
            None,
        )
        status = int(self._plugin.library.interface.execute_hook(ctypes.byref(c_context)))
        self._is_cancelled = bool(c_context.cancel)
        return status

    def _find(self, name: bytes | None) -> Any:  # noqa: ANN401 - a buffer of ctypes
        """Give a value as memory that stays until the call is over."""
        known = (name or b"").decode("utf-8", "replace")
        if known not in self._kept:
            value = self._words.get(known, self._told.get(known, self._wait))
            if value is None:
                return None
            raw = value if isinstance(value, bytes) else value.encode()
            self._kept[known] = ctypes.create_string_buffer(raw, len(raw) + 1)
        return self._kept[known]

    def _wait(self, coroutine: Any) -> Any:  # noqa: ANN401 - what it gives
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _get(self, _: object, name: bytes | None) -> int | None:
        buffer = self._find(name)
        return None if buffer is None else ctypes.addressof(buffer)

    def _get_data(self, _: object, name: bytes | None, length: Any) -> int | None:  # noqa: ANN401 - a pointer
        buffer = self._find(name)
        if buffer is None:
            return None
        if length:
            length[0] = len(buffer) - 1
        return ctypes.addressof(buffer)

    def _set(self, _: object, name: bytes | None, value: bytes | None) -> int:
        if name is None or value is None:
            return 1
        key, text = name.decode("utf-8", "replace"), value.decode("utf-8", "replace")
        if key in _WORDS:
            self._words[key] = text
            return 0
        try:
            self._context.set_metadata(key, text)
        except ValueError:
            return 1
        self._kept.pop(key, None)
        return 0

    def _edit(self, _: object, kind: int, name: bytes | None, value: bytes | None) -> int:
        texts = [each.decode("utf-8", "replace") for each in (name or b"", value or b"")]
        make = _EDITS.get(kind)
        try:
            if make is None:
                return 1
            self._edits.append(make(*texts))
        except ValueError:
            return 1
        return 0

    def _log(self, _: object, level: bytes | None, text: bytes | None) -> None:
        log = self._plugin.tools.log
        write = {b"debug": log.debug, b"warning": log.warning, b"error": log.error}
        line = (text or b"").decode("utf-8", "replace")
        self._loop.call_soon_threadsafe(write.get(level or b"", log.info), line)

    def result(self, status: int) -> Result | None:
        """Say what a return code means, with the words that were set.

        Raises:
            PluginError: Nothing.
        """
        if status not in {0, 1, 2}:
            raise PluginError(f"execute_hook has returned {status}")
        hook = HOOKS[self._context.hook]
        if not hook.may & (May.DECIDE | May.REFUSE):
            return None
        is_blocked = status > 0 or self._is_cancelled
        edits = tuple(self._edits)
        note = self._words.get("note", "")
        wanted = self._words.get("action", "reject" if is_blocked else "continue")
        try:
            action = Action(wanted)
        except ValueError:
            raise PluginError(f"there is no action {wanted!r}") from None
        if is_blocked and action in {Action.CONTINUE, Action.ACCEPT}:
            action = Action.REJECT  # what is blocked does not pass, whatever else was said
        if action is Action.CONTINUE:
            return Result(edits=edits, note=note) if edits else None
        return self._decide(action, edits, note)

    def _decide(self, action: Action, edits: tuple[ed.Edit, ...], note: str) -> Result:
        if action is Action.DISCARD:
            return Result.discard(note=note)
        if action in {Action.ACCEPT, Action.QUARANTINE}:
            return getattr(Result, action.value)(note=note, edits=edits)  # type: ignore[no-any-return]
        said: dict[str, Any] = {}
        words = self._words
        try:
            if "reply_code" in words:
                said["code"] = int(words["reply_code"])
            if "enhanced_code" in words:
                said["enhanced"] = words["enhanced_code"]
            if "reply_text" in words:
                said["text"] = words["reply_text"]
            make = Result.reject if action is Action.REJECT else Result.defer
            return make(**said, note=note, edits=edits)
        except ValueError as error:
            raise PluginError(str(error)) from error


_EDITS: Mapping[int, Callable[[str, str], ed.Edit]] = {
    1: ed.AddHeader,
    2: ed.ReplaceHeader,
    3: lambda name, _: ed.RemoveHeader(name),
    4: lambda address, _: ed.AddRecipient(address),
    5: lambda address, _: ed.RemoveRecipient(address),
    6: lambda address, _: ed.ChangeSender(address),
    7: ed.RenameHeader,
    8: lambda address, note: ed.SettleRecipient.quarantine(address, note=note),
    9: ed.SettleRecipient.redirect,
    10: ed.SettleRecipient.reject,
    11: lambda address, note: ed.SettleRecipient.discard(address, note=note),
}
"""By the numbers of `SmtpEdit`."""


def load_library(path: Path) -> type[LibraryPlugin]:
    """Load a library, and make a class of it.

    Raises:
        PluginError: It cannot be loaded, is no plugin, or wants a hook that is none.
    """
    loaded = abi.Library(path)
    said = loaded.said
    names = [name for name in said if name in Metadata.__slots__]
    metadata = Metadata(**{name: said[name] for name in names})
    members: dict[str, Any] = {"metadata": metadata, "library": loaded}
    for name in said["hooks"] or _SEEDED:
        hook = find_hook(name)
        if hook is None:
            raise PluginError(f"there is no hook {name!r}")
        members[hook.name] = _asking()
    return type("Library", (LibraryPlugin,), members)


def _asking() -> Callable[[LibraryPlugin, ctx.Context], Any]:
    async def ask(self: LibraryPlugin, ctx: ctx.Context) -> Result | None:
        return await self.ask(ctx)

    return ask
