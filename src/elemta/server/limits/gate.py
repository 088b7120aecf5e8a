"""All that keeps strangers in bounds at one kind of listener, as listeners and sessions see it."""

from dataclasses import dataclass

from elemta.mail.reply import Reply
from elemta.server.limits.brake import Brake
from elemta.server.limits.guard import CONNECTIONS, Guard, Refusal
from elemta.server.limits.shedding import NO_MORE_MAIL, OVERLOADED, Load, Shedding
from elemta.server.limits.tarpit import Tarpit

RESERVED_SHARE = 10  # at most a tenth of all connections is kept for those who are exempt
BUSY = Reply(454, "Too many logins are being tried, try again later", "4.7.0")


@dataclass(frozen=True, slots=True)
class Gate:
    """The limits of a kind of listener, and what all listeners of a worker share.

    Attributes:
        reserved: Connections kept free for clients that are exempt.
    """

    guard: Guard
    brake: Brake
    tarpit: Tarpit
    shedding: Shedding
    reserved: int = 0

    def admit(self, address: str, count: int, most: int) -> Refusal | tuple[str, ...]:
        """Let a connection in, or say why not: what costs least is asked first.

        Args:
            address: The client's; "" for a unix socket.
            count: Connections of this worker that are open already.
            most: How many there may be.

        Returns:
            A refusal, or what `leave` wants when the connection ends.
        """
        banned = self.brake.turn_away(address)
        if banned is not None:
            return Refusal(banned[1], "ban")
        shedding = self.shedding
        if shedding.load is Load.SHEDDING:
            return Refusal(OVERLOADED, "load")
        room = shedding.room(most)
        reserved = min(self.reserved, most // RESERVED_SHARE)
        if count >= room - reserved and not self.guard.is_exempt(address):
            is_load = count < most - reserved
            return Refusal(OVERLOADED, "load") if is_load else Refusal(CONNECTIONS, "connections")
        return self.guard.admit(address)

    def admit_client(self, address: str) -> Refusal | tuple[str, ...]:
        """As `admit`, for a client that a proxy brings through a connection which is let in."""
        banned = self.brake.turn_away(address)
        if banned is not None:
            return Refusal(banned[1], "ban")
        return self.guard.admit_client(address)

    def leave(self, held: tuple[str, ...]) -> None:
        """A connection has ended."""
        self.guard.leave(held)

    def mail(self, address: str) -> Reply | None:
        """Why a client may not begin a message now."""
        if self.shedding.load is Load.SHEDDING:
            return NO_MORE_MAIL
        return self.guard.message(address)

    async def login(self, address: str, login: str) -> Reply | None:
        """Why a client may not try to log in now; None after the wait that it has earned."""
        refusal = self.guard.login(address)
        if refusal is not None:
            return refusal
        wait = self.brake.before(address, login)
        if isinstance(wait, Reply):
            return wait
        if not wait:
            return None
        if not await self.tarpit.wait(wait):
            return BUSY
        again = self.brake.before(address, login)  # others may have failed meanwhile
        return again if isinstance(again, Reply) else None
