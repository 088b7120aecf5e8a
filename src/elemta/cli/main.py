"""The `elemta` command and its subcommands, each in a module that is read when it is called.

Nothing is imported before it is known what is wanted: `elemta version` and `elemta --help`
answer at once, and a script that calls `elemta queue` a thousand times pays for the queue only.
"""

import gc
import importlib
import sys
from pathlib import Path
from typing import cast

import click

GARBAGE_THRESHOLD = 50_000  # allocations between collections: imports make no garbage
EXIT_CODES = "Exit status: 0 all is well, 1 a problem was found, 2 wrong usage, 75 try again later."


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def __init__(self, *, places: dict[str, tuple[str, str]], name: str, help: str) -> None:  # noqa: A002 - click's word
        """Take for each command where it is ("module:name") and what it does."""
        super().__init__(name=name, help=help, epilog=EXIT_CODES, no_args_is_help=True)
        self.places = places

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's interface
        return list(self.places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in self.places:
            return None
        module, _, attribute = self.places[cmd_name][0].partition(":")
        return cast("click.Command", getattr(importlib.import_module(module), attribute))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.places.items()])


cli = LazyGroup(
    name="elemta",
    help="Elemta, a mail transfer agent.",
    places={
        "serve": ("elemta.cli.serve:serve", "Run the server in the foreground."),
        "reload": (
            "elemta.cli.generations:reload",
            "Have the server read its configuration again.",
        ),
        "restart": ("elemta.cli.generations:restart", "Replace the server; no client notices."),
        "check": ("elemta.cli.check:check", "Tell all that is wrong with a configuration."),
        "send": ("elemta.cli.send:send", "Send a message to a server by SMTP."),
        "sendmail": ("elemta.cli.sendmail:sendmail", "Do what sendmail(1) does."),
        "queue": ("elemta.cli.main:queue", "Look into the queue and give it orders."),
        "plugins": (
            "elemta.cli.main:plugins",
            "Look at plugins, try them, give them orders.",
        ),
        "quarantine": (
            "elemta.cli.main:quarantine",
            "Look at mail that was set aside, let it go.",
        ),
        "user": ("elemta.cli.main:user", "Say who may log in."),
        "submission": ("elemta.cli.main:submission", "Look at locked logins, release them."),
        "bans": ("elemta.cli.main:bans", "Look at bans, lift them, give more."),
        "limits": ("elemta.cli.main:limits", "See what is used of rate limits, reset them."),
        "auth-check": (
            "elemta.cli.auth_check:auth_check",
            "Judge a stored message by SPF, DKIM, ARC and DMARC.",
        ),
        "why": ("elemta.cli.why:why", "Tell why mail was taken or refused."),
        "dkim": ("elemta.cli.main:dkim", "Make keys to sign mail with, and change them."),
        "dmarc": ("elemta.cli.main:dmarc", "Look at reports to other domains, send them."),
        "reputation": (
            "elemta.cli.main:reputation",
            "See what is known of somebody, count complaints.",
        ),
        "rules": ("elemta.cli.main:rules", "Try rules on cases, see what they do."),
        "scanners": ("elemta.cli.main:scanners", "Try the servers that scan mail."),
        "tls": ("elemta.cli.main:tls", "Make a certificate, look at TLS."),
        "dns": ("elemta.cli.main:dns", "Look at name servers, ask them, forget what they said."),
        "test-plugin": ("elemta.cli.plugins_try:test_plugin", "The same as `elemta plugins test`."),
        "version": ("elemta.cli.version:version", "Show the version."),
    },
)

queue = LazyGroup(
    name="queue",
    help="Look into the queue and give it orders, whether the server runs or not.",
    places={
        "list": ("elemta.cli.queue_read:list_messages", "List messages, one line a recipient."),
        "show": ("elemta.cli.queue_read:show", "Show all that is known of a message."),
        "stats": ("elemta.cli.queue_read:stats", "Show the queue in figures."),
        "retry": ("elemta.cli.queue_orders:retry", "Try messages again at once."),
        "hold": ("elemta.cli.queue_orders:hold", "Keep messages until they are released."),
        "release": ("elemta.cli.queue_orders:release", "Let held messages go on."),
        "delete": ("elemta.cli.queue_orders:delete", "Remove messages for good."),
    },
)


tls = LazyGroup(
    name="tls",
    help="Make a certificate to begin with, and look at what TLS comes to.",
    places={
        "selfsigned": ("elemta.cli.tls_selfsigned:selfsigned", "Make a certificate and a key."),
        "status": ("elemta.cli.tls_status:status", "Show certificates, handshakes, failures."),
    },
)

scanners = LazyGroup(
    name="scanners",
    help="Try the servers that scan mail for viruses and spam.",
    places={
        "test": ("elemta.cli.scanners:test", "Show each what it must object to."),
    },
)

dkim = LazyGroup(
    name="dkim",
    help="Make keys to sign mail with, see to their records in the DNS, and change them.",
    places={
        "generate": ("elemta.cli.dkim_keys:generate", "Make the first key of a domain."),
        "show": ("elemta.cli.dkim_read:show", "Show keys and the records they need."),
        "check": ("elemta.cli.dkim_read:check", "Ask the DNS whether it shows the keys."),
        "rotate": ("elemta.cli.dkim_keys:rotate", "Put a new key in place of an old one."),
    },
)

dmarc = LazyGroup(
    name="dmarc",
    help="Look at what is reported to other domains on mail in their name, and send it.",
    places={
        "reports": ("elemta.cli.dmarc_reports:reports", "List what has been seen, by domain."),
        "send": ("elemta.cli.dmarc_send:send", "Send reports now, or write them into a folder."),
    },
)

