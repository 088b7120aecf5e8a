"""A session whose client may submit mail: logged in, or a user of this machine.

Who has logged in is bound by its addresses and its allowance, whatever the listener and wherever
it is: trusted networks make no difference to that. Listeners for submission mend messages.
"""

from collections.abc import Awaitable
from dataclasses import replace

from elemta.mail import events as ev
from elemta.mail.ids import SessionId
from elemta.net.stream import Stream
from elemta.server.client import Client
from elemta.server.secured import SecuredSession
from elemta.server.submission import Submitter
from elemta.server.submission.submitter import Origin
from elemta.server.surroundings import Surroundings
from elemta.smtp import Limits
from elemta.smtp import events as smtp


class SubmittedSession(SecuredSession):
    """A session that knows whose name its client may use."""

    __slots__ = ("_told_hidden",)

    def __init__(self, stream: Stream, session_id: SessionId, around: Surroundings) -> None:
        self._told_hidden = ""
        super().__init__(stream, session_id, around)
        users = around.door.local
        uid = stream.peer_user() if users is not None else None
        if users is not None and uid is not None:
            self._account = users.account_of(uid)
            self._login = self._account.name
            self._machine.change_offer(self._offer())

    def _limits(self) -> Limits:
        return self._settings.submission_limits if self._is_for_submission else super()._limits()

    @property
    def _is_for_submission(self) -> bool:
        return self._around.door.is_submission

    def _make_client(self) -> Client:
        client, desk = super()._make_client(), self._around.desk
        if desk is None or not (self._account is not None or self._is_for_submission):
            return client
        origin = Origin(
            self._id, self._stream.peer_ip, self._around.listener, self._is_for_submission
        )
        submitter = Submitter(desk, self._account, origin)
        self._tell_hidden(submitter.hidden_as)
        return replace(client, submitter=submitter)

    def _tell_hidden(self, hidden_as: str) -> None:
        """Write down who it is that trace headers do not name, once a login."""
        if not hidden_as or self._told_hidden == hidden_as + self._login:
            return
        self._told_hidden = hidden_as + self._login
        ip, helo = self._stream.peer_ip or "unix", self._machine.hello
        self._around.emit(ev.ClientHidden(self._id, ip, helo, self._login, hidden_as))

    def _on_mail(self, event: smtp.Mail) -> Awaitable[None] | None:
        if self._account is not None:
            client = self._client = self._client or self._make_client()
            submitter = client.submitter
            refusal = None if submitter is None else submitter.find_objection(event.sender)
            if refusal is not None:
                self._refuse("mail", refusal, mail_from=str(event.sender or ""))
                return None
        return super()._on_mail(event)
