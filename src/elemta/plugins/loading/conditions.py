"""Conditions: for which sessions a plugin is asked, as an expression over facts of the session.

The language is CEL, without what goes through lists, so that an expression takes no longer than it
is long. It is judged when it is loaded: names of facts and functions, types, and what a sample of
sessions makes of it. What fails for a real session all the same means that the plugin is asked.

A verdict is kept with the session, and found anew once a fact has changed.

Raises:
    ConditionError: An expression cannot be used.
"""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

from elemta.mail.errors import PluginError
from elemta.mail.reply import clean_text
from elemta.plugins.contexts import SessionInfo
from elemta.plugins.finding.problems import nearest

if TYPE_CHECKING:
    from cel import Program

MAX_LENGTH = 1000  # characters
MAX_TEXTS = 50  # texts of an expression that are tried as facts

FACTS: Mapping[str, Callable[[SessionInfo], str | bool]] = {
    "listener": lambda session: session.listener,
    "server": lambda session: session.server,
    "client_ip": lambda session: session.client_ip,
    "trusted": lambda session: session.is_trusted,
    "helo": lambda session: session.helo,
    "protocol": lambda session: session.protocol,
    "tls": lambda session: bool(session.tls_version),
    "tls_version": lambda session: session.tls_version,
    "authenticated": lambda session: session.is_authenticated,
    "username": lambda session: session.username,
}
"""What there is to know of a session, and where."""

FUNCTIONS = ("contains", "endsWith", "in_network", "matches", "size", "startsWith")

_TRUTHS = ("authenticated", "tls", "trusted")
_USUAL = {
    "listener": "mta",
    "server": "192.0.2.1:25",
    "client_ip": "192.0.2.9",
    "helo": "client.example.test",
    "protocol": "ESMTP",
    "tls_version": "TLSv1.3",
    "username": "user@example.test",
}
_TEXT_OR_COMMENT = re.compile(
    r"//[^\n]*"
    r"|[bB]?[rR][bB]?(?:\"{3}.*?\"{3}|'{3}.*?'{3}|\"[^\"\n]*\"|'[^'\n]*')"
    r"|[bB]?(?:\"{3}(?:\\.|[^\\])*?\"{3}|'{3}(?:\\.|[^\\])*?'{3}"
    r"|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*')",
    re.DOTALL,
)
_LOOP = re.compile(r"\.\s*(all|exists|existsOne|exists_one|filter|map|transform\w*)\s*\(")
_PLACE = re.compile(r"ERROR: <input>:(\d+):(\d+): ([^\n]*)")


class ConditionError(PluginError):
    """An expression cannot be used, or has failed; the text says why."""


class Condition:
    """An expression that has been judged.

    Args:
        text: It.
    """

    def __init__(self, text: str) -> None:
        self._program = compile_expression(text)
        _refuse_unknown(self._program)
        for facts in _samples(text):
            self._evaluate(facts)

    def holds(self, session: SessionInfo) -> bool:
        """Whether it is true of a session.

        Raises:
            ConditionError: It cannot be told.
        """
        now = (
            session.server,
            session.client_ip,
            session.is_trusted,
            session.helo,
            session.protocol,
            session.tls_version,
            session.username,
        )
        known = session.verdicts.get(self)
        if known is not None and known[0] == now:
            return known[1]
        verdict = self._evaluate({name: read(session) for name, read in FACTS.items()})
        session.verdicts[self] = (now, verdict)
        return verdict

    def _evaluate(self, facts: Mapping[str, str | bool]) -> bool:
        from cel import Context  # noqa: PLC0415 - see `_compile`

        wrong: list[str] = []

        def in_network(address: object, network: object) -> bool:  # it must not raise
            try:
                return _is_in(address, network)
            except ValueError as error:
                wrong.append(str(error))
                return False

        try:
            context = Context(dict(facts), {"in_network": in_network})
            verdict: Any = self._program.execute(context)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic of the library is no Exception
            raise ConditionError(explain(error)) from error
        if wrong:
            raise ConditionError(clean_text(f"in_network: {wrong[0]}", 300))
        if not isinstance(verdict, bool):
            raise ConditionError("it is neither true nor false")
        return verdict


@lru_cache(maxsize=256)
def condition_of(text: str) -> Condition:
    """Read an expression; the same one for the same text.

    Raises:
        ConditionError: It cannot be used.
    """
    return Condition(text)


def compile_expression(text: str) -> "Program":
    """Compile an expression; which names it uses is left to the caller.

    Raises:
        ConditionError: It is too long, no expression, or goes through lists.
    """
    if len(text) > MAX_LENGTH:
        raise ConditionError(f"longer than {MAX_LENGTH} characters")
    program = _compile(text)
    bare = _TEXT_OR_COMMENT.sub("''", text)
    loop = _LOOP.search(bare)
    if loop is not None:
        raise ConditionError(f"{loop[1]}() goes through lists, which is not allowed here")
    return program


def _compile(text: str) -> "Program":
    import cel  # noqa: PLC0415 - it takes 30 MB, and most need no conditions

    try:
        return cel.compile(text)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # as above
        place = _PLACE.search(str(error))
        if place is None or "Recursion limit" in place[3]:
            raise ConditionError("nested too deeply") from error
        problem = place[3][:1].lower() + place[3][1:]
        raise ConditionError(
            clean_text(f"line {place[1]}, column {place[2]}: {problem}", 300)
        ) from error


def _refuse_unknown(program: "Program") -> None:
    found = program.references()
    for name in found["variables"]:
        if name not in FACTS:
            hint = nearest(name, FACTS) or f"; there are {', '.join(FACTS)}"
            raise ConditionError(f"there is no fact {name}{hint}")
    for name in found["functions"]:
        if name.isidentifier() and name not in FUNCTIONS:
            hint = nearest(name, FUNCTIONS) or f"; there are {', '.join(FUNCTIONS)}"
            raise ConditionError(f"there is no function {name}{hint}")


def _samples(text: str) -> Iterator[dict[str, str | bool]]:
    """Make up sessions: the usual one, and such as an expression asks for by its texts."""
    sessions = [_USUAL, dict.fromkeys(_USUAL, "")]
    sessions += [dict.fromkeys(_USUAL, said) for said in texts_of(text)]
    for truths in itertools.product((False, True), repeat=len(_TRUTHS)):
        for session in sessions:
            yield {**session, **dict(zip(_TRUTHS, truths, strict=True))}


def texts_of(text: str) -> list[str]:
    """The texts in an expression, escapes as they are written: one that differs finds less."""
    found = [match[0] for match in _TEXT_OR_COMMENT.finditer(text)]
    texts = [each.strip("rRbB").strip("\"'") for each in found if not each.startswith("//")]
    return list(dict.fromkeys(texts))[:MAX_TEXTS]


def explain(error: BaseException) -> str:
    """Say in a line what the library says in many."""
    text = str(error).split("\n")[0].partition(". ")[0] or type(error).__name__
    name = re.match(r"Undefined variable or function: '(\w+)'", text)
    if name is not None:
        text = f"{name[1]} does not go with these types"
    return clean_text(text, 300)


def _is_in(address: object, network: object) -> bool:
    """Whether an address is in a network; what is no address, as on a unix socket, is in none.

    Raises:
        ValueError: The network is none, or one of them is no text.
    """
    if not isinstance(address, str) or not isinstance(network, str):
        raise ValueError("two texts are expected")  # noqa: TRY004 - one reason as good as another
    wanted = _read_network(network)
    try:
        return ip_address(address) in wanted
    except ValueError:
        return False


_read_network = lru_cache(maxsize=1024)(ip_network)
