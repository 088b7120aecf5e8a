"""A plugin that lets in or turns away as its clients want: "ACTION.start", "ACTION.end" log in.

Who connects from 127.2.X.N is done to, once TLS is up, what stands at N in `ACTIONS`. It logs all
that it is told, but of a password no more than its length.
"""

from elemta.plugins import AuthContext, ConnectionContext, Metadata, Plugin, Result, Settings

ACTIONS = ("continue", "accept", "reject", "defer", "discard", "quarantine")
RESULTS = {
    "accept": Result.accept(note="as asked"),
    "reject": Result.reject("Not you", note="as asked"),
    "defer": Result.defer("Not now", note="as asked"),
    "discard": Result.discard(note="as asked"),
    "quarantine": Result.quarantine(note="as asked"),
}


class Doorman(Plugin[Settings]):
    metadata = Metadata(name="doorman")

    def on_connect(self, ctx: ConnectionContext) -> None:
        self.tell(ctx, "connection_opened - - 0")

    def on_starttls(self, ctx: ConnectionContext) -> Result | None:
        self.tell(ctx, "connection_upgraded - - 0")
        network, _, number = ctx.session.client_ip.rpartition(".")
        return RESULTS.get(ACTIONS[int(number)]) if network.startswith("127.2.") else None

    def on_auth_start(self, ctx: AuthContext) -> Result | None:
        return self.judge(ctx, "auth_started", ".start")

    def on_auth(self, ctx: AuthContext) -> Result | None:
        return self.judge(ctx, "auth_completed" if ctx.authenticated else "auth_failed", ".end")

    def judge(self, ctx: AuthContext, event: str, when: str) -> Result | None:
        self.tell(ctx, f"{event} {ctx.username} {ctx.mechanism} {len(ctx.password)}")
        action, dot, rest = ctx.username.partition(".")
        return RESULTS.get(action) if f"{dot}{rest}" == when else None

    def tell(self, ctx: ConnectionContext, what: str) -> None:
        session = ctx.session
        text = f"{session.client_ip} {what} {session.tls_version or '-'} {session.helo or '-'}"
        ctx.log.info(text)
