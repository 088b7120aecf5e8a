"""Expressions of rules: CEL, judged when they are loaded.

The library says what is grammar. Most expressions are then read by `quick`, which knows their
types; the others are run by the library, and tried on made-up facts before.

Raises:
    ConditionError: An expression cannot be used, or has failed.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from elemta.mail.reply import clean_text
from elemta.plugins.builtin.rules.expressions.facts import (
    FACTS,
    Facts,
    Kind,
    Moment,
    TypesError,
    Value,
    check_fact,
)
from elemta.plugins.builtin.rules.expressions.functions import Function
from elemta.plugins.builtin.rules.expressions.quick import (
    Token,
    Unread,
    check_function,
    read_quickly,
    rename,
    tokenize,
)
from elemta.plugins.loading.conditions import (
    ConditionError,
    compile_expression,
    explain,
    texts_of,
)

if TYPE_CHECKING:
    from cel import Program

Holds = Callable[[Facts], bool]

# As a method the library's own one would be called, which is not RE2; as long as it was, so that
# the expression is no longer.
_RENAMED = {"matches": "re2find"}
_NUMBERS = (0, 50, 1 << 40)


def compile_rule(text: str, moment: Moment, functions: Mapping[str, Function]) -> Holds:
    """Make of an expression what tells whether it is true.

    Args:
        text: It.
        moment: When it is asked.
        functions: What it may call.

    Raises:
        ConditionError: It cannot be used.
    """
    program = compile_expression(text)
    try:
        _judge_names(program, moment, functions)
        try:
            node = read_quickly(text, moment, functions)
        except Unread:
            return _by_library(text, program, functions)
    except TypesError as error:
        raise ConditionError(clean_text(str(error), 500)) from error
    if node.kind is not Kind.TRUTH:
        raise ConditionError(f"it is neither true nor false, but a {node.kind}")
    return node.call


def _judge_names(program: "Program", moment: Moment, functions: Mapping[str, Function]) -> None:
    found = program.references()
    for name in found["variables"]:
        check_fact(name, moment)
    for name in found["functions"]:
        if name.isidentifier():
            check_function(name, moment, functions)


def _by_library(text: str, program: "Program", functions: Mapping[str, Function]) -> Holds:
    _judge_fixed(text, functions)
    found = program.references()
    names = [name for name in found["variables"] if name in FACTS]
    functions = {
        _RENAMED.get(name, name): functions[name]
        for name in found["functions"]
        if name in functions
    }
    program = compile_expression(rename(text, _RENAMED))

    def holds(facts: Facts) -> bool:
        values = {name: FACTS[name].read(facts.ctx) for name in names}
        return _run(program, values, facts, functions)

    for values in _samples(text, names):
        for said in ("", "0", "50", "example.test"):
            tried = {name: _told(function, said) for name, function in functions.items()}
            _run(program, values, Facts(None, 0.0), {**functions, **tried})
    return holds


def _told(function: Function, said: str) -> Function:
    """Give a function that says what it is told, so that an expression can be tried."""
    number = int(said) if said.isdigit() else 0
    values: dict[Kind, Value] = {Kind.TEXT: said, Kind.TRUTH: bool(said), Kind.NUMBER: number}
    value = values[function.gives]

    def call(_facts: Facts, *given: object) -> Value:
        judged = function.judge(*(given[at] for at in function.fixed))
        for each, kind in zip(given, function.takes, strict=True):
            if kind is None and (type(each) is int) is not (judged is Kind.NUMBER):
                raise ValueError(f"it takes a {judged}")
        return value

    return Function(function.takes, function.gives, call, function.meaning)


def _judge_fixed(text: str, functions: Mapping[str, Function]) -> None:
    """Look at the arguments that have to be written out.

    Raises:
        TypesError: They are not, or are wrong.
    """
    try:
        tokens = tokenize(text)
    except Unread as error:
        raise TypesError("a text has an escape that is not known here") from error
    for at, token in enumerate(tokens):
        function = functions.get(token.text) if token.kind == "name" else None
        if function is None or not function.fixed or not _is_sign(tokens, at + 1, "("):
            continue
        is_method = _is_sign(tokens, at - 1, ".")
        fixed = _fixed_arguments(tokens, at + 2, function, is_method=is_method)
        if fixed is None:
            raise TypesError(f"{token.text}: write its texts out, and the expression simpler")
        try:
            function.judge(*fixed)
        except ValueError as error:
            raise TypesError(f"{token.text}: {error}") from error


def _fixed_arguments(
    tokens: list[Token], at: int, function: Function, *, is_method: bool
) -> list[str] | None:
    """Find them, where no argument before them is more than one piece."""
    found = []
    for index in function.fixed:
        place = at + 2 * (index - is_method)
        ends = _is_sign(tokens, place + 1, ",") or _is_sign(tokens, place + 1, ")")
        if place >= len(tokens) or tokens[place].kind != "text" or not ends:
            return None
        found.append(tokens[place].text)
    return found


def _is_sign(tokens: list[Token], at: int, sign: str) -> bool:
    return 0 <= at < len(tokens) and tokens[at].kind == "sign" and tokens[at].text == sign


def _run(
    program: "Program",
    values: Mapping[str, Value],
    facts: Facts,
    functions: Mapping[str, Function],
) -> bool:
    from cel import Context  # noqa: PLC0415 - it takes 30 MB, and most need none

    wrong: list[str] = []
    calls: dict[str, Callable[..., Any]] = {
        name: partial(_call, function, facts, wrong) for name, function in functions.items()
    }
    try:
        verdict: Any = program.execute(Context(dict(values), calls))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of the library is no Exception
        raise ConditionError(explain(error)) from error
    if wrong:
        raise ConditionError(clean_text(wrong[0], 300))
    if not isinstance(verdict, bool):
        raise ConditionError("it is neither true nor false")
    return verdict


def _call(function: Function, facts: Facts, wrong: list[str], *given: object) -> Value:
    """Call a function for the library, into which nothing may be raised."""
    problem = "a function does not go with its arguments"
    if len(given) == len(function.takes) and all(map(_fits, given, function.takes)):
        try:
            return function.call(facts, *given)
        except Exception as error:  # noqa: BLE001 - it is told to whoever has asked
            problem = str(error)
    wrong.append(problem)
    return "" if function.gives is Kind.TEXT else 0 if function.gives is Kind.NUMBER else False


def _fits(given: object, kind: Kind | None) -> bool:
    """Whether a value is of a type; functions take texts, and some a number as well."""
    return isinstance(given, str) or (kind is None and type(given) is int)


def _samples(text: str, names: list[str]) -> Iterator[dict[str, Value]]:
    """Make up facts: usual ones, and such as an expression asks for by its texts."""
    for said in ("", "example.test", *texts_of(text)):
        for truth in (False, True):
            for number in _NUMBERS:
                kinds: dict[Kind, Value] = {
                    Kind.TEXT: said,
                    Kind.TRUTH: truth,
                    Kind.NUMBER: number,
                }
                yield {name: kinds[FACTS[name].kind] for name in names}
