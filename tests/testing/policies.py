"""Plugins to put on benches."""

from typing import Any

from elemta.plugins import (
    Action,
    AddHeader,
    EnvelopeContext,
    HelloContext,
    MessageContext,
    Metadata,
    OutcomeContext,
    Plugin,
    RecipientContext,
    Result,
    Settings,
)


class Limits(Settings):
    recipients: int = 2
    helo: str = "bad.example.test"


class Policy(Plugin[Limits]):
    """A bit of everything."""

    metadata = Metadata(name="policy", version="1.0.0")
    Settings = Limits

    async def setup(self) -> None:
        self.life = ["setup"]

    async def enable(self) -> None:
        self.life.append("enable")

    async def disable(self) -> None:
        self.life.append("disable")

    async def close(self) -> None:
        self.life.append("close")

    def on_connect(self, ctx: Any) -> Result | None:
        ctx.log.info(f"{ctx.session.client_ip} connects")  # noqa: G004 - it is no logger
        ctx.metrics.count("connections", ip=ctx.session.client_ip)
        ctx.metrics.observe("hour", ctx.clock.now() // 3600 % 24)
        return None

    def on_helo(self, ctx: HelloContext) -> Result | None:
        return Result.reject("Not you", note="bad name") if ctx.name == self.settings.helo else None

    async def on_mail_from(self, ctx: EnvelopeContext) -> Result | None:
        count = await ctx.kv.increment(f"mail {ctx.sender}", ttl=60)
        return Result.defer("Slow down") if count > 2 else None

    def on_rcpt_to(self, ctx: RecipientContext) -> Result | None:
        if ctx.is_relaying and ctx.session.username == "admin":
            return Result.accept()
        if len(ctx.recipients) >= self.settings.recipients:
            return Result.reject("Too many")
        return None

    async def on_data(self, ctx: MessageContext) -> Result | None:
        if b"spam" in await ctx.read():
            return Result.quarantine(note="spam", edits=(AddHeader("X-Spam", "yes"),))
        return Result.modify(AddHeader("X-Subject", ctx.headers.get("Subject") or ""))

    def on_deferred(self, ctx: OutcomeContext) -> Result | None:
        return Result.retry_after(60 * ctx.attempts)

    def on_bounced(self, ctx: OutcomeContext) -> Result:
        assert ctx.reply.is_permanent
        return Result.silence()


class Broken(Plugin[Settings]):
    """Does not work."""

    metadata = Metadata(name="broken")

    def on_connect(self, _ctx: Any) -> Result | None:
        raise KeyError("oops")


__all__ = ["Action", "Broken", "Policy"]
