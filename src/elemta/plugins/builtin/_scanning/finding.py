"""What a scanner has found, and the answer of a hook that comes of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from elemta.plugins import Result, ScanResult, ScanStatus
from elemta.plugins.edits import Edit

Consequence = Literal["continue", "quarantine", "defer", "reject", "discard"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found in a message.

    Attributes:
        scan: In the words that all scanners share.
        consequence: What is to be done.
        text: What the client is told where it is refused.
        note: What the operator is told.
        enhanced: Subject and detail of the enhanced code: "7.1".
        code: Of a refusal for good.
        edits: Changes of the header section.
        facts: For the metadata of the session and the notes of the message, by name.
        is_lasting: It would be the same a minute later.
    """

    scan: ScanResult
    consequence: Consequence = "continue"
    text: str = "Refused by local policy"
    note: str = ""
    enhanced: str = "7.1"
    code: int = 550
    edits: tuple[Edit, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    is_lasting: bool = True


def answer(finding: Finding) -> Result | None:
    """Say it while the client waits; None has nothing to say."""
    what, note, edits = finding.consequence, finding.note, finding.edits
    if what == "reject":
        enhanced = f"5.{finding.enhanced}"
        return Result.reject(finding.text, code=finding.code, enhanced=enhanced, note=note)
    if what == "defer":
        return Result.defer(finding.text, enhanced=f"4.{finding.enhanced}", note=note)
    if what == "discard":
        return Result.discard(note=note)
    if what == "quarantine":
        return Result.quarantine(note=note, edits=edits)
    return Result.modify(*edits, note=note) if edits else None


def late_answer(finding: Finding, refusal: Literal["quarantine", "discard"]) -> Result | None:
    """Say it of a message in the queue: to refuse would send a notification to anybody.

    A message of which nothing is known is not thrown away, whatever stands for refusals.
    """
    if finding.consequence != "reject":
        return answer(finding)
    if refusal == "discard" and finding.scan.status is not ScanStatus.ERROR:
        return Result.discard(note=finding.note)
    return Result.quarantine(note=finding.note)
