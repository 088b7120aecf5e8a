"""Mail of those who have logged in: whose name they may use, what is mended, how much they send."""

from elemta.server.submission.allowances import Allowances
from elemta.server.submission.local import LocalUsers, Users
from elemta.server.submission.locks import Lock, Locks
from elemta.server.submission.settings import Allowance, FixSettings, SubmissionSettings
from elemta.server.submission.submitter import Desk, Submitter, hide

__all__ = [
    "Allowance",
    "Allowances",
    "Desk",
    "FixSettings",
    "LocalUsers",
    "Lock",
    "Locks",
    "SubmissionSettings",
    "Submitter",
    "Users",
    "hide",
]
