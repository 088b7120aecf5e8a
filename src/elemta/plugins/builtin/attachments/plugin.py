"""Does about attachments what the operator wants."""

from typing import ClassVar

from pydantic import BaseModel

from elemta.plugins import MessageContext, Metadata, Plugin, ReplaceHeader, Result
from elemta.plugins.builtin._known import forget
from elemta.plugins.builtin._mime import Budget, Reader, TooMuch
from elemta.plugins.builtin.attachments.inspecting import Finding, Inspection
from elemta.plugins.builtin.attachments.settings import Action, AttachmentsSettings
from elemta.plugins.builtin.attachments.stripping import strip
from elemta.plugins.edits import Edit

HEADER = "X-Attachment-Status"
NOTE = "attachments.found"
_NOTE_LIMIT = 500  # characters
# what goes before what, where several things were found
_ORDER: tuple[Action, ...] = ("continue", "tag", "strip", "quarantine", "defer", "reject")
_TEXTS = {
    "too_complex": "The message has more parts or files than can be looked at",
    "unclear": "The message or a file in it is broken",
    "malformed": "The message is broken",
    "encrypted": "Encrypted archives are not taken",
}
_TEXT = "Attachments of this type are not taken"
_Stripped = tuple[list[Finding], Edit | None]


class Attachments(Plugin[AttachmentsSettings]):
    """Looks at each message once."""

    metadata = Metadata(
        name="attachments",
        version="1.0.0",
        description="Refuses, removes or marks attachments by what they are",
    )
    Settings: ClassVar[type[BaseModel]] = AttachmentsSettings

    async def setup(self) -> None:
        """Have threads at hand."""
        self._reader = Reader(self.settings)

    async def on_filter(self, ctx: MessageContext) -> Result | None:
        """Look at a message."""
        forget(ctx, NOTE)
        if not self.settings.concern(ctx.session):
            return None
        try:
            findings, stripped = await self._reader.look(ctx, self._inspect)
        except TooMuch as error:
            findings, stripped = [Finding("too_complex", str(error))], None
        if not findings:
            return None
        for what in sorted({finding.what for finding in findings}):
            ctx.metrics.count("found", what=what)
        note = "; ".join(f"{what}: {why}" for what, why, _ in findings)[:_NOTE_LIMIT]
        ctx.set_metadata(NOTE, note)
        ctx.message.notes[NOTE] = note
        return self._answer(findings, stripped, note)

    def _inspect(self, message: bytes, budget: Budget) -> _Stripped:
        """In a thread: find what there is, and the body without it where that is wanted."""
        told = self.settings
        findings = Inspection(told.extensions, told.types, budget).inspect(message)
        parts = {
            finding.part.at: finding.part
            for finding in findings
            if finding.part is not None and self._action(finding) == "strip"
        }
        return findings, strip(message, parts.values()) if parts else None

    def _action(self, finding: Finding) -> Action:
        found: Action = getattr(self.settings, f"on_{finding.what}")
        return found

    def _answer(self, findings: list[Finding], stripped: Edit | None, note: str) -> Result | None:
        worst = max(findings, key=lambda finding: _ORDER.index(self._action(finding)))
        action = self._action(worst)
        if action == "continue":
            return None
        text = _TEXTS.get(worst.what, _TEXT)
        if action == "reject":
            return Result.reject(text, note=note)
        if action == "defer":
            return Result.defer(text, note=note)
        tagged = sorted({each.what for each in findings if self._action(each) != "continue"})
        tag = ReplaceHeader(HEADER, ", ".join(tagged))
        if action == "tag":
            return Result.modify(tag, note=note)
        if action == "strip" and stripped is not None:
            removed = ReplaceHeader(HEADER, f"removed: {', '.join(tagged)}")
            return Result.modify(stripped, removed, note=note)
        if action == "strip":
            note = f"it cannot be removed: {note}"
        return Result.quarantine(note=note, edits=(tag,))
