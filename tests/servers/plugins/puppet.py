"""A plugin that has every hook: it writes down what it is told, and says what its settings say.

`journal` is a file of one JSON object a call. `answers` has for a hook, or for "HOOK:VALUE" where
the value is that of the recipient, the sender, the verb, the line, the name in HELO, the login or
the client's address, how to answer: a list of what to do in words: ["reject", "text"],
["defer", ...], ["raise"], ["hang"], ["async", ...], ["header", name, value] and so on.
"""

import asyncio
import json
import os
from collections.abc import Iterator
from typing import Any

from pydantic import Field

from elemta.plugins import (
    AddHeader,
    AddRecipient,
    ChangeSender,
    Context,
    Headers,
    Metadata,
    Plugin,
    RemoveRecipient,
    ReplaceBody,
    Result,
    SessionInfo,
    Settings,
)
from elemta.plugins.hooks import HOOKS


class PuppetSettings(Settings):
    journal: str = ""
    answers: dict[str, list[Any]] = Field(default_factory=dict)
    hooks: tuple[str, ...] = tuple(HOOKS)


class Puppet(Plugin[PuppetSettings]):
    metadata = Metadata(name="puppet", version="1.0")
    Settings = PuppetSettings

    def answer(self, hook: str, context: Context) -> Any:
        if hook not in self.settings.hooks:
            return None
        facts = dict(_facts(context))
        if self.settings.journal:
            line = json.dumps({"asked": hook, **facts}, default=str) + "\n"
            # one write, however long the line is: several processes may have one journal
            with open(self.settings.journal, "ab", buffering=0) as journal:  # noqa: PTH123 - a name
                journal.write(line.encode())
        told = self.settings.answers
        names = ("recipient", "sender", "verb", "line", "name", "username")
        values = [facts.get(name) for name in names]
        values.append(facts.get("session", {}).get("client_ip"))
        for value in values:
            answer = told.get(f"{hook}:{value}")
            if answer is not None:
                return _act(answer)
        return _act(told[hook]) if hook in told else None


def _facts(context: Context) -> Iterator[tuple[str, Any]]:
    for kind in type(context).__mro__:
        for name in getattr(kind, "__slots__", ()):
            value = getattr(context, name, None)
            if name.startswith("_") or name == "tools":
                continue
            if isinstance(value, SessionInfo):
                yield "session", {each: getattr(value, each) for each in SessionInfo.__slots__}
            elif isinstance(value, Headers):
                yield "headers", [list(field) for field in value]
            elif isinstance(value, bytes):
                yield name, value.decode("latin-1")
            elif isinstance(value, tuple | list):
                yield name, [str(each) for each in value]
            elif isinstance(value, int | float | dict | None):
                yield name, value
            else:
                yield name, str(value)


def _act(answer: list[Any]) -> Any:
    what, *rest = answer
    if what == "async":
        return _later(rest)
    if what == "raise":
        raise RuntimeError("the puppet fell over")
    if what == "exit":
        os._exit(9)
    simple = {"reject": Result.reject, "defer": Result.defer}
    if what in simple:
        options = rest[1] if len(rest) > 1 else {}
        return simple[what](*rest[:1], note="puppet says so", **options)
    if what in {"discard", "quarantine", "accept"}:
        return getattr(Result, what)(note="puppet says so")
    edits = {
        "header": AddHeader,
        "add": AddRecipient,
        "remove": RemoveRecipient,
        "sender": ChangeSender,
        "body": lambda text: ReplaceBody(text.encode()),
    }
    if what in edits:
        return Result.modify(edits[what](*rest))
    outcomes = {"retry": Result.retry_after, "silence": Result.silence}
    if what in outcomes:
        return outcomes[what](*rest)
    return rest[0] if rest else what  # nonsense, as it stands


async def _later(answer: list[Any]) -> Any:
    if answer == ["hang"]:
        await asyncio.Event().wait()
    await asyncio.sleep(0.01)
    return _act(answer) if answer else None


def _hook(name: str) -> Any:
    def method(self: Puppet, context: Context) -> Any:
        return self.answer(name, context)

    method.__name__ = method.__qualname__ = name
    return method


for _name in HOOKS:
    setattr(Puppet, _name, _hook(_name))
