"""Builds the contexts of hooks from as little as a test wants to say."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from elemta.mail.address import Address, parse_address
from elemta.mail.ids import QueueId
from elemta.mail.message import Facts, Message, Recipient, State
from elemta.mail.outcome import Outcome, Result
from elemta.mail.reply import Reply
from elemta.plugins import contexts as ctx
from elemta.plugins.headers import Headers
from elemta.plugins.hooks import HOOKS
from elemta.queue.spool import MemoryContent
from elemta.testing.clock import START
from elemta.testing.compose import as_content, message

SENDER = "sender@example.test"
RECIPIENT = "recipient@example.test"
QUEUE_ID = QueueId("01TEST")
DESTINATION = "mx:example.test"
_OUTCOMES = {
    "on_delivered": (Result.DELIVERED, Reply(250, "Ok", "2.0.0")),
    "on_deferred": (Result.DEFERRED, Reply(451, "Try again later", "4.3.0")),
    "on_bounced": (Result.FAILED, Reply(550, "No such mailbox", "5.1.1")),
}

AnyAddress = Address | str | None


@dataclass(slots=True)
class Scene:
    """What contexts are about: a connection, and the transaction under way in it.

    Attributes:
        session: The connection.
        sender: Of the transaction; None for the null path.
        recipients: Those accepted so far; where there are none, a message has one all the same.
    """

    session: ctx.SessionInfo
    sender: Address | None = field(default_factory=lambda: parse_address(SENDER))
    recipients: list[Address] = field(default_factory=list)

    def build(self, hook: str, **given: Any) -> ctx.Context:  # noqa: ANN401 - fields of contexts
        """Make the context of a hook.

        Args:
            hook: The name of its method.
            given: What its context is to have; the rest is made up. Addresses may be texts.

        Raises:
            ValueError: There is no such hook.
            TypeError: Its context has nothing of that name.
        """
        if hook not in HOOKS:
            raise ValueError(f"there is no hook {hook}")
        context = _BUILDERS[HOOKS[hook].context](self, hook, given)
        if given:
            raise TypeError(f"{type(context).__name__} has no {', '.join(given)}")
        return context

    def everyone(self) -> Sequence[Address]:
        """The recipients of a message."""
        return tuple(self.recipients) or (parse_address(RECIPIENT),)


Given = dict[str, Any]


def to_address(value: AnyAddress) -> Address | None:
    """Read an address; "" and None are the null path."""
    return parse_address(value) if isinstance(value, str) and value else value or None


def _addresses(values: Sequence[Address | str]) -> tuple[Address, ...]:
    return tuple(parse_address(each) if isinstance(each, str) else each for each in values)


def _server(_scene: Scene, hook: str, given: Given) -> ctx.Context:
    return ctx.ServerContext(hook, *_host(given))


def _config(_scene: Scene, hook: str, given: Given) -> ctx.Context:
    return ctx.ConfigContext(hook, *_host(given), given.pop("changed", ()))


def _host(given: Given) -> tuple[str, str, int]:
    hostname = given.pop("hostname", "mx.example.test")
    return hostname, given.pop("version", "1.0.0"), given.pop("worker", 0)


def _connection(scene: Scene, hook: str, _given: Given) -> ctx.Context:
    return ctx.ConnectionContext(hook, scene.session)


def _command(scene: Scene, hook: str, given: Given) -> ctx.Context:
    line = given.pop("line", b"NOOP")
    return ctx.CommandContext(hook, scene.session, line.encode() if isinstance(line, str) else line)


def _hello(scene: Scene, hook: str, given: Given) -> ctx.Context:
    name = given.pop("name", "client.example.test")
    return ctx.HelloContext(hook, scene.session, name, given.pop("verb", "EHLO"))


def _auth(scene: Scene, hook: str, given: Given) -> ctx.Context:
    is_start = hook == "on_auth_start"
    return ctx.AuthContext(
        hook,
        scene.session,
        given.pop("mechanism", "PLAIN"),
        given.pop("username", "user"),
        given.pop("password", "secret" if is_start else ""),
        given.pop("authenticated", None if is_start else True),
    )


def _envelope(scene: Scene, hook: str, given: Given) -> ctx.Context:
    return ctx.EnvelopeContext(hook, scene.session, *_path(scene, given, scene.recipients))


def _path(
    scene: Scene, given: Given, recipients: Sequence[Address]
) -> tuple[Address | None, Sequence[Address]]:
    sender = to_address(given.pop("sender", scene.sender))
    return sender, _addresses(given.pop("recipients", recipients))


def _recipient(scene: Scene, hook: str, given: Given) -> ctx.Context:
    (recipient,) = _addresses([given.pop("recipient", RECIPIENT)])
    is_relaying = given.pop("is_relaying", False)
    path = _path(scene, given, scene.recipients)
    return ctx.RecipientContext(hook, scene.session, *path, recipient, is_relaying)


def _message(scene: Scene, hook: str, given: Given) -> ctx.Context:
    content = as_content(given.pop("content", message()))
    section = _section(content)
    has_body = hook != "on_headers"
    return ctx.MessageContext(
        hook,
        scene.session,
        *_path(scene, given, scene.everyone()),
        given.pop("queue_id", QUEUE_ID),
        Headers(section),
        given.pop("size", len(content) if has_body else len(section)),
        MemoryContent(content) if has_body else None,
    )


def _section(content: bytes) -> bytes:
    head, end, _ = content.partition(b"\r\n\r\n")
    return head + end


def _queued(scene: Scene, hook: str, given: Given) -> ctx.Context:
    found, recipients, state = _row(scene, given)
    return ctx.QueueContext(
        hook,
        found.queue_id,
        found.sender,
        [each.address for each in recipients],
        found.size,
        state,
        found.facts.session_id,
        found.facts.notes,
    )


def _row(scene: Scene, given: Given) -> tuple[Message, tuple[Recipient, ...], State]:
    sender, recipients = _path(scene, given, scene.everyone())
    notes = given.pop("notes", None) or scene.session.gather_notes()
    facts = Facts(session_id=given.pop("session_id", scene.session.session_id), notes=notes)
    size = given.pop("size", len(message()))
    found = Message(given.pop("queue_id", QUEUE_ID), sender, size, START, facts=facts)
    state, attempts = State(given.pop("state", State.ACTIVE)), given.pop("attempts", 0)
    rows = (Recipient(index, each, state, attempts) for index, each in enumerate(recipients))
    return found, tuple(rows), state


def _attempt(scene: Scene, hook: str, given: Given) -> ctx.Context:
    destination = given.pop("destination", DESTINATION)
    found, recipients, state = _row(scene, given)
    return ctx.AttemptContext(hook, found, recipients, destination, state)


def _delivery(scene: Scene, hook: str, given: Given) -> ctx.Context:
    content = as_content(given.pop("content", message()))
    given.setdefault("size", len(content))
    destination = given.pop("destination", DESTINATION)
    found, recipients, _state = _row(scene, given)
    headers = Headers(_section(content))
    return ctx.DeliveryContext(
        hook, found, recipients, destination, headers, MemoryContent(content)
    )


def _outcome(scene: Scene, hook: str, given: Given) -> ctx.Context:
    given["recipients"] = (given.pop("recipient", scene.everyone()[0]),)
    destination, next_at = given.pop("destination", DESTINATION), given.pop("next_at", 0.0)
    result, reply = _OUTCOMES[hook]
    remote = given.pop("remote", "mx1.example.test")
    outcome = Outcome(result, given.pop("reply", reply), remote)
    found, (recipient,), state = _row(scene, given)
    return ctx.OutcomeContext(hook, found, recipient, destination, state, outcome, next_at)


def _security(scene: Scene, hook: str, given: Given) -> ctx.Context:
    return ctx.SecurityContext(
        hook,
        given.pop("kind", "early_talk"),
        given.pop("detail", ""),
        given.pop("session_id", scene.session.session_id),
        given.pop("client_ip", scene.session.client_ip),
    )


_BUILDERS: Mapping[type[ctx.Context], Callable[[Scene, str, Given], ctx.Context]] = {
    ctx.ServerContext: _server,
    ctx.ConfigContext: _config,
    ctx.ConnectionContext: _connection,
    ctx.CommandContext: _command,
    ctx.HelloContext: _hello,
    ctx.AuthContext: _auth,
    ctx.EnvelopeContext: _envelope,
    ctx.RecipientContext: _recipient,
    ctx.MessageContext: _message,
    ctx.QueueContext: _queued,
    ctx.AttemptContext: _attempt,
    ctx.DeliveryContext: _delivery,
    ctx.OutcomeContext: _outcome,
    ctx.SecurityContext: _security,
}
