"""A record in plain words."""

from collections.abc import Iterator

from elemta.mail.reply import clean_text
from elemta.mail.why import Why
from elemta.server.rules import RULES

OUTCOMES = {
    "accept": "accepted",
    "reject": "refused for good",
    "defer": "refused for now",
    "discard": "thrown away",
    "quarantine": "put into quarantine",
    "hold": "held",
    "redirect": "sent elsewhere",
    "bounce": "taken, and then returned to the sender,",
}
STAGES = {
    "connect": "as the client connected",
    "helo": "at its greeting",
    "tls": "as TLS began",
    "starttls": "at STARTTLS",
    "auth": "at its login",
    "mail": "at MAIL",
    "rcpt": "at RCPT",
    "data": "at DATA",
    "message": "at the end of the message",
    "command": "at a command",
    "expand": "at EXPN",
    "session": "while nothing was asked",
    "delivery": "on its way out",
    "queue": "in the queue",
}
MAX_LINE = 2000


def summarise(why: Why) -> str:
    """Say in one sentence what was decided, and why."""
    ruling = why.ruling
    subject = "The message was" if why.mail.queue_id else "The client was"
    if ruling.stage in {"mail", "rcpt"}:
        subject = {"mail": "The sender was", "rcpt": "The recipient was"}[ruling.stage]
    words = [subject, OUTCOMES.get(ruling.outcome, ruling.outcome)]
    if ruling.outcome != "accept":
        words.append(STAGES.get(ruling.stage, f"at a broken command ({ruling.stage})"))
    if ruling.plugin:
        words.append(f"because the plugin {ruling.plugin} decided so")
        if ruling.note:
            words.append(f"({ruling.note})")
    elif ruling.rule:
        words.append(f"because {RULES.get(ruling.rule, ruling.rule)}")
    elif ruling.outcome == "accept":
        words.append("because nothing was against it")
    elif ruling.note:
        words.append(f"because {ruling.note}")
    return clean_text(" ".join(words) + ".", MAX_LINE)


def explain(why: Why) -> Iterator[str]:
    """Give all that a record says: lines of text, the sentence first."""
    yield summarise(why)
    for name, text in _facts(why):
        if text:
            yield clean_text(f"  {name}: {text}", MAX_LINE)
    for each in why.heard:
        note = f" ({each.note})" if each.note else ""
        line = f"  {each.plugin} said {each.action} in {each.hook}, {each.ms:g} ms{note}"
        yield clean_text(line, MAX_LINE)


def _facts(why: Why) -> Iterator[tuple[str, str]]:
    who, mail, ruling = why.who, why.mail, why.ruling
    yield "id", why.id
    if why.count > 1:
        others = f", also in {', '.join(why.sessions)}" if why.sessions else ""
        yield "times", f"{why.count} within a second{others}"
    yield "reply", ruling.reply
    yield "rule", ruling.rule
    yield "detail", "" if ruling.plugin else ruling.note
    yield "session", who.session_id
    yield "client", who.address + (f", called itself {who.helo}" if who.helo else "")
    yield "listener", " ".join(each for each in (who.listener, who.protocol, who.tls) if each)
    yield "login", who.login
    yield "from", mail.sender or ("<>" if mail.recipients else "")
    yield "to", ", ".join(mail.recipients)
    yield "queue id", mail.queue_id
    yield "message-id", mail.message_id
    yield "size", f"{mail.size} octets" if mail.size else ""
    yield "took", f"{why.ms:g} ms" if why.ms else ""
    yield "authentication", why.authentication
    yield "notes", ", ".join(f"{name}={value}" for name, value in why.notes.items())
