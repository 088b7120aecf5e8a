"""Everything the author of a plugin imports."""

from elemta.plugins.caching import cached
from elemta.plugins.contexts import (
    AttemptContext,
    AuthContext,
    CommandContext,
    ConfigContext,
    ConnectionContext,
    Context,
    EnvelopeContext,
    HelloContext,
    MessageContext,
    OutcomeContext,
    QueueContext,
    RecipientContext,
    SecurityContext,
    ServerContext,
    SessionInfo,
)
from elemta.plugins.edits import (
    AddHeader,
    AddRecipient,
    ChangeSender,
    InsertHeader,
    RemoveHeader,
    RemoveRecipient,
    ReplaceBody,
    ReplaceHeader,
)
from elemta.plugins.headers import Headers
from elemta.plugins.plugin import Metadata, Plugin, Settings
from elemta.plugins.result import Action, Result

__all__ = [
    "Action",
    "AddHeader",
    "AddRecipient",
    "AttemptContext",
    "AuthContext",
    "ChangeSender",
    "CommandContext",
    "ConfigContext",
    "ConnectionContext",
    "Context",
    "EnvelopeContext",
    "Headers",
    "HelloContext",
    "InsertHeader",
    "MessageContext",
    "Metadata",
    "OutcomeContext",
    "Plugin",
    "QueueContext",
    "RecipientContext",
    "RemoveHeader",
    "RemoveRecipient",
    "ReplaceBody",
    "ReplaceHeader",
    "Result",
    "SecurityContext",
    "ServerContext",
    "SessionInfo",
    "Settings",
    "cached",
]
