"""A bench for one plugin: it is asked about what a test makes up, in memory, in microseconds."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

from elemta.mail.address import Address
from elemta.mail.events import Event, PluginShadow, SecurityEvent
from elemta.mail.reply import Reply
from elemta.plugins.contexts import SessionInfo
from elemta.plugins.edits import Edit
from elemta.plugins.hooks import find_hook
from elemta.plugins.loading.running import build_table
from elemta.plugins.plugin import Plugin
from elemta.plugins.result import Action
from elemta.testing.clock import FakeClock
from elemta.testing.contexts import AnyAddress, Scene, to_address
from elemta.testing.mail import MemoryMail
from elemta.testing.resolver import FakeResolver
from elemta.testing.staging import Staged, first_error, stage

if TYPE_CHECKING:
    from elemta.plugins.asking.chain import Chain

P = TypeVar("P", bound=Plugin[Any])

_REFUSALS = frozenset({Action.REJECT, Action.DEFER})


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one hook.

    Attributes:
        action: CONTINUE where the plugin had nothing to say, or does not define the hook.
        reply: What the peer would be told; None where the server chooses the words.
        note: What the operator would be told.
        edits: Changes of the message, in order.
        delay, silent: As in `elemta.plugins.Result`.
        error: What has gone wrong in the plugin, and where; "" for nothing.
        shadow: What it would have done, in shadow mode: an action, or "edit".
    """

    action: Action = Action.CONTINUE
    reply: Reply | None = None
    note: str = ""
    edits: tuple[Edit, ...] = ()
    delay: float | None = None
    silent: bool = False
    error: str = ""
    shadow: str = ""

    @property
    def is_refused(self) -> bool:
        """Whether it was refused, for good or for now."""
        return self.action in _REFUSALS


