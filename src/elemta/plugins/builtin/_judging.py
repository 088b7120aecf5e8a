"""Whose mail is judged, and what is done about it: the same for all checks."""

from typing import Literal, NamedTuple

from pydantic import Field

from elemta.plugins import Result, SessionInfo, Settings

_NOTE = "dmarc"  # of a session: the settings of DMARC, where that is checked
Consequence = Literal["continue", "quarantine", "defer", "reject"]


class JudgingSettings(Settings):
    """Whose mail is judged."""

    judge_trusted: bool = Field(
        default=False,
        description="Also judge clients in `relay.trusted_networks`, and those that speak LMTP.",
    )
    judge_logged_in: bool = Field(default=False, description="Also judge who has logged in.")

    def concern(self, session: SessionInfo) -> bool:
        """Whether mail of this session is judged."""
        is_mta = session.listener == "mta"
        if session.username or (not is_mta and session.listener.startswith("submission")):
            return self.judge_logged_in
        return self.judge_trusted or (is_mta and not session.is_trusted)


def announce_dmarc(session: SessionInfo, settings: JudgingSettings) -> None:
    """Say that DMARC is checked, and of whom: what SPF finds is left to it there."""
    session.notes[_NOTE] = settings


def is_left_to_dmarc(session: SessionInfo) -> bool:
    """Whether DMARC judges mail of this session."""
    settings = session.notes.get(_NOTE)
    return isinstance(settings, JudgingSettings) and settings.concern(session)


class Words(NamedTuple):
    """How a refusal is put: enhanced codes for good and for now, and the text."""

    permanent: str
    temporary: str
    text: str


def act(what: Consequence, words: Words, note: str) -> Result | None:
    """Give the answer of a hook that does what the operator wants; None goes on."""
    if what == "reject":
        return Result.reject(words.text, enhanced=words.permanent, note=note)
    if what == "defer":
        return Result.defer(words.text, enhanced=words.temporary, note=note)
    if what == "quarantine":
        return Result.quarantine(note=note)
    return None
