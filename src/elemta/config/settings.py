"""The list of all settings, as the documentation, the loader and the reload look at them."""

from collections.abc import Iterator
from dataclasses import dataclass
from types import NoneType
from typing import Annotated, NamedTuple, get_args, get_origin

from pydantic.fields import FieldInfo

from elemta.config.models import Config
from elemta.config.plugins import PluginsConfig
from elemta.config.sections import Section, is_all_live, is_live, section_of
from elemta.config.values import Kind


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the configuration file: `[queue]`, or `[[routes]]` where `is_list`.

    One that is part of each table of a list is `in_list`: `[plugins.plugin.limits]`.
    """

    name: str
    model: type[Section]
    is_list: bool
    in_list: bool = False

    @property
    def heading(self) -> str:
        return f"[[{self.name}]]" if self.is_list else f"[{self.name}]"

    def settings(self) -> Iterator["Setting"]:
        """The settings of this table itself, without those of tables within it."""
        for name, field in self.model.model_fields.items():
            if section_of(field) is None:
                yield Setting(self, name, field)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting."""

    table: Table
    name: str
    field: FieldInfo

    @property
    def full_name(self) -> str:
        return f"{self.table.name}.{self.name}"

    @property
    def is_live(self) -> bool:
        """Whether a change applies on reload."""
        return is_live(self.field)

    @property
    def is_list(self) -> bool:
        return get_origin(self.field.annotation) is tuple

    @property
    def is_required(self) -> bool:
        return self.field.is_required()

    @property
    def default(self) -> object:
        """The default as a value of the models; None where there is none."""
        return None if self.is_required else self.field.default

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that may be chosen from; empty where it is free."""
        found = get_args(self.field.annotation)
        if found and found[-1] is NoneType:  # it need not be set
            inner = get_args(found[0])
            found = get_args(inner[0]) if get_origin(found[0]) is Annotated else inner
        return found if found and all(isinstance(item, str) for item in found) else ()

    @property
    def kind(self) -> Kind:
        """What its value is called and how it is shown; of one item where it is a list."""
        return find_kind(self.field)


def tables() -> Iterator[Table]:
    """All tables in the order of the file; a table within another follows it."""
    yield from _tables_in(Config, "")


def _tables_in(model: type[Section], prefix: str, *, in_list: bool = False) -> Iterator[Table]:
    for name, field in model.model_fields.items():
        section = section_of(field)
        if section is not None:
            is_list = get_origin(field.annotation) is tuple
            yield Table(prefix + name, section, is_list, in_list)
            yield from _tables_in(section, f"{prefix}{name}.", in_list=in_list or is_list)


def find_model(path: tuple[str | int, ...]) -> type[Section] | None:
    """Give the model of the table at a path; None where there is no table."""
    model: type[Section] = Config
    for part in path:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part)
        section = section_of(field) if field is not None else None
        if section is None:
            return None
        model = section
    return model


def find_kind(field: FieldInfo) -> Kind:
    """Give the kind of a setting, or of the items of a list."""
    metadata = list(field.metadata)
    for part in get_args(field.annotation):
        metadata.extend(getattr(part, "__metadata__", ()))
    return next((item for item in metadata if isinstance(item, Kind)), Kind("text"))


def label(path: tuple[str | int, ...]) -> str:
    """Write the path of a setting as the file has it: "[queue] max_age", "[[routes]] via"."""
    if len(path) == 1:
        return f"[{path[0]}]"
    end = 0
    while end < len(path) and find_model(path[: end + 1]) is not None:
        end += 1
    if (
        end == 1
        and len(path) > 2
        and find_model(path[:1]) is PluginsConfig
        and path[1] not in PluginsConfig.model_fields
    ):
        end = 2
    table = ".".join(part for part in path[:end] if isinstance(part, str))
    heading = f"[{table}]" if table else ""
    if end and isinstance(path[end - 1], int):
        heading = f"[{heading}]"
    name = ""
    for part in path[end:]:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else part
    return f"{heading} {name}".strip()


class Changes(NamedTuple):
    """Names of settings that differ, such as "queue.max_age"; lists of tables as a whole.

    Attributes:
        live: They apply on reload.
        restart: They wait for a restart.
    """

    live: tuple[str, ...]
    restart: tuple[str, ...]


def changed(old: Config, new: Config) -> Changes:
    """Compare two configurations."""
    live: list[str] = []
    restart: list[str] = []
    for table in tables():
        if table.in_list:  # the list is compared as a whole
            continue
        before, after = _value(old, table.name), _value(new, table.name)
        if before == after:
            continue
        if table.is_list:
            (live if is_all_live(table.model) else restart).append(table.name)
            continue
        for setting in table.settings():
            if getattr(before, setting.name) != getattr(after, setting.name):
                (live if setting.is_live else restart).append(setting.full_name)
        if isinstance(before, PluginsConfig) and isinstance(after, PluginsConfig):
            named = {*before.tables, *after.tables}
            live += (
                f"{table.name}.{name}"
                for name in sorted(named)
                if before.tables.get(name) != after.tables.get(name)
            )
    return Changes(tuple(live), tuple(restart))


def keep_fixed(running: Config, new: Config) -> Config:
    """Give what may apply while a server runs: `new`, but what needs a restart stays."""
    sections: dict[str, object] = {}
    for table in tables():
        if "." in table.name:
            continue
        before, after = _value(running, table.name), _value(new, table.name)
        if table.is_list:
            sections[table.name] = after if is_all_live(table.model) else before
        elif isinstance(before, Section) and isinstance(after, Section):
            fixed = {
                each.name: getattr(before, each.name)
                for each in table.settings()
                if not each.is_live
            }
            sections[table.name] = after.model_copy(update=fixed)
    return new.model_copy(update=sections)


def _value(config: Config, name: str) -> object:
    value: object = config
    for part in name.split("."):
        value = getattr(value, part)
    return value
