"""The rules by which the server refuses of itself: their names, and what they say.

A rule is named after the setting that it comes from, where there is one. Each refusal that is
made here or in `elemta.smtp` has its rule in this table.
"""

from collections.abc import Mapping

from elemta.mail.reply import Reply
from elemta.server import listener, offers, pregreet, relay, replies, secured, transaction
from elemta.server.limited import HANDSHAKES_AT_ONCE
from elemta.server.limits import gate, guard, shedding
from elemta.server.submission import allowances, authors, fixes
from elemta.smtp import commands, data, parameters
from elemta.smtp.events import Fault

PROTOCOL = "protocol."
UNNAMED = "server"

RULES: Mapping[str, str] = {
    "relay": "neither is the recipient's domain ours (`relay.local_domains`,"
    " `relay.relay_domains`), nor may this client send elsewhere (`relay.trusted_networks`, a"
    " login, or a plugin that says ACCEPT)",
    "queue.min_free_space": "the disk of the queue is full, or cannot be written",
    "server.max_recipients": "a message has more recipients than `server.max_recipients`",
    "server.max_message_size": "the message is larger than `server.max_message_size`",
    "smtp.split": "a plugin treats the recipient otherwise than the first one of the message"
    " (`smtp.split`)",
    "smtp.max_received": "the message has passed so many servers that it must be looping"
    " (`smtp.max_received`)",
    "smtp.max_header_size": "the header section is larger than `smtp.max_header_size`",
    "smtp.max_header_fields": "there are more header fields than `smtp.max_header_fields`",
    "smtp.max_line": "a line of the message is longer than `smtp.max_line`",
    "smtp.bare_newlines": "the message has CR or LF apart, as smuggled mail has"
    " (`smtp.bare_newlines`)",
    "content.nul": "the message has a NUL octet",
    "smtp.max_errors": "the client sent too many broken or refused commands (`smtp.max_errors`)",
    "smtp.max_junk_commands": "the client sent too many commands that move no mail"
    " (`smtp.max_junk_commands`)",
    "smtp.timeouts": "the client took too long (`smtp.command_timeout`, `data_timeout`,"
    " `session_timeout`, `min_data_rate`)",
    "shutdown": "the server was about to stop",
    "defect": "a defect of the server; the log has it as `internal_error`",
    "smtp.strict_sync": "the client spoke before its turn, as spam programs do"
    " (`smtp.strict_sync`)",
    "pregreet.early_talker": "the client, which is new here, talked before the banner was complete"
    " (`pregreet.early_talker`)",
    "pregreet.pipelining": "the client, which is new here, did not wait for answers"
    " (`pregreet.pipelining`)",
    "pregreet.bare_newline": "the client, which is new here, ended lines without CR"
    " (`pregreet.bare_newline`)",
    "pregreet.non_smtp_command": "the client, which is new here, sent what is no SMTP"
    " (`pregreet.non_smtp_command`)",
    "login_required": "this listener takes mail only from those who have logged in",
    "smtp.refuse_null_mx_senders": "the sender's domain says that it has no mail, so nobody could"
    " be told of a failure (`smtp.refuse_null_mx_senders`)",
    "expn": "EXPN is never answered: it would tell who is here",
    "tls.injection": "there was input behind STARTTLS, which is an attack",
    "tls.handshake": "the client and the server did not agree on TLS",
    "auth": "the login or its password was wrong",
    "auth.down": "it could not be found out whether the login was right",
    "auth.max_attempts": "too many logins of this session failed",
    "ban": "there was a ban; `elemta bans show` tells what led to it",
    "limits.connections": "there were too many connections (`limits.connections`,"
    " `smtp.max_connections`)",
    "limits.connections_per_address": "there were too many connections from this address"
    " (`limits.connections_per_address`, `limits.connection_rate`)",
    "limits.connections_per_network": "there were too many connections from this network"
    " (`limits.connections_per_network`, `limits.connection_rate_per_network`)",
    "limits.handshake_rate": "there were too many TLS handshakes (`limits.handshake_rate`)",
    "limits.message_rate": "there were too many messages (`limits.message_rate`)",
    "limits.recipient_rate": "there were too many recipients (`limits.recipient_rate`)",
    "limits.auth_rate": "there were too many logins (`limits.auth_rate`)",
    "limits.error_rate": "there were too many errors (`limits.error_rate`)",
    "limits.tarpit": "too many logins were waiting already for failures before them",
    "limits.shedding": "the server had too much to do (`limits.shedding`)",
    "submission.future_release": "the client wanted the message held for longer than may be"
    " (`submission.future_release`), or until an instant that has passed",
    "submission.fixes": "the message lacked what a message must have, or had too much, and is not"
    " to be mended (`submission`)",
    "submission.locked": "the login is locked; `elemta submission` can release it",
    "submission.allowance": "the login has sent as much as it may for now",
    "submission.down": "it could not be found out whether the login may send",
    "submission.sender": "the login may not use that address, in the envelope or in the message",
    "submission.authors": "it cannot be told whose name the message uses",
    "proxy": "this listener is for proxies, and the connection was none, or broken",
    "protocol.unknown": "the command is none of SMTP",
    "protocol.unavailable": "the command is not to be had here",
    "protocol.too_long": "the line was too long",
    "protocol.syntax": "the command did not have the form it must have",
    "protocol.encoding": "the command was not UTF-8",
    "protocol.sync": "there was input where the client had to wait for an answer",
    "protocol.cross_protocol": "the client speaks another protocol",
    "protocol.sequence": "the command may not come at this point",
    "protocol.parameter": "a parameter was unknown, or not as it must be",
    "protocol.address": "the address is none, or needs an extension that was not asked for",
    "protocol.auth": "the exchange of AUTH went wrong before any password was looked at",
    "server": "the server refused it",
}
"""What each rule says, to go on after "because"."""

