"""What plugins that know clients have left about them, for others that decide by it."""

from collections.abc import Mapping

from elemta.plugins import MessageContext, SessionInfo

REPUTATION = "reputation.score"  # names in the metadata of a session
COUNTRY = "geoip.country"
ASN = "geoip.asn"
TENANT = "tenant"
BEST = 100

_SPAM_ACTIONS = frozenset({"add header", "rewrite subject", "reject"})  # of Rspamd


def reputation_of(session: SessionInfo) -> int:
    """Give the reputation of a client, 0 to 100; 100 where nobody knows anything bad."""
    said = session.metadata.get(REPUTATION, "")
    try:
        return min(max(round(float(said[:20])), 0), BEST)
    except (ValueError, OverflowError):
        return BEST


def is_called_spam(notes: Mapping[str, str]) -> bool:
    """Whether a scanner calls a message spam, whatever was done about it then."""
    if notes.get("rspamd.action", "") in _SPAM_ACTIONS:
        return True
    score, of, threshold = notes.get("spamassassin.score", "").partition(" of ")
    try:
        return bool(of) and float(score) >= float(threshold)
    except ValueError:
        return False


def country_of(session: SessionInfo) -> str:
    """Give the country of a client ("DE"); "" where nobody knows."""
    return session.metadata.get(COUNTRY, "")


def asn_of(session: SessionInfo) -> int:
    """Give the number of the network a client is in (64496); 0 where nobody knows."""
    said = session.metadata.get(ASN, "")
    return int(said) if said.isascii() and said.isdigit() and len(said) <= 10 else 0


def tenant_of(session: SessionInfo, username: str = "") -> str:
    """Give for whom a client sends: what a plugin says, else the domain of the login; or "".

    Args:
        session: Of the client.
        username: Who logs in just now, where the session does not know yet.
    """
    said = session.metadata.get(TENANT, "")
    _, at, domain = (session.username or username).rpartition("@")
    return (said or (domain if at else "")).lower()


def forget(ctx: MessageContext, prefix: str) -> None:
    """Take back what was left about an earlier message of the session: it is not of this one.

    Args:
        ctx: The message that is here now.
        prefix: What the names begin with, such as "clamav.".
    """
    for name, value in list(ctx.metadata.items()):
        if value and name.startswith(prefix):
            ctx.set_metadata(name, "")
