"""Which clients are checked, and how one of them does."""

from typing import TYPE_CHECKING

from elemta.mail import events as ev
from elemta.net.addresses import lies_in, membership, network_of
from elemta.server.pregreet.checks import KINDS, REFUSED, Action, Check
from elemta.server.pregreet.passes import Register
from elemta.server.pregreet.settings import PregreetSettings

if TYPE_CHECKING:
    from elemta.mail.reply import Reply


class Screen:
    """The checks of one listener, in one worker."""

    def __init__(
        self, settings: PregreetSettings, register: Register, listener: str, emit: ev.Emit
    ) -> None:
        """Begin; `listener` is its kind, for the log."""
        self.settings = settings
        self._register = register
        self._listener = listener
        self._emit = emit
        actions = settings.actions
        self._checks = tuple(each for each in Check if actions[each] is not Action.OFF)
        self._is_exempt = membership(settings.exempt)

    def concerns(self, address: str) -> bool:
        """Whether a client has something to pass still, or speaks for others that may have.

        Args:
            address: The client's; "" for a unix socket.
        """
        if not address:
            return False
        if self._speaks_for_others(address):
            return True
        if self._is_exempt(address):
            return False
        return not self._register.has_passed(self._client(address), self._checks)

    def begin(
        self, address: str, session_id: str, *, is_greeted: bool = False
    ) -> "Screening | None":
        """Begin to check a client; None where there is nothing to check.

        Args:
            address: As for `concerns`.
            session_id: For the log.
            is_greeted: The banner has been said, to somebody else.
        """
        if not address or self._is_exempt(address) or self._speaks_for_others(address):
            return None
        due = self._register.find_due(self._client(address), self._checks)
        if is_greeted:
            due.discard(Check.EARLY_TALKER)
        return Screening(self, address, session_id, due) if due else None

    def passed(self, address: str, session_id: str, checks: set[Check]) -> None:
        """Take note that a client has passed some checks."""
        keep, passed = self.settings.keep, sorted(checks)
        self._register.grant(self._client(address), {each: keep[each] for each in passed})
        for each in passed:
            self._emit(ev.ClientChecked(session_id, address, self._listener, each.value, "passed"))

    def failed(self, address: str, session_id: str, check: Check, detail: str) -> Action:
        """Take note that a client has failed a check; says what becomes of it."""
        action = self.settings.actions[check]
        words = (self._listener, check.value, action.value, detail)
        self._emit(ev.ClientChecked(session_id, address, *words))
        if action is not Action.IGNORE:
            self._register.revoke(self._client(address))
            self._emit(ev.SecurityEvent(KINDS[check], detail, session_id, address))
        return action

    def _speaks_for_others(self, address: str) -> bool:
        proxies = self.settings.proxies
        return bool(proxies) and lies_in(address, proxies)

    def _client(self, address: str) -> str:
        settings = self.settings
        if settings.ipv4_prefix == 32 and ":" not in address:
            return address
        return network_of(address, settings.ipv4_prefix, settings.ipv6_prefix)


class Screening:
    """How one client does in one session.

    Attributes:
        refusal: The answer to each RCPT; None where mail may be taken.
        has_listened: The banner was held back.
        has_named: The client has named a recipient, so that the session was about mail.
    """

    __slots__ = (
        "_address",
        "_due",
        "_screen",
        "_session_id",
        "has_listened",
        "has_named",
        "refusal",
    )

    def __init__(self, screen: Screen, address: str, session_id: str, due: set[Check]) -> None:
        self._screen = screen
        self._address = address
        self._session_id = session_id
        self._due = due
        self.refusal: Reply | None = None
        self.has_listened = False
        self.has_named = False

    def is_due(self, check: Check) -> bool:
        """Whether the client has still to pass a check."""
        return check in self._due

    def action_for(self, check: Check) -> Action:
        """Say what becomes of the client if it fails now."""
        return self._screen.settings.actions[check] if check in self._due else Action.OFF

    def wait(self, *, is_stressed: bool) -> float:
        """Say for how many seconds the end of the banner is held back."""
        settings = self._screen.settings
        return settings.stressed_wait if is_stressed else settings.wait

    @property
    def teases(self) -> bool:
        """Whether the banner begins at once."""
        return self._screen.settings.teases

    def succeed(self, *checks: Check) -> None:
        """The client has passed some checks, or all that are left."""
        passed = self._due & set(checks or self._due)
        self._due -= passed
        if passed and self.refusal is None:
            self._screen.passed(self._address, self._session_id, passed)

    def fail(self, check: Check, detail: str) -> Action:
        """The client has failed a check: what becomes of it; OFF where it was not to be checked.

        Args:
            check: Which.
            detail: What it has done, for the log.
        """
        if check not in self._due:
            return Action.OFF
        self._due.discard(check)
        action = self._screen.failed(self._address, self._session_id, check, detail)
        if action is not Action.IGNORE and self.refusal is None:
            self.refusal = REFUSED[check]
        return action
