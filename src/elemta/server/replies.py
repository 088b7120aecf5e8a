"""What a session says by itself."""

from functools import lru_cache

from elemta.mail.reply import Reply

OK = Reply(250, "Ok", "2.0.0")
SENDER_OK = Reply(250, "Sender ok", "2.1.0")
RECIPIENT_OK = Reply(250, "Recipient ok", "2.1.5")
GO_AHEAD = Reply(354, "End data with <CR><LF>.<CR><LF>")
CHUNK_OK = Reply(250, "Chunk received", "2.0.0")
CANNOT_VERIFY = Reply(
    252, "Cannot VRFY user, but will accept message and attempt delivery", "2.0.0"
)
NO_EXPAND = Reply(502, "EXPN is not available", "5.5.1")
HELP = Reply(
    214, "See RFC 5321. Supported: EHLO HELO MAIL RCPT DATA BDAT RSET NOOP QUIT VRFY", "2.0.0"
)
BYE = Reply(221, "Bye", "2.0.0")
TIMEOUT = Reply(421, "Timeout, closing connection", "4.4.2")
SHUTDOWN = Reply(421, "Service shutting down, try again later", "4.3.2")
TOO_MANY_ERRORS = Reply(421, "Too many errors, closing connection", "4.7.0")
TOO_MANY_COMMANDS = Reply(421, "Too many commands without mail, closing connection", "4.7.0")
DEFECT = Reply(421, "Internal error, closing connection", "4.3.0")
EARLY_TALK = Reply(554, "Input before the banner, closing connection", "5.5.0")
LOGIN_FIRST = Reply(530, "Authentication required", "5.7.0")
NULL_MX = Reply(550, "The sender's domain accepts no mail", "5.7.27")


@lru_cache(64)
def banner(hostname: str, name: str) -> Reply:
    """Say who we are, and what we speak ("ESMTP"...): the same for all clients of a listener."""
    return Reply(220, f"{hostname} {name} Elemta")


@lru_cache(64)
def old_hello(hostname: str) -> Reply:
    """Answer HELO."""
    return Reply(250, hostname)


@lru_cache(256)
def hello(hostname: str, extensions: tuple[str, ...]) -> Reply:
    """Answer EHLO or LHLO; mostly all clients are offered the same."""
    return Reply(250, "\n".join((hostname, *extensions)))
