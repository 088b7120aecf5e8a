"""`elemta plugins`: on a configuration alone, and on a server that runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from servers.elemta import MAILDIR, Elemta

from elemta.cli.main import cli
from elemta.cli.plugins_watch import Follower
from elemta.plugins.tooling import log_path

CONFIG = """
[server]
hostname = "mail.example.test"
state_dir = "{folder}/var"
[plugins]
directory = "{folder}/plugins"
[[plugins.plugin]]
name = "second"
priority = 5
mode = "shadow"
timeout = 2
[plugins.second]
limit = 3
"""
FIRST = """
from elemta.plugins import *

class First(Plugin[Settings]):
    metadata = Metadata(name="first", version="1.2.0", author="A. U. Thor", description="is asked")

    def on_connect(self, ctx):
        ctx.log.info(f"hello {ctx.session.client_ip}")
        ctx.metrics.count("seen", kind="x")

    def on_helo(self, ctx):
        return Result.reject("Not you") if ctx.name == "bad" else None
"""
SECOND = """
from pydantic import Field, SecretStr
from elemta.plugins import *

class Limits(Settings):
    limit: int = Field(1, description="so many")
    key: SecretStr = SecretStr("hidden")

class Second(Plugin[Limits]):
    metadata = Metadata(name="second", version="0.1.0", dependencies=["first"])
    Settings = Limits

    def on_helo(self, ctx):
        return Result.defer("Later")
"""
BROKEN = """
from elemta.plugins import *

class Broken(Plugin[Settings]):
    metadata = Metadata(name="broken")

    async def setup(self):
        {setup}

    def on_mail_from(self, ctx):
        raise KeyError("oops")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "elemta.toml").write_text(CONFIG.format(folder=tmp_path))
    plugins = tmp_path / "plugins"
    plugins.mkdir(mode=0o755)
    (plugins / "first.py").write_text(FIRST)
    (plugins / "second.py").write_text(SECOND)
    return tmp_path


def run(folder: Path, *arguments: str, group: str = "plugins") -> Result:
    config = ("-c", str(folder / "elemta.toml"))
    return CliRunner().invoke(cli, [*group.split(), *arguments, *config])


def run_json(folder: Path, *arguments: str):
    return json.loads(run(folder, *arguments, "--json").stdout)


# ---- what there is


def test_list(folder):
    first, second = run_json(folder, "list")
    assert first == {
        "name": "first", "version": "1.2.0", "description": "is asked", "state": "enabled",
        "workers": {}, "mode": "active", "priority": 0, "kind": "file",
        "source": str(folder / "plugins" / "first.py"), "hooks": ["on_connect", "on_helo"],
    }  # fmt: skip
    assert (second["name"], second["mode"], second["priority"]) == ("second", "shadow", 5)
    lines = run(folder, "list").stdout.splitlines()
    assert lines[0].split() == ["NAME", "VERSION", "STATE", "MODE", "KIND", "HOOKS", "DESCRIPTION"]
    assert lines[1].split() == ["first", "1.2.0", "enabled", "active", "file", "2", "is", "asked"]


def test_info(folder):
    info = run_json(folder, "info", "second")
    assert info["dependencies"] == ["first"]
    assert info["known_settings"]["limit"]["description"] == "so many"
    assert info["figures"] == {}
    text = run(folder, "info", "first").stdout
    assert "author: A. U. Thor\n" in text
    assert "hooks: on_connect, on_helo\n" in text


def test_config_shows_defaults_and_no_secrets(folder):
    config = run_json(folder, "config", "second")
    assert config["asked"]["timeout"] == 2
    assert config["settings"] == {"limit": 3, "key": "**********"}
    text = run(folder, "config", "second").stdout
    assert "elemta.toml:7" in text
    assert "\nlimit = 3\n" in text
    assert '\nkey = "**********"  # default\n' in text


def test_order(folder):
    found = run_json(folder, "order")
    assert found == {"on_connect": ["first"], "on_helo": ["first", "second"]}
    shown = run(folder, "order", "OnConnect").stdout
    assert shown == "HOOK        PLUGINS\non_connect  first\n"
    refused = run(folder, "order", "on_tea")
    assert (refused.exit_code, "no hook on_tea" in refused.stderr) == (1, True)


def test_what_is_not_there(folder):
    for command in ("info", "config", "test"):
        result = run(folder, command, "frist")
        assert result.exit_code == 1
        assert "there is no plugin frist; did you mean first?" in result.stderr


