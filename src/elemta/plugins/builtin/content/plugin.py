"""Does what the rules that match want."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import BaseModel

from elemta.plugins import MessageContext, Metadata, Plugin, ReplaceHeader, Result
from elemta.plugins.builtin._known import forget
from elemta.plugins.builtin._mime import Reader, TooMuch
from elemta.plugins.builtin.content.matching import Match, Ruleset
from elemta.plugins.builtin.content.settings import ContentSettings

HEADER = "X-Content-Rules"
_ORDER = ("continue", "score", "tag", "quarantine", "defer", "reject")
_TEXT = "The message is not taken for its content"
_LIST_LIMIT = 500  # characters of names


class Content(Plugin[ContentSettings]):
    """Looks at each message once."""

    metadata = Metadata(
        name="content", version="1.0.0", description="Rules about the text of messages"
    )
    Settings: ClassVar[type[BaseModel]] = ContentSettings

    async def setup(self) -> None:
        """Make the rules ready."""
        self._reader = Reader(self.settings)
        self._ruleset = Ruleset(self.settings.rules, self.settings.max_text)

    async def on_filter(self, ctx: MessageContext) -> Result | None:
        """Try the rules on a message."""
        forget(ctx, "content.")
        if not self.settings.rules or not self.settings.concern(ctx.session):
            return None
        try:
            match = await self._reader.look(ctx, self._ruleset.match)
        except TooMuch as error:
            match = Match([], too_complex=str(error))
        if not any(match):
            return None
        return self._judge(ctx, match)

    def _judge(self, ctx: MessageContext, match: Match) -> Result | None:
        told, found = self.settings, match.rules
        score = round(sum(rule.score for rule in found), 3)
        actions: list[str] = [self._by_score(score), *(rule.action for rule in found)]
        shown = sorted(rule.id for rule in found)
        notes = []
        for rule in found:
            ctx.metrics.count("matched", rule=rule.id)
        if found:
            names = ", ".join(shown)[:_LIST_LIMIT]
            notes.append(f"rules: {names}; score {score:g}")
            _leave(ctx, {"content.rules": names, "content.score": f"{score:g}"})
        troubles = (
            ("too_complex", match.too_complex, told.on_too_complex),
            ("unclear", match.unclear, told.on_unclear),
            ("malformed", match.malformed, told.on_malformed),
        )
        for what, why, action in troubles:
            if why:
                ctx.metrics.count("not_looked_at", why=what)
                shown.append(what)
                actions.append(action)
                notes.append(f"{what}: {why}")
        worst = max(actions, key=_ORDER.index)
        text = next((rule for rule in found if rule.text and rule.action == worst), None)
        said = text.template.fill(ctx, {"id": text.id}).strip() if text is not None else ""
        return _answer(worst, said or _TEXT, ", ".join(shown)[:_LIST_LIMIT], "; ".join(notes))

    def _by_score(self, score: float) -> str:
        told = self.settings
        limits = (
            ("reject", told.reject_score),
            ("quarantine", told.quarantine_score),
            ("tag", told.tag_score),
        )
        for action, limit in limits:
            if limit is not None and score >= limit:
                return action
        return "continue"


def _leave(ctx: MessageContext, facts: Mapping[str, str]) -> None:
    for name, value in facts.items():
        ctx.set_metadata(name, value)
        ctx.message.notes[name] = value


def _answer(action: str, text: str, shown: str, note: str) -> Result | None:
    """Give the answer of the hook; what is shown to recipients has no word of the content."""
    if action == "reject":
        return Result.reject(text, note=note)
    if action == "defer":
        return Result.defer(text, note=note)
    tag = ReplaceHeader(HEADER, shown)
    if action == "quarantine":
        return Result.quarantine(note=note, edits=(tag,))
    return Result.modify(tag, note=note) if action == "tag" else None
