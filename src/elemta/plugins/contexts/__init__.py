"""What plugins are told: one kind of context for each kind of moment.

A context is handed to all plugins of a hook in turn. What they see of the session and the message
they must not change in place: changes are edits in a `Result`. Three things are theirs to write:
`metadata`, strings that plugins in any language share; `session.notes`, any Python values; and
`message.notes`, strings that are stored with the message.
"""

from elemta.plugins.contexts.context import (
    Context,
)
from elemta.plugins.contexts.queue import (
    AttemptContext,
    DeliveryContext,
    OutcomeContext,
    QueueContext,
)
from elemta.plugins.contexts.server import (
    ConfigContext,
    SecurityContext,
    ServerContext,
)
from elemta.plugins.contexts.session import (
    AuthContext,
    CommandContext,
    ConnectionContext,
    HelloContext,
    SessionInfo,
)
from elemta.plugins.contexts.transaction import (
    EnvelopeContext,
    MessageContext,
    RecipientContext,
)

__all__ = [
    "AttemptContext",
    "AuthContext",
    "CommandContext",
    "ConfigContext",
    "ConnectionContext",
    "Context",
    "DeliveryContext",
    "EnvelopeContext",
    "HelloContext",
    "MessageContext",
    "OutcomeContext",
    "QueueContext",
    "RecipientContext",
    "SecurityContext",
    "ServerContext",
    "SessionInfo",
]
