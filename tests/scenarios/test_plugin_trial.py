"""`elemta serve --test-mode --plugin-dir DIR`: a plugin is tried, changed and tried again."""

import contextlib
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


@contextlib.contextmanager
def trying(tmp_path, **more):
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
        **more,
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


@pytest.fixture
def trial(tmp_path):
    with trying(tmp_path) as found:
        yield found


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
    assert process.wait(60) == 0
    assert list((tmp_path / "tmp").iterdir()) == []  # nothing stays


def test_it_has_a_configuration_of_its_own(tmp_path):
    command = [sys.executable, "-m", "elemta", "serve", "--test-mode", "-c", "elemta.toml"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "leave out --config" in done.stderr


DEBUGPY = """
import pathlib

def listen(place):
    pathlib.Path(__file__).with_name("waits").write_text(repr(place))
"""


def test_a_debugger_is_let_in_where_that_is_wanted(tmp_path):
    (tmp_path / "debugpy.py").write_text(DEBUGPY)
    more = {"ELEMTA_PLUGIN_DEBUG": "attach:5999", "PYTHONPATH": str(tmp_path)}
    with trying(tmp_path, **more) as (_, port, process):
        assert (tmp_path / "waits").read_text() == "('127.0.0.1', 5999)"
        assert answer(port) == "550 5.7.1 Not today"
        seen = ""
        for line in process.stdout:  # lines of level debug are written, too
            seen += line
            if "asked about" in line:
                break
        process.send_signal(signal.SIGTERM)
        for _line in process.stdout:
            pass
        assert process.wait(60) == 0


@pytest.mark.parametrize(
    ("options", "word", "trouble"),
    [
        ((), "attach", "only with --test-mode"),
        (("--test-mode",), "attach", "pip install debugpy"),
        (("--test-mode",), "attach:x", "attach:PORT"),
    ],
)
def test_a_debugger_is_not_let_in_by_mistake(tmp_path, options, word, trouble):
    (tmp_path / "plugins").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "elemta", "serve", *options],
        cwd=tmp_path,
        env=os.environ | {"ELEMTA_PLUGIN_DEBUG": word},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert trouble in done.stderr
