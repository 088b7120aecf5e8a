"""Takes connections only at certain hours, and lets some users log in only at certain hours."""

from datetime import datetime, time
from zoneinfo import ZoneInfo

from pydantic import Field

from elemta.plugins import AuthContext, ConnectionContext, Metadata, Plugin, Result, Settings


class Hours(Settings):
    """A span of the day, and the days on which it begins: 1 is Monday. "22:00" to "06:00" works."""

    start: time = time(0)
    end: time = time(0)
    days: frozenset[int] = frozenset({1, 2, 3, 4, 5, 6, 7})

    def contain(self, now: datetime) -> bool:
        """Tell whether a local time is within them; the same start and end are a whole day."""
        clock, today = now.time(), now.isoweekday()
        yesterday = (today - 2) % 7 + 1
        if self.start < self.end:
            return today in self.days and self.start <= clock < self.end
        return (today in self.days and clock >= self.start) or (
            yesterday in self.days and clock < self.end
        )


class Opening(Settings):
    """Hours in the time zone of the office: for all connections, and for users who log in."""

    timezone: ZoneInfo = ZoneInfo("UTC")
    hours: Hours = Hours()
    users: dict[str, Hours] = Field(default_factory=dict)


class BusinessHours(Plugin[Opening]):
    """Outside the hours mail waits at the sender: a 4xx loses none, a 5xx would bounce it."""

    metadata = Metadata(
        name="business-hours",
        version="1.0.0",
        description="Takes connections and logins at certain hours",
        files=("/usr/share/zoneinfo",),
    )
    Settings = Opening

    def on_connect(self, ctx: ConnectionContext) -> Result | None:
        if self.settings.hours.contain(self.local_time(ctx)):
            return None
        ctx.metrics.count("deferred_connections")
        return Result.defer("We are closed, try again in business hours", code=421)

    def on_auth(self, ctx: AuthContext) -> Result | None:
        hours = self.settings.users.get(ctx.username)
        if not ctx.authenticated or hours is None or hours.contain(self.local_time(ctx)):
            return None
        ctx.metrics.count("deferred_logins")
        return Result.defer("You cannot log in at this time", code=454, enhanced="4.7.0")

    def local_time(self, ctx: ConnectionContext) -> datetime:
        """Read the clock on the wall: of an instant there is just one, also when DST changes."""
        return datetime.fromtimestamp(ctx.clock.now(), self.settings.timezone)
