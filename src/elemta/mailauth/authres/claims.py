"""Finds fields that pretend to be ours (RFC 8601 §5).

Who reads mail behind us believes what stands under our name. A field from outside is therefore
forged if it bears our authserv-id or one below it, however it is written, and also if it does not
say clearly that it is somebody else's: another reader may see our name in it.
"""

from functools import lru_cache

import idna

from elemta.mail.headers import iter_fields
from elemta.mailauth.authres.parsing import AuthResultsError, plain_text, read_id

NAME = b"authentication-results"
ID_LIMIT = 512  # characters; twice a domain name, and no work for IDNA to speak of


def forged(section: bytes, authserv_id: str) -> tuple[int, ...]:
    """Give the numbers of the fields that claim our id or might, among those of that name.

    They are counted from 1 and given last first: who removes one after the other, does not renumber
    those still to go.

    Args:
        section: The header section as received.
        authserv_id: Ours.
    """
    if NAME not in section.lower():
        return ()
    values = [value for name, value in iter_fields(section) if name == NAME]
    ours = _comparable(authserv_id) or authserv_id.lower()
    numbers = range(len(values), 0, -1)
    return tuple(number for number in numbers if _may_be_ours(values[number - 1], ours))


def _may_be_ours(value: bytes, ours: str) -> bool:
    try:
        claimed = read_id(plain_text(value))[0]
    except AuthResultsError:
        return True
    if len(claimed) > ID_LIMIT:  # before anything is remembered of it
        return True
    claimed = _comparable(claimed)
    return not claimed or claimed == ours or claimed.endswith(f".{ours}")


@lru_cache(1024)
def _comparable(authserv_id: str) -> str:
    """Give the one form of all spellings of an id; "" for one that nobody may be."""
    if not authserv_id.isascii():
        try:  # wide letters, other dots and what is not seen are as good as the plain ones
            authserv_id = idna.encode(authserv_id, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError):
            return ""
    return authserv_id.strip(" \t").rstrip(".").lower()
