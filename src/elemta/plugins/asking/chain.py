"""Asking plugins: all that define a hook, in order, until one of them decides.

An answer that refuses, defers, discards or accepts ends the asking. Quarantine and edits add up.
What a plugin raises, and time it takes beyond its limit, make the mail wait (451) unless its
configuration says otherwise; a defect never lets mail through.

A plugin that has nothing to say costs a call and nothing more: no task, no reading of a clock but
for one call in `SAMPLED`.
"""

import asyncio
import copy
import inspect
import operator
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from elemta.mail import events as ev
from elemta.mail.reply import Reply, clean_text
from elemta.mail.why import Heard
from elemta.plugins.asking.defects import describe, is_our_end
from elemta.plugins.asking.tally import Tally
from elemta.plugins.contexts import Context
from elemta.plugins.edits import Edit
from elemta.plugins.hooks import Hook, May
from elemta.plugins.plugin import Plugin
from elemta.plugins.result import Action, Result
from elemta.plugins.settings import OnError, PluginSettings

REFUSED = Reply(550, "Refused by local policy", "5.7.1")
DEFERRED = Reply(451, "Try again later", "4.7.1")
MAX_NOTE = 500  # characters of a note that are kept with a session
SAMPLED = 64  # one pass in so many is timed, where plugins answer at once
_FINAL = frozenset({Action.REJECT, Action.DEFER, Action.DISCARD, Action.ACCEPT})
_TOGETHER = frozenset({"on_data", "on_validated", "on_filter"})


@dataclass(frozen=True, slots=True)
class Decision:
    """What the plugins of a hook came to.

    Attributes:
        action: The one that counts.
        plugin: Who decided; "" where edits are all there is.
        reply: What the peer is told; None where the server chooses the words.
        note: For the operator.
        edits: Changes of the message with the names of those who want them, in order.
        delay, silent: As in `Result`.
        policy: That of `Result`, joined where several plugins name one.
    """

    action: Action = Action.CONTINUE
    plugin: str = ""
    reply: Reply | None = None
    note: str = ""
    edits: tuple[tuple[str, Edit], ...] = ()
    delay: float | None = None
    silent: bool = False
    policy: str = ""

    @property
    def refusal(self) -> Reply | None:
        """The reply to what is refused, for good or for now; None where it is not."""
        if self.action is Action.REJECT:
            return self.reply or REFUSED
        if self.action is Action.DEFER:
            return self.reply or DEFERRED
        return None


Call = Callable[[Any], Any]
_Ask = Callable[[Context, int, object, float], Coroutine[Any, Any, Decision | None]]


@dataclass(slots=True)
class Link:
    """One plugin in a chain: its method, and what belongs to it."""

    call: Call
    plugin: Plugin[Any]
    settings: PluginSettings
    tally: Tally
    name: str = field(init=False)
    is_shadow: bool = field(init=False)

    def __post_init__(self) -> None:
        self.name = self.settings.name
        shadow = self.settings.mode == "shadow" or self.tally.hook in self.settings.shadow_hooks
        self.is_shadow = shadow


