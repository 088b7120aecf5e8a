"""What a library can ask of a call: one flat list of names, as seed for `get_metadata`."""

import os
from collections.abc import Callable, Coroutine
from typing import Any

from elemta.plugins import contexts as ctx
from elemta.plugins.reading import Readable

Wait = Callable[[Coroutine[Any, Any, str]], str]


class Told:
    """The names and values of one call.

    Args:
        context: Of the call.
        limit: Octets of the message that `message_body` gives.
    """

    def __init__(self, context: ctx.Context, limit: int) -> None:
        self._context = context
        self._limit = limit
        self._body: bytes | None = None
        self._file = -1

    async def read_body(self) -> None:
        """Have the beginning of the message at hand."""
        if isinstance(self._context, Readable):
            self._body = await self._context.read(self._limit)

    def close(self) -> None:
        """Let go of the file, if there was one."""
        if self._file >= 0:
            os.close(self._file)

    def get(self, name: str, wait: Wait) -> str | bytes | None:
        """Give a value: of the call, or left by a plugin; None where there is none."""
        if name == "message_body":
            return self._body
        if name == "message_path":
            return wait(self._write_file()) if self._body is not None else None
        read = _READERS.get(name)
        value = read(self._context) if read is not None else None
        return self._context.get_metadata(name) if value is None else value

    async def _write_file(self) -> str:
        """Write the message to a file in memory, and give its path."""
        context = self._context
        if self._file < 0 and isinstance(context, Readable):
            file = os.memfd_create("message")
            self._file = file
            async for piece in context.chunks():
                with memoryview(piece) as view:
                    done = 0
                    while done < len(view):
                        done += os.write(file, view[done:])
            os.lseek(file, 0, os.SEEK_SET)
        return f"/proc/self/fd/{self._file}"


def _session(name: str) -> Callable[[Any], str | None]:
    def read(context: Any) -> str | None:  # noqa: ANN401 - any context
        session = getattr(context, "session", None)
        return str(getattr(session, name)) if session is not None else None

    return read


def _own(name: str) -> Callable[[Any], str | None]:
    def read(context: Any) -> str | None:  # noqa: ANN401 - any context
        value = getattr(context, name, None)
        return None if value is None else str(value)

    return read


def _session_or_own(name: str) -> Callable[[Any], str | None]:
    of_session, own = _session(name), _own(name)

    def read(context: Any) -> str | None:  # noqa: ANN401 - any context
        found = of_session(context)
        return own(context) if found is None else found

    return read


def _username(context: Any) -> str | None:  # noqa: ANN401 - any context
    said = _own("username")(context)
    return _session("username")(context) if said is None else said


def _helo(context: Any) -> str | None:  # noqa: ANN401 - any context
    return context.name if isinstance(context, ctx.HelloContext) else _session("helo")(context)


def _sender(context: Any) -> str | None:  # noqa: ANN401 - any context
    if not hasattr(context, "sender"):
        return None
    return "" if context.sender is None else str(context.sender)


def _sender_domain(context: Any) -> str | None:  # noqa: ANN401 - any context
    sender = getattr(context, "sender", None)
    return None if sender is None else str(sender.domain)


def _recipients(context: Any) -> str | None:  # noqa: ANN401 - any context
    found = getattr(context, "recipients", None)
    return None if found is None else ",".join(str(each) for each in found)


def _recipient(context: Any) -> str | None:  # noqa: ANN401 - any context
    own = _own("recipient")(context)
    if own is not None:
        return own
    found = getattr(context, "recipients", None)
    return str(found[0]) if found else None


def _header(name: str) -> Callable[[Any], str | None]:
    def read(context: Any) -> str | None:  # noqa: ANN401 - any context
        return context.headers.get(name) if isinstance(context, Readable) else None

    return read


_READERS: dict[str, Callable[[Any], str | None]] = {
    **{name: _session(name) for name in ("helo", "tls_version", "protocol", "listener")},
    **{name: _session_or_own(name) for name in ("session_id", "client_ip")},
    **{name: _own(name) for name in ("queue_id", "password", "mechanism", "argument")},
    **{name: _own(name) for name in ("destination", "attempts", "reply", "state", "kind")},
    "helo": _helo,
    "username": _username,
    "command": _own("verb"),
    "message_size": _own("size"),
    "message_id": _header("message-id"),
    "subject": _header("subject"),
    "sender": _sender,
    "sender_domain": _sender_domain,
    "recipient": _recipient,
    "recipients": _recipients,
}
