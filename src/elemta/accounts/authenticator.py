"""Says who a client is, and whether it may log in now.

    begin(mechanism) -> Exchange ... -> Claim -> judge() -> Verdict: OK, WRONG or DOWN

Promises:
- A login that does not exist costs the same work and gets the same answer as a wrong password.
- What cannot be decided is DOWN: nobody is let in or turned away because a source, a key or a
  thread is missing. Sources are asked in order; the first that knows a login decides, and none
  is skipped that cannot say whether it does.
- No password leaves this room: not in a verdict, an event, an error or a `repr`.
"""

import enum
import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from elemta.accounts import app_passwords
from elemta.accounts.account import Account, AppPassword, Record
from elemta.accounts.aftermath import Aftermath, Found
from elemta.accounts.hashes import make_dummy, verify
from elemta.accounts.hashing import BusyError, Workshop
from elemta.accounts.passwords import Keeping
from elemta.accounts.prepare import PrepareError, prepare_login, prepare_password
from elemta.accounts.remembered import Remembered
from elemta.accounts.rules import Rule
from elemta.accounts.sasl.bearer import OAUTHBEARER, XOAUTH2, Bearer
from elemta.accounts.sasl.cram import CramMd5, Secret
from elemta.accounts.sasl.exchange import Claim, Exchange, Peer
from elemta.accounts.sasl.plain import External, Login, Plain
from elemta.accounts.sasl.scram import PLUS, Known, Scram, make_up_keys
from elemta.accounts.settings import MECHANISMS, AuthSettings
from elemta.accounts.source import AccountSource, SourceDown
from elemta.accounts.tokens import TokenJudge
from elemta.mail import events as ev
from elemta.mail.clock import Clock
from elemta.mail.reply import clean_text

SCOPE = "submit"  # what a login by SMTP is for


