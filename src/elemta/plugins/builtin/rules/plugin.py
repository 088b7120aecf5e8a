"""Rules and lists as a plugin: asked in seven hooks, and looked after while the server runs."""

import asyncio
import contextlib
import json
from collections.abc import Mapping
from typing import ClassVar

from pydantic import BaseModel

from elemta.mail.errors import PluginError
from elemta.net.tasks import spawn
from elemta.plugins import (
    ConfigContext,
    ConnectionContext,
    EnvelopeContext,
    HelloContext,
    MessageContext,
    Metadata,
    Plugin,
    RecipientContext,
    Result,
)
from elemta.plugins.builtin.rules.expressions.facts import Moment
from elemta.plugins.builtin.rules.feeds import Feeds
from elemta.plugins.builtin.rules.loading import Reader, Stamp
from elemta.plugins.builtin.rules.rule import Rule
from elemta.plugins.builtin.rules.ruleset import Ruleset
from elemta.plugins.builtin.rules.settings import RulesSettings
from elemta.plugins.builtin.rules.specs import check_specs

MOST_USED = 20  # entries of a list that an operator is told of


class Rules(Plugin[RulesSettings]):
    """Asks the rules."""

    metadata = Metadata(
        name="rules",
        version="1.0.0",
        description="Rules and lists: what is accepted, refused, tagged, sent elsewhere",
        after=(
            "geoip",
            "iprev",
            "spf",
            "dkim",
            "arc",
            "dmarc",
            "reputation",
            "dnsbl",
            "attachments",
            "content",
            "clamav",
            "rspamd",
            "spamassassin",
            "milter",
        ),
        only_in_worker=True,
    )
    Settings: ClassVar[type[BaseModel]] = RulesSettings

    async def setup(self) -> None:
        """Read everything, and run the cases."""
        self._reader = Reader(self.settings, self.tools.state_dir)
        self._working: asyncio.Task[None] | None = None
        self._reading = asyncio.Lock()
        self._seen: Stamp = ()
        self._told = ""
        self._hits: dict[str, int] = {}  # of rules by name, since the plugin was loaded
        await self._read()
        self._feeds = Feeds(self.tools)

    async def self_check(self) -> None:
        """Run the cases once more: before these rules replace others."""
        await asyncio.to_thread(self._check, self._rules)

    async def enable(self) -> None:
        """Begin to look after files and lists that are fetched."""
        if self._working is None:
            self._working = spawn(self._work(), "rules")

    async def disable(self) -> None:
        """Stop that."""
        working, self._working = self._working, None
        if working is not None:
            working.cancel()
            await asyncio.wait([working])

    async def on_config_changed(self, ctx: ConfigContext) -> Result | None:
        """Read everything again; what is wrong keeps the new configuration from being taken.

        Where settings of plugins have changed, other files may count from now on: then another
        plugin takes the place of this one, or this one looks soon.
        """
        if any(name.partition(".")[0] == "plugins" for name in ctx.changed):
            return None
        try:
            await self._read()
        except PluginError as error:
            return Result.reject(note=str(error))
        return None

    def on_connect(self, ctx: ConnectionContext) -> Result | None:
        """A client connects."""
        return self._rules.ask(Moment.CONNECT, ctx, self.tools.clock.now(), self._count)

    def on_helo(self, ctx: HelloContext) -> Result | None:
        """It says its name."""
        return self._rules.ask(Moment.HELO, ctx, self.tools.clock.now(), self._count)

    def on_mail_from(self, ctx: EnvelopeContext) -> Result | None:
        """A message begins."""
        return self._rules.ask(Moment.MAIL, ctx, self.tools.clock.now(), self._count)

    def on_rcpt_to(self, ctx: RecipientContext) -> Result | None:
        """A recipient."""
        return self._rules.ask(Moment.RCPT, ctx, self.tools.clock.now(), self._count)

    def on_headers(self, ctx: MessageContext) -> Result | None:
        """Its header section is here."""
        return self._rules.ask(Moment.HEADERS, ctx, self.tools.clock.now(), self._count)

    def on_validated(self, ctx: MessageContext) -> Result | None:
        """All of it is here, and all is known of its origin."""
        return self._rules.ask(Moment.DATA, ctx, self.tools.clock.now(), self._count)

    def on_filter(self, ctx: MessageContext) -> Result | None:
        """What looks at its content has been asked."""
        return self._rules.ask(Moment.FILTER, ctx, self.tools.clock.now(), self._count)

    async def look(self) -> None:
        """Fetch lists that are due, and read files that have changed.

        What cannot be used is told once, and the rules stay as they were.
        """
        await self._feeds.fetch_due(self._reader.feeds)
        stamp = await asyncio.to_thread(self._reader.stamp)
        if stamp == self._seen:
            return
        try:
            await self._read()
        except PluginError as error:
            self._seen = stamp
            if str(error) != self._told:
                self._told = str(error)
                tell = self.tools.log.error
                tell(f"the rules stay as they were: {error}")
                self.tools.metrics.count("reloads", result="failed")
        else:
            self._told = ""
            tell = self.tools.log.info
            tell(f"{len(self._rules.rules)} rules have been read again")
            self.tools.metrics.count("reloads", result="done")

    async def answer_operator(self, words: Mapping[str, str]) -> str:
        """Tell of rules and lists, and how often each was true or has found something; JSON.

        Args:
            words: "list" may name one, of which the entries are told that are found most often.

        Raises:
            PluginError: There is no such list.
        """
        wanted, ruleset = words.get("list", ""), self._rules
        if wanted and wanted not in ruleset.lists:
            raise PluginError(f"there is no list {wanted}")
        lists = [
            {
                "list": each.name,
                "kind": each.kind.value,
                "entries": each.size,
                "unread": len(each.problems),
                "hits": each.hits,
                "most_used": each.most_used(MOST_USED) if wanted else [],
            }
            for each in ruleset.lists.values()
            if wanted in {"", each.name}
        ]
        rules = [
            {"rule": each.name, "place": each.place, "hits": self._hits.get(each.name, 0)}
            for each in (*ruleset.acting, *ruleset.rules)
        ]
        return json.dumps({"rules": [] if wanted else rules, "lists": lists})

    async def _read(self) -> None:
        """Take what there is now.

        Raises:
            RulesError: It cannot be used.
        """
        async with self._reading:
            self._rules, self._seen = await asyncio.to_thread(self._read_checked)

    def _read_checked(self) -> tuple[Ruleset, Stamp]:
        rules, stamp = self._reader.read()
        self._check(rules)
        return rules, stamp

    def _check(self, rules: Ruleset) -> None:
        check_specs(self._reader.find_specs(), rules, self.tools.clock.now())

    def _count(self, rule: Rule, note: str) -> None:
        tools, hits = self.tools, self._hits
        hits[rule.name] = hits.get(rule.name, 0) + 1
        if rule.is_observed:
            tools.metrics.count("observed", rule=rule.name)
            tell = tools.log.info
            tell(f"only observed: {note}")
        else:
            tools.metrics.count("hits", rule=rule.name)

    async def _work(self) -> None:
        while True:
            await asyncio.sleep(self.settings.watch)
            with contextlib.suppress(OSError):
                await self.look()
