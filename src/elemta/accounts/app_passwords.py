"""App passwords: secrets for one program or device each, made here and shown once.

    elemta-7krq2-hv3nf-...      160 random bits in base32

They are recognised by their form, so that no hash meant for human passwords is spent on them.
"""

import base64
import hashlib
import hmac
import re
import secrets

from elemta.accounts.account import AppPassword, Record
from elemta.accounts.rules import is_within

SCOPES = ("submit",)
RANDOM_OCTETS = 20

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_SECRET = re.compile(r"elemta((?:-[a-z2-7]{4}){8})", re.ASCII)


def check_name(name: str) -> str:
    """Give back what may be the name of an app password.

    Raises:
        ValueError: It may not.
    """
    if not _NAME.fullmatch(name):
        raise ValueError("letters, digits, dots, hyphens and underscores are expected, at most 64")
    return name


def make_secret() -> str:
    """Make a secret."""
    letters = base64.b32encode(secrets.token_bytes(RANDOM_OCTETS)).decode().lower()
    return "-".join(["elemta", *(letters[at : at + 4] for at in range(0, len(letters), 4))])


def digest_of(secret: str) -> str:
    """Give what is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def find_match(record: Record, secret: str) -> AppPassword | None:
    """Find which app password of an account a secret is, by comparisons of equal time."""
    if not _SECRET.fullmatch(secret):
        return None
    digest = digest_of(secret)
    found = None
    for candidate in record.app_passwords:
        if hmac.compare_digest(candidate.digest.encode(), digest.encode()):
            found = candidate
    return found


def find_objection(app_password: AppPassword, scope: str, now: float, ip: str) -> str:
    """Say why an app password may not be used for something; "" where it may."""
    if app_password.scope != scope:
        return f"the app password is not for {scope}"
    if app_password.expires_at is not None and now >= app_password.expires_at:
        return "the app password has expired"
    if app_password.networks and not is_within(ip, app_password.networks):
        return "the app password may not be used from this network"
    return ""
