"""What one client may do: how many connections, how many messages in how long, and so on.

A limit that is off costs one truth test; one that is on one operation on a table of the node.
Clients of exempt networks are bound only by the number of all connections.
"""

from dataclasses import dataclass

from elemta.mail import events as ev
from elemta.mail.clock import Clock
from elemta.mail.rate import Rate
from elemta.mail.reply import Reply
from elemta.server.limits.counters import Counters
from elemta.server.limits.scope import Scope
from elemta.server.limits.settings import LimitSettings

CONNECTIONS = Reply(421, "Too many connections, try again later", "4.7.0")
CONNECTIONS_HERE = Reply(421, "Too many connections from your address, try again later", "4.7.0")
CONNECTIONS_NEAR = Reply(421, "Too many connections from your network, try again later", "4.7.0")
HANDSHAKES = Reply(454, "Too many TLS handshakes from your address, try again later", "4.7.0")
MESSAGES = Reply(450, "Too many messages from your address, try again later", "4.7.1")
RECIPIENTS = Reply(452, "Too many recipients from your address, try again later", "4.5.3")
LOGINS = Reply(421, "Too many logins from your address, try again later", "4.7.0")
ERRORS = Reply(421, "Too many errors from your address, try again later", "4.7.0")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a client has to wait: what it is told, and the name of the limit."""

    reply: Reply
    limit: str


class Guard:
    """The limits of one kind of listener, in one worker."""

    def __init__(
        self,
        listener: str,
        settings: LimitSettings,
        scope: Scope,
        counters: Counters,
        clock: Clock,
        emit: ev.Emit,
    ) -> None:
        """Begin; `listener` is the kind."""
        self._listener = listener
        self._settings = settings
        self._scope = scope
        self._rates = counters.rates
        self._holds = counters.holds
        self._worker = counters.worker
        self._clock = clock
        self._emit = emit
        self._told = ("", "")

    def is_exempt(self, address: str) -> bool:
        """Whether a client is bound by nothing but the number of all connections."""
        return self._scope.is_exempt(address)

    # ---- connections

    def admit(self, address: str) -> Refusal | tuple[str, ...]:
        """Let a connection in, or say why not.

        Returns:
            A refusal, or what `leave` wants when the connection ends.
        """
        settings = self._settings
        held: list[str] = []
        if settings.connections and not self._hold(
            f"all {self._listener}", settings.connections, held
        ):
            return Refusal(CONNECTIONS, "connections")
        found = self.admit_client(address)
        if isinstance(found, Refusal):
            self.leave(held)
            return found
        return (*held, *found)

    def admit_client(self, address: str) -> Refusal | tuple[str, ...]:
        """As `admit`, where the connection itself counts already: a proxy says whose it is."""
        if self._scope.is_exempt(address):
            return ()
        held: list[str] = []
        refusal = self._find_crowd(address, held) or self._find_rush(address)
        if refusal is None:
            return tuple(held)
        self.leave(held)
        return refusal

    def leave(self, held: list[str] | tuple[str, ...]) -> None:
        """A connection has ended."""
        for key in held:
            self._holds.release(key, self._worker)

    def _hold(self, key: str, most: int, held: list[str]) -> bool:
        if not self._holds.hold(key, self._worker, most):
            return False
        held.append(key)
        return True

    def _find_crowd(self, address: str, held: list[str]) -> Refusal | None:
        settings, kind = self._settings, self._listener
        most = settings.connections_per_address
        if most and not self._hold(f"{kind} {address}", most, held):
            return Refusal(CONNECTIONS_HERE, "connections_per_address")
        most = settings.connections_per_network
        if most and not self._hold(f"{kind} {self._scope.network(address)}", most, held):
            return Refusal(CONNECTIONS_NEAR, "connections_per_network")
        return None

    def _find_rush(self, address: str) -> Refusal | None:
        settings = self._settings
        rate = settings.connection_rate
        if rate is not None and self._is_over(f"c {address}", rate):
            return Refusal(CONNECTIONS_HERE, "connection_rate")
        rate = settings.connection_rate_per_network
        if rate is not None and self._is_over(f"c {self._scope.network(address)}", rate):
            return Refusal(CONNECTIONS_NEAR, "connection_rate_per_network")
        return None

    # ---- what a session does

    def handshake(self, address: str) -> Reply | None:
        """Why a client may not begin TLS now."""
        rate = self._settings.handshake_rate
        return self._refuse("handshake_rate", address, rate, HANDSHAKES)

    def message(self, address: str) -> Reply | None:
        """Why a client may not begin another message now."""
        rate = self._settings.message_rate
        return self._refuse("message_rate", address, rate, MESSAGES)

    def recipient(self, address: str) -> Reply | None:
        """Why a client may not name another recipient now."""
        rate = self._settings.recipient_rate
        return self._refuse("recipient_rate", address, rate, RECIPIENTS)

    def login(self, address: str) -> Reply | None:
        """Why a client may not try to log in now."""
        rate = self._settings.auth_rate
        return self._refuse("auth_rate", address, rate, LOGINS)

    def error(self, address: str) -> Reply | None:
        """Why a client that has made an error has to go."""
        rate = self._settings.error_rate
        return self._refuse("error_rate", address, rate, ERRORS)

    def delay(self, address: str, errors: int) -> float:
        """Seconds to wait before the answer to an error, the first of a session being 1."""
        settings = self._settings
        beyond = errors - settings.error_delay_after
        if beyond <= 0 or not settings.error_delay or self._scope.is_exempt(address):
            return 0.0
        return min(settings.error_delay * beyond, settings.max_error_delay)

    def _refuse(self, limit: str, address: str, rate: Rate | None, reply: Reply) -> Reply | None:
        if rate is None or self._scope.is_exempt(address):
            return None
        if not self._is_over(f"{limit} {address}", rate):
            return None
        return reply

    def tell(self, session_id: str, address: str, limit: str, told: Reply) -> None:
        """Write into the log that a client was refused for a limit; one that goes on fills none."""
        if (session_id, limit) != self._told:
            self._told = session_id, limit
            words = str(Reply(told.code, told.text, told.enhanced))
            self._emit(ev.LimitReached(session_id, address, self._listener, limit, words, told.id))

    def _is_over(self, key: str, rate: Rate) -> bool:
        key = f"{self._listener} {key}"
        return self._rates.take(key, 1.0, rate, self._clock.monotonic()) > 0.0