def test_what_cannot_be_loaded_is_told(folder):
    (folder / "plugins" / "second.py").write_text(SECOND.replace("on_helo", "on_hello"))
    result = run(folder, "list", "--json")
    assert result.exit_code == 1
    (problem,) = json.loads(result.stdout)["problems"]
    assert "did you mean on_helo?" in problem["text"]
    assert "second.py:13" in problem["where"]
    assert "did you mean on_helo?" in run(folder, "order").stderr


def test_header(folder):
    path = Path(CliRunner().invoke(cli, ["plugins", "header"]).stdout.strip())
    assert "smtp_plugin_get_interface" in path.read_text()
    told = json.loads(CliRunner().invoke(cli, ["plugins", "header", "--json"]).stdout)
    assert told == {"path": str(path)}


# ---- trying


def test_all_hooks_are_tried(folder):
    found = run_json(folder, "test", "second")
    assert found["ok"]
    steps = {step["step"]: step["result"] for step in found["steps"]}
    assert list(steps) == ["make", "setup", "self_check", "enable", "on_helo", "disable", "close"]
    assert steps["on_helo"] == "shadow: defer, continue"
    assert run(folder, "first", group="test-plugin").exit_code == 0
    assert not (folder / "var").exists()


def test_a_plugin_in_a_process_of_its_own_is_tried_there(folder):
    path = folder / "elemta.toml"
    isolated = '[[plugins.plugin]]\nname = "first"\nisolation = "process"\n'
    path.write_text(f"{path.read_text()}\n{isolated}")
    assert run_json(folder, "list")[0]["kind"] == "process"
    found = run_json(folder, "test", "first")
    assert found["ok"], found
    assert [step["step"] for step in found["steps"]][4:6] == ["on_connect", "on_helo"]


