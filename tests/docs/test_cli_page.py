"""`docs/cli.md` tells of every command and option there is."""

from pathlib import Path

import click
import pytest

from elemta.cli.main import LazyGroup, cli

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
GROUPS = (
    "elemta queue",
    "elemta plugins",
    "elemta scanners",
    "elemta bans",
    "elemta dkim",
    "elemta dmarc",
    "elemta dns",
    "elemta limits",
    "elemta reputation",
    "elemta quarantine",
    "elemta rules",
    "elemta submission",
    "elemta tls",
    "elemta user app-password",
    "elemta user",
)
EVERYWHERE = {"--json", "--help", "--config"}


def leaves(group: LazyGroup, prefix: str) -> list[tuple[str, click.Command]]:
    found: list[tuple[str, click.Command]] = []
    for name in group.places:
        command = group.get_command(click.Context(group), name)
        if isinstance(command, LazyGroup):
            found += leaves(command, f"{prefix} {name}")
        elif command is not None:
            found.append((f"{prefix} {name}", command))
    return found


COMMANDS = [pytest.param(name, command, id=name) for name, command in leaves(cli, "elemta")]


@pytest.mark.parametrize(("name", "command"), COMMANDS)
def test_every_command_and_option_is_told_of(name: str, command: click.Command):
    group, _, verb = name.rpartition(" ")
    section = name if group == "elemta" else group
    assert f"# {section}" in PAGE
    assert f"`{verb}`" in PAGE or f" {verb}" in PAGE
    for option in command.params:
        for word in set(option.opts) - EVERYWHERE:
            if word.startswith("--"):
                assert word in PAGE, f"{word} of {name}"


def test_there_are_no_others():
    """What the page calls a command is one."""
    known = {name for name, _ in leaves(cli, "elemta")}
    for line in PAGE.split("\n"):
        if line.startswith("#") and "elemta " in line:
            heading = line.lstrip("# ")
            group = next((each for each in GROUPS if heading.startswith(f"{each} ")), "")
            for verb in heading.removeprefix(group).split(", "):
                name = f"{group} {verb.strip()}" if group else heading
                assert name in known or name in GROUPS, name
