"""Recipient verification: who does not exist at the next hop is refused at RCPT."""

from elemta.plugins.builtin.recipient_verification.plugin import RecipientVerification

__all__ = ["RecipientVerification"]