class Chain:
    """The plugins of one hook, bound and in order.

    Args:
        hook: Which.
        links: Who, in order; not empty.
        emit: Told of defects, and of what shadows would have done.
        monotonic: What calls are timed with.
    """

    __slots__ = ("_calls", "_emit", "_ends", "_monotonic", "_passes", "_skipped", "hook", "links")

    def __init__(
        self, hook: Hook, links: Sequence[Link], emit: ev.Emit, monotonic: Callable[[], float]
    ) -> None:
        self.hook = hook
        self.links = tuple(links)
        self._calls = tuple((link.call, link.plugin.tools) for link in links)
        self._ends = _runs(hook, links)
        self._emit = emit
        self._monotonic = monotonic
        self._passes = 0
        self._skipped = [0] * len(links)
        for link in links:
            link.tally.follow(self)

    def __call__(self, context: Context) -> Awaitable[Decision | None] | None:
        """Ask; None where nobody has anything to say, which is known at once."""
        self._passes += 1
        if not self._passes % SAMPLED:
            return self._ask_timed(context)
        calls = iter(self._calls)
        try:
            for call, context.tools in calls:
                answer = call(context)
                if answer is not None:
                    break
            else:
                return None
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a plugin's defect is its own, also `sys.exit()`
            answer = error
        at = len(self._calls) - operator.length_hint(calls) - 1
        return _Asking(self._ask, context, at, answer, self._monotonic())

    def blame(self, plugin: str, error: BaseException, context: Context) -> Decision | None:
        """Treat what a plugin asked for in vain as any defect of it; None: it does not matter."""
        link = next(link for link in self.links if link.name == plugin)
        result = self._fail(link, error, context)
        if result is None:
            return None
        return Decision(result.action, plugin, result.reply, result.note)

    def calls_of(self, tally: Tally) -> int:
        """How often the plugin of a tally was asked here."""
        at = next(at for at, link in enumerate(self.links) if link.tally is tally)
        return self._passes - self._skipped[at]

    def retire(self) -> None:
        """Leave the figures to the tallies: nobody is asked any more."""
        for link in self.links:
            link.tally.leave(self)

    def _ask_timed(self, context: Context) -> Awaitable[Decision | None] | None:
        for at, link in enumerate(self.links):
            began = self._monotonic()
            answer = self._call(at, context)
            if answer is not None:
                return _Asking(self._ask, context, at, answer, began)
            link.tally.took(self._monotonic() - began)
        return None

    async def _ask(
        self, context: Context, at: int, answer: object, began: float
    ) -> Decision | None:
        """Go on from the first answer that is not None."""
        gathered = _Gathered()
        while True:
            end = self._ends[at]
            if end > at + 1:
                results = await self._ask_together(context, at, end, answer, began)
            elif type(answer) is Result:  # mostly: there is nothing to wait for
                results = [self._weigh(at, answer, context, began)]
            else:
                results = [await self._settle(at, answer, context, began)]
            for result in results:
                if result is not None and gathered.add(self.links[at].name, result):
                    for missed in range(end, len(self.links)):
                        self._skipped[missed] += 1
                    return gathered.decision()
                at += 1
            if at == len(self.links):
                return gathered.decision()
            began = self._monotonic()
            answer = self._call(at, context)

    async def _ask_together(
        self, context: Context, at: int, end: int, answer: object, began: float
    ) -> list[Result | None]:
        """Let those from `at` to `end` answer at the same time; the first has begun to."""
        waiting = [self._settle(at, answer, context, began)]
        for beside in range(at + 1, end):
            own = copy.copy(context)
            answer = self._call(beside, own)
            waiting.append(self._settle(beside, answer, own, self._monotonic()))
        return await asyncio.gather(*waiting)

    def _call(self, at: int, context: Context) -> object:
        """Call one plugin; what it raises is given as a value."""
        link = self.links[at]
        context.tools = link.plugin.tools
        try:
            return link.call(context)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - as above
            return error

    async def _settle(
        self, at: int, answer: object, context: Context, began: float
    ) -> Result | None:
        """Wait for an answer where that is needed, and weigh it."""
        try:
            if inspect.isawaitable(answer):
                answer = await _within(self.links[at].settings.timeout, answer)
        except BaseException as error:
            if is_our_end(error):
                raise
            answer = error
        return self._weigh(at, answer, context, began)

    def _weigh(self, at: int, answer: object, context: Context, began: float) -> Result | None:
        """Judge an answer, and note it."""
        link = self.links[at]
        try:
            if isinstance(answer, BaseException):
                result = self._fail(link, answer, context)
            else:
                result = _without_overruled(self._judge(answer), link.name, context)
        except BaseException as error:
            if is_our_end(error):
                raise
            result = self._fail(link, error, context)
        took = self._monotonic() - began
        link.tally.took(took)
        if result is None or not _has_effect(result):
            return None
        return self._note(link, result, context, took)

    def _judge(self, answer: object) -> Result | None:
        """Give an answer that makes sense here.

        Raises:
            TypeError: It is no result, or does what this hook cannot do.
        """
        if answer is None:
            return None
        hook = self.hook
        if not isinstance(answer, Result):
            raise TypeError(f"{hook.name} returned {type(answer).__name__}, not a Result or None")
        if answer.edits and May.MODIFY not in hook.may:
            raise TypeError(f"{hook.name} cannot change the message")
        if answer.action is not Action.CONTINUE and not hook.may & (May.DECIDE | May.REFUSE):
            raise TypeError(f"{hook.name} cannot decide anything: {answer.action}")
        if answer.policy and hook.name != "on_rcpt_to":
            raise TypeError(f"{hook.name} is not about one recipient: it cannot name a policy")
        return answer

    def _fail(self, link: Link, error: BaseException, context: Context) -> Result | None:
        """Say what a defect means for the mail, and tell the operator where it is."""
        why = secrets.token_hex(4)
        link.tally.errors += 1
        text = describe(error)
        if isinstance(error, TimeoutError):
            link.tally.timeouts += 1
            text = f"no answer within {link.settings.timeout:g} s: {text}"
        ids = (getattr(context, "queue_id", ""), _session_id(context))
        self._emit(ev.PluginError(link.name, self.hook.name, clean_text(text), why, *ids))
        on_error = link.settings.on_error
        if on_error is OnError.CONTINUE or not self.hook.may & (May.DECIDE | May.REFUSE):
            return None
        if on_error is OnError.REJECT or May.REFUSE in self.hook.may:
            told = Reply(554, "Refused", "5.3.0", why)
            return Result(action=Action.REJECT, reply=told, note=text)
        told = Reply(451, "Internal error, try again later", "4.3.0", why)
        return Result(action=Action.DEFER, reply=told, note=text)

    def _note(self, link: Link, result: Result, context: Context, took: float) -> Result | None:
        """Count an answer, and keep it with the session; one from a shadow ends here."""
        what = result.action.value
        if result.action is Action.CONTINUE:
            what = "policy" if result.policy else "edit"
        said = f"shadow_{what}" if link.is_shadow else what
        link.tally.said(said)
        session = getattr(context, "session", None)
        if session is not None:
            note, ms = clean_text(result.note, MAX_NOTE), round(took * 1000, 2)
            session.heard.append(Heard(link.name, self.hook.name, said, note, ms))
        if not link.is_shadow:
            return result
        ids = (getattr(context, "queue_id", ""), _session_id(context))
        text = str(result.reply) if result.reply is not None else ""
        self._emit(ev.PluginShadow(link.name, self.hook.name, what, text, result.note, *ids))
        return None


