"""The C interface of `elemta_plugin.h`, as ctypes sees it."""

import ctypes
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_char_p,
    c_int,
    c_int32,
    c_size_t,
    c_uint32,
    c_void_p,
)
from pathlib import Path
from typing import Any, ClassVar

from elemta.mail.errors import PluginError
from elemta.plugins.hooks import HOOKS

ABI = 1
MAX_LIST = 100
HOOK_TYPES = (
    "other",
    *("message_received", "message_validated", "message_filtered", "message_stored"),
    *("message_delivered", "auth_started", "auth_completed", "auth_failed"),
    *("connection_opened", "connection_closed", "connection_upgraded"),
    *("command_received", "command_validated", "config_loaded", "config_changed"),
    *("server_starting", "server_started", "server_stopping", "server_stopped"),
)
"""In the order of `SmtpHookType`."""

GetMetadata = CFUNCTYPE(c_void_p, c_void_p, c_char_p)
GetData = CFUNCTYPE(c_void_p, c_void_p, c_char_p, POINTER(c_size_t))
SetMetadata = CFUNCTYPE(c_int, c_void_p, c_char_p, c_char_p)
MakeEdit = CFUNCTYPE(c_int, c_void_p, c_uint32, c_char_p, c_char_p)
WriteLog = CFUNCTYPE(None, c_void_p, c_char_p, c_char_p)


class HookContext(Structure):
    """`HookContext`."""

    _fields_: ClassVar[Any] = (
        ("hook_type", c_uint32),
        ("cancel", c_int32),
        ("hook_name", c_char_p),
        ("get_metadata", GetMetadata),
        ("get_data", GetData),
        ("set_metadata", SetMetadata),
        ("edit", MakeEdit),
        ("log", WriteLog),
        ("server", c_void_p),
    )


class PluginMetadata(Structure):
    """`PluginMetadata`."""

    _fields_: ClassVar[Any] = (
        ("abi", c_uint32),
        ("name", c_char_p),
        ("version", c_char_p),
        ("author", c_char_p),
        ("description", c_char_p),
        ("license", c_char_p),
        ("dependencies", POINTER(c_char_p)),
        ("min_server_version", c_char_p),
        ("max_server_version", c_char_p),
        ("hooks", POINTER(c_char_p)),
        ("network", POINTER(c_char_p)),
        ("files", POINTER(c_char_p)),
        ("threads", c_uint32),
    )


class PluginInterface(Structure):
    """`PluginInterface`."""

    _fields_: ClassVar[Any] = (
        ("init", CFUNCTYPE(c_int, c_char_p)),
        ("deinit", CFUNCTYPE(None)),
        ("get_metadata", CFUNCTYPE(POINTER(PluginMetadata))),
        ("execute_hook", CFUNCTYPE(c_int, POINTER(HookContext))),
        ("enable", CFUNCTYPE(c_int)),
        ("disable", CFUNCTYPE(c_int)),
    )


class Library:
    """A shared library that is a plugin.

    Attributes:
        interface: Its functions.
        said: Its metadata by the names of the header.
    """

    def __init__(self, path: Path) -> None:
        """Load it.

        Raises:
            PluginError: It cannot be loaded, or is no plugin.
        """
        try:
            self._library = ctypes.CDLL(str(path))
            entry = self._library.smtp_plugin_get_interface
        except (OSError, AttributeError) as error:
            raise PluginError(str(error)) from error
        entry.restype, entry.argtypes = POINTER(PluginInterface), ()
        found = entry()
        if not found:
            raise PluginError("smtp_plugin_get_interface gives nothing")
        self.interface: Any = found.contents
        for name in ("get_metadata", "execute_hook"):
            if not getattr(self.interface, name):
                raise PluginError(f"its interface has no {name}")
        told = self.interface.get_metadata()
        if not told:
            raise PluginError("get_metadata gives nothing")
        if told.contents.abi != ABI:
            raise PluginError(f"is made for version {told.contents.abi} of the header, not {ABI}")
        names = [field[0] for field in PluginMetadata._fields_]
        self.said = {name: _value(getattr(told.contents, name)) for name in names}

    def call(self, name: str, *arguments: object) -> int:
        """Call a function that may be left out; 0 then."""
        function: Any = getattr(self.interface, name)
        return (function(*arguments) or 0) if function else 0


def _value(value: Any) -> Any:  # noqa: ANN401 - a number, a text or a list
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, int):
        return value
    return _texts(value)


def _texts(pointer: Any) -> tuple[str, ...]:  # noqa: ANN401 - of a type that ctypes makes
    found: list[str] = []
    while pointer and len(found) < MAX_LIST and (text := pointer[len(found)]) is not None:
        found.append(text.decode("utf-8", "replace"))
    return tuple(found)


def event_name(hook: str, *, is_authenticated: bool | None) -> str:
    """The name that a library knows a hook by."""
    events = HOOKS[hook].events
    if not events:
        return hook
    return events[1] if len(events) > 1 and not is_authenticated else events[0]
