"""Says in words what is wrong with a value, and what would be right."""

import difflib
from collections.abc import Callable

from pydantic_core import ErrorDetails

from elemta.config.settings import find_kind, find_model, tables
from elemta.config.source import PREFIX, KeyPath, Source
from elemta.mail.reply import clean_text

SHOWN = 120  # characters of a wrong value that are repeated


def explain(source: Source, details: ErrorDetails) -> str:
    """Put an error of the models into words: the value, and what is expected."""
    path, kind = details["loc"], details["type"]
    if kind == "extra_forbidden" or (
        path[0] == "plugins" and kind == "dict_type" and len(path) == 2
    ):
        return _unknown(source, path)
    if kind == "missing":
        return "is required"
    if path in source.references and kind == "value_error":
        expected = f"what it stands for is no {_kind_name(path)}"  # and is not to be shown
    else:
        expected = _EXPECTED.get(kind, _other)(details)
    shown = source.shown(path)
    return expected if shown is None else f"{clean_text(shown, SHOWN)}: {expected}"


def _unknown(source: Source, path: KeyPath) -> str:
    name = str(path[-1])
    model = find_model(path[:-1])
    wanted = difflib.get_close_matches(name, model.model_fields if model else (), n=1)
    if source.find_variable(path) is not None:
        begin = "".join(f"{part}__".upper() for part in path[:-1])
        wanted = [f"{PREFIX}{begin}{found.upper()}" for found in wanted]
    elif len(path) > 1:
        elsewhere = (table for table in tables() if name in table.model.model_fields)
        wanted += [f"{table.heading} {name}" for table in elsewhere][:1]
    hint = f"; did you mean {' or '.join(wanted)}?" if wanted else ""
    return f"unknown {'setting' if len(path) > 1 else 'section'}{hint}"


def _kind_name(path: KeyPath) -> str:
    while path and isinstance(path[-1], int):
        path = path[:-1]
    model = find_model(path[:-1])
    field = model.model_fields.get(str(path[-1])) if model is not None and path else None
    return find_kind(field).name if field is not None else "value"


def _limit(details: ErrorDetails) -> str:
    """Write the limit that was passed, in the unit of the setting."""
    path = details["loc"]
    while path and isinstance(path[-1], int):
        path = path[:-1]
    model = find_model(path[:-1])
    limit = next(iter(details["ctx"].values()))
    if model is None or str(path[-1]) not in model.model_fields:
        return str(limit)
    return find_kind(model.model_fields[str(path[-1])]).show(limit)


def _choices(details: ErrorDetails) -> str:
    names = details["ctx"]["expected"].replace("'", '"')
    return f"{names} is expected"


def _other(details: ErrorDetails) -> str:
    return details["msg"][:1].lower() + details["msg"][1:]


def _table(details: ErrorDetails) -> str:
    path = [str(part) for part in details["loc"] if isinstance(part, str)]
    return f"a table is expected: [{'.'.join(path)}]"


def _list(details: ErrorDetails) -> str:
    path = details["loc"]
    if find_model(path) is not None:
        return f"several are possible: write [[{'.'.join(str(part) for part in path)}]]"
    return 'a list is expected, such as ["1m", "5m"] or ["example.test"]'


_EXPECTED: dict[str, Callable[[ErrorDetails], str]] = {
    "literal_error": _choices,
    "value_error": lambda details: str(details["ctx"]["error"]),
    "greater_than_equal": lambda details: f"at least {_limit(details)} is expected",
    "greater_than": lambda details: f"more than {_limit(details)} is expected",
    "less_than_equal": lambda details: f"at most {_limit(details)} is expected",
    "too_short": lambda _: "at least one is needed",
    "int_type": lambda _: "a whole number is expected",
    "float_type": lambda _: "a number is expected",
    "bool_type": lambda _: "true or false is expected",
    "tuple_type": _list,
    "model_type": _table,
    "model_attributes_type": _table,
}
