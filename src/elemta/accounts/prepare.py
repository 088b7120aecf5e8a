"""Names and passwords in one form, however they are typed (RFC 4013, RFC 8265).

A login is compared without regard to case and width, as UsernameCaseMapped of RFC 8265 §3.3
has it, and may be an address. A password keeps every letter: only the code points of one and
the same letter are made equal (OpaqueString, RFC 8265 §4.2).

Raises:
    PrepareError: It cannot be a name or a password. The text does not repeat it.
"""

import unicodedata

from passlib.utils import saslprep

from elemta.mail.errors import ElemtaError

MAX_LOGIN = 320  # octets: a local part of 64, "@", a domain of 255
MAX_PASSWORD = 1024  # octets; more is no password but work for the hash


class PrepareError(ElemtaError, ValueError):
    """What was given cannot be a name or a password."""


def prepare_login(text: str) -> str:
    """Give the normal form of a login name."""
    if len(text.encode("utf-8", "replace")) > MAX_LOGIN:
        raise PrepareError("the name is too long")
    try:
        name = str(saslprep(saslprep(text, "the name").lower(), "the name"))
    except (ValueError, AssertionError):
        raise PrepareError("the name has characters that no name may have") from None
    if not name or " " in name or len(name.encode()) > MAX_LOGIN:
        raise PrepareError("the name is empty, too long or has spaces in it")
    return name


def normal_login(text: str) -> str:
    """Give the normal form of a login name, or what cannot be one as it is."""
    try:
        return prepare_login(text)
    except PrepareError:
        return text


def prepare_password(text: str) -> str:
    """Give the normal form of a password."""
    if len(text.encode("utf-8", "replace")) > MAX_PASSWORD:
        raise PrepareError("the password is too long")
    mapped = "".join(" " if unicodedata.category(each) == "Zs" else each for each in text)
    password = unicodedata.normalize("NFC", mapped)
    if not password or len(password.encode("utf-8", "replace")) > MAX_PASSWORD:
        raise PrepareError("the password is empty or too long")
    if any(unicodedata.category(each) in {"Cc", "Cs"} for each in password):
        raise PrepareError("the password has control characters in it")
    return password


def prepare_for_scram(password: str) -> str:
    """Give a password as clients of SCRAM are to prepare it (RFC 5802 §2.2).

    What SASLprep knows nothing of, such as letters younger than it, clients send as it is.
    """
    try:
        return str(saslprep(password, "the password")) or password
    except (ValueError, AssertionError):
        return password
