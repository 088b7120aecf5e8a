"""The examples that are gRPC servers of their own, running."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.process import program, start

import elemta.plugins.remote.proto

EXAMPLES = Path(__file__).parents[3] / "examples" / "plugins"
PROTO = Path(elemta.plugins.remote.proto.__file__).parent / "elemta_plugin_v1.proto"


def install(folder: Path) -> Path:
    """Install the Node.js example and what it needs into a folder; its program."""
    folder.mkdir()
    for name in ("package.json", "plugin.js"):
        shutil.copy(EXAMPLES / "node" / name, folder)
    command = [program("npm", "npm"), "install", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=90
    )
    if done.returncode:
        message = f"the npm packages of the example cannot be had: {done.stderr[-300:]}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return folder / "plugin.js"


@contextlib.contextmanager
def node_plugin(script: Path, folder: Path) -> Iterator[str]:
    """The Node.js example; its address."""
    socket = folder / "node.sock"
    argv = [program("node", "nodejs"), script, f"unix:{socket}", PROTO]
    with start(argv, ready=socket.exists, log=folder / "node.log"):
        yield f"unix:{socket}"


@contextlib.contextmanager
def python_plugin(folder: Path) -> Iterator[str]:
    """The Python example; its address."""
    socket = folder / "python.sock"
    argv = [sys.executable, EXAMPLES / "grpc" / "plugin.py", f"unix:{socket}"]
    with start(argv, ready=socket.exists, log=folder / "python.log"):
        yield f"unix:{socket}"
