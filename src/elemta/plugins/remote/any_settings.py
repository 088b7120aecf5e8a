"""The settings of a plugin that runs outside: only the plugin itself can judge them.

What its model calls a secret (`SecretStr`) is shown to nobody on the way.
"""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Secret, create_model
from pydantic_core import to_jsonable_python

MAX_SECRETS = 100
_LINK = "#/$defs/"


class AnySettings(BaseModel):
    """Settings of any kind."""

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    def reveal(self) -> dict[str, Any]:
        """Give them with what is secret, for the plugin alone."""
        values = self.model_dump(mode="json", exclude_unset=True)
        for name in type(self).model_fields:
            value = getattr(self, name)
            if name in values:
                values[name] = to_jsonable_python(value.get_secret_value())
        return values


def make_model(schema: str) -> type[AnySettings]:
    """Make a model that shows nobody what a JSON Schema calls secret."""
    try:
        told = json.loads(schema)
        properties = told["properties"].items()
        names = [name for name, part in properties if _is_secret(part, told)]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return AnySettings
    fields: dict[str, Any] = {
        name: (Secret[Any], None) for name in names[:MAX_SECRETS] if _may_name(name)
    }
    return create_model("AnySettings", __base__=AnySettings, **fields) if fields else AnySettings


def _may_name(name: str) -> bool:
    return name.isidentifier() and not name.startswith("_") and not hasattr(AnySettings, name)


def _is_secret(part: object, schema: Mapping[str, Any]) -> bool:
    """Whether a part of a schema, or one that it points to, is only to be written."""
    seen: set[str] = set()
    parts = [part]
    while parts:
        one = parts.pop()
        if isinstance(one, Mapping):
            if one.get("writeOnly") is True:
                return True
            link = one.get("$ref")
            if isinstance(link, str) and link.startswith(_LINK) and link not in seen:
                seen.add(link)
                parts.append(schema["$defs"][link.removeprefix(_LINK)])
            parts += one.values()
        elif isinstance(one, list):
            parts += one
    return False
