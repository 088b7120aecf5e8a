"""What goes wrong in plugins: told from what ends us, and described for the operator."""

import asyncio
import traceback
from pathlib import Path


def is_our_end(error: BaseException) -> bool:
    """Whether an exception came through a plugin, and not from it: it must go on its way.

    All else is a defect of the plugin that ends nothing but its own call: also `sys.exit()`, and
    the end of a task that the plugin itself has cancelled.
    """
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is None or task.cancelling() > 0
    return isinstance(error, KeyboardInterrupt | GeneratorExit)


def describe(error: BaseException) -> str:
    """Say what an exception is and where it was raised, in one line."""
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        place = f" ({Path(frame.f_code.co_filename).name}:{line})"
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - it is a plugin's own, and may be broken like all else of it
        text = "(says nothing that can be read)"
    return f"{type(error).__name__}: {text}{place}"
