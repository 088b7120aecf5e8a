"""The guide for authors of plugins: all that it shows is loaded, checked or run."""

import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
from servers.dialogue import Dialogue
from servers.elemta import Elemta
from servers.process import free_port

from elemta.app.plugins import check_plugins
from elemta.cli.main import cli
from elemta.config import read
from elemta.observe.catalogue import CATALOGUE
from elemta.plugins.finding.sources import GROUP
from elemta.plugins.hooks import HOOKS
from elemta.plugins.tooling.files import log_path

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs/plugins"
EXAMPLES = ROOT / "examples/plugins"
PAGES = ("first-plugin", "contract", "examples", "debugging", "publishing")


def text_of(page: str) -> str:
    return (GUIDE / f"{page}.md").read_text("utf-8")


def blocks(page: str, language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```$", text_of(page), re.DOTALL | re.MULTILINE)
    return [str(each) for each in found]


def write_plugins(page: str, folder: Path) -> list[str]:
    """Write the plugins of a page as its readers do; their names."""
    folder.mkdir(mode=0o755, exist_ok=True)
    names = []
    for block in blocks(page, "python"):
        named = re.match(r"# (\w+)\.py\n", block)
        assert named is not None, block
        (folder / f"{named[1]}.py").write_text(block)
        (folder / f"{named[1]}.py").chmod(0o644)
        names.append(named[1])
    return names


def problems(folder: Path, config: str) -> list[str]:
    """What `elemta check` has to say of a configuration, with its plugins."""
    path = folder / "elemta.toml"
    path.write_text(f'[server]\nstate_dir = "var"\n{config}')
    loaded = read(path, {})
    assert loaded.config is not None, loaded.problems
    found = asyncio.run(check_plugins(loaded.config, loaded.source.where))
    return [str(each) for each in found]


def one_file_of(configs: list[str]) -> str:
    """Put what a page shows in pieces into one file."""
    tables = ['[plugins]\ndirectory = "./plugins"\n']
    top = re.compile(r"^\[plugins\]\n(?:\w.*\n)*", re.MULTILINE)
    tables += [top.sub("", config) for config in configs]
    return "\n".join(tables)


class TestBlocks:
    @pytest.mark.parametrize("page", [each for each in PAGES if each != "examples"])
    def test_every_plugin_can_be_loaded(self, tmp_path, page):
        names = write_plugins(page, tmp_path / "plugins")
        if page == "publishing":
            shutil.copy(EXAMPLES / "spam_filter.py", tmp_path / "plugins")
        assert names
        assert problems(tmp_path, '[plugins]\ndirectory = "./plugins"\n') == []

    @pytest.mark.parametrize("page", ["first-plugin", "contract", "debugging"])
    def test_every_configuration_holds(self, tmp_path, page):
        write_plugins(page, tmp_path / "plugins")
        configs = blocks(page, "toml")
        assert configs
        for config in configs:
            assert "[plugins]" in config
            assert problems(tmp_path, config) == []

    def test_a_wrong_setting_would_be_noticed(self, tmp_path):
        write_plugins("first-plugin", tmp_path / "plugins")
        (config,) = blocks("first-plugin", "toml")
        (problem,) = problems(tmp_path, config.replace("domains =", "domain ="))
        assert "did you mean domains" in problem

    @pytest.mark.filterwarnings("ignore:(tagMap|typeMap) is deprecated:DeprecationWarning")  # ldap3
    def test_the_examples_are_configured_as_they_can_be(self, tmp_path):
        shutil.copytree(EXAMPLES, tmp_path / "plugins", ignore=shutil.ignore_patterns("_*", "*.md"))
        for path in (tmp_path / "plugins").iterdir():
            if path.suffix != ".py":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        config = one_file_of(blocks("examples", "toml"))
        assert problems(tmp_path, config) == []
        shown = tomllib.loads(config)["plugins"]
        configured = {each["name"] for each in shown["plugin"]} | {
            name.replace("_", "-") for name, value in shown.items() if isinstance(value, dict)
        }
        assert configured == {path.stem.replace("_", "-") for path in EXAMPLES.glob("*.py")}

    def test_json_is_as_the_log_writes_it(self):
        (event,) = (json.loads(block) for block in blocks("debugging", "json"))
        known = re.findall(r"^\| `(\w+)` ", section("docs/log.md", "plugin_error"), re.MULTILINE)
        assert set(event) - {"event_type"} <= set(known)


def section(page: str, heading: str) -> str:
    text = (ROOT / page).read_text("utf-8")
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


class TestPackage:
    @pytest.fixture
    def package(self, tmp_path, monkeypatch):
        """The published package as an installer leaves it."""
        site = tmp_path / "site"
        write_plugins("publishing", site)
        (site / "spam_gate.py").unlink()
        described = tomllib.loads(blocks("publishing", "toml")[0])
        ((name, value),) = described["project"]["entry-points"][GROUP].items()
        info = site / "elemta_quiet_hours-1.2.0.dist-info"
        info.mkdir()
        project = described["project"]
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        )
        (info / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {value}\n")
        monkeypatch.syspath_prepend(str(site))
        yield
        sys.modules.pop("elemta_quiet_hours", None)

    @pytest.mark.usefixtures("package")
    def test_it_is_found_by_its_name(self, tmp_path):
        config = blocks("publishing", "toml")[1]
        assert problems(tmp_path, config) == []
        (problem,) = problems(tmp_path, config.replace("start = 20", "start = 25"))
        assert "quiet-hours" in problem

    def test_without_it_the_name_is_unknown(self, tmp_path):
        (problem,) = problems(tmp_path, blocks("publishing", "toml")[1])
        assert "quiet-hours" in problem


class TestFirstPlugin:
    """The page, step by step, on a server in test mode."""

    @pytest.fixture
    def server(self, tmp_path):
        folder = tmp_path / "plugins"
        write_plugins("first-plugin", folder)
        (folder / "no_gambling.py").unlink()
        port = free_port()
        env = {
            **os.environ,
            "ELEMTA_LISTENERS__0__ADDRESS": f"127.0.0.1:{port}",
            "ELEMTA_METRICS__LISTEN": f"127.0.0.1:{free_port()}",
        }
        (command,) = (
            line for line in "".join(blocks("first-plugin", "sh")).split("\n") if "serve" in line
        )
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command.split()],
                cwd=tmp_path,
                env=env,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        elemta = Elemta(tmp_path, port=port, process=process)
        (tmp_path / "log.jsonl").symlink_to(tmp_path / "log")
        try:
            elemta.wait_for(elemta.greets, "the banner")
            yield elemta, folder
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)

    def send(self, port: int, command: str) -> str:
        """Carry out `elemta send` as it is shown, to a server at another port."""
        done = subprocess.run(
            [sys.executable, "-m", *shlex.split(command), "--server", f"127.0.0.1:{port}"],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        return done.stdout + done.stderr

    def test_the_steps(self, server):
        elemta, folder = server
        lines = "".join(blocks("first-plugin", "sh")).split("\n")
        good, bad = (line for line in lines if " send " in line)
        assert "queued as" in self.send(elemta.port, good)
        refusal = "550 5.7.1 We do not gamble"
        assert refusal in text_of("first-plugin")
        assert refusal in self.send(elemta.port, bad)

        path = folder / "no_casino.py"
        path.write_text(path.read_text().replace("We do not gamble", "No games, please"))
        elemta.wait_for(lambda: self.refusal(elemta) == "550 5.7.1 No games, please", "the change")

        path.write_text(path.read_text().replace("on_mail_from", "on_mail_form"))
        mistake = "there is no hook on_mail_form; did you mean on_mail_from?"
        assert mistake in text_of("first-plugin")
        elemta.wait_for(lambda: mistake in elemta.log_file.read_text(), "the complaint")
        assert self.refusal(elemta) == "550 5.7.1 No games, please"

    def refusal(self, elemta: Elemta) -> str:
        with Dialogue(elemta.port) as client:
            client.hello()
            return client.say("MAIL FROM:<luck@casino.example>")


def test_the_plugin_of_the_readme_is_the_first_of_the_guide():
    readme = (ROOT / "README.md").read_text("utf-8")
    (shown,) = re.findall(r"^```python\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    assert blocks("first-plugin", "python")[0] == f"# no_casino.py\n{shown}"
    assert len(shown.split("\n")) == 11


class TestWords:
    @pytest.mark.parametrize("page", [*PAGES, "README", "hooks"])
    def test_links_lead_somewhere(self, page):
        for target, heading in re.findall(r"\]\(([^)#]*)(#[^)]*)?\)", text_of(page)):
            path = (GUIDE / target) if target else GUIDE / f"{page}.md"
            assert path.exists(), target
            if heading:
                headings = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.MULTILINE)
                marks = {"#" + each.lower().replace(" ", "-") for each in headings}
                assert heading in marks

    def test_the_index_has_all_pages(self):
        pointed = set(re.findall(r"\]\((\S+\.md)\)", text_of("README")))
        assert pointed == {path.name for path in GUIDE.glob("*.md")} - {"README.md"}

    @pytest.mark.parametrize("page", PAGES)
    def test_hooks_and_metrics_that_are_named_exist(self, page):
        text = text_of(page)
        named = set(re.findall(r"`(on_[a-z_]+)`", text)) - {"on_error"}
        assert named <= set(HOOKS)
        known = {metric.name for metric in CATALOGUE}
        for name in re.findall(r"`(elemta_plugin_[a-z_]+)`", text):
            owners = [path.stem for path in EXAMPLES.glob("*.py")] + ["no_gambling"]
            mine = any(name.startswith(f"elemta_plugin_{each}_") for each in owners)
            assert name in known or mine or name == "elemta_plugin_", name

    def test_events_that_are_named_exist(self):
        described = set(
            re.findall(r"^## (\w+)$", (ROOT / "docs/log.md").read_text("utf-8"), re.MULTILINE)
        )
        for name in re.findall(r"`((?:message|plugin)_[a-z]+)`", text_of("debugging")):
            assert name in described

    @pytest.mark.parametrize("page", PAGES)
    def test_commands_that_are_named_exist(self, page):
        named = re.findall(r"(?:`|^)elemta ((?:plugins )?[a-z-]+)", text_of(page), re.MULTILINE)
        for name in named:
            command: click.Command | None = cli
            for word in name.split():
                assert isinstance(command, click.Group)
                command = command.get_command(click.Context(command), word)
            assert command is not None, name

    def test_the_log_file_is_where_they_say(self):
        path = log_path(Path("state"), "talkative").relative_to("state")
        assert f"`{path}`" in text_of("debugging")

    def test_every_example_is_told_of(self):
        told = set(re.findall(r"^\| \[(\w+)\.py\]", text_of("examples"), re.MULTILINE))
        assert told == {path.stem for path in EXAMPLES.glob("*.py")}