def _without_overruled(result: Result | None, plugin: str, context: Context) -> Result | None:
    """Give an answer without a wish for quarantine that an operator, or a rule, has overruled."""
    if result is None or result.action is not Action.QUARANTINE:
        return result
    session = getattr(context, "session", None)
    spared = session.find_spared() if session is not None else ()
    if plugin not in (*getattr(context, "released", ()), *spared):
        return result
    return msgspec.structs.replace(result, action=Action.CONTINUE)


class _Asking:
    """Plugins that have begun to answer; they are given up where nobody waits for them."""

    __slots__ = ("_answer", "_ask", "_at", "_began", "_context")

    def __init__(self, ask: _Ask, context: Context, at: int, answer: object, began: float) -> None:
        self._ask = ask
        self._context = context
        self._at = at
        self._answer = answer
        self._began = began

    def __await__(self) -> Generator[Any, Any, Decision | None]:
        answer, self._answer = self._answer, None
        return self._ask(self._context, self._at, answer, self._began).__await__()

    def __del__(self) -> None:
        if isinstance(self._answer, Coroutine):  # a session has been cut off
            self._answer.close()


class _Gathered:
    """Answers on the way to a decision."""

    __slots__ = ("_edits", "_plugin", "_policies", "_result")

    def __init__(self) -> None:
        self._edits: list[tuple[str, Edit]] = []
        self._plugin = ""
        self._policies: list[str] = []
        self._result: Result | None = None

    def add(self, plugin: str, result: Result) -> bool:
        """Take an answer; True when nobody needs to be asked any more."""
        self._edits += ((plugin, edit) for edit in result.edits)
        if result.policy:
            self._policies.append(result.policy)
        before = self._result
        if result.action in _FINAL:
            # what was put into quarantine stays there, unless the message is refused
            if before is None or result.action is not Action.ACCEPT:
                self._result, self._plugin = result, plugin
            return True
        if before is None and (
            result.action is Action.QUARANTINE or result.delay is not None or result.silent
        ):
            self._result, self._plugin = result, plugin
        return False

    def decision(self) -> Decision | None:
        result, policy = self._result, ", ".join(self._policies)
        if result is None:
            is_anything = self._edits or policy
            return Decision(edits=tuple(self._edits), policy=policy) if is_anything else None
        return Decision(
            result.action,
            self._plugin,
            result.reply,
            result.note,
            tuple(self._edits),
            result.delay,
            result.silent,
            policy,
        )


async def _within(seconds: float, answer: Awaitable[object]) -> object:
    """Wait for an answer.

    Raises:
        TimeoutError: It came too late, or not at all.
    """
    async with asyncio.timeout(seconds) as limit:
        given = await answer
    if limit.expired():  # it has been cancelled, and has gone on all the same
        raise TimeoutError("its answer came too late")
    return given


def _has_effect(result: Result) -> bool:
    return (
        result.action is not Action.CONTINUE
        or bool(result.edits)
        or result.delay is not None
        or result.silent
        or result.policy != ""
    )


def _session_id(context: Context) -> str:
    session = getattr(context, "session", None)
    return str(getattr(session if session is not None else context, "session_id", ""))


def _runs(hook: Hook, links: Sequence[Link]) -> list[int]:
    """For each link the index after the last that may be asked at the same time."""
    ends: list[int] = []
    for at, link in enumerate(links):
        end = at + 1
        if hook.name in _TOGETHER and link.plugin.independent:
            while end < len(links) and links[end].plugin.independent:
                end += 1
        ends.append(end)
    return ends