class Result(enum.Enum):
    """What came of a login."""

    OK = "ok"
    WRONG = "wrong"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The end of a login.

    Attributes:
        result: What the client is told: 235, 535 or 454.
        account: Whose account it is; None unless OK.
        reason: Why, for the log only.
        app_password: The name of the app password that was used; "" for none.
    """

    result: Result
    account: Account | None = None
    reason: str = ""
    app_password: str = ""


@dataclass(frozen=True, slots=True)
class _Checked:
    """What a password came to."""

    is_right: bool
    app_password: AppPassword | None = None
    reason: str = ""


class Authenticator:
    """All that a worker needs for logins.

    Args:
        settings: How.
        sources: Whom to ask, in order; they are closed with it.
        clock: Says what time it is.
        emit: Takes what an operator should know.
    """

    def __init__(
        self,
        settings: AuthSettings,
        sources: Sequence[AccountSource],
        clock: Clock,
        emit: ev.Emit,
    ) -> None:
        self._clock = clock
        self._emit = emit
        self._down: dict[str, str] = {}
        self._aftermath = Aftermath()
        self._set(settings, sources)

    def _set(self, settings: AuthSettings, sources: Sequence[AccountSource]) -> None:
        self._settings = settings
        self._sources = tuple(sources)
        self._workshop = Workshop("passwords", settings.hash_threads, settings.max_waiting)
        self._remembered = Remembered(self._clock, settings.remember_for)
        self._tokens = TokenJudge(settings.tokens, self._clock) if settings.tokens else None
        self._keeping = Keeping(
            settings.argon2, settings.scram_iterations, "CRAM-MD5" in settings.mechanisms
        )
        self._dummy = make_dummy(settings.argon2)

    # ---- what the session calls

    def mechanisms(self, peer: Peer) -> tuple[str, ...]:
        """Name the mechanisms to be offered to a client, strongest first."""
        return tuple(name for name in MECHANISMS if self._offers(name, peer))

    def begin(self, mechanism: str, peer: Peer) -> Exchange | None:
        """Begin an attempt; None where that mechanism is not offered."""
        name = mechanism.upper()
        if not self._offers(name, peer):
            return None
        if name in {"PLAIN", "LOGIN"}:
            return Plain() if name == "PLAIN" else Login()
        if name == "EXTERNAL":
            return External(peer)
        if name == "CRAM-MD5":
            return CramMd5(self._settings.hostname, functools.partial(self._find_secret, peer))
        if name in {OAUTHBEARER, XOAUTH2}:
            return self._begin_bearer(name)
        return Scram(
            functools.partial(self._find_keys, peer),
            peer.bindings,
            is_plus=name == PLUS,
            offers_plus=self._offers(PLUS, peer),
        )

    async def judge(self, claim: Claim, peer: Peer) -> Verdict:
        """Decide on a claim. It may take as long as passwords wait for a thread."""
        if claim.trouble:
            return Verdict(Result.DOWN, reason=claim.trouble)
        try:
            return await self._judge(claim, peer)
        except (SourceDown, BusyError) as error:
            return Verdict(Result.DOWN, reason=str(error))

    async def vouch(self, claim: Claim, peer: Peer) -> Verdict:
        """Decide on a claim whose password somebody else has found to be right.

        No source need know the account; where one does, its lock and its rules hold all the same.
        """
        try:
            login = prepare_login(claim.login)
            found = await self._find(login)
            account = Account(login) if found is None else found.record.account
            objection = self._find_objection(account, peer)
            if objection:
                return Verdict(Result.WRONG, reason=objection)
            return await self._let_in(claim, account, peer)
        except PrepareError as error:
            return Verdict(Result.WRONG, reason=str(error))
        except SourceDown as error:
            return Verdict(Result.DOWN, reason=str(error))

    async def reload(self, settings: AuthSettings, sources: Sequence[AccountSource]) -> None:
        """Go on with other settings and sources; attempts under way may end as DOWN."""
        old, workshop, tokens = self._sources, self._workshop, self._tokens
        self._set(settings, sources)
        await workshop.close()
        if tokens is not None:
            await tokens.close()
        for source in old:
            await source.close()

    async def close(self) -> None:
        """Finish what is under way, and end; idempotent."""
        await self._aftermath.settle()
        await self._workshop.close()
        if self._tokens is not None:
            await self._tokens.close()
        for source in self._sources:
            await source.close()
        self._remembered.forget_all()

    # ---- offers

    def _offers(self, name: str, peer: Peer) -> bool:
        if name not in self._settings.mechanisms:
            return False
        if not self._sources and name not in {"PLAIN", "LOGIN"}:  # somebody else checks those
            return False
        if name == PLUS:
            return bool(peer.bindings)
        if name == "EXTERNAL":
            return bool(peer.identity)
        return name not in {OAUTHBEARER, XOAUTH2} or self._tokens is not None

    def _begin_bearer(self, name: str) -> Bearer | None:
        tokens = self._tokens
        if tokens is None:
            return None
        issuer = tokens.settings.issuer
        known = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
        where = known if issuer.startswith("https://") else ""
        return Bearer(name, tokens.judge, tokens.settings.scope, where)

    # ---- what exchanges ask

    async def _find_keys(self, peer: Peer, written: str) -> Known:
        settings = self._settings
        made_up = make_up_keys(written, settings.key, settings.scram_iterations or 4096)
        try:
            login = prepare_login(written)
            made_up = make_up_keys(login, settings.key, settings.scram_iterations or 4096)
            found = await self._find(login)
        except PrepareError:
            return Known(made_up, may_succeed=False)
        except SourceDown as error:
            return Known(made_up, may_succeed=False, trouble=str(error))
        if found is None or found.record.scram is None:
            return Known(made_up, may_succeed=False)
        objection = self._find_objection(found.record.account, peer)
        return Known(found.record.scram, may_succeed=not objection)

    async def _find_secret(self, peer: Peer, written: str) -> Secret:
        try:
            found = await self._find(prepare_login(written))
        except PrepareError:
            return Secret("")
        except SourceDown as error:
            return Secret("", str(error))
        if found is None or self._find_objection(found.record.account, peer):
            return Secret("")
        return Secret(found.record.secret)

    # ---- the verdict

    async def _judge(self, claim: Claim, peer: Peer) -> Verdict:
        password = ""
        try:
            login = prepare_login(claim.login)
            if claim.proven is None:
                password = prepare_password(claim.password)
        except PrepareError as error:
            await self._work_in_vain("-")
            return Verdict(Result.WRONG, reason=claim.note or str(error))
        found = await self._find(login)
        checked = _Checked(claim.proven is True and found is not None)
        if claim.proven is None:
            checked = await self._check(found, password, peer)
        if found is None:
            return Verdict(Result.WRONG, reason=claim.note or "there is no such account")
        objection = self._find_objection(found.record.account, peer)
        if objection:
            return Verdict(Result.WRONG, reason=objection)
        if not checked.is_right:
            reason = claim.note or checked.reason or _why_not(claim, found.record)
            return Verdict(Result.WRONG, reason=reason)
        self._follow_up(claim, found, checked)
        verdict = await self._let_in(claim, found.record.account, peer)
        if checked.app_password is None or verdict.account is None:
            return verdict
        return replace(verdict, app_password=checked.app_password.name)

    async def _let_in(self, claim: Claim, account: Account, peer: Peer) -> Verdict:
        """Find as whom an account acts whose password was right."""
        try:
            target = prepare_login(claim.authzid) if claim.authzid else account.name
        except PrepareError:
            return Verdict(Result.WRONG, reason="it wants to act as somebody who cannot exist")
        if target != account.name:
            if target not in account.act_as:
                return Verdict(Result.WRONG, reason="it may not act as the login that it wants to")
            other = await self._find(target)
            if other is None:
                return Verdict(Result.WRONG, reason="it wants to act as somebody who is not there")
            account = other.record.account
            objection = self._find_objection(account, peer)
            if objection:
                return Verdict(Result.WRONG, reason=f"as whom it wants to act: {objection}")
        account = replace(account, rules=self._rules_of(account))
        return Verdict(Result.OK, account)

    def _follow_up(self, claim: Claim, found: Found, checked: _Checked) -> None:
        if checked.app_password is not None:
            self._aftermath.note_use(found, checked.app_password, self._clock.now())
        elif claim.proven is None:
            password = prepare_password(claim.password)
            self._aftermath.renew(found, password, self._keeping, self._workshop)

    def _rules_of(self, account: Account) -> tuple[Rule, ...]:
        ours = tuple(r for r in self._settings.rules if r.is_about(account.name, account.groups))
        return (*account.rules, *ours)

    def _find_objection(self, account: Account, peer: Peer) -> str:
        """Say what stands against an account, whatever its password."""
        if account.is_locked:
            return "the account is locked"
        now = self._clock.now()
        for rule in self._rules_of(account):
            objection = rule.find_objection(now, peer.ip, peer.country)
            if objection:
                return objection
        return ""

    async def _find(self, login: str) -> Found | None:
        for source in self._sources:
            try:
                record = await source.look_up(login)
            except SourceDown as error:
                self._tell_down(source, str(error))
                raise
            self._tell_down(source, "")
            if record is not None:
                return Found(record, source)
        return None

    def _tell_down(self, source: AccountSource, trouble: str) -> None:
        """Tell an operator once when a source goes down, and when it is back."""
        before = self._down.get(source.name, "")
        if before == trouble:
            return
        self._down[source.name] = trouble
        text = clean_text(trouble, 500) or f"{source.name}: it is back"
        self._emit(ev.Notice("accounts", text))

    # ---- passwords

    async def _check(self, found: Found | None, password: str, peer: Peer) -> _Checked:
        if found is None:
            await self._work_in_vain(password)
            return _Checked(is_right=False)
        record = found.record
        app = app_passwords.find_match(record, password)
        if app is not None:
            objection = app_passwords.find_objection(app, SCOPE, self._clock.now(), peer.ip)
            return _Checked(not objection, app, objection)
        if self._remembered.has(record, password):
            return _Checked(is_right=True)
        is_right = await found.source.verify(record, password)
        if is_right is None:
            if record.password_hash:
                is_right = await self._workshop.run(verify, record.password_hash, password)
            else:
                is_right = await self._work_in_vain(password)
        if is_right:
            self._remembered.add(record, password)
        return _Checked(is_right)

    async def _work_in_vain(self, password: str) -> bool:
        """Take the time that a password of somebody who exists would take."""
        await self._workshop.run(verify, self._dummy, password)
        return False


def _why_not(claim: Claim, record: Record) -> str:
    if claim.mechanism.startswith("SCRAM") and record.scram is None:
        return "the account has no keys for SCRAM: its password was not set or used here yet"
    if claim.mechanism == "CRAM-MD5" and not record.secret:
        return "the account has no secret for CRAM-MD5"
    return "the password is wrong" if record.password_hash else "the account has no password"
