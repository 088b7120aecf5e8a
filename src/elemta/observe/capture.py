"""What libraries and Python itself have to say, as events: nothing is printed past the log.

`capture` takes over `logging`, `warnings` and the hooks for exceptions that nobody caught;
`capture_loop` those of an event loop. A warning becomes a `notice`, an error an
`internal_error` with where it was raised. No values of variables are written.
"""

import asyncio
import logging
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from elemta.mail.events import Emit, InternalError, Notice

FRAMES = 8  # innermost calls that are named for an exception


class _EventHandler(logging.Handler):
    """Turns records of `logging` into events."""

    def __init__(self, emit: Emit):
        super().__init__(logging.WARNING)
        self._emit = emit

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except (TypeError, ValueError):  # its arguments do not fit
            text = str(record.msg)
        if record.exc_info and record.exc_info[1]:
            text = f"{text}: {describe_error(record.exc_info[1])}"
        if record.levelno >= logging.ERROR:
            self._emit(InternalError(record.name, text))
        else:
            self._emit(Notice(record.name, text))


def capture(emit: Emit) -> None:
    """Send what libraries log, and exceptions that nobody caught, to `emit`.

    Call it once in each process, after the fork. It replaces what an earlier call, here or
    before the fork, has set.
    """
    root = logging.getLogger()
    root.handlers = [_EventHandler(emit)]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)

    def uncaught(
        _kind: type[BaseException], error: BaseException, _trace: TracebackType | None
    ) -> None:
        emit(InternalError("process", describe_error(error)))

    def uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
        name = args.thread.name if args.thread else "?"
        text = describe_error(args.exc_value) if args.exc_value else args.exc_type.__name__
        emit(InternalError(f"thread {name}", text))

    def unraisable(args: "sys.UnraisableHookArgs") -> None:
        if type(args.object) is bytes and isinstance(args.exc_value, UnicodeDecodeError):
            return  # a host name in TLS that is no text: the handshake fails, which is told anyway
        where = args.err_msg or "in a finaliser"
        text = describe_error(args.exc_value) if args.exc_value else args.exc_type.__name__
        emit(InternalError(where, text))

    sys.excepthook = uncaught
    threading.excepthook = uncaught_in_thread
    sys.unraisablehook = unraisable


def capture_loop(loop: asyncio.AbstractEventLoop, emit: Emit) -> None:
    """Send exceptions that nobody awaited in `loop` to `emit`."""

    def handle(_loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        error = cast("BaseException | None", context.get("exception"))
        message = str(context.get("message", ""))
        text = f"{message}: {describe_error(error)}" if error else message
        emit(InternalError("event loop", text))

    loop.set_exception_handler(handle)


def describe_error(error: BaseException) -> str:
    """Say what an exception is and where it came from, in one line, innermost call first."""
    calls = traceback.extract_tb(error.__traceback__)[-FRAMES:]
    places = [f"{Path(call.filename).name}:{call.lineno} {call.name}" for call in reversed(calls)]
    text = f"{type(error).__name__}: {error}"
    return f"{text} [{' < '.join(places)}]" if places else text
