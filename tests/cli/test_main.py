"""The command as a whole: what it imports, what it shows, how it ends."""

import json
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from elemta import __version__
from elemta.cli.main import (
    LazyGroup,
    bans,
    cli,
    dkim,
    dmarc,
    dns,
    limits,
    plugins,
    quarantine,
    queue,
    reputation,
    rules,
    scanners,
    submission,
    tls,
    user,
    user_app_password,
)


def elemta(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "elemta", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_version():
    done = elemta("version")
    assert done.returncode == 0
    assert done.stdout.startswith(f"elemta {__version__} (Python ")
    assert json.loads(elemta("version", "--json").stdout)["version"] == __version__


@pytest.mark.parametrize(
    "arguments",
    [
        ["version"],
        ["--help"],
        ["queue", "--help"],
        ["plugins", "--help"],
        ["bans", "--help"],
        ["tls", "--help"],
        ["user", "--help"],
    ],
)
def test_nothing_is_imported_before_it_is_needed(arguments):
    script = (
        "import sys\n"
        "from elemta.cli import main\n"
        f"sys.argv = ['elemta', *{arguments}]\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "heavy = {'pydantic', 'dns', 'apsw', 'asyncio', 'starlette', 'uvloop', 'elemta.config'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stderr.strip() == "[]"


GROUPS = (
    cli,
    queue,
    plugins,
    submission,
    bans,
    dkim,
    dmarc,
    dns,
    limits,
    quarantine,
    reputation,
    rules,
    scanners,
    tls,
    user,
    user_app_password,
)
OF_OLD = "sendmail"  # speaks as sendmail(1) does: its callers know nothing else


@pytest.mark.parametrize("group", GROUPS, ids=[str(group.name) for group in GROUPS])
def test_each_command_is_where_the_table_says(group: LazyGroup):
    context = click.Context(group)
    for name, (_, text) in group.places.items():
        command = group.get_command(context, name)
        assert command is not None
        assert command.name == name
        assert command.help or command.get_short_help_str()
        assert text in CliRunner().invoke(group, ["--help"]).output


def names(group: LazyGroup) -> list[str]:
    others = {OF_OLD, *(group.name for group in GROUPS)}
    return [name for name in group.places if name not in others]


@pytest.mark.parametrize(
    ("group", "name"),
    [(group, name) for group in GROUPS for name in names(group)],
    ids=lambda value: value if isinstance(value, str) else str(value.name),
)
def test_every_command_speaks_json(group: LazyGroup, name: str):
    command = group.get_command(click.Context(group), name)
    assert command is not None
    assert any("--json" in option.opts for option in command.params)


def test_wrong_usage_is_2():
    assert CliRunner().invoke(cli, ["nonsense"]).exit_code == 2
    assert CliRunner().invoke(cli, ["queue", "nonsense"]).exit_code == 2
    assert CliRunner().invoke(cli, ["version", "--nonsense"]).exit_code == 2
