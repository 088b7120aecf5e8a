"""The moments at which plugins are asked, under all their names.

One table is behind everything: the names of methods, the events of native and remote plugins, the
stages, the checks at load time, and the reference in the documentation.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from elemta.plugins import contexts as ctx


class May(enum.Flag):
    """What the result of a hook may do."""

    NOTHING = 0
    REFUSE = enum.auto()  # the start of the server, or a new configuration
    DECIDE = enum.auto()  # about the session, the command or the message
    MODIFY = enum.auto()  # the message
    RESCHEDULE = enum.auto()  # the next attempt
    SILENCE = enum.auto()  # the notification


@dataclass(frozen=True, slots=True)
class Hook:
    """One moment.

    Attributes:
        name: The method of a Python plugin.
        when: The moment, in words.
        context: What the method is given.
        may: What its result may do.
        events: Names for native and remote plugins, and in the log; the method's name, too, is one.
        interfaces, stage, method: The names of other vocabularies.
    """

    name: str
    when: str
    context: type[ctx.Context]
    may: May = May.NOTHING
    events: tuple[str, ...] = ()
    interfaces: tuple[str, ...] = ()
    stage: str = ""
    method: str = ""


_COMMAND = ("SMTPCommandHook",)
_CONNECTION = ("ConnectionHook",)
_TRANSACTION = ("MailTransactionHook",)
_MESSAGE = ("MessageProcessingHook",)
_QUEUE = ("QueueHook",)
_DELIVERY = ("DeliveryHook",)
_BEFORE = "PreReception"
_AFTER = "PostReception"

HOOKS: Mapping[str, Hook] = {
    hook.name: hook
    for hook in (
        Hook(
            "on_server_starting",
            "before the server listens",
            ctx.ServerContext,
            May.REFUSE,
            ("server_starting",),
        ),
        Hook("on_server_started", "it listens", ctx.ServerContext, events=("server_started",)),
        Hook(
            "on_server_stopping", "shutdown begins", ctx.ServerContext, events=("server_stopping",)
        ),
        Hook(
            "on_server_stopped",
            "everything is closed",
            ctx.ServerContext,
            events=("server_stopped",),
        ),
        Hook(
            "on_config_loaded",
            "the configuration has been read",
            ctx.ConfigContext,
            May.REFUSE,
            ("config_loaded",),
        ),
        Hook(
            "on_config_changed",
            "a reload has changed the configuration",
            ctx.ConfigContext,
            May.REFUSE,
            ("config_changed",),
        ),
        Hook(
            "on_connect",
            "a client connects, before the banner",
            ctx.ConnectionContext,
            May.DECIDE,
            ("connection_opened",),
            _CONNECTION,
            _BEFORE,
            "OnConnect",
        ),
        Hook(
            "on_starttls",
            "TLS is up",
            ctx.ConnectionContext,
            May.DECIDE,
            ("connection_upgraded",),
            _COMMAND,
            _BEFORE,
        ),
        Hook(
            "on_disconnect",
            "the connection has ended",
            ctx.ConnectionContext,
            events=("connection_closed",),
            interfaces=_CONNECTION,
        ),
        Hook(
            "on_command",
            "any command line has been read",
            ctx.CommandContext,
            May.DECIDE,
            ("command_received",),
            _COMMAND,
            _BEFORE,
        ),
        Hook(
            "on_command_validated",
            "a command has been parsed and is legal here",
            ctx.CommandContext,
            May.DECIDE,
            ("command_validated",),
            _COMMAND,
            _BEFORE,
        ),
        Hook(
            "on_helo",
            "HELO, EHLO or LHLO",
            ctx.HelloContext,
            May.DECIDE,
            (),
            _COMMAND,
            _BEFORE,
        ),
        Hook(
            "on_auth_start",
            "credentials have arrived and are not yet checked",
            ctx.AuthContext,
            May.DECIDE,
            ("auth_started",),
            _COMMAND,
            _BEFORE,
        ),
        Hook(
            "on_auth",
            "credentials have been checked",
            ctx.AuthContext,
            May.DECIDE,
            ("auth_completed", "auth_failed"),
            ("SMTPCommandHook", "SecurityHook"),
            _BEFORE,
            "OnAuth",
        ),
        Hook(
            "on_mail_from",
            "MAIL FROM",
            ctx.EnvelopeContext,
            May.DECIDE,
            (),
            _TRANSACTION,
            _BEFORE,
            "OnMailFrom",
        ),
        Hook(
            "on_rcpt_to",
            "RCPT TO, once for each recipient",
            ctx.RecipientContext,
            May.DECIDE,
            (),
            _TRANSACTION,
            _BEFORE,
            "OnRcptTo",
        ),
        Hook(
            "on_headers",
            "the header section is complete, the body not yet read",
            ctx.MessageContext,
            May.DECIDE,
            (),
            _MESSAGE,
            _AFTER,
        ),
        Hook(
            "on_data",
            "the whole message has been received",
            ctx.MessageContext,
            May.DECIDE | May.MODIFY,
            ("message_received",),
            ("MailTransactionHook", "MessageProcessingHook"),
            _AFTER,
            "OnData",
        ),
        Hook(
            "on_validated",
            "the message is well-formed, and what authenticates it is known",
            ctx.MessageContext,
            May.DECIDE | May.MODIFY,
            ("message_validated",),
            _MESSAGE,
            _AFTER,
        ),
        Hook(
            "on_filter",
            "content filters: viruses, spam, attachments",
            ctx.MessageContext,
            May.DECIDE | May.MODIFY,
            ("message_filtered",),
            _MESSAGE,
            _AFTER,
        ),
        Hook(
            "on_enqueue",
            "the message is about to be queued",
            ctx.MessageContext,
            May.DECIDE | May.MODIFY,
            (),
            _QUEUE,
            "PreQueue",
        ),
        Hook(
            "on_stored",
            "the message is durable in the queue",
            ctx.QueueContext,
            events=("message_stored",),
            interfaces=_QUEUE,
            stage="PreQueue",
        ),
        Hook(
            "on_dequeue",
            "taken from the queue for an attempt",
            ctx.AttemptContext,
            interfaces=_QUEUE,
            stage="PreDelivery",
        ),
        Hook(
            "on_pre_delivery",
            "about to be delivered",
            ctx.DeliveryContext,
            May.DECIDE | May.MODIFY,
            (),
            _DELIVERY,
            "PreDelivery",
        ),
        Hook(
            "on_delivered",
            "delivered",
            ctx.OutcomeContext,
            events=("message_delivered",),
            interfaces=_DELIVERY,
            stage="PostDelivery",
        ),
        Hook(
            "on_deferred",
            "an attempt has failed for now",
            ctx.OutcomeContext,
            May.RESCHEDULE,
            (),
            ("DeliveryHook", "QueueHook"),
            "PostDelivery",
        ),
        Hook(
            "on_bounced",
            "delivery has failed for good",
            ctx.OutcomeContext,
            May.SILENCE,
            (),
            _DELIVERY,
            "PostDelivery",
        ),
        Hook(
            "on_security_event",
            "a rate limit, an attack or a bad reputation has been noticed",
            ctx.SecurityContext,
            interfaces=("SecurityHook",),
        ),
    )
}
"""All hooks by name, in the order of a message's life."""

STAGES = ("PreReception", "PostReception", "PreQueue", "PreDelivery", "PostDelivery")


def find_hook(name: str) -> Hook | None:
    """Find a hook by any name that means just one: its method, an event, a policy method."""
    found = HOOKS.get(name)
    if found is not None:
        return found
    return next(
        (hook for hook in HOOKS.values() if name in hook.events or name == hook.method), None
    )


def hooks_of_stage(stage: str) -> tuple[Hook, ...]:
    """The hooks of a stage, in order; ("PreReception", ...)."""
    return tuple(hook for hook in HOOKS.values() if hook.stage == stage)
