"""README's first message, with the commands as they stand there."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from servers.process import free_port, listens

README = Path(__file__).parents[2] / "README.md"


def commands(heading: str) -> list[str]:
    """The lines of the sh blocks under a heading."""
    section = README.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    return [line for block in blocks for line in block.split("\n") if line]


@pytest.fixture
def place(tmp_path):
    """A folder with a server on its embedded defaults, at ports that are free."""
    port, metrics = free_port(), free_port()
    env = {
        **os.environ,
        "ELEMTA_LISTENERS__0__ADDRESS": f"127.0.0.1:{port}",
        "ELEMTA_METRICS__LISTEN": f"127.0.0.1:{metrics}",
    }
    (tmp_path / ".venv/bin").mkdir(parents=True)
    program = tmp_path / ".venv/bin/elemta"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m elemta "$@"\n')
    program.chmod(0o755)
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "elemta", "serve"], cwd=tmp_path, env=env, stdout=log
        )
    try:
        deadline = time.monotonic() + 40
        serves_web = listens(metrics)
        while "worker_started" not in (tmp_path / "log").read_text() or not serves_web():
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield tmp_path, env, {"2525": str(port), "8080": str(metrics)}
        server.send_signal(signal.SIGTERM)
        assert server.wait(40) == 0
    finally:
        server.kill()
        server.wait()


def run(line: str, folder: Path, env: dict[str, str]) -> str:
    """Run a command; one that looks for mail waits until there is some."""
    deadline = time.monotonic() + 20
    while True:
        done = subprocess.run(
            shlex.split(line), cwd=folder, env=env, capture_output=True, text=True, check=False
        )
        is_early = line.startswith("find") and (done.returncode or not done.stdout)
        if not is_early or time.monotonic() > deadline:
            assert done.returncode == 0, (line, done.stdout, done.stderr)
            return done.stdout
        time.sleep(0.05)


def test_the_first_message_arrives(place):
    folder, env, ports = place
    lines = commands("A first message")
    assert any(" send " in line for line in lines)
    for command in lines:
        if command.endswith("-c elemta.toml"):
            continue  # a file that the reader writes
        name = shlex.split(command)[0]
        if not name.startswith(".venv") and shutil.which(name) is None:
            continue  # swaks or curl is not here
        run(re.sub("2525|8080", lambda found: ports[found[0]], command), folder, env)
    arrived = [each.read_bytes() for each in (folder / "var/mail/example.test/alice/new").iterdir()]
    assert any(b"Subject: Hello\r\n" in message for message in arrived)
