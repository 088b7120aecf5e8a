"""The plugin: tells servers what it knows at each moment, and does what they say."""

import re
from collections.abc import Awaitable, Iterator, Mapping
from typing import ClassVar

from pydantic import BaseModel

from elemta.mail.errors import PluginError
from elemta.plugins import (
    Address,
    AuthContext,
    CommandContext,
    ConnectionContext,
    EnvelopeContext,
    HelloContext,
    MessageContext,
    Metadata,
    Plugin,
    RecipientContext,
    Result,
    SessionInfo,
)
from elemta.plugins.builtin._elsewhere import Trouble, add_to_note, give_up, key_bits, names_of
from elemta.plugins.builtin.policy_delegation import actions
from elemta.plugins.builtin.policy_delegation.actions import Unknown, Wishes
from elemta.plugins.builtin.policy_delegation.certificates import fingerprints_of
from elemta.plugins.builtin.policy_delegation.client import Client, read_action
from elemta.plugins.builtin.policy_delegation.settings import PolicyServer, PolicySettings

NOTE = "policy-delegation"
FAILED = "policy-delegation.failed"  # a note of the message: the servers that were not asked
_UNKNOWN = "unknown"
_WORDS = "A policy check is not available, try again later"
_SIZE = re.compile(r"[ ]SIZE=([0-9]{1,20})(?:[ ]|$)", re.IGNORECASE | re.ASCII)


class Memory:
    """What is remembered of a client.

    Attributes:
        mechanism: By which it has logged in.
        size: What MAIL said of the size of the message, in octets.
        messages: How many it has begun.
        wishes: Those about the message under way.
    """

    __slots__ = ("mechanism", "messages", "size", "wishes")

    def __init__(self) -> None:
        self.mechanism = ""
        self.size = "0"
        self.messages = 0
        self.wishes = Wishes()


class PolicyDelegation(Plugin[PolicySettings]):
    """Asks policy servers."""

    metadata = Metadata(
        name="policy-delegation",
        version="1.0.0",
        description="Asks servers that speak the policy delegation protocol of Postfix",
        after=("iprev",),
        only_in_worker=True,
    )
    Settings: ClassVar[type[BaseModel]] = PolicySettings

    async def setup(self) -> None:
        """Know the servers; nobody is connected to before there is something to ask."""
        self._clients = [Client(each, self.tools) for each in self.settings.servers]
        self._states = {state for each in self.settings.servers for state in each.states}

    async def close(self) -> None:
        """Close connections."""
        for client in self._clients:
            client.close()

    # ---- the moments

    def on_connect(self, ctx: ConnectionContext) -> Awaitable[Result | None] | None:
        """Ask about a client."""
        return self._ask(ctx, "CONNECT", {})

    def on_helo(self, ctx: HelloContext) -> Awaitable[Result | None] | None:
        """Ask about what it calls itself."""
        about = {"helo_name": ctx.name, "protocol_state": "HELO" if ctx.verb == "HELO" else "EHLO"}
        return self._ask(ctx, "EHLO", about)

    def on_auth(self, ctx: AuthContext) -> None:
        """Remember how it has logged in."""
        if ctx.authenticated:
            self._of(ctx.session).mechanism = ctx.mechanism

    def on_command_validated(self, ctx: CommandContext) -> None:
        """Remember the size that MAIL announces."""
        if ctx.verb == "MAIL":
            found = _SIZE.search(ctx.argument)
            self._of(ctx.session).size = found[1] if found is not None else "0"

    def on_mail_from(self, ctx: EnvelopeContext) -> Awaitable[Result | None] | None:
        """Ask about a sender."""
        known = self._of(ctx.session)
        known.messages += 1
        known.wishes = Wishes()
        return self._ask(ctx, "MAIL", _sender(ctx.sender))

    def on_rcpt_to(self, ctx: RecipientContext) -> Awaitable[Result | None] | None:
        """Ask about a recipient."""
        self._of_message(ctx)
        return self._ask(ctx, "RCPT", _sender(ctx.sender) | {"recipient": str(ctx.recipient)})

    def on_headers(self, ctx: MessageContext) -> Awaitable[Result | None] | None:
        """Ask about a message of which the header section is there."""
        return self._ask(ctx, "DATA", _message(ctx))

    def on_filter(self, ctx: MessageContext) -> Awaitable[Result | None] | Result | None:
        """Ask about a whole message, and do what is to be done with it."""
        known = self._of_message(ctx)
        if "END-OF-MESSAGE" not in self._states:
            return known.wishes.carry_out(ctx)
        return self._finish(ctx)

    async def _finish(self, ctx: MessageContext) -> Result | None:
        about = _message(ctx) | {"size": str(ctx.size)}
        result = await self._ask_all(ctx, "END-OF-MESSAGE", about)
        if result is not None and actions.is_final(result):
            return result
        done = self._of(ctx.session).wishes.carry_out(ctx)
        if done is None or result is None:
            return result or done
        if actions.is_final(done):
            return done
        return Result.quarantine(note=result.note, edits=done.edits)

    # ---- what is remembered

    def _of(self, session: SessionInfo) -> Memory:
        known = session.notes.get(NOTE)
        if not isinstance(known, Memory):
            known = session.notes[NOTE] = Memory()
        return known

    def _of_message(self, ctx: EnvelopeContext) -> Memory:
        """As `_of`, for a message of whose sender we have been told.

        Raises:
            PluginError: We have not: what servers want of the message would be lost.
        """
        known = self._of(ctx.session)
        if not known.messages:
            raise PluginError("it was not told of the sender")
        return known

    # ---- asking

    def _ask(
        self, ctx: ConnectionContext, state: str, about: Mapping[str, str]
    ) -> Awaitable[Result | None] | None:
        """Ask those that want to be asked now; nothing is to be waited for where there are none."""
        return self._ask_all(ctx, state, about) if state in self._states else None

    async def _ask_all(
        self, ctx: ConnectionContext, state: str, about: Mapping[str, str]
    ) -> Result | None:
        known, kept = self._of(ctx.session), None
        attributes = {**dict(_session(ctx.session, known)), "protocol_state": state, **about}
        for client in self._clients:
            if state not in client.settings.states:
                continue
            attributes["policy_context"] = client.settings.policy_context
            result = await self._ask_one(ctx, client, attributes, known.wishes)
            if result is not None and actions.is_final(result):
                return result
            kept = kept or result
        return kept

    async def _ask_one(
        self, ctx: ConnectionContext, client: Client, attributes: Mapping[str, str], wishes: Wishes
    ) -> Result | None:
        settings, clock = client.settings, self.tools.clock
        note = f"policy server {settings.title}"
        began = clock.monotonic()
        try:
            answer = await client.ask(attributes.items())
        except Trouble as error:
            return self._give_up(ctx, settings, f"{note}: {error}")
        self.tools.metrics.observe("seconds", clock.monotonic() - began, server=settings.title)
        try:
            is_rcpt = attributes["protocol_state"] == "RCPT"
            reading = actions.read(read_action(answer), wishes, note, is_rcpt=is_rcpt)
        except (Unknown, ValueError) as error:
            client.breaker.complain(error)
            text = "Server configuration problem"
            return Result.defer(text, enhanced="4.3.5", note=f"{note}: {error}")
        if reading.warning:
            text = f"{note}: {reading.warning} ({_subject(attributes)})"
            self.tools.log.warning(text)
        what = reading.result.action.value if reading.result is not None else "continue"
        self.tools.metrics.count("answers", server=settings.title, result=what)
        return reading.result

    def _give_up(self, ctx: ConnectionContext, settings: PolicyServer, note: str) -> Result | None:
        if isinstance(ctx, EnvelopeContext):
            add_to_note(ctx.message.notes, FAILED, settings.title)
        return give_up(settings.on_failure, _WORDS, note)


