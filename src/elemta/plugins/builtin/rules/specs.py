"""Cases: a session and a message, and what the rules must make of them.

They stand in `*.policy.toml` beside the rules, and are run whenever these are read: rules that
break one are not taken.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from elemta.mail.address import Address, parse_address
from elemta.mail.errors import PluginError
from elemta.mail.headers import find_header_end
from elemta.mail.ids import QueueId
from elemta.mailauth import (
    ArcVerdict,
    AuthStatus,
    DkimVerdict,
    DmarcVerdict,
    IprevVerdict,
    SpfVerdict,
)
from elemta.plugins import (
    Action,
    AddRecipient,
    ConnectionContext,
    EnvelopeContext,
    Headers,
    HelloContext,
    MessageContext,
    RecipientContext,
    Result,
    SessionInfo,
)
from elemta.plugins.builtin.rules.expressions.facts import Moment
from elemta.plugins.builtin.rules.loading import (
    RulesError,
    Source,
    Trouble,
    read_model,
    read_text,
)
from elemta.plugins.builtin.rules.places import find_tables
from elemta.plugins.builtin.rules.rule import Rule
from elemta.plugins.builtin.rules.ruleset import Ruleset

MAX_CASES = 1000  # of one file

_DECIDING = frozenset({Action.REJECT, Action.DEFER})
_OF_MESSAGE = (
    (Moment.HEADERS, "on_headers"),
    (Moment.DATA, "on_validated"),
    (Moment.FILTER, "on_filter"),
)
_NO_MESSAGE = "From: sender@example.test\n\n"


def _mailbox(text: str) -> str:
    if text:
        parse_address(text)
    return text


Mailbox = Annotated[str, AfterValidator(_mailbox)]


class SessionSpec(BaseModel):
    """Who sends."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    client_ip: str = "192.0.2.9"
    listener: str = "mta"
    server: str = "192.0.2.1:25"
    helo: str = "client.example.test"
    protocol: str = "ESMTP"
    trusted: bool = False
    tls_version: str = ""
    username: str = ""
    metadata: dict[str, str] = Field(default_factory=dict)


class AuthSpec(BaseModel):
    """What checks of the origin have found out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    iprev: AuthStatus | None = None
    spf: AuthStatus | None = None
    spf_helo: AuthStatus | None = None
    dkim: AuthStatus | None = None
    dkim_domain: str = ""
    dmarc: AuthStatus | None = None
    dmarc_policy: Literal["none", "quarantine", "reject"] = "none"
    arc: AuthStatus | None = None


class Case(BaseModel):
    """One case."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(max_length=200)
    expect: Literal["accept", "reject", "defer", "discard", "quarantine", "continue", "redirect"]
    rule: str = ""
    at: datetime | None = None
    session: SessionSpec = SessionSpec()
    sender: Mailbox = "sender@example.test"
    recipients: tuple[Mailbox, ...] = Field(
        default=("recipient@example.test",), min_length=1, max_length=100
    )
    relaying: bool = False
    message: str = _NO_MESSAGE
    auth: AuthSpec = AuthSpec()


