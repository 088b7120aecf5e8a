"""The examples of docs/plugins/testing.md, and the fixtures they use, in a pytest of their own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import elemta.testing
from elemta.testing import PluginBench, SmtpServer
from elemta.testing.fixtures import FIXTURES as NAMES
from elemta.testing.server import SmtpClient

GUIDE = Path(__file__).parents[2] / "docs" / "plugins"
PAGE = GUIDE / "testing.md"
QUIET = "ignore::pytest.PytestDeprecationWarning"  # that pytest-asyncio has no settings
STRICT = ("-p", "no:randomly", "-p", "no:cacheprovider", "-W", "error", "-W", QUIET)

FIXTURES = """
import pytest

async def test_the_resolver_has_no_names(fake_resolver, fake_clock):
    fake_resolver.zone["a.test"] = {"A": ["192.0.2.1"]}
    assert await fake_resolver.addresses("a.test", 4) == ("192.0.2.1",)
    assert fake_clock.now() == 1_700_000_000

@pytest.mark.xfail(strict=True, raises=AssertionError)
async def test_a_coroutine_is_really_run(fake_clock):
    assert fake_clock.now() == 0

@pytest.mark.asyncio
async def test_another_plugin_may_run_it(plugin_bench, fake_clock):
    fake_clock.advance(1)

def test_a_function_is_a_function(fake_clock):
    fake_clock.advance(1)
"""


def run_pytest(folder: Path, *arguments: str) -> str:
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *STRICT, *arguments, folder],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_examples_work(tmp_path):
    shown = PAGE.read_text() + (GUIDE / "contract.md").read_text()  # that has `listed.py`
    blocks = dict(re.findall(r"```python\n# (\S+\.py)\n(.*?)```", shown, re.DOTALL))
    assert {"test_listed.py", "listed.py"} < set(blocks)
    for name, text in blocks.items():
        (tmp_path / name).write_text(text)
    assert "7 passed" in run_pytest(tmp_path)
    # without anything that runs coroutines but Elemta's own fixtures
    assert "7 passed" in run_pytest(tmp_path, "-p", "no:asyncio", "-p", "no:anyio")


def test_the_fixtures_work(tmp_path):
    (tmp_path / "test_fixtures.py").write_text(FIXTURES)
    assert "3 passed, 1 xfailed" in run_pytest(tmp_path, "-o", "asyncio_mode=strict")


def test_the_page_names_what_there_is():
    text = PAGE.read_text()
    for name in NAMES:
        assert f"`{name}" in text
    for kind in (PluginBench, SmtpClient):
        for name, value in vars(kind).items():
            if not name.startswith("_") and callable(value) and name not in {"close", "start"}:
                assert f"{name}(" in text, name
    for word in re.findall(r"`(?:bench|server)\.(\w+)", text):
        bench = PluginBench.__annotations__ | vars(PluginBench)
        server = vars(SmtpServer)
        assert word in bench or word in server or word in {"events", "plugin", "clock"}, word


@pytest.mark.parametrize("name", ["nothing", "test"])
def test_what_there_is_not(name):
    with pytest.raises(AttributeError, match=name):
        getattr(elemta.testing, name)
