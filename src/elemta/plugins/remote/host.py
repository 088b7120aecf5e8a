"""The process of one plugin: loads it, and serves it to the worker that has started it.

It reads its job from the standard input, gives up what it will not need, listens, gives up the
rest, and only then loads the plugin. It ends when the worker does, and with its only session.

    python -m elemta.plugins.remote.host
"""

import asyncio
import contextlib
import ctypes
import importlib
import os
import signal
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import msgspec

from elemta.mail.errors import PluginError
from elemta.plugins.asking.defects import describe
from elemta.plugins.finding import files
from elemta.plugins.finding.inspection import find_class, inspect_class
from elemta.plugins.plugin import Plugin
from elemta.plugins.remote.job import Job
from elemta.plugins.remote.native import load_library
from elemta.plugins.remote.process import OPTIONS
from elemta.plugins.remote.sandbox import confine, confine_calls
from elemta.plugins.remote.service import Service

_PR_SET_PDEATHSIG = 1
_HELD = 5.0  # seconds that the end of the last session is waited for


def load(job: Job) -> type[Plugin[Any]]:
    """Load the plugin.

    Raises:
        PluginError: There is none, or something is wrong with it.
    """
    if job.library:
        return load_library(Path(job.library))
    try:
        module, attribute = _import(job)
        named = getattr(module, attribute, None) if attribute else None
        cls = named if isinstance(named, type) else find_class(module)
    except (Exception, SystemExit) as error:  # a plugin's code may raise anything
        raise PluginError(describe(error)) from error
    problems = [text for _, text in inspect_class(cls)]
    if problems:
        raise PluginError("; ".join(problems))
    return cls


def _import(job: Job) -> tuple[ModuleType, str]:
    if job.path:
        return files.import_file(Path(job.path)), ""
    name, _, attribute = job.module.partition(":")
    return importlib.import_module(name), attribute


def die_with(parent: int) -> None:
    """Have the kernel end this process when its parent ends; at once if it has."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the worker has ended")


async def serve(job: Job) -> None:
    """Listen, load the plugin, and serve it until its session is over."""
    service = Service(job.limits, job.body_size)
    server = grpc.aio.server(options=(*OPTIONS, ("grpc.max_receive_message_length", -1)))
    server.add_generic_rpc_handlers((service.handlers(),))
    server.add_insecure_port(f"unix:{job.socket}")
    confine_calls(job)
    service.plugin = load(job)
    await server.start()
    await service.over.wait()
    with contextlib.suppress(asyncio.CancelledError):
        await server.stop(None)


def main() -> None:
    """Do the job that the standard input tells of."""
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    die_with(job.parent)
    confine(job)
    try:
        asyncio.run(serve(job))
    except PluginError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