@pytest.mark.parametrize(
    ("setup", "step", "error"),
    [
        ("pass", "on_mail_from", "KeyError: 'oops'"),
        ("raise OSError('no')", "setup", "OSError: no"),
        ("raise SystemExit(0)", "setup", "SystemExit: 0"),
    ],
)
def test_what_fails_is_told(folder, setup, step, error):
    path = folder / "broken.py"  # it need not be configured
    path.write_text(BROKEN.format(setup=setup))
    result = run(folder, "test", str(path), "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert (found["plugin"], found["ok"]) == ("broken", False)
    (failed,) = [each for each in found["steps"] if each["error"]]
    assert failed["step"] == step
    assert failed["error"].startswith(f"{error} (broken.py:")
    assert "failed" in run(folder, "test", str(path)).stdout


def test_a_file_that_is_no_plugin(folder):
    assert "there is no" in run(folder, "test", "./nothing.py").stderr
    (folder / "empty.py").write_text("")
    result = run(folder, "test", str(folder / "empty.py"))
    assert result.exit_code == 1
    assert "empty.py" in result.stderr


# ---- writing


@pytest.mark.parametrize("name", ["limits", "my-own-rules", "result"])
def test_a_new_plugin_works_and_so_does_its_test(folder, name):
    found = run_json(folder, "new", name)
    assert Path(found["plugin"]) == folder / "plugins" / f"{name.replace('-', '_')}.py"
    assert name in [each["name"] for each in run_json(folder, "list")]
    assert run_json(folder, "test", name)["ok"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", found["test"]],
        cwd=folder, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert "3 passed" in done.stdout, done.stdout + done.stderr
    again = run(folder, "new", name)
    assert (again.exit_code, "is there already" in again.stderr) == (1, True)


@pytest.mark.parametrize("name", ["../evil", "Upper", "9lives", "a_b", "class", "email"])
def test_a_new_plugin_has_a_proper_name(folder, name):
    assert run(folder, "new", name).exit_code == 1
    assert len(list((folder / "plugins").iterdir())) == 2


def test_a_new_plugin_elsewhere(folder):
    result = run(folder, "new", "limits", "--dir", str(folder / "else"))
    assert result.stdout.startswith(str(folder / "else" / "limits.py"))
    assert {path.name for path in (folder / "else").iterdir()} == {"limits.py", "test_limits.py"}
    blocked = run(folder, "new", "limits", "--dir", str(folder / "elemta.toml" / "x"))
    assert blocked.exit_code == 1


# ---- logs


def test_the_last_lines(folder):
    assert "has said nothing yet" in run(folder, "logs", "first").stderr
    assert run(folder, "logs", "../x").exit_code == 1
    path = log_path(folder / "var", "first")
    path.parent.mkdir(parents=True)
    Path(f"{path}.1").write_text("2026-11-21T00:00:00.000Z INFO    one\n(2 lines were lost)\n")
    path.write_bytes(b"2026-11-21T00:00:01.000Z WARNING three \x1b[31m\nunfinished")
    assert run_json(folder, "logs", "first") == [
        {"time": "2026-11-21T00:00:00.000Z", "level": "info", "text": "one"},
        {"time": "", "level": "", "text": "(2 lines were lost)"},
        {"time": "2026-11-21T00:00:01.000Z", "level": "warning", "text": "three \x1b[31m"},
    ]
    shown = run(folder, "logs", "first", "-n", "1").stdout
    assert shown == "2026-11-21T00:00:01.000Z WARNING three  [31m\n"
    assert run(folder, "logs", "first", "-n", "0").stdout == ""


def test_what_comes_is_followed_into_the_next_file(tmp_path):
    path = tmp_path / "one.log"
    path.write_bytes(b"1\n2\nhal")
    follower = Follower(path)
    assert follower.last(1) == [b"2"]
    with path.open("ab") as file:
        file.write(b"f\n3\n")
    assert list(follower.more()) == [b"half", b"3"]
    assert list(follower.more()) == []
    path.replace(f"{path}.1")
    assert list(follower.more()) == []
    path.write_bytes(b"4\n")
    assert list(follower.more()) == [b"4"]
    follower.close()


# ---- a server that runs


def test_without_a_server_it_is_told(folder):
    for command in (["enable", "first"], ["disable", "first"], ["reload", "--all"], ["metrics"]):
        result = run(folder, *command)
        assert result.exit_code == 75, command
        assert "does not run" in result.stderr
    assert run(folder, "reload").exit_code == 2
    assert run(folder, "reload", "first", "--all").exit_code == 2


def test_orders_figures_and_logs_of_a_running_server(folder):
    plugins = folder / "plugins"
    rest = f'{MAILDIR}\n[plugins]\ndirectory = "{plugins}"\n'
    server = Elemta(folder / "server", rest=rest, workers=2)
    server.folder.mkdir()

    def ask(*arguments: str):
        return json.loads(server.cli("plugins", *arguments, "--json").stdout)

    def states() -> list[str]:
        return [each["state"] for each in ask("list")]

    try:
        server.start()
        server.wait_for(lambda: states() == ["enabled", "enabled"], "both plugins")
        assert set(ask("list")[0]["workers"].values()) == {"enabled"}
        done = ask("disable", "second")
        assert (done["changed"], done["errors"], done["unanswered"]) == (2, [], [])
        server.wait_for(lambda: states() == ["enabled", "disabled"], "one is disabled")
        assert ask("order") == {"on_connect": ["first"], "on_helo": ["first"]}
        assert server.cli("plugins", "enable", "second").stdout == "second: enabled\n"

        refused = server.cli("plugins", "enable", "frist", check=False)
        assert refused.returncode == 1
        assert "worker 0: there is no plugin frist; did you mean first?" in refused.stderr

        text = (plugins / "first.py").read_text()
        (plugins / "first.py").write_text(text.replace("1.2.0", "1.3.0").replace("x", "y"))
        assert ask("reload", "first")["changed"] == 2
        server.wait_for(lambda: ask("info", "first")["state"] == "enabled", "the next version")
        (plugins / "first.py").write_text("oops(")
        failed = server.cli("plugins", "reload", "first", check=False)
        assert failed.returncode == 1
        assert "first.py:1" in failed.stderr
        (plugins / "first.py").write_text(text)

        def counted() -> bool:
            shown = {
                (each["metric"], each["labels"].get("hook", "")): each["value"]
                for each in ask("metrics", "first")
            }
            own = ("elemta_plugin_first_seen_total", "")
            return shown.get(own, 0) >= 1 and ("elemta_plugin_calls_total", "on_connect") in shown

        server.wait_for(lambda: server.greets() and counted(), "figures")
        assert "elemta_plugin_first_seen_total" in server.cli("plugins", "metrics").stdout
        figures = server.wait_for(lambda: ask("info", "first")["figures"].get("on_connect"), "them")
        assert figures["calls"]
        said = ask("logs", "first", "-n", "1")
        assert said[0]["text"] == "hello 127.0.0.1"
    finally:
        server.kill()