_REPLIES: Mapping[Reply, str] = {
    relay.RELAY_DENIED: "relay",
    transaction.NO_ROOM: "queue.min_free_space",
    transaction.TOO_MANY: "server.max_recipients",
    transaction.APART: "smtp.split",
    transaction.LOOP: "smtp.max_received",
    transaction.HEADER_SIZE: "smtp.max_header_size",
    transaction.HEADER_FIELDS: "smtp.max_header_fields",
    data.BARE_NEWLINE: "smtp.bare_newlines",
    data.NUL: "content.nul",
    data.LONG_LINE: "smtp.max_line",
    data.TOO_BIG: "server.max_message_size",
    replies.NO_EXPAND: "expn",
    replies.TIMEOUT: "smtp.timeouts",
    replies.SHUTDOWN: "shutdown",
    replies.TOO_MANY_ERRORS: "smtp.max_errors",
    replies.TOO_MANY_COMMANDS: "smtp.max_junk_commands",
    replies.DEFECT: "defect",
    replies.EARLY_TALK: "smtp.strict_sync",
    replies.LOGIN_FIRST: "login_required",
    replies.NULL_MX: "smtp.refuse_null_mx_senders",
    secured.INJECTED: "tls.injection",
    secured.WRONG: "auth",
    secured.UNDECIDED: "auth.down",
    secured.TOO_MANY_LOGINS: "auth.max_attempts",
    listener.TOO_BUSY.reply: "limits.connections",
    guard.CONNECTIONS: "limits.connections",
    guard.CONNECTIONS_HERE: "limits.connections_per_address",
    guard.CONNECTIONS_NEAR: "limits.connections_per_network",
    guard.HANDSHAKES: "limits.handshake_rate",
    HANDSHAKES_AT_ONCE: "limits.handshake_rate",
    guard.MESSAGES: "limits.message_rate",
    guard.RECIPIENTS: "limits.recipient_rate",
    guard.LOGINS: "limits.auth_rate",
    guard.ERRORS: "limits.error_rate",
    gate.BUSY: "limits.tarpit",
    shedding.OVERLOADED: "limits.shedding",
    shedding.NO_MORE_MAIL: "limits.shedding",
    offers.HELD_TOO_LONG: "submission.future_release",
    offers.HELD_IN_VAIN: "submission.future_release",
    fixes.NO_DATE: "submission.fixes",
    fixes.NO_MESSAGE_ID: "submission.fixes",
    fixes.NO_FROM: "submission.fixes",
    fixes.HAS_BCC: "submission.fixes",
    fixes.BROKEN: "submission.fixes",
    allowances.LOCKED: "submission.locked",
    allowances.WAIT: "submission.allowance",
    allowances.UNKNOWN: "submission.down",
    authors.NULL_SENDER: "submission.sender",
    authors.SEVERAL_FROM: "submission.authors",
    authors.SEVERAL_SENDERS: "submission.authors",
    authors.NO_SENDER: "submission.authors",
    **{
        reply: f"pregreet.{check}"
        for replies_to in (pregreet.REFUSED, pregreet.DROPPED)
        for check, reply in replies_to.items()
    },
}


def _faults() -> dict[Reply, str]:
    """Give the rules of all faults of the protocol: each is named after its kind."""
    return {
        fault.reply: f"{PROTOCOL}{fault.kind}"
        for module in (commands, parameters)
        for fault in vars(module).values()
        if isinstance(fault, Fault)
    }


_BY_REPLY = {**_faults(), **_REPLIES}
_IN_TEXT = (  # of replies that say more than a constant can
    (" banned, ban ", "ban"),
    (authors.NOT_YOURS, "submission.sender"),
    (" cannot be read: ", "submission.authors"),
)


def find_rule(reply: Reply) -> str:
    """Name the rule behind a reply of the server."""
    rule = _BY_REPLY.get(reply)
    if rule is not None:
        return rule
    return next((rule for text, rule in _IN_TEXT if text in reply.text), UNNAMED)
