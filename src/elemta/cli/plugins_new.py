"""`elemta plugins new`: writes a plugin that works, and its test."""

import keyword
import sys
from pathlib import Path

import click

from elemta.cli.options import config_option, load_config
from elemta.cli.output import fail, json_option, put_json
from elemta.mail.errors import PluginError
from elemta.plugins.tooling import check_name

PLUGIN = '''\
"""{title}: what it is for, in a sentence."""

from elemta.plugins import Metadata, Plugin, RecipientContext, Result, Settings


class {settings}(Settings):
    """What an operator can set, in `[plugins.{name}]`."""

    blocked: tuple[str, ...] = ()


class {kind}(Plugin[{settings}]):
    """Refuses recipients that are blocked."""

    metadata = Metadata(
        name="{name}",
        version="0.1.0",
        description="Refuses recipients that are blocked",
    )
    Settings = {settings}

    def on_rcpt_to(self, ctx: RecipientContext) -> Result | None:
        if str(ctx.recipient) in self.settings.blocked:
            ctx.metrics.count("blocked")
            return Result.reject("No mail for this recipient", note="it is blocked")
        return None
'''

TEST = '''\
"""Tests of {module}.py: run `pytest` in this folder."""

from {module} import {kind}

from elemta.plugins import Action

BLOCKED = {{"blocked": ["nobody@example.test"]}}


async def test_a_blocked_recipient_is_refused(plugin_bench):
    bench = plugin_bench({kind}, BLOCKED)
    answer = await bench.rcpt_to("nobody@example.test")
    assert answer.action is Action.REJECT
    assert answer.reply.code == 550
    assert bench.count("blocked") == 1


async def test_others_are_not(plugin_bench):
    answer = await plugin_bench({kind}, BLOCKED).rcpt_to("somebody@example.test")
    assert answer.action is Action.CONTINUE
    assert answer.error == ""


async def test_in_a_dialogue(smtp_server):
    async with smtp_server(({kind}, BLOCKED)) as server, await server.connect() as client:
        reply = await client.send_mail(recipients="nobody@example.test")
        assert reply == "550 5.7.1 No mail for this recipient"
        assert (await client.send_mail()).startswith("250")
    assert len(server.messages) == 1
'''


@click.command("new")
@click.argument("name", metavar="NAME")
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where to; without it the configured folder of plugins.",
)
@config_option
@json_option
def new(name: str, *, folder: Path | None, config_path: Path | None, as_json: bool) -> None:
    """Write a plugin that works, and its test, as a beginning.

    Files that are there already are left alone.
    """
    try:
        check_name(name)
    except PluginError as error:
        fail(str(error))
    module = name.replace("-", "_")
    if keyword.iskeyword(module) or module in {*sys.stdlib_module_names, "elemta", "pytest"}:
        fail(f"{module}.py would stand in the way of Python's own {module}")
    if folder is None:
        folder = load_config(config_path).plugins.directory
    words = name.split("-")
    camel = "".join(word.capitalize() for word in words)
    texts = {
        "name": name,
        "module": module,
        "kind": f"{camel}Plugin",
        "settings": f"{camel}Settings",
        "title": " ".join(words).capitalize(),
    }
    plugin, test = folder / f"{module}.py", folder / f"test_{module}.py"
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        for path in (plugin, test):
            if path.exists():
                fail(f"{path} is there already")
        for path, template in ((plugin, PLUGIN), (test, TEST)):
            with path.open("x") as file:
                file.write(template.format(**texts))
            path.chmod(0o644)  # others who could write it could do as the server does
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
    if as_json:
        put_json({"plugin": str(plugin), "test": str(test)})
        return
    click.echo(f"{plugin}\n{test}")
    click.echo(f"Try it: pytest {test}, elemta plugins test {plugin}")
