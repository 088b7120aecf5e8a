"""Looks after keys while the server runs: those that wait for the DNS, and those that have had it.

Several workers may do it at the same time: what one of them has done the others find done.
"""

import asyncio
from functools import partial

from elemta.mail.clock import Clock
from elemta.mailauth import Resolver
from elemta.plugins.builtin.dkim.keystore import Entries, KeyState, KeyStore, KeyStoreError
from elemta.plugins.builtin.dkim.publishing import look_up
from elemta.plugins.builtin.dkim.rotation import activate, observe, pending, ready, retire
from elemta.plugins.tools import PluginLog

SOON = 1.0  # seconds; a key is not late by less


class Upkeep:
    """Sees to all keys of a store.

    Args:
        store: The keys.
        dns: Whom to ask.
        clock: The time of day.
        log: Told what has been done, and what is in the way.
        retire_after: Seconds for which mail with the signature of a key may be under way.
    """

    def __init__(
        self, store: KeyStore, dns: Resolver, clock: Clock, log: PluginLog, retire_after: float
    ) -> None:
        self._store = store
        self._dns = dns
        self._clock = clock
        self._log = log
        self._retire_after = retire_after
        self._troubles: dict[str, str] = {}

    async def run(self, every: float) -> None:
        """See to them again and again, until it is cancelled; `every` so many seconds."""
        while True:
            wait = await self.see_to_all()
            await asyncio.sleep(min(every, max(wait, SOON)))

    async def see_to_all(self) -> float:
        """See to the keys of all domains; gives the seconds until something more is due."""
        try:
            domains = await asyncio.to_thread(self._store.domains)
            absence = await asyncio.to_thread(self._store.find_absence)
        except KeyStoreError as error:
            self._tell("", str(error))
            return float("inf")
        self._tell("", absence)
        waits = [float("inf")]
        for domain in domains:
            try:
                waits.append(await self._see_to(domain))
            except KeyStoreError as error:
                self._tell(domain, str(error))
            else:
                self._tell(domain, "")
        return min(waits)

    async def _see_to(self, domain: str) -> float:
        entries = await asyncio.to_thread(self._store.entries, domain)
        now = self._clock.now()
        waiting = pending(entries)
        is_done = entries == retire(entries, now, self._retire_after)
        if not waiting and is_done:
            return float("inf")
        sightings = {entry.selector: await look_up(self._dns, domain, entry) for entry in waiting}
        now = self._clock.now()

        def change(entries: Entries) -> Entries:
            seen = observe(entries, sightings, now)
            return retire(activate(seen, ready(seen, now), now), now, self._retire_after)

        if change(entries) != entries:
            after = await asyncio.to_thread(partial(self._store.edit, domain, change))
            await self._follow(domain, entries, after)
            entries = after
        waits = [each.seen_at + each.wait - now for each in pending(entries) if each.seen_at]
        return min(waits, default=float("inf"))

    async def _follow(self, domain: str, before: Entries, after: Entries) -> None:
        """Say what has become of keys, and let go of secrets that nobody needs."""
        states = {entry.selector: entry.state for entry in before}
        for entry in after:
            if entry.state is states.get(entry.selector):
                continue
            self._log.info(f"the key {entry.selector} of {domain} is {entry.state} now")
            if entry.state is KeyState.RETIRED:
                await asyncio.to_thread(self._store.destroy, domain, entry.selector)

    def _tell(self, domain: str, trouble: str) -> None:
        """Say what is in the way, once."""
        if trouble and self._troubles.get(domain) != trouble:
            self._log.error(trouble)
        self._troubles[domain] = trouble
