"""What a hook is told, on its way to a plugin outside: a context becomes a call, and one again."""

from collections.abc import Callable
from typing import cast

from elemta.mail.address import Address
from elemta.mail.content import Content
from elemta.mail.ids import QueueId
from elemta.mail.message import State
from elemta.mail.reply import Reply
from elemta.plugins import contexts as ctx
from elemta.plugins.headers import Headers
from elemta.plugins.hooks import HOOKS
from elemta.plugins.remote.packing import pack_notes, unpack_notes
from elemta.plugins.remote.proto import elemta_plugin_v1_pb2 as pb


def to_call(context: ctx.Context, call_id: int, timeout: float) -> pb.Call:
    """Write down what a context says; its message's body is not part of it."""
    call = pb.Call(
        id=call_id,
        hook=context.hook,
        timeout_ms=min(int(timeout * 1000), 0xFFFF_FFFF),
        metadata=context.metadata,
    )
    if isinstance(context, ctx.ConnectionContext):
        call.session.CopyFrom(_session(context.session))
    if isinstance(context, ctx.EnvelopeContext | ctx.QueueContext):
        call.message_notes.update(context.message.notes)
    for kind, write in _WRITERS:
        if isinstance(context, kind):
            write(call, context)
    return call


def _session(session: ctx.SessionInfo) -> pb.Session:
    return pb.Session(
        id=session.session_id,
        client_ip=session.client_ip,
        server=session.server,
        listener=session.listener,
        is_trusted=session.is_trusted,
        helo=session.helo,
        protocol=session.protocol,
        tls_version=session.tls_version,
        tls_cipher=session.tls_cipher,
        username=session.username,
        notes=pack_notes(session.notes) if session.notes else {},
    )


def _mailbox(address: Address) -> pb.Mailbox:
    return pb.Mailbox(local=address.local, domain=address.domain)


def _optional(address: Address | None) -> pb.Mailbox | None:
    return None if address is None else _mailbox(address)


def _write_server(call: pb.Call, context: ctx.ServerContext) -> None:
    call.server.hostname = context.hostname
    call.server.version = context.version
    call.server.worker = context.worker
    if isinstance(context, ctx.ConfigContext):
        call.server.changed.extend(context.changed)


def _write_command(call: pb.Call, context: ctx.CommandContext) -> None:
    call.command.line = context.line
    call.command.verb = context.verb
    call.command.argument = context.argument


def _write_hello(call: pb.Call, context: ctx.HelloContext) -> None:
    call.helo = context.name
    call.command.verb = context.verb


def _write_auth(call: pb.Call, context: ctx.AuthContext) -> None:
    call.credentials.mechanism = context.mechanism
    call.credentials.username = context.username
    call.credentials.password = context.password
    if context.authenticated is not None:
        call.credentials.authenticated = context.authenticated


def _write_envelope(call: pb.Call, context: ctx.EnvelopeContext) -> None:
    envelope = pb.Envelope(
        sender=_optional(context.sender),
        recipients=[_mailbox(address) for address in context.recipients],
    )
    if isinstance(context, ctx.RecipientContext):
        envelope.recipient.CopyFrom(_mailbox(context.recipient))
        envelope.is_relaying = context.is_relaying
    call.envelope.CopyFrom(envelope)


def _write_message(call: pb.Call, context: ctx.MessageContext | ctx.DeliveryContext) -> None:
    call.message.queue_id = context.queue_id
    call.message.size = context.size
    call.message.headers = context.headers.raw
    call.message.has_body = context.hook != "on_headers"


def _write_entry(call: pb.Call, context: ctx.QueueContext) -> None:
    entry = pb.Entry(
        queue_id=context.queue_id,
        sender=_optional(context.sender),
        recipients=[_mailbox(address) for address in context.recipients],
        size=context.size,
        state=context.state.value,
        session_id=context.session_id,
    )
    if isinstance(context, ctx.AttemptContext):
        entry.destination = context.destination
        entry.attempts = context.attempts
    if isinstance(context, ctx.DeliveryContext):
        entry.released.extend(context.released)
    if isinstance(context, ctx.OutcomeContext):
        reply = context.reply
        entry.reply.CopyFrom(
            pb.Reply(code=reply.code, enhanced=reply.enhanced or "", text=reply.text)
        )
        entry.remote = context.remote
        entry.next_at = context.next_at
    call.entry.CopyFrom(entry)


def _write_security(call: pb.Call, context: ctx.SecurityContext) -> None:
    call.security.kind = context.kind
    call.security.detail = context.detail
    call.security.session_id = context.session_id
    call.security.client_ip = context.client_ip


_WRITERS: tuple[tuple[type[ctx.Context], Callable[..., None]], ...] = (
    (ctx.ServerContext, _write_server),
    (ctx.CommandContext, _write_command),
    (ctx.HelloContext, _write_hello),
    (ctx.AuthContext, _write_auth),
    (ctx.EnvelopeContext, _write_envelope),
    (ctx.MessageContext, _write_message),
    (ctx.QueueContext, _write_entry),
    (ctx.DeliveryContext, _write_message),
    (ctx.SecurityContext, _write_security),
)


