"""The plugin: it tells Rspamd of a message all that is known, and does what Rspamd wants.

Leaves behind: `rspamd.action`, `rspamd.score` and `rspamd.symbols`, or `rspamd.error`, in the
metadata and the notes of a message.
"""

import hashlib
from typing import ClassVar

from pydantic import BaseModel

from elemta.mail.reply import clean_text
from elemta.net import Stream
from elemta.net.addresses import network_of
from elemta.plugins import Metadata, ReplaceHeader, ScanResult, ScanStatus
from elemta.plugins.builtin._elsewhere import Trouble
from elemta.plugins.builtin._scanning import Consequence, Finding, Mail, SpamScanner, pour
from elemta.plugins.builtin.rspamd.exchange import request
from elemta.plugins.builtin.rspamd.settings import RspamdSettings
from elemta.plugins.builtin.rspamd.verdict import Verdict, header_edits, read_verdict
from elemta.plugins.edits import Edit

MAX_RECIPIENTS = 1000  # that are told
_GREYLISTED = 86_400.0  # seconds for which it is known who was sent away
_SPAM = frozenset({"reject", "add header", "rewrite subject", "quarantine", "discard"})
_LATER, _SPAM_TEXT = "Try again later", "The message looks like spam"
_SENT = {"ip": "IP", "helo": "Helo", "host": "Hostname", "user": "User"} | {
    "tls": "TLS-Version",
    "cipher": "TLS-Cipher",
}


class Rspamd(SpamScanner[RspamdSettings]):
    """Tells spam."""

    metadata = Metadata(
        name="rspamd",
        version="1.0.0",
        description="Has Rspamd judge messages",
        after=("iprev", "spf", "dkim", "arc", "dmarc", "clamav"),
        network=("*",),
    )
    Settings: ClassVar[type[BaseModel]] = RspamdSettings

    async def scan(self, stream: Stream, mail: Mail) -> Finding:
        """POST the message with what is known of its envelope."""
        body = await request(
            stream,
            "POST",
            "/checkv2",
            self._fields(mail),
            lambda write: pour(mail, stream, write),
        )
        return await self._judge(read_verdict(body), mail)

    async def ping(self, stream: Stream) -> None:
        """GET /ping."""
        answer = await request(stream, "GET", "/ping", (("Host", "localhost"),))
        if answer.strip() != b"pong":
            raise Trouble("it does not answer to ping")

    def _fields(self, mail: Mail) -> list[tuple[str, str]]:
        fields = [
            ("Host", "localhost"),
            ("Content-Length", str(mail.size)),
            ("Queue-Id", mail.queue_id),
            ("MTA-Name", self.tools.hostname),
            ("From", mail.sender),
        ]
        fields += (("Rcpt", each) for each in mail.recipients[:MAX_RECIPIENTS])
        fields += ((_SENT[name], value) for name, value in mail.session.items() if name in _SENT)
        settings_id = self.settings.settings_id_for(mail.session.get("listener", ""))
        optional = {"Settings-ID": settings_id, "Deliver-To": self.user(mail)}
        fields += ((name, value) for name, value in optional.items() if value)
        if self.settings.password.get_secret_value():
            fields.append(("Password", self.settings.password.get_secret_value()))
        return fields

    async def _judge(self, verdict: Verdict, mail: Mail) -> Finding:
        is_spam = verdict.action in _SPAM
        score = f"{verdict.score:.2f} of {verdict.required_score:.2f}"
        symbols = verdict.name_symbols()
        self.tools.metrics.count("actions", action=_known(verdict.action))
        self.tools.metrics.observe("score", verdict.score)
        consequence, text = await self._decide(verdict, mail)
        status = ScanStatus.SPAM if is_spam else ScanStatus.CLEAN
        note = f"Rspamd: {verdict.action}, score {score}: {symbols}"
        return Finding(
            ScanResult(status, f"{verdict.action}: {symbols}", verdict.score),
            consequence,
            text,
            clean_text(note, 900),
            edits=self._edits(verdict, mail, is_spam=is_spam),
            facts={
                "rspamd.action": verdict.action,
                "rspamd.score": score,
                "rspamd.symbols": clean_text(symbols, 1000),
            },
            is_lasting=consequence != "defer",
        )

    async def _decide(self, verdict: Verdict, mail: Mail) -> tuple[Consequence, str]:
        """Give what is done, and the words for the client.

        Raises:
            Trouble: Nobody knows what Rspamd wants.
        """
        settings, words = self.settings, verdict.smtp_message
        if verdict.action == "greylist":
            return await self._greylist(mail), words or _LATER
        consequences: dict[str, Consequence] = {
            "no action": "continue",
            "reject": settings.on_reject,
            "soft reject": "defer",
            "add header": settings.on_add_header,
            "rewrite subject": settings.on_add_header,
            "quarantine": "quarantine",
            "discard": "discard",
        }
        found = consequences.get(verdict.action)
        if found is None:
            raise Trouble(f"an action that is not known: {verdict.action[:100]}")
        return found, words or (_LATER if found == "defer" else _SPAM_TEXT)

    async def _greylist(self, mail: Mail) -> Consequence:
        """Send away who has not been sent away before.

        Rspamd remembers that itself where its module for it is on, and says "soft reject" then.
        """
        if self.settings.on_greylist == "continue" or mail.is_late:
            return "continue"
        ip = mail.session.get("ip", "")
        network = network_of(ip, 24, 64) if ip else ""
        about = "\n".join((network, mail.sender, *sorted(mail.recipients)[:1])).lower()
        key = f"greylist {hashlib.sha256(about.encode()).hexdigest()}"
        now = self.tools.clock.now()
        since = await self.tools.kv.get(key)
        if since is None:
            await self.tools.kv.set(key, b"%d" % now, ttl=_GREYLISTED)
            return "defer"
        return "defer" if now < int(since) + self.settings.greylist_delay else "continue"

    def _edits(self, verdict: Verdict, mail: Mail, *, is_spam: bool) -> tuple[Edit, ...]:
        text = f"score={verdict.score:.2f} required={verdict.required_score:.2f}"
        text = clean_text(f"{text} tests=[{verdict.name_symbols()}]", 900)
        edits = list(self.mark(text, is_spam=is_spam))
        if self.settings.edit_headers:
            edits += header_edits(verdict, mail.headers, self.tools.log.warning)
            if verdict.action == "rewrite subject" and verdict.subject:
                subject = clean_text(verdict.subject, keep_unseen=True)
                edits.append(ReplaceHeader("Subject", subject))
        return tuple(edits)


def _known(action: str) -> str:
    known = _SPAM | {"no action", "soft reject", "greylist"}
    return action.replace(" ", "_") if action in known else "other"