class SpecFile(BaseModel):
    """A file of cases."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    case: tuple[Case, ...] = Field(max_length=MAX_CASES)


def check_specs(paths: Sequence[Path], ruleset: Ruleset, now: float) -> int:
    """Run all cases; how many there are.

    Raises:
        RulesError: One does not come out as it says, or a file cannot be read.
    """
    troubles: list[Trouble] = []
    count = 0
    for path in paths:
        try:
            text = read_text(path)
        except PluginError as error:
            troubles.append(Trouble(str(path), (), str(error)))
            continue
        source = Source(path, path.parent, tables=find_tables(text))
        found = read_model(SpecFile, text, source, troubles)
        for index, case in enumerate(found.case if found is not None else ()):
            count += 1
            text = _differs(case, ruleset, now)
            if text:
                troubles.append(source.trouble(("case", index), f"case {case.name!r}: {text}"))
    if troubles:
        raise RulesError(troubles)
    return count


def _differs(case: Case, ruleset: Ruleset, now: float) -> str:
    """Say how a case comes out otherwise; "" where it does not."""
    try:
        run = Run(case, ruleset, now)
        run.run()
    except (PluginError, ValueError) as error:
        return f"fails: {error}"
    because = f" by {run.note}" if run.note else ""
    if run.outcome != case.expect:
        return f"{case.expect} is expected, and it comes to {run.outcome}{because}"
    if case.rule and run.rule != case.rule:
        return f"rule {case.rule} should decide, and not {run.rule or 'none'}"
    return ""


class Run:
    """A message on its way through the rules.

    Attributes:
        outcome: What has become of it: the first refusal of anything, else the first other action.
        rule: The rule that decided.
        note: Where that stands.
    """

    def __init__(self, case: Case, ruleset: Ruleset, now: float) -> None:
        self._case = case
        self._ruleset = ruleset
        at = case.at
        if at is not None:
            now = (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
        self._now = now
        self._last: tuple[str, str] = ("", "")
        self.outcome = "continue"
        self.rule = self.note = ""

    def run(self) -> None:
        """Ask at each moment, until something is refused.

        Raises:
            PluginError: An expression fails.
        """
        for moment, context in _contexts(self._case):
            self._last = ("", "")
            answer = self._ruleset.ask(moment, context, self._now, self._told)
            action = _name(answer)
            if action in {"continue", "accept"} and self.outcome != "continue":
                continue
            if action != "continue":
                self.outcome = action
                self.rule, self.note = self._last if self._last[0] else (self.rule, self.note)
            if answer is not None and answer.action in _DECIDING:
                return

    def _told(self, rule: Rule, note: str) -> None:
        self._last = (rule.name, note)
        if rule.redirect:  # its effect comes later
            self.rule, self.note = self._last


def _name(answer: Result | None) -> str:
    if answer is None:
        return "continue"
    if answer.action is Action.CONTINUE:
        is_elsewhere = any(isinstance(edit, AddRecipient) for edit in answer.edits)
        return "redirect" if is_elsewhere else "continue"
    return answer.action.value


def _contexts(case: Case) -> Iterator[tuple[Moment, Any]]:
    """Make what a plugin would be given, one after the other."""
    session = _session(case)
    helo, session.helo = case.session.helo, ""
    yield Moment.CONNECT, ConnectionContext("on_connect", session)
    yield Moment.HELO, HelloContext("on_helo", session, helo, "EHLO")
    session.helo = helo
    sender = parse_address(case.sender) if case.sender else None
    _authenticate(session, case.auth)
    yield Moment.MAIL, EnvelopeContext("on_mail_from", session, sender)
    accepted: list[Address] = []
    for text in case.recipients:
        recipient = parse_address(text)
        context = RecipientContext(
            "on_rcpt_to", session, sender, tuple(accepted), recipient, case.relaying
        )
        yield Moment.RCPT, context
        accepted.append(recipient)
    content = case.message.replace("\r\n", "\n").replace("\n", "\r\n").encode()
    end = find_header_end(content)
    headers = Headers(content[:end] if end >= 0 else content)
    for moment, hook in _OF_MESSAGE:
        yield (
            moment,
            MessageContext(
                hook, session, sender, accepted, QueueId("case"), headers, len(content), None
            ),
        )


def _session(case: Case) -> SessionInfo:
    told = case.session
    session = SessionInfo(
        "case", told.client_ip, told.server, told.listener, is_trusted=told.trusted
    )
    session.tls_version, session.username = told.tls_version, told.username
    session.protocol = told.protocol
    session.metadata.update(told.metadata)
    return session


def _authenticate(session: SessionInfo, told: AuthSpec) -> None:
    found = session.message.authentication
    found.iprev = IprevVerdict(told.iprev) if told.iprev is not None else None
    found.spf = SpfVerdict(told.spf) if told.spf is not None else None
    found.spf_helo = SpfVerdict(told.spf_helo) if told.spf_helo is not None else None
    if told.dkim is not None:
        found.dkim = (DkimVerdict(told.dkim, domain=told.dkim_domain),)
    if told.dmarc is not None:
        found.dmarc = DmarcVerdict(told.dmarc, policy=told.dmarc_policy)
    found.arc = ArcVerdict(told.arc) if told.arc is not None else None