def from_call(call: pb.Call, content: Content | None) -> ctx.Context:
    """Make a context of a call.

    Args:
        call: As it arrived.
        content: What reads its message; None where there is none to read.

    Raises:
        KeyError: There is no such hook.
    """
    context = _READERS[HOOKS[call.hook].context](call, content)
    context.metadata = dict(call.metadata)
    if isinstance(context, ctx.ConnectionContext):
        context.session.metadata = context.metadata
    if isinstance(context, ctx.EnvelopeContext):
        context.message.notes.update(call.message_notes)
    return context


def _read_session(call: pb.Call) -> ctx.SessionInfo:
    told = call.session
    session = ctx.SessionInfo(
        told.id, told.client_ip, told.server, told.listener, is_trusted=told.is_trusted
    )
    session.helo, session.protocol = told.helo, told.protocol
    session.tls_version, session.tls_cipher = told.tls_version, told.tls_cipher
    session.username = told.username
    session.notes = unpack_notes(told.notes)
    return session


def _address(mailbox: pb.Mailbox) -> Address:
    return Address(mailbox.local, mailbox.domain)


def _sender(part: pb.Envelope | pb.Entry) -> Address | None:
    return _address(part.sender) if part.HasField("sender") else None


def _read_connection(call: pb.Call, _: Content | None) -> ctx.Context:
    return ctx.ConnectionContext(call.hook, _read_session(call))


def _read_server(call: pb.Call, _: Content | None) -> ctx.Context:
    told = call.server
    return ctx.ServerContext(call.hook, told.hostname, told.version, told.worker)


def _read_config(call: pb.Call, _: Content | None) -> ctx.Context:
    told = call.server
    return ctx.ConfigContext(call.hook, told.hostname, told.version, told.worker, told.changed)


def _read_command(call: pb.Call, _: Content | None) -> ctx.Context:
    return ctx.CommandContext(call.hook, _read_session(call), call.command.line)


def _read_hello(call: pb.Call, _: Content | None) -> ctx.Context:
    return ctx.HelloContext(call.hook, _read_session(call), call.helo, call.command.verb)


def _read_auth(call: pb.Call, _: Content | None) -> ctx.Context:
    told = call.credentials
    known = told.authenticated if told.HasField("authenticated") else None
    return ctx.AuthContext(
        call.hook, _read_session(call), told.mechanism, told.username, told.password, known
    )


def _read_envelope(call: pb.Call, _: Content | None) -> ctx.Context:
    told = call.envelope
    recipients = [_address(mailbox) for mailbox in told.recipients]
    return ctx.EnvelopeContext(call.hook, _read_session(call), _sender(told), recipients)


def _read_recipient(call: pb.Call, _: Content | None) -> ctx.Context:
    told = call.envelope
    return ctx.RecipientContext(
        call.hook,
        _read_session(call),
        _sender(told),
        [_address(mailbox) for mailbox in told.recipients],
        _address(told.recipient),
        told.is_relaying,
    )


def _read_message(call: pb.Call, content: Content | None) -> ctx.Context:
    told = call.message
    return ctx.MessageContext(
        call.hook,
        _read_session(call),
        _sender(call.envelope),
        [_address(mailbox) for mailbox in call.envelope.recipients],
        QueueId(told.queue_id),
        Headers(told.headers),
        told.size,
        content if told.has_body else None,
    )


def _read_entry(call: pb.Call, content: Content | None) -> ctx.Context:
    told = call.entry
    kind = cast("type[ctx.QueueContext]", HOOKS[call.hook].context)
    context = kind.__new__(kind)
    # attempts are made of what the queue has of a message; here is only what was told of it
    ctx.QueueContext.__init__(
        context,
        call.hook,
        QueueId(told.queue_id),
        _sender(told),
        [_address(mailbox) for mailbox in told.recipients],
        told.size,
        State(told.state),
        told.session_id,
        dict(call.message_notes),
    )
    if isinstance(context, ctx.AttemptContext):
        context.destination, context.attempts = told.destination, told.attempts
    if isinstance(context, ctx.DeliveryContext):
        context.headers = Headers(call.message.headers)
        context.released = tuple(told.released)
        context._content = content  # noqa: SLF001 - as above
    if isinstance(context, ctx.OutcomeContext):
        said = told.reply
        context.reply = Reply(said.code, said.text, said.enhanced or None)
        context.remote, context.next_at = told.remote, told.next_at
    return context


def _read_security(call: pb.Call, _: Content | None) -> ctx.Context:
    told = call.security
    return ctx.SecurityContext(call.hook, told.kind, told.detail, told.session_id, told.client_ip)


_READERS: dict[type[ctx.Context], Callable[[pb.Call, Content | None], ctx.Context]] = {
    ctx.ServerContext: _read_server,
    ctx.ConfigContext: _read_config,
    ctx.ConnectionContext: _read_connection,
    ctx.CommandContext: _read_command,
    ctx.HelloContext: _read_hello,
    ctx.AuthContext: _read_auth,
    ctx.EnvelopeContext: _read_envelope,
    ctx.RecipientContext: _read_recipient,
    ctx.MessageContext: _read_message,
    ctx.QueueContext: _read_entry,
    ctx.AttemptContext: _read_entry,
    ctx.DeliveryContext: _read_entry,
    ctx.OutcomeContext: _read_entry,
    ctx.SecurityContext: _read_security,
}
