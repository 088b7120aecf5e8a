"""`elemta serve --test-mode --plugin-dir DIR`: a plugin is tried, changed and tried again."""

import os
import signal
import subprocess
import sys

import pytest
from servers.dialogue import Dialogue
from servers.process import free_port

PLUGIN = """\
from elemta.plugins import Metadata, Plugin, Result


class Doorman(Plugin):
    metadata = Metadata(name="doorman", version="1.0")

    def on_rcpt_to(self, context):
        self.tools.log.debug(f"asked about {context.recipient}")
        return Result.reject("TEXT")
"""


@pytest.fixture
def trial(tmp_path):
    """The folder of plugins, its server's port, and the server."""
    plugins = tmp_path / "plugins"
    plugins.mkdir(mode=0o755)
    (plugins / "doorman.py").write_text(PLUGIN.replace("TEXT", "Not today"))
    (plugins / "doorman.py").chmod(0o644)
    (tmp_path / "tmp").mkdir()
    port, metrics = free_port(), free_port()
    environ = os.environ | {
        "ELEMTA_LISTENERS__0__ADDRESS": f"127.0.0.1:{port}",
        "ELEMTA_METRICS__LISTEN": f"127.0.0.1:{metrics}",
        "TMPDIR": str(tmp_path / "tmp"),
    }
    command = [sys.executable, "-m", "elemta", "serve", "--test-mode", "--plugin-dir", "plugins"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            for line in process.stdout:
                if "worker_started" in line:
                    break
            yield plugins, port, process
        finally:
            process.kill()


def answer(port: int) -> str:
    with Dialogue(port) as client:
        client.hello()
        client.say("MAIL FROM:<a@b.test>")
        return client.say("RCPT TO:<c@example.test>")


def test_a_plugin_is_tried(trial, tmp_path):
    plugins, port, process = trial
    assert answer(port) == "550 5.7.1 Not today"
    (plugins / "doorman.py").write_text(PLUGIN.replace("TEXT", "Not tomorrow"))
    seen = ""
    for line in process.stdout:
        seen += line
        if "plugin_changed" in line and "reload" in line:
            break
    assert "asked about c@example.test" in seen  # its lines of level debug, for people to read
    assert answer(port) == "550 5.7.1 Not tomorrow"
    process.send_signal(signal.SIGTERM)
    for _line in process.stdout:
        pass
    assert process.wait(20) == 0
    assert list((tmp_path / "tmp").iterdir()) == []  # nothing stays


def test_it_has_a_configuration_of_its_own(tmp_path):
    command = [sys.executable, "-m", "elemta", "serve", "--test-mode", "-c", "elemta.toml"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert "leave out --config" in done.stderr
