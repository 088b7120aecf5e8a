"""What `elemta check` finds out about rules, lists and their cases."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from elemta.config import Config, Loaded, Problem

if TYPE_CHECKING:
    from elemta.plugins.builtin.rules.loading import Trouble

NAME = "rules"


@dataclass(slots=True)
class Tried:
    """What came of reading the rules.

    Attributes:
        rules, lists, cases: How many there are.
        troubles: What is wrong.
        expired: Names of rules that have ended, and where they stand.
    """

    rules: int = 0
    lists: int = 0
    cases: int = 0
    troubles: tuple["Trouble", ...] = ()
    expired: list[tuple[str, str]] = field(default_factory=list)


def has_rules(config: Config) -> bool:
    """Whether the plugin is asked."""
    plugins = config.plugins
    named = {*plugins.plugins, *(each.name for each in plugins.plugin if each.enabled)}
    if isinstance(plugins.enabled, tuple):
        named.update(plugins.enabled)
    is_off = plugins.tables.get(NAME, {}).get("enabled") is False
    return plugins.enabled is not False and NAME in named and not is_off


def try_rules(config: Config, more: tuple[Path, ...] = ()) -> Tried | None:
    """Read the rules and run their cases; None where the settings themselves are wrong.

    Args:
        config: What to read.
        more: Run the cases in these files, and no others.
    """
    # not before it is needed: that reads RE2 and, for an expression, CEL
    from pydantic import ValidationError  # noqa: PLC0415

    from elemta.app.dkim import told  # noqa: PLC0415
    from elemta.net.clock import SystemClock  # noqa: PLC0415
    from elemta.net.references import forget  # noqa: PLC0415
    from elemta.plugins.builtin.rules.loading import Reader, RulesError  # noqa: PLC0415
    from elemta.plugins.builtin.rules.settings import RulesSettings  # noqa: PLC0415
    from elemta.plugins.builtin.rules.specs import check_specs  # noqa: PLC0415

    table = {name: value for name, value in told(config, NAME).items() if name != "enabled"}
    try:
        settings = RulesSettings.model_validate(forget(table))
    except ValidationError:
        return None
    found, now = Tried(), SystemClock().now()
    reader = Reader(settings, config.server.state_dir)
    try:
        rules, _ = reader.read()
        found.rules, found.lists = len(rules.rules), len(rules.lists)
        found.expired = [
            (each.name, each.place) for each in rules.rules if each.expires and each.expires <= now
        ]
        found.cases = check_specs(more or reader.find_specs(), rules, now)
    except RulesError as error:
        found.troubles = error.troubles
    return found


def find_rule_problems(loaded: Loaded, config: Config) -> Iterator[Problem]:
    """Try the rules, if they are asked."""
    found = try_rules(config) if has_rules(config) else None
    if found is None:
        return  # what is wrong with the settings is told of the plugin
    for trouble in found.troubles:
        yield problem_of(loaded, config, trouble)
    for name, place in found.expired:
        text = f"{place}: rule {name} has expired"
        yield loaded.problem(("plugins", NAME), text, is_error=False)


def problem_of(loaded: Loaded, config: Config, trouble: "Trouble") -> Problem:
    """Say what is wrong with rules as the configuration's problems are said."""
    if trouble.where:
        return Problem(trouble.where, f"plugin {NAME}", trouble.text)
    path: tuple[str | int, ...] = ("plugins", NAME)
    for index, each in enumerate(config.plugins.plugin):
        if each.name == NAME and trouble.path and trouble.path[0] in each.config:
            path = ("plugins", "plugin", index, "config")
    return loaded.problem((*path, *trouble.path), trouble.text)
