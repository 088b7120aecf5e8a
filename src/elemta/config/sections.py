"""What a table of the configuration file is made of: settings that say when a change applies."""

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo


def live(description: str, **limits: float) -> FieldInfo:
    """A setting whose change applies on reload."""
    return _field(description, limits, is_live=True)


def fixed(description: str, **limits: float) -> FieldInfo:
    """A setting whose change needs a restart."""
    return _field(description, limits, is_live=False)


def _field(description: str, limits: dict[str, Any], *, is_live: bool) -> FieldInfo:
    field: FieldInfo = Field(description=description, json_schema_extra={"live": is_live}, **limits)
    return field


def is_live(field: FieldInfo) -> bool:
    """Whether a change of a setting applies on reload."""
    extra = field.json_schema_extra
    return isinstance(extra, dict) and extra.get("live") is True


class Section(BaseModel):
    """A table of the configuration file."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True
    )


def section_of(field: FieldInfo) -> type[Section] | None:
    """The model of a field that is a table or a list of tables; None for a setting."""
    for candidate in (field.annotation, *get_args(field.annotation)):
        if isinstance(candidate, type) and issubclass(candidate, Section):
            return candidate
    return None


def is_all_live(model: type[Section]) -> bool:
    """Whether a change of any setting of a table applies on reload."""
    return all(
        is_live(field) if (section := section_of(field)) is None else is_all_live(section)
        for field in model.model_fields.values()
    )