class PluginBench(Generic[P]):
    """Sets a plugin up and asks it: one method for each hook, in any order.

    The session is kept from call to call as a server does: its name, user, sender and recipients
    are those that were not refused. The plugin is set up before it is first asked; use the bench
    as a context manager to have it closed.

    Args:
        kind: The class of the plugin; or one that others have made, set up and will close, for
            which nothing else is given.
        settings: Its own settings, as an operator writes them.
        clock: The time it sees; it stands still unless the test moves it.
        dns: Where it looks names up; without it there are no names.
        state_dir: Where it keeps files of its own; needed only for those that do.
        options: How it is asked, as in the configuration: `timeout`, `on_error`, `mode`,
            `shadow_hooks`, `authenticated`...

    Attributes:
        plugin: The plugin.
        clock: The time.
        dns: What it looks names up with: change its `zone`.
        session: The connection; set what the methods do not.
        mail: Takes what the plugin submits: see its `messages`.
        reported: The security events that it has reported.
        events: What the server would have logged of it.

    Raises:
        PluginError: The server would not load it, and why.
        pydantic.ValidationError: The settings do not suit it.
    """

    def __init__(
        self,
        kind: type[P] | Staged,
        settings: Mapping[str, Any] | None = None,
        *,
        clock: FakeClock | None = None,
        dns: FakeResolver | None = None,
        state_dir: Path | None = None,
        **options: Any,  # noqa: ANN401 - of several types
    ) -> None:
        self.dns = dns or FakeResolver({})
        is_made = isinstance(kind, Staged)
        if not isinstance(kind, Staged):
            kind = stage(kind, settings, clock or FakeClock(), self.dns, options, state_dir)
        self._staged = kind
        self.clock = kind.clock
        self.events: list[Event] = []
        self.plugin: P = cast("P", self._staged.plugin)
        self._is_started = self._is_closed = is_made
        self._table = build_table(
            [self._staged.running], "", self.events.append, self.clock.monotonic
        )
        self._sessions = 0
        self._scene = Scene(self._new_session("192.0.2.1"))

    @property
    def session(self) -> SessionInfo:
        return self._scene.session

    @property
    def log(self) -> list[tuple[str, str]]:
        """What the plugin has said: level and text of each line."""
        return self._staged.lines

    @property
    def mail(self) -> MemoryMail:
        return self._staged.mail

    @property
    def reported(self) -> list[SecurityEvent]:
        return self._staged.reported

    async def start(self) -> None:
        """Set the plugin up, unless that is done."""
        if not self._is_started:
            self._is_started = True
            await self._staged.start()

    async def close(self) -> None:
        """Close the plugin; idempotent."""
        if self._is_started and not self._is_closed:
            self._is_closed = True
            await self._staged.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.close()

    async def run(self, hook: str, **given: Any) -> Answer:  # noqa: ANN401 - fields of contexts
        """Ask the plugin in any hook.

        Args:
            hook: The hook, by any of its names.
            given: What its context is to have, by the names of its attributes; `content` is a
                whole message. Addresses may be texts. The rest is made up.

        Raises:
            ValueError: There is no such hook, or a text is no address.
            TypeError: Its context has nothing of that name.
        """
        await self.start()
        found = find_hook(hook)
        if found is None:
            raise ValueError(f"there is no hook {hook}")
        context = self._scene.build(found.name, **given)
        chain: Chain | None = getattr(self._table, found.name)
        if chain is None:
            return Answer()
        known = len(self.events)
        waiting = chain(context)
        decision = await waiting if waiting is not None else None
        events = self.events[known:]
        shadow = next((event.action for event in events if isinstance(event, PluginShadow)), "")
        error = first_error(events)
        if decision is None:
            return Answer(error=error, shadow=shadow)
        return Answer(
            decision.action,
            decision.reply,
            decision.note,
            tuple(edit for _, edit in decision.edits),
            decision.delay,
            decision.silent,
            error,
            shadow,
        )

    # ---- the hooks of a session

    async def connect(self, ip: str = "192.0.2.1", **about: Any) -> Answer:  # noqa: ANN401
        """A client connects: a new session. `about` are attributes of `SessionInfo`."""
        self._scene = Scene(self._new_session(ip, **about))
        return await self.run("on_connect")

    async def starttls(self, version: str = "TLSv1.3") -> Answer:
        """TLS is up."""
        self.session.tls_version = version
        return await self.run("on_starttls")

    async def disconnect(self) -> Answer:
        """The connection has ended."""
        return await self.run("on_disconnect")

    async def command(self, line: bytes | str) -> Answer:
        """A command line has been read."""
        return await self.run("on_command", line=line)

    async def helo(self, name: str = "client.example.test", verb: str = "EHLO") -> Answer:
        """HELO, EHLO or LHLO."""
        answer = await self.run("on_helo", name=name, verb=verb)
        if not answer.is_refused:
            self.session.helo = name
            self.session.protocol = {"HELO": "SMTP", "LHLO": "LMTP"}.get(verb, "ESMTP")
        return answer

    async def auth_start(self, username: str, password: str, mechanism: str = "PLAIN") -> Answer:
        """Credentials have arrived; a plugin that accepts them has checked them itself."""
        given = {"username": username, "password": password, "mechanism": mechanism}
        answer = await self.run("on_auth_start", **given)
        if answer.action is Action.ACCEPT:
            self.session.username = username
        return answer

    async def auth(
        self, username: str = "user", *, authenticated: bool = True, mechanism: str = "PLAIN"
    ) -> Answer:
        """Credentials have been checked."""
        answer = await self.run(
            "on_auth", username=username, authenticated=authenticated, mechanism=mechanism
        )
        if authenticated and not answer.is_refused:
            self.session.username = username
        return answer

    async def mail_from(self, sender: AnyAddress = "sender@example.test") -> Answer:
        """MAIL FROM; "" or None is the null path. A transaction begins."""
        self._scene.sender = to_address(sender)
        self._scene.recipients = []
        self.session.begin_message()
        return await self.run("on_mail_from")

    async def rcpt_to(
        self, recipient: Address | str = "recipient@example.test", *, is_relaying: bool = False
    ) -> Answer:
        """RCPT TO; the recipient is kept unless it is refused, or nobody lets it be relayed."""
        answer = await self.run("on_rcpt_to", recipient=recipient, is_relaying=is_relaying)
        may_relay = not is_relaying or answer.action is Action.ACCEPT
        found = to_address(recipient)
        if found is not None and may_relay and not answer.is_refused:
            self._scene.recipients.append(found)
        return answer

    # ---- the hooks of a message

    async def headers(self, content: bytes | str) -> Answer:
        """The header section of a message is complete."""
        return await self.run("on_headers", content=content)

    async def data(self, content: bytes | str) -> Answer:
        """A whole message has been received."""
        return await self.run("on_data", content=content)

    async def validated(self, content: bytes | str) -> Answer:
        """A message is well-formed, and what authenticates it is known."""
        return await self.run("on_validated", content=content)

    async def filter(self, content: bytes | str) -> Answer:
        """The content filters are asked."""
        return await self.run("on_filter", content=content)

    async def enqueue(self, content: bytes | str) -> Answer:
        """A message is about to be queued."""
        return await self.run("on_enqueue", content=content)

    async def pre_delivery(self, content: bytes | str, **given: Any) -> Answer:  # noqa: ANN401
        """A message is about to be delivered; `given` as for `run`."""
        return await self.run("on_pre_delivery", content=content, **given)

    async def delivered(self, recipient: Address | str, **given: Any) -> Answer:  # noqa: ANN401
        """A recipient has got it; `given` as for `run`."""
        return await self.run("on_delivered", recipient=recipient, **given)

    async def deferred(self, recipient: Address | str, **given: Any) -> Answer:  # noqa: ANN401
        """An attempt has failed for now."""
        return await self.run("on_deferred", recipient=recipient, **given)

    async def bounced(self, recipient: Address | str, **given: Any) -> Answer:  # noqa: ANN401
        """Delivery has failed for good."""
        return await self.run("on_bounced", recipient=recipient, **given)

    async def security_event(self, kind: str, detail: str = "") -> Answer:
        """A rate limit, an attack or a bad reputation has been noticed."""
        return await self.run("on_security_event", kind=kind, detail=detail)

    # ---- what the plugin has counted

    def count(self, name: str, /, **labels: str) -> float:
        """Give the value of a counter of the plugin; 0 where it has not counted."""
        key = tuple(part for label in sorted(labels) for part in (label, labels[label]))
        return self._staged.metrics.counters.get(name, {}).get(key, 0)

    def observed(self, name: str, /, **labels: str) -> tuple[int, float]:
        """Give how many values are in a histogram of the plugin, and their sum."""
        key = tuple(part for label in sorted(labels) for part in (label, labels[label]))
        total, *counts = self._staged.metrics.histograms.get(name, {}).get(key, [0.0])
        return math.floor(sum(counts)), total

    def _new_session(self, ip: str, **about: Any) -> SessionInfo:  # noqa: ANN401
        self._sessions += 1
        session = SessionInfo(
            about.pop("session_id", f"test-{self._sessions}"),
            ip,
            about.pop("server", "192.0.2.25:25"),
            about.pop("listener", "mta"),
            is_trusted=about.pop("is_trusted", False),
        )
        for name, value in about.items():
            setattr(session, name, value)
        return session
