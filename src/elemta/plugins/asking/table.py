"""All chains of one set of plugins for one kind of listener, as the server asks them.

A session takes the table that is current when it begins, and keeps it: a reload makes another one
for those who come later, and the plugins of the old one are closed when nobody uses it any more.
"""

from collections.abc import Callable, Mapping

from elemta.plugins.asking.chain import Chain
from elemta.plugins.hooks import HOOKS

SEALING = "sealing"
"""The name of the second chain of `on_enqueue`."""


class HookTable:
    """A chain for each hook, None where nobody wants it; the attributes are named as the hooks.

    Attributes:
        sealing: Those that seal a message, asked after `on_enqueue`; None where nobody does, or
            all do: then they are in `on_enqueue`.
        is_empty: No plugin wants any hook.
        users: Sessions and attempts that use it.
    """

    __slots__ = (*HOOKS, "_when_idle", "is_empty", "sealing", "users")

    on_server_starting: Chain | None
    on_server_started: Chain | None
    on_server_stopping: Chain | None
    on_server_stopped: Chain | None
    on_config_loaded: Chain | None
    on_config_changed: Chain | None
    on_connect: Chain | None
    on_starttls: Chain | None
    on_disconnect: Chain | None
    on_command: Chain | None
    on_command_validated: Chain | None
    on_helo: Chain | None
    on_auth_start: Chain | None
    on_auth: Chain | None
    on_mail_from: Chain | None
    on_rcpt_to: Chain | None
    on_headers: Chain | None
    on_data: Chain | None
    on_validated: Chain | None
    on_filter: Chain | None
    on_enqueue: Chain | None
    on_stored: Chain | None
    on_dequeue: Chain | None
    on_pre_delivery: Chain | None
    on_delivered: Chain | None
    on_deferred: Chain | None
    on_bounced: Chain | None
    on_security_event: Chain | None

    def __init__(self, chains: Mapping[str, Chain]) -> None:
        for name in HOOKS:
            setattr(self, name, chains.get(name))
        self.sealing = chains.get(SEALING)
        self.is_empty = not chains
        self.users = 0
        self._when_idle: Callable[[], None] | None = None

    def chains(self, hook: str) -> tuple[Chain, ...]:
        """Give the chains that are asked in a hook, one after the other."""
        first: Chain | None = getattr(self, hook)
        second = self.sealing if hook == "on_enqueue" else None
        return tuple(chain for chain in (first, second) if chain is not None)

    def enter(self) -> None:
        """Begin to use it."""
        self.users += 1

    def leave(self) -> None:
        """Use it no more."""
        self.users -= 1
        if not self.users and self._when_idle is not None:
            self._when_idle()

    def retire(self, when_idle: Callable[[], None]) -> None:
        """Call back once nobody uses it any more: another has taken its place."""
        self._when_idle = when_idle
        if not self.users:
            when_idle()


NO_HOOKS = HookTable({})
"""No plugins at all."""