def _session(session: SessionInfo, known: Memory) -> Iterator[tuple[str, str]]:
    """What is known at any moment, in the order in which Postfix says it."""
    address, _, port = session.server.rpartition(":")
    reverse, name = names_of(session)
    is_login = bool(session.username)
    fingerprint, key_fingerprint = fingerprints_of(session.client_certificate)
    yield from (
        ("request", "smtpd_access_policy"),
        ("protocol_state", ""),
        ("protocol_name", session.protocol or "SMTP"),
        ("client_address", session.client_ip or _UNKNOWN),
        ("client_name", name or _UNKNOWN),
        ("client_port", str(session.client_port)),
        ("reverse_client_name", reverse or _UNKNOWN),
        ("server_address", address.removeprefix("[").removesuffix("]")),
        ("server_port", port),
        ("helo_name", session.helo),
        ("sender", ""),
        ("recipient", ""),
        ("recipient_count", "0"),
        ("queue_id", ""),
        ("instance", f"{session.session_id}.{known.messages}"),
        ("size", known.size if known.messages else "0"),
        ("etrn_domain", ""),
        ("stress", ""),
        ("sasl_method", known.mechanism if is_login else ""),
        ("sasl_username", session.username),
        ("sasl_sender", ""),
        ("ccert_subject", ""),
        ("ccert_issuer", ""),
        ("ccert_fingerprint", fingerprint),
        ("ccert_pubkey_fingerprint", key_fingerprint),
        ("encryption_protocol", session.tls_version),
        ("encryption_cipher", session.tls_cipher),
        ("encryption_keysize", key_bits(session.tls_cipher) or "0"),
        ("policy_context", ""),
        ("compatibility_level", ""),
        ("mail_version", "Elemta"),
        ("tls_sni", ""),
    )


def _sender(sender: Address | None) -> dict[str, str]:
    return {"sender": str(sender or "")}


def _message(ctx: MessageContext) -> dict[str, str]:
    recipients = ctx.recipients
    return _sender(ctx.sender) | {
        "recipient": str(recipients[0]) if len(recipients) == 1 else "",
        "recipient_count": str(len(recipients)),
        "queue_id": ctx.queue_id,
    }


def _subject(attributes: Mapping[str, str]) -> str:
    names = ("client_address", "sender", "recipient")
    return ", ".join(f"{name}={attributes[name]}" for name in names if attributes[name])
