"""Who may log in: accounts and where they are kept, passwords, and the mechanisms of SASL."""

from elemta.accounts.account import Account, AccountError, AppPassword, Record
from elemta.accounts.authenticator import Authenticator, Result, Verdict
from elemta.accounts.sasl import Challenge, Claim, Exchange, MalformedResponse, Peer
from elemta.accounts.settings import AuthSettings
from elemta.accounts.source import AccountSource, SourceDown

__all__ = [
    "Account",
    "AccountError",
    "AccountSource",
    "AppPassword",
    "AuthSettings",
    "Authenticator",
    "Challenge",
    "Claim",
    "Exchange",
    "MalformedResponse",
    "Peer",
    "Record",
    "Result",
    "SourceDown",
    "Verdict",
]
