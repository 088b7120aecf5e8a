#!/usr/bin/env python3
"""Write the pages of this folder that are made from the code: `make docs`.

With `--check` nothing is written; it says which pages are out of date and ends with status 1.
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from elemta.config.reference import write_reference
from elemta.observe.pages import write_log_page, write_metrics_page
from elemta.plugins.contexts import Context, SessionInfo
from elemta.plugins.hooks import HOOKS, Hook, May
from elemta.plugins.settings import PluginSettings

FOLDER = Path(__file__).parent

HOOKS_HEAD = """\
# Hooks

<!-- Written by `make docs` from src/elemta/plugins: change the texts there. -->

A hook is a moment at which plugins are asked. These are all hooks, in the order of a message's
life. A plugin has a method for each hook that it wants, `def` or `async def`, with one argument,
the context. It gives a `Result`, or None where it has nothing to say.

The names in other vocabularies mean the same moment: the event is what native and remote plugins
are told, the interface, the stage and the policy method are what other documents call it.

**Time**: one call of one plugin may take {timeout:g} seconds, or what the operator sets as
`timeout`. Then it counts as failed. A `def` runs in the server's own loop and must answer at
once; whatever waits is an `async def`.

**TLS**: `on_starttls` is asked after each handshake: behind STARTTLS, and on listeners with
implicit TLS, where it comes after `on_connect` and before the banner. Who is refused there is told
554 or 421, and the connection ends.

**Logins**: AUTH is offered where there are accounts (`[[auth.sources]]`) or a plugin has
`on_auth_start`, under TLS or where the listener has `clear_auth`. Both hooks are asked once for
each attempt that the client has brought to its end; of one that it cancels, or that is malformed,
plugins do not hear. REJECT becomes 535 and DEFER 454, with the text of the plugin; 421 stays and
ends the session.

- `on_auth_start` has the password, where the mechanism tells it: with PLAIN and LOGIN, not with
  SCRAM, CRAM-MD5, EXTERNAL or tokens. ACCEPT says that the plugin has checked it and that it is
  right. The accounts are not asked for it then, but a locked account stays locked, and rules hold.
  Where there was no password, ACCEPT means no more than CONTINUE. REJECT says that it is wrong.
  DEFER says that nobody can tell for now.
- `on_auth` never has it. It is asked once the credentials were checked, by the accounts or by a
  plugin, and not where nobody could tell. It can refuse a login that was right. It cannot let in
  one that was wrong.
- A plugin with `on_auth_start` reads passwords: `elemta plugins info NAME` says which hooks one
  has.

| hook | moment | context | its result may |
|---|---|---|---|
{rows}

"""
MAY = {
    May.REFUSE: "refuse: REJECT stops the start, or the reload",
    May.DECIDE: "decide: ACCEPT, REJECT, DEFER, DISCARD, QUARANTINE",
    May.MODIFY: "change the message: edits",
    May.RESCHEDULE: "say when to try again: `Result.retry_after`",
    May.SILENCE: "keep the notification back: `Result.silence`",
}


def write_hooks_page() -> str:
    """Give the reference of hooks and contexts."""
    rows = "\n".join(
        f"| [`{hook.name}`](#{hook.name}) | {hook.when} "
        f"| [`{hook.context.__name__}`](#{hook.context.__name__.lower()}) | {_powers(hook)} |"
        for hook in HOOKS.values()
    )
    parts = [HOOKS_HEAD.format(timeout=PluginSettings("x").timeout, rows=rows), "## Each hook\n\n"]
    parts += [_hook_section(hook) for hook in HOOKS.values()]
    parts.append("## Contexts\n\nAll have what `Context` has.\n\n")
    seen = dict.fromkeys(
        kind
        for hook in HOOKS.values()
        for kind in reversed(hook.context.__mro__)
        if issubclass(kind, Context)
    )
    parts += [_context_section(kind) for kind in (*seen, SessionInfo)]
    return "".join(parts).rstrip() + "\n"


def _powers(hook: Hook) -> str:
    short = [text.partition(":")[0] for may, text in MAY.items() if may in hook.may]
    return ", ".join(short) or "nothing"


def _hook_section(hook: Hook) -> str:
    others = {
        "event": hook.events,
        "interface": hook.interfaces,
        "stage": (hook.stage,),
        "policy method": (hook.method,),
    }
    told = [f"{kind} {_code(each)}" for kind, each in others.items() if any(each)]
    powers = "; ".join(text for may, text in MAY.items() if may in hook.may)
    kinds = [kind for kind in reversed(hook.context.__mro__) if kind is not Context]
    fields = [name for kind in kinds for names, _ in _fields(kind) for name in names]
    return "\n".join(
        [
            f"### {hook.name}\n",
            f"{hook.when[0].upper()}{hook.when[1:]}.\n",
            f"- Other names: {', '.join(told) or 'none'}.",
            f"- Context: `{hook.context.__name__}` with {_code(fields)}.",
            f"- Its result may {powers}."
            if powers
            else "- It gives None: nothing can be decided here. What it raises is only logged.",
            "\n",
        ]
    )


def _code(names: object) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _context_section(kind: type) -> str:
    summary = (inspect.getdoc(kind) or "").partition("\n\n")[0].replace("\n", " ")
    above = kind.__mro__[1]
    lines = [f"### {kind.__name__}\n", summary, ""]
    if issubclass(above, Context):
        lines.insert(1, f"Derived from [`{above.__name__}`](#{above.__name__.lower()}).\n")
    fields = list(_fields(kind))
    if fields:
        lines += ["| attribute | meaning |", "|---|---|"]
        lines += [f"| {_code(names)} | {text} |" for names, text in fields]
        lines.append("")
    mixed_in = [each for each in kind.__bases__ if not issubclass(each, Context | SessionInfo)]
    for name, method in (item for each in (kind, *mixed_in) for item in vars(each).items()):
        if not name.startswith("_") and inspect.isfunction(method):
            text = (inspect.getdoc(method) or "").replace("\n\n", " ").replace("\n", " ")
            arguments = [each for each in inspect.signature(method).parameters if each != "self"]
            lines.append(f"- `{name}({', '.join(arguments)})`: {re.sub(' +', ' ', text)}")
    return "\n".join(lines).rstrip() + "\n\n"


def _fields(kind: type) -> Iterator[tuple[list[str], str]]:
    """Give names and meanings as the docstring of a class has them."""
    text = (
        (inspect.getdoc(kind) or "").partition("Attributes:\n")[2]
        if "__doc__" in vars(kind)
        else ""
    )
    for match in re.finditer(r"^    (\w[\w, ]*): (.*(?:\n {8,}.*)*)", text, re.MULTILINE):
        yield match[1].split(", "), re.sub(r"\s+", " ", match[2])


PAGES: Mapping[str, Callable[[], str]] = {
    "configuration.md": write_reference,
    "log.md": write_log_page,
    "metrics.md": write_metrics_page,
    "plugins/hooks.md": write_hooks_page,
}


def stale_pages(folder: Path = FOLDER) -> list[str]:
    """Name the pages that are missing or differ from what would be written."""
    return [
        name
        for name, write in PAGES.items()
        if not (folder / name).is_file() or (folder / name).read_text("utf-8") != write()
    ]


def main() -> int:
    """Write what is out of date, or say so."""
    stale = stale_pages()
    if "--check" in sys.argv[1:]:
        for name in stale:
            sys.stderr.write(f"docs/{name} is out of date: run `make docs`\n")
        return 1 if stale else 0
    for name in stale:
        (FOLDER / name).write_text(PAGES[name](), "utf-8")
        sys.stdout.write(f"docs/{name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
