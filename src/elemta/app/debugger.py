"""Lets a debugger into a worker that tries plugins: only on this machine, and only when asked to.

`ELEMTA_PLUGIN_DEBUG=attach elemta serve --test-mode` makes it wait at port 5678 of 127.0.0.1,
`attach:PORT` at another. Whoever connects can do all that the server can; `elemta serve` takes the
variable in test mode alone. The debugger, debugpy, is no part of Elemta.
"""

import importlib
import os

from elemta.mail import events as ev
from elemta.plugins.tooling.toolbox import DEBUG_VARIABLE

PORT = 5678  # where editors look for it


def let_debugger_in(emit: ev.Emit) -> None:
    """Begin to listen for a debugger, if that is wanted; what is in the way is told."""
    word, _, port = os.environ.get(DEBUG_VARIABLE, "").partition(":")
    if word != "attach":
        return
    try:
        place = ("127.0.0.1", int(port or PORT))
        importlib.import_module("debugpy").listen(place)
    except (ImportError, RuntimeError, ValueError, OSError) as error:
        emit(ev.Notice("debugger", f"it cannot be let in: {error}"))
        return
    emit(ev.Notice("debugger", "waits at {}:{}".format(*place)))
