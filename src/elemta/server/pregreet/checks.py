"""What clients are checked for, what may follow, and what those are told who fail."""

from collections.abc import Mapping
from enum import StrEnum

from elemta.mail.reply import Reply


class Check(StrEnum):
    """One check; a client passes it by itself, and for a time of its own."""

    EARLY_TALKER = "early_talker"
    PIPELINING = "pipelining"
    BARE_NEWLINE = "bare_newline"
    NON_SMTP_COMMAND = "non_smtp_command"


class Action(StrEnum):
    """What becomes of a client that fails.

    OFF: it is not checked. IGNORE: the log and the figures tell of it. ENFORCE: no mail is taken in
    this session. DROP: the session ends.
    """

    OFF = "off"
    IGNORE = "ignore"
    ENFORCE = "enforce"
    DROP = "drop"


KINDS: Mapping[Check, str] = {
    Check.EARLY_TALKER: "early_talk",
    Check.PIPELINING: "sync",
    Check.BARE_NEWLINE: "bare_newline",
    Check.NON_SMTP_COMMAND: "cross_protocol",
}
"""What security events call them."""

REFUSED: Mapping[Check, Reply] = {
    Check.EARLY_TALKER: Reply(550, "No mail from clients that talk before the banner", "5.7.1"),
    Check.PIPELINING: Reply(550, "No mail from clients that do not wait for answers", "5.7.1"),
    Check.BARE_NEWLINE: Reply(550, "No mail from clients that end lines without CR", "5.7.1"),
    Check.NON_SMTP_COMMAND: Reply(550, "No mail from clients that do not speak SMTP", "5.7.1"),
}
"""Answers to RCPT."""

DROPPED: Mapping[Check, Reply] = {
    Check.EARLY_TALKER: Reply(521, "You talk before the banner, closing connection", "5.7.1"),
    Check.PIPELINING: Reply(521, "You do not wait for answers, closing connection", "5.7.1"),
    Check.BARE_NEWLINE: Reply(521, "You end lines without CR, closing connection", "5.7.1"),
    Check.NON_SMTP_COMMAND: Reply(521, "You do not speak SMTP, closing connection", "5.7.1"),
}
"""The last word (RFC 7504)."""
