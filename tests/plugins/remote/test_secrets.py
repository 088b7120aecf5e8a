"""Secrets in the settings of a plugin in its own process: it gets them, and nobody else."""

import json
import textwrap

import pytest
from click.testing import CliRunner
from plugins.remote.outside import envelope, outside

from elemta.cli.main import cli
from elemta.plugins.remote.any_settings import AnySettings, make_model
from elemta.plugins.result import Result

PLUGIN = """
    from pydantic import BaseModel, SecretBytes, SecretStr
    from elemta.plugins import Metadata, Plugin, Result, Settings

    class Login(BaseModel):
        user: str = ""
        password: SecretStr = SecretStr("")

    class Options(Settings):
        key: SecretStr
        other: SecretStr = SecretStr("unset")
        raw: SecretBytes | None = None
        login: Login = Login()
        logins: list[Login] = []
        limit: int = 1

    class Keeper(Plugin[Options]):
        metadata = Metadata(name="keeper", network=("*",))
        Settings = Options

        async def setup(self):
            if self.settings.key.get_secret_value() != "open sesame":
                raise RuntimeError("the wrong key")

        async def on_mail_from(self, ctx):
            own = self.settings
            words = [own.key, own.other, own.login.password, own.logins[0].password]
            said = " ".join(word.get_secret_value() for word in words)
            return Result.quarantine(note=f"{said} {own.limit}")
"""
VALUES = {
    "key": "open sesame",
    "login": {"user": "me", "password": "hidden-1"},
    "logins": [{"password": "hidden-2"}],
    "limit": 7,
}


@pytest.fixture
def path(tmp_path):
    folder = tmp_path / "plugins"
    folder.mkdir(mode=0o755)
    file = folder / "keeper.py"
    file.write_text(textwrap.dedent(PLUGIN))
    return file


async def test_it_gets_its_secrets(tmp_path, path):
    async with outside(tmp_path, path, config=VALUES) as it:
        result = await it.plugin.on_mail_from(envelope())
        assert result == Result.quarantine(note="open sesame unset hidden-1 hidden-2 7")
        shown = f"{it.plugin.settings!r} {it.plugin.settings.model_dump_json()}"
        assert "sesame" not in shown
        assert "hidden" not in shown


@pytest.fixture
def command(tmp_path, path):
    config = tmp_path / "elemta.toml"
    config.write_text(f"""
[server]
hostname = "mail.example.test"
state_dir = "{tmp_path}/var"
[plugins]
directory = "{path.parent}"
auto_load = false
[[plugins.plugin]]
name = "keeper"
module = "keeper.py"
isolation = "process"
config = {{ key = "env:KEY", logins = [{{ password = "hidden-2" }}] }}
""")

    def run(*arguments):
        words = ["plugins", *arguments, "keeper", "--json", "-c", str(config)]
        return CliRunner(env={"KEY": "open sesame"}).invoke(cli, words)

    return run


def test_it_can_be_tried(command):
    done = command("test")
    told = json.loads(done.output)
    assert told["ok"], told
    assert {step["step"]: step["result"] for step in told["steps"]} == {
        "make": "",
        "setup": "ok",
        "self_check": "ok",
        "enable": "ok",
        "on_mail_from": "quarantine",
        "disable": "ok",
        "close": "ok",
    }


@pytest.mark.parametrize("what", ["config", "info"])
def test_no_command_shows_them(command, what):
    done = command(what)
    assert done.exit_code == 0, done.output
    assert "sesame" not in done.output
    assert "hidden-2" not in done.output


@pytest.mark.parametrize(
    "schema",
    [
        "",
        "no",
        "[]",
        '{"properties": 5}',
        '{"properties": {"a": {"$ref": "#/$defs/b"}}}',
        '{"properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": {"$ref": "#/$defs/b"}}}',
        '{"properties": {"model_config": {"writeOnly": true}, "_x": {"writeOnly": true}}}',
        '{"properties": ' + '{"a":' * 500 + "1" + "}" * 501,
    ],
)
def test_a_schema_of_a_stranger_may_be_nonsense(schema):
    assert make_model(schema) is AnySettings