rules = LazyGroup(
    name="rules",
    help="Try the rules of the operator, and see what they do in a server that runs.",
    places={
        "test": ("elemta.cli.rules:test", "Run the cases of the rules."),
        "show": ("elemta.cli.rules:show", "List rules and lists, and how often they hit."),
    },
)

plugins = LazyGroup(
    name="plugins",
    help="Look at plugins, try them, and give orders about them to the server that runs.",
    places={
        "list": ("elemta.cli.plugins_read:list_plugins", "List plugins in their order."),
        "info": ("elemta.cli.plugins_read:info", "Show all that is known of a plugin."),
        "config": ("elemta.cli.plugins_read:config", "Show how a plugin is set."),
        "order": ("elemta.cli.plugins_read:order", "Show which plugins each hook asks."),
        "new": ("elemta.cli.plugins_new:new", "Write a plugin and its test."),
        "test": ("elemta.cli.plugins_try:test", "Set a plugin up, and ask it in all its hooks."),
        "enable": ("elemta.cli.plugins_orders:enable", "Have a plugin asked."),
        "disable": ("elemta.cli.plugins_orders:disable", "Have a plugin asked no more."),
        "reload": ("elemta.cli.plugins_orders:reload", "Load a plugin again, or all of them."),
        "memory": ("elemta.cli.plugins_orders:memory", "Have a plugin tell what memory it takes."),
        "metrics": ("elemta.cli.plugins_watch:metrics", "Show the figures of plugins."),
        "logs": ("elemta.cli.plugins_watch:logs", "Show what a plugin has said."),
        "header": ("elemta.cli.plugins_read:header", "Print the path of the C header."),
    },
)


user = LazyGroup(
    name="user",
    help="Say who may log in, whether the server runs or not; it knows at the next login.",
    places={
        "add": ("elemta.cli.user_orders:add", "Add an account."),
        "list": ("elemta.cli.user_read:list_accounts", "List accounts by name."),
        "show": ("elemta.cli.user_read:show", "Show all that is known of an account."),
        "change": ("elemta.cli.user_orders:change", "Change what an account may."),
        "remove": ("elemta.cli.user_orders:remove", "Remove an account."),
        "password": ("elemta.cli.user_orders:password", "Set another password."),
        "lock": ("elemta.cli.user_orders:lock", "Let nobody log in with an account."),
        "unlock": ("elemta.cli.user_orders:unlock", "Let an account be used again."),
        "app-password": (
            "elemta.cli.main:user_app_password",
            "Secrets of single programs and devices.",
        ),
    },
)

user_app_password = LazyGroup(
    name="app-password",
    help="Secrets of single programs and devices, which can be revoked one by one.",
    places={
        "add": ("elemta.cli.user_app_passwords:add", "Make an app password."),
        "list": ("elemta.cli.user_app_passwords:list_app_passwords", "List app passwords."),
        "revoke": ("elemta.cli.user_app_passwords:revoke", "Remove an app password."),
    },
)

quarantine = LazyGroup(
    name="quarantine",
    help="Look at mail that plugins have set aside, let it go, or remove it.",
    places={
        "list": ("elemta.cli.quarantine:list_quarantine", "List messages, one line each."),
        "show": ("elemta.cli.quarantine:show", "Show why one is there, and its text, safely."),
        "release": ("elemta.cli.quarantine:release", "Let messages go on."),
        "delete": ("elemta.cli.quarantine:delete", "Remove messages for good."),
        "report": ("elemta.cli.quarantine_report:report", "Have a scanner learn from one."),
        "audit": ("elemta.cli.quarantine:show_audit", "Show who has looked at what."),
    },
)

submission = LazyGroup(
    name="submission",
    help="Look at logins that may send no mail for now, and release them.",
    places={
        "list": ("elemta.cli.submission:list_locks", "List logins that are or were locked."),
        "release": ("elemta.cli.submission:release", "Let a login send again, and its mail go on."),
    },
)

dns = LazyGroup(
    name="dns",
    help="Look at name servers, ask them, and forget what they said.",
    places={
        "check": ("elemta.cli.dns_read:check", "See what each name server can do."),
        "query": ("elemta.cli.dns_read:query", "Look a name up as the server does."),
        "flush": ("elemta.cli.dns_orders:flush", "Have the server forget what the DNS said."),
    },
)

limits = LazyGroup(
    name="limits",
    help="See what is used of rate limits in a server that runs, and reset them.",
    places={
        "show": ("elemta.cli.limits:show", "List limits, and what is used of a key."),
        "reset": ("elemta.cli.limits:reset", "Take it that nothing has been used of a key."),
    },
)

reputation = LazyGroup(
    name="reputation",
    help="See what a server that runs knows of clients, networks, domains and logins.",
    places={
        "show": ("elemta.cli.reputation:show", "Show scores, and how they come about."),
        "complain": ("elemta.cli.reputation:complain", "Count a complaint against somebody."),
    },
)

bans = LazyGroup(
    name="bans",
    help="Look at bans, lift them, give more, whether the server runs or not.",
    places={
        "list": ("elemta.cli.bans:list_bans", "List bans, the latest first."),
        "show": ("elemta.cli.bans:show", "Show a ban and the events that caused it."),
        "lift": ("elemta.cli.bans:lift", "End bans."),
        "add": ("elemta.cli.bans:add", "Ban an address, a network or a login."),
    },
)


def main() -> None:
    """Run the command line, and end the process with its exit status.

    Under the name of "sendmail" it is that, for programs which look for it.
    """
    gc.set_threshold(GARBAGE_THRESHOLD, 20, 20)
    if Path(sys.argv[0]).name == "sendmail":
        sys.argv.insert(1, "sendmail")
    cli(prog_name="elemta")
