"""Expressions that most rules are made of, without the library: a tenth of its time.

Comparisons of facts with what is written out, calls, and these joined by "&&", "||" and "!". What
is written otherwise is left to the library; what is read here means the same in both.

Types are known here, so that an expression of wrong types is refused whatever its values are.
"""

import ast
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from elemta.plugins.builtin.rules.expressions.facts import (
    COSTLY,
    FACTS,
    Facts,
    Kind,
    Moment,
    TypesError,
    Value,
    check_fact,
)
from elemta.plugins.builtin.rules.expressions.functions import Function
from elemta.plugins.finding.problems import nearest

MAX_DEPTH = 50  # of parentheses and negations

_TOKEN = re.compile(
    r"(?P<blank>\s+|//[^\n]*)"
    r"|(?P<text>[rR]?(?:\"{3}.*?(?<!\\)\"{3}|'{3}.*?(?<!\\)'{3}"
    r"|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'))"
    r"|(?P<number>[0-9]+(?![\w.]))"
    r"|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<sign>&&|\|\||[=!<>]=|.)",
    re.DOTALL | re.ASCII,
)
_PLAIN_ESCAPES = re.compile(r"\\[abfnrtv\\'\"]|\\x[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|[^\\]")

Call = Callable[[Facts], Any]


class Unread(ValueError):  # noqa: N818 - not a mistake of anybody
    """An expression is not one of those that are read here."""


class Token(NamedTuple):
    """A piece of an expression: what it is, and its text; of a text its value."""

    kind: str
    text: str


class Node(NamedTuple):
    """A part of an expression: its type, its value, and whether that is written out."""

    kind: Kind
    call: Call
    fixed: Value | None = None


def tokenize(text: str) -> list[Token]:
    """Cut an expression into pieces.

    Raises:
        Unread: A text in it is written in a way that is not read here.
    """
    found = []
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or ""
        if kind != "blank":
            found.append(Token(kind, _unquote(match[0]) if kind == "text" else match[0]))
    return found


def rename(text: str, names: Mapping[str, str]) -> str:
    """Give an expression with other names in it; texts and comments stay as they are."""
    return "".join(
        names.get(match[0], match[0]) if match.lastgroup == "name" else match[0]
        for match in _TOKEN.finditer(text)
    )


def _unquote(written: str) -> str:
    is_raw = written[0] in "rR"
    bare = written[1:] if is_raw else written
    inner = bare[3:-3] if len(bare) >= 6 and bare[:3] in {'"""', "'''"} else bare[1:-1]
    if is_raw or "\\" not in inner:
        return inner
    if "".join(_PLAIN_ESCAPES.findall(inner)) != inner:
        raise Unread("an escape")
    escaped = inner.replace("\n", "\\n").replace("'", "\\'") if "\\'" not in inner else inner
    try:
        return str(ast.literal_eval(f"'{escaped}'"))
    except (SyntaxError, ValueError):
        raise Unread("an escape") from None


def read_quickly(text: str, moment: Moment, functions: Mapping[str, Function]) -> Node:
    """Read an expression.

    Args:
        text: It; the library has found nothing wrong with its grammar.
        moment: When it is asked: some facts are not known from the beginning.
        functions: What may be called.

    Raises:
        Unread: It is left to the library.
        TypesError: It is wrong.
    """
    reader = _Reader(tokenize(text), moment, functions)
    node = reader.read_any(0)
    if reader.peek() is not None:
        raise Unread(str(reader.peek()))
    return node


