"""Nothing is refused without a record: every reply has a rule, and every one goes the same way."""

import ast
import importlib
from pathlib import Path

import pytest

import elemta
from elemta.config.settings import tables
from elemta.mail.reply import Reply
from elemta.server import rules
from elemta.server.rules import RULES, UNNAMED, find_rule

SOURCE = Path(elemta.__file__).parent
FILES = sorted([*(SOURCE / "server").rglob("*.py"), *(SOURCE / "smtp").glob("*.py")])
MADE = {
    "server/journal.py": {"refuse", "_record"},  # copies with an id
    "server/judged.py": {"_for_login", "_turn_away"},  # a plugin has decided
    "server/answering.py": {"_report", "_tell"},  # copies: for the log, and with an id
    "server/limits/brake.py": {"reply_to"},
    "server/limits/guard.py": {"tell"},  # a copy for the log, without an id
    "server/secured.py": {"_respond"},  # 334
    "server/inspection.py": {"queued"},  # 250
    "server/replies.py": {"banner", "hello", "old_hello"},  # 220, 250
    "server/submission/authors.py": {"not_yours", "_read"},
    "smtp/commands.py": {"_fault"},
    "smtp/parameters.py": {"_fault"},
    "smtp/reply_reader.py": {"classified_reply", "plain_reply"},  # what a client reads
}
"""Functions that make replies: what they make has a rule, too (`ON_THE_FLY`), or is no refusal."""
ON_THE_FLY = {
    "ban": Reply(421, "Your address is banned, ban 01234567; try again later", "4.7.0"),
    "submission.sender": Reply(553, "<a@example.test> is not an address of this login", "5.7.1"),
    "submission.authors": Reply(550, "From cannot be read: it is none", "5.6.0"),
}
GROUPED = {
    "smtp.timeouts",
    "limits.connections",
    "limits.tarpit",
    "submission.fixes",
    "submission.locked",
    "submission.allowance",
    "submission.down",
    "submission.sender",
    "submission.authors",
}
"""Rules that come from several settings."""
WRITERS = {
    ("server/answering.py", "_flush"),
    ("server/answering.py", "_answer"),
    ("server/answering.py", "_end"),
    ("server/answering.py", "_say_last"),
    ("server/concluding.py", "_answer_parted"),  # each of the refusals, written down before
    ("server/session.py", "_reply"),  # what has gathered
    ("server/session.py", "_greet"),  # the banner
    ("server/listener.py", "_begin"),
    ("server/screened.py", "_listen"),  # the first line of a banner
    ("server/screened.py", "_greet"),  # its last one
}
"""Functions that may give something to the client: in each a refusal goes into the journal."""


def calls(path: Path):
    """All calls of a file, each with the function that it is in, "" for none."""
    tree = ast.parse(path.read_text())
    found = []

    def walk(node, inside):
        for child in ast.iter_child_nodes(node):
            is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            if isinstance(child, ast.Call):
                found.append((inside, child))
            walk(child, child.name if is_function else inside)

    walk(tree, "")
    return found


def name_of(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def made_here():
    """Each `Reply(...)` and `_fault(...)`: where, in which function, and with which numbers."""
    for path in FILES:
        for inside, call in calls(path):
            if isinstance(call.func, ast.Name) and call.func.id in {"Reply", "_fault"}:
                yield name_of(path), inside, call


def constants():
    """The refusals that stand outside of functions, as they are there."""
    for where, inside, call in made_here():
        if not inside:
            module = importlib.import_module(f"elemta.{where[:-3].replace('/', '.')}")
            made = eval(compile(ast.Expression(call), where, "eval"), vars(module))
            reply = made if isinstance(made, Reply) else made.reply
            if reply.code >= 400:
                yield where, reply


CONSTANTS = list(constants())


@pytest.mark.parametrize(
    ("where", "reply"), [pytest.param(*each, id=str(each[1])) for each in CONSTANTS]
)
def test_every_refusal_has_a_rule_with_words(where, reply):
    if where == "server/journal.py":
        assert not reply.text  # the connection ends without a word; whoever does so says why
        return
    rule = find_rule(reply)
    assert rule != UNNAMED, f"{where}: {reply} is to be named in server/rules.py"
    assert RULES[rule]


def test_enough_of_them_are_found():
    assert len(CONSTANTS) > 90


@pytest.mark.parametrize("rule", ON_THE_FLY)
def test_what_is_made_on_the_fly_has_a_rule(rule):
    assert find_rule(ON_THE_FLY[rule]) == rule


def test_replies_are_made_on_the_fly_nowhere_else():
    found = {(where, inside) for where, inside, _ in made_here() if inside}
    known = {(where, each) for where, names in MADE.items() for each in names}
    assert found == known


def test_all_rules_named_are_explained():
    assert set(rules._BY_REPLY.values()) <= set(RULES)


def test_rules_named_like_settings_are_settings():
    names = {table.name for table in tables()}
    names |= {setting.full_name for table in tables() for setting in table.settings()}
    for rule in RULES:
        table = rule.rpartition(".")[0]
        if table in {"server", "smtp", "queue", "limits", "submission", "pregreet"} - {""}:
            assert rule in names | GROUPED, rule


def test_nothing_is_said_to_a_client_beside_the_journal():
    """Whoever writes to a client elsewhere has to see to it that refusals are written down."""
    found = set()
    for path in sorted((SOURCE / "server").rglob("*.py")):
        for inside, call in calls(path):
            if not isinstance(call.func, ast.Attribute):
                continue
            target = ast.unparse(call.func)
            if target.endswith(("stream.write", "_out.append", "transport.write")):
                found.add((name_of(path), inside))
    assert found == WRITERS
