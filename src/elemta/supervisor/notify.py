"""Tells the service manager how the server is, where one wants to know (sd_notify(3)).

It is told from the main process only, which is all that `NotifyAccess=main` listens to.
"""

import contextlib
import os
import socket
import time

VARIABLE = "NOTIFY_SOCKET"


def is_managed() -> bool:
    """Whether a service manager listens."""
    return bool(os.environ.get(VARIABLE))


def notify(*words: str) -> None:
    """Say something such as "READY=1"; nobody there, nothing said."""
    place = os.environ.get(VARIABLE, "")
    if not place:
        return
    address = "\0" + place[1:] if place.startswith("@") else place
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.settimeout(1.0)
        channel.sendto("\n".join(words).encode(), address)


def notify_reloading() -> None:
    """Say that something begins which ends with "READY=1"."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