class _Reader:
    """Reads by recursive descent."""

    def __init__(
        self, tokens: Sequence[Token], moment: Moment, functions: Mapping[str, Function]
    ) -> None:
        self._tokens = tokens
        self._at = 0
        self._moment = moment
        self._functions = functions

    def peek(self) -> Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _take(self, sign: str) -> bool:
        token = self.peek()
        if token is None or token.kind != "sign" or token.text != sign:
            return False
        self._at += 1
        return True

    def _expect(self, sign: str) -> None:
        if not self._take(sign):
            raise Unread(sign)

    def read_any(self, depth: int) -> Node:
        """Terms of which one has to be true."""
        return self._read_joined("||", self._read_all, any_of, depth)

    def _read_all(self, depth: int) -> Node:
        return self._read_joined("&&", self._read_term, all_of, depth)

    def _read_joined(
        self,
        sign: str,
        read: Callable[[int], Node],
        join: Callable[[Sequence[Call]], Call],
        depth: int,
    ) -> Node:
        nodes = [read(depth)]
        while self._take(sign):
            nodes.append(read(depth))
        if len(nodes) == 1:
            return nodes[0]
        for node in nodes:
            _want(node, Kind.TRUTH, sign)
        return Node(Kind.TRUTH, join([node.call for node in nodes]))

    def _read_term(self, depth: int) -> Node:
        left = self._read_operand(depth)
        token = self.peek()
        if token is None:
            return left
        if token.kind == "name" and token.text == "in":
            self._at += 1
            return self._read_in(left)
        if token.kind == "sign" and token.text in _COMPARISONS:
            self._at += 1
            return _compare(left, token.text, self._read_operand(depth))
        return left

    def _read_in(self, left: Node) -> Node:
        self._expect("[")
        values = []
        while not self._take("]"):
            node = self._read_operand(MAX_DEPTH)
            if node.fixed is None:
                raise Unread("in")
            if node.kind is not left.kind:
                raise TypesError(f"in: {left.kind} and {node.kind} are never the same")
            values.append(node.fixed)
            if not self._take(","):
                self._expect("]")
                break
        known, call = frozenset(values), left.call
        return Node(Kind.TRUTH, lambda facts: call(facts) in known)

    def _read_operand(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise Unread("depth")
        if self._take("!"):
            node = self._read_operand(depth + 1)
            _want(node, Kind.TRUTH, "!")
            call = node.call
            return Node(Kind.TRUTH, lambda facts: not call(facts))
        node = self._read_value(depth)
        while self._take("."):
            node = self._read_method(node, depth)
        return node

    def _read_value(self, depth: int) -> Node:
        if self._take("("):
            node = self.read_any(depth + 1)
            self._expect(")")
            return node
        token = self.peek()
        if token is None or token.kind == "sign":
            raise Unread(str(token))
        self._at += 1
        if token.kind == "text":
            return _fixed(Kind.TEXT, token.text)
        if token.kind == "number":
            return _fixed(Kind.NUMBER, int(token.text))
        if token.text in {"true", "false"}:
            return _fixed(Kind.TRUTH, token.text == "true")
        if self._take("("):
            return self._call(token.text, self._read_arguments(depth))
        return self._fact(token.text)

    def _read_arguments(self, depth: int) -> list[Node]:
        given: list[Node] = []
        while not self._take(")"):
            given.append(self.read_any(depth + 1))
            if not self._take(","):
                self._expect(")")
                break
        return given

    def _read_method(self, left: Node, depth: int) -> Node:
        token = self.peek()
        if token is None or token.kind != "name":
            raise Unread(".")
        self._at += 1
        self._expect("(")
        return self._call(token.text, [left, *self._read_arguments(depth)])

    def _fact(self, name: str) -> Node:
        fact = FACTS[check_fact(name, self._moment)]
        read = fact.read
        if name in COSTLY:
            return Node(fact.kind, lambda facts: facts.find(name))
        return Node(fact.kind, lambda facts: read(facts.ctx))

    def _call(self, name: str, given: Sequence[Node]) -> Node:
        if name in _OF_TEXT:
            return _call_language(name, given)
        function = self._functions[check_function(name, self._moment, self._functions)]
        if len(given) != len(function.takes):
            _refuse_count(name, len(given))
        for node, kind in zip(given, function.takes, strict=True):
            if kind is not None:
                _want(node, kind, name)
        judged = _judge(name, function, given)
        for node, kind in zip(given, function.takes, strict=True):
            if kind is None and isinstance(judged, Kind):
                _want(node, judged, name)
        return Node(function.gives, _bind(function.call, given))


def _judge(name: str, function: Function, given: Sequence[Node]) -> object:
    """Look at the arguments that have to be written out."""
    for at in function.fixed:
        if given[at].fixed is None:
            raise TypesError(f"{name}: argument {at + 1} has to be written out, as a text")
    try:
        return function.judge(*(given[at].fixed for at in function.fixed))
    except ValueError as error:
        raise TypesError(f"{name}: {error}") from error


def _call_language(name: str, given: Sequence[Node]) -> Node:
    gives, call = _OF_TEXT[name]
    if len(given) != (1 if name == "size" else 2):
        _refuse_count(name, len(given))
    for node in given:
        _want(node, Kind.TEXT, name)
    return Node(gives, _bind(lambda _facts, *values: call(*values), given))


def check_function(name: str, moment: Moment, functions: Mapping[str, Function]) -> str:
    """Give the name of a function that can be called at a moment.

    Raises:
        TypesError: There is none, or not then.
    """
    known = (*functions, *_OF_TEXT)
    if name not in known:
        hint = nearest(name, known) or f"; there are {', '.join(known)}"
        raise TypesError(f"there is no function {name}{hint}")
    if name in functions and moment not in functions[name].moments:
        possible = ", ".join(functions[name].moments)
        raise TypesError(f"{name} cannot be called at {moment}, but at {possible}")
    return name


def any_of(calls: Sequence[Call]) -> Call:
    """Whether one is true; the rest is not looked at then."""
    if len(calls) == 2:
        first, second = calls
        return lambda facts: first(facts) or second(facts)
    return lambda facts: any(call(facts) for call in calls)


def all_of(calls: Sequence[Call]) -> Call:
    """Whether all are true; after one that is not the rest is not looked at."""
    if len(calls) == 2:
        first, second = calls
        return lambda facts: first(facts) and second(facts)
    return lambda facts: all(call(facts) for call in calls)


_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

_OF_TEXT: Mapping[str, tuple[Kind, Callable[..., Value]]] = {
    "contains": (Kind.TRUTH, operator.contains),
    "startsWith": (Kind.TRUTH, str.startswith),
    "endsWith": (Kind.TRUTH, str.endswith),
    "size": (Kind.NUMBER, len),
}
"""What the language brings for texts."""

LANGUAGE = tuple(_OF_TEXT)
"""Functions of the language that may be called."""


def _fixed(kind: Kind, value: Value) -> Node:
    return Node(kind, lambda _facts: value, value)


def _compare(left: Node, sign: str, right: Node) -> Node:
    if left.kind is not right.kind:
        raise TypesError(f"{sign}: {left.kind} and {right.kind} cannot be compared")
    compare, first, second, fixed = _COMPARISONS[sign], left.call, right.call, right.fixed
    if fixed is not None:
        return Node(Kind.TRUTH, lambda facts: compare(first(facts), fixed))
    return Node(Kind.TRUTH, lambda facts: compare(first(facts), second(facts)))


def _bind(call: Callable[..., Value], given: Sequence[Node]) -> Call:
    """Make a call with its arguments; those that are written out are not found out each time."""
    if len(given) == 1:
        (only,) = (node.call for node in given)
        return lambda facts: call(facts, only(facts))
    first, second = given
    if first.fixed is not None:
        fixed, other = first.fixed, second.call
        return lambda facts: call(facts, fixed, other(facts))
    if second.fixed is not None:
        fixed, other = second.fixed, first.call
        return lambda facts: call(facts, other(facts), fixed)
    one, two = first.call, second.call
    return lambda facts: call(facts, one(facts), two(facts))


def _want(node: Node, kind: Kind, by: str) -> None:
    if node.kind is not kind:
        raise TypesError(f"{by} takes a {kind}, not a {node.kind}")


def _refuse_count(name: str, count: int) -> NoReturn:
    raise TypesError(f"{name} does not take {count} arguments")
